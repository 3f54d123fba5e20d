//! Debian's `docker-registry` on loopback, and `skopeo` as a client that knows nothing of us.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use portcullis_vm::Digest;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const USER: &str = "ada";
pub const PASSWORD: &str = "open sesame";
/// `ada:open sesame`, in bcrypt, the only form that the registry reads.
const HTPASSWD: &str = "ada:$2y$04$N9qo8uLOickgx2ZMRZoMyeD6cuue4VdM9VS1cJ/wwOaQJuY83FyIy\n";

/// A registry of its own; it ends with the test.
pub struct Registry {
    child: Child,
    folder: TempDir,
    pub address: SocketAddr,
}

/// `None`, said in words, where a program is not installed; that is an error where CI is set.
fn present(spawned: std::io::Result<Child>, program: &str) -> Option<Child> {
    match spawned {
        Ok(child) => Some(child),
        Err(problem) => {
            let wanted = std::env::var_os("CI").is_some_and(|ci| !ci.is_empty());
            assert!(!wanted, "there is no {program} here ({problem})");
            println!("skipped: there is no {program} here ({problem})");
            None
        }
    }
}

impl Registry {
    /// Plain HTTP, for everybody.
    pub fn plain() -> Option<Registry> {
        Registry::start("")
    }

    /// With a certificate of [`Registry::ca`], for [`USER`].
    pub fn secure() -> Option<Registry> {
        Registry::start(
            "  tls: {certificate: cert.pem, key: key.pem}\n\
             auth: {htpasswd: {realm: tests, path: htpasswd}}\n",
        )
    }

    fn start(more: &str) -> Option<Registry> {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let [ca, certificate, key] = certificates();
        write("ca.pem", &ca);
        write("cert.pem", &certificate);
        write("key.pem", &key);
        write("htpasswd", HTPASSWD);
        let settings = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: store}}}}\n\
             http:\n  addr: 127.0.0.1:0\n  secret: tests\n{more}"
        );
        write("config.yml", &settings);
        let mut command = Command::new("docker-registry");
        command.args(["serve", "config.yml"]).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = present(command.spawn(), "docker-registry")?;
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let address = log.by_ref().find_map(|line| {
            let address = line.split("listening on ").nth(1).map(|rest| {
                rest.chars().take_while(|c| !matches!(c, ',' | '"')).collect::<String>()
            });
            said.push(line);
            address
        });
        let address = address.unwrap_or_else(|| panic!("{}", said.join("\n"))).parse().unwrap();
        // It must not block on a full pipe.
        thread::spawn(move || log.for_each(drop));
        Some(Registry { child, folder, address })
    }

    /// What its certificate is signed with, in PEM.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// `127.0.0.1:PORT/NAME`
    pub fn named(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// The file that it keeps a blob or manifest in.
    pub fn blob(&self, digest: Digest) -> PathBuf {
        let hex = digest.to_string();
        let blobs = self.folder.path().join("store/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(&hex).join("data")
    }
}

/// What an own, simple client of a registry without TLS puts there.
impl Registry {
    /// Puts a blob; what a descriptor says of it.
    pub fn put_blob(&self, repository: &str, media_type: &str, bytes: &[u8]) -> Value {
        let (head, _) = self.send("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"");
        let location = head.lines().find_map(|line| line.strip_prefix("location: ")).unwrap();
        let path = location.split_once(&self.address.to_string()).unwrap().1;
        let digest = format!("sha256:{}", Digest::of(bytes));
        let target = format!("{path}&digest={digest}");
        let (head, body) = self.send("PUT", &target, "application/octet-stream", bytes);
        assert!(head.starts_with("http/1.1 201"), "{head}{body}");
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Puts a manifest under a tag.
    pub fn put_manifest(&self, repository: &str, tag: &str, manifest: &Value) {
        let media_type = manifest["mediaType"].as_str().unwrap();
        self.put_bytes(repository, tag, media_type, manifest.to_string().as_bytes());
    }

    /// Puts a manifest or index under a tag or its digest.
    pub fn put_bytes(&self, repository: &str, version: &str, media_type: &str, bytes: &[u8]) {
        let path = format!("/v2/{repository}/manifests/{version}");
        let (head, body) = self.send("PUT", &path, media_type, bytes);
        assert!(head.starts_with("http/1.1 201"), "{head}{body}");
    }

    fn send(&self, method: &str, path: &str, media_type: &str, body: &[u8]) -> (String, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\
             content-type: {media_type}\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let lower = |line: &str| match line.split_once(": ") {
            Some((name, value)) => format!("{}: {value}\n", name.to_ascii_lowercase()),
            None => format!("{}\n", line.to_ascii_lowercase()),
        };
        (head.lines().map(lower).collect(), body.to_owned())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// An authority, and a certificate for 127.0.0.1 with its key.
fn certificates() -> [String; 3] {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    [ca.pem(), leaf.pem(), key.serialize_pem()]
}

/// Runs skopeo to its end; `None`, said in words, where there is none.
pub fn skopeo(arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new("skopeo");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = present(command.spawn(), "skopeo")?.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo {arguments:?}: {said}");
    Some(output)
}
