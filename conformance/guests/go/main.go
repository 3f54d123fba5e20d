// A filter in Go on the proxy-wasm project's SDK, built by the standard Go compiler: it edits headers, rewrites bodies, and asks
// a service before a request may go on. The guests in C and AssemblyScript do the same.
package main

import (
	"bytes"
	"strings"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"
)

func main() {}

func init() {
	proxywasm.SetPluginContext(func(uint32) types.PluginContext { return &plugin{} })
}

type plugin struct {
	types.DefaultPluginContext
	// The upstream to ask, from the plugin's configuration.
	judge string
}

func (p *plugin) OnPluginStart(int) types.OnPluginStartStatus {
	configuration, err := proxywasm.GetPluginConfiguration()
	if err != nil || len(configuration) == 0 {
		proxywasm.LogCritical("the configuration has to name an upstream")
		return types.OnPluginStartStatusFailed
	}
	p.judge = string(configuration)
	proxywasm.LogInfof("go guest asks %s", p.judge)
	return types.OnPluginStartStatusOK
}

func (p *plugin) NewHttpContext(uint32) types.HttpContext { return &exchange{judge: p.judge} }

type exchange struct {
	types.DefaultHttpContext
	judge string
}

func (e *exchange) OnHttpRequestHeaders(int, bool) types.Action {
	_ = proxywasm.ReplaceHttpRequestHeader("x-guest", "go")
	_ = proxywasm.RemoveHttpRequestHeader("content-length")
	who, err := proxywasm.GetHttpRequestHeader("x-ask")
	if err != nil {
		return types.ActionContinue
	}
	question := [][2]string{{":method", "GET"}, {":path", "/judge"}, {":authority", "judge"}, {"x-who", who}}
	if _, err := proxywasm.DispatchHttpCall(e.judge, question, nil, nil, 5000, e.answered); err != nil {
		_ = proxywasm.SendHttpResponse(500, nil, []byte("no call: "+err.Error()), -1)
	}
	return types.ActionPause
}

func (e *exchange) answered(_, size, _ int) {
	headers, err := proxywasm.GetHttpCallResponseHeaders()
	if err != nil {
		_ = proxywasm.SendHttpResponse(503, nil, []byte("nobody answered"), -1)
		return
	}
	for _, header := range headers {
		if header[0] == ":status" && header[1] != "200" {
			_ = proxywasm.SendHttpResponse(403, [][2]string{{"x-judge", header[1]}}, []byte("refused"), -1)
			return
		}
	}
	verdict, _ := proxywasm.GetHttpCallResponseBody(0, size)
	_ = proxywasm.AddHttpRequestHeader("x-verdict", strings.TrimSpace(string(verdict)))
	_ = proxywasm.ResumeHttpRequest()
}

func (e *exchange) OnHttpRequestBody(size int, end bool) types.Action {
	if !end {
		return types.ActionPause
	}
	body, err := proxywasm.GetHttpRequestBody(0, size)
	if err == nil {
		_ = proxywasm.ReplaceHttpRequestBody(bytes.ToUpper(body))
	}
	return types.ActionContinue
}

func (e *exchange) OnHttpResponseHeaders(int, bool) types.Action {
	_ = proxywasm.AddHttpResponseHeader("x-by", "go")
	_ = proxywasm.RemoveHttpResponseHeader("content-length")
	return types.ActionContinue
}

func (e *exchange) OnHttpResponseBody(_ int, end bool) types.Action {
	if end {
		_ = proxywasm.AppendHttpResponseBody([]byte("\n-- go"))
	}
	return types.ActionContinue
}
