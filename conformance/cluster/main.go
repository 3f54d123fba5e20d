// Command cluster is a real etcd, a real kube-apiserver and a real kubectl in one program, for tests that need them where no
// cluster is. Its first argument says which of them it is; what follows is theirs, except for etcd, which takes its folder
// and the address where it serves clients. The servers end when their standard input does. Nothing of Kubernetes is
// changed, and nothing is added to it.
package main

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

const usage = "usage: cluster (etcd FOLDER ADDRESS | kube-apiserver FLAG… | kubectl ARGUMENT…)"

func main() {
	if len(os.Args) < 2 {
		fail(usage)
	}
	role := os.Args[1]
	// Each of them reads the command line itself, as if it were alone.
	os.Args = append([]string{role}, os.Args[2:]...)
	switch role {
	case "etcd":
		if len(os.Args) != 3 {
			fail(usage)
		}
		go endWithInput()
		if err := etcd(os.Args[1], os.Args[2]); err != nil {
			fail(err)
		}
	case "kube-apiserver":
		go endWithInput()
		os.Exit(cli.Run(app.NewAPIServerCommand()))
	case "kubectl":
		if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
			util.CheckErr(err)
		}
	default:
		fail(usage)
	}
}

// etcd serves clients at address, without peers, until it is told to stop.
func etcd(folder, address string) error {
	config := embed.NewConfig()
	config.Dir = folder
	config.LogLevel = "warn"
	client := url.URL{Scheme: "http", Host: address}
	config.ListenClientUrls = []url.URL{client}
	config.AdvertiseClientUrls = []url.URL{client}
	// A member of one has no peers, but it has to listen for them.
	config.ListenPeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	// Tests restart it; they do not pull the plug.
	config.UnsafeNoFsync = true
	server, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	defer server.Close()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case <-stop:
		return nil
	case err := <-server.Err():
		return err
	}
}

// endWithInput ends this process when whoever started it is gone, however that came about: the other end of a pipe.
func endWithInput() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func fail(reason any) {
	fmt.Fprintln(os.Stderr, reason)
	os.Exit(1)
}
