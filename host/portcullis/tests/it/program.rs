//! The whole program on a folder of documents, and clients and servers around it.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use portcullis::app::{App, Settings};
use serde_json::Value;
use tempfile::TempDir;

pub const PROXY: &str = r#"
apiVersion: portcullis.dev/v1alpha1
kind: Proxy
metadata: {name: edge}
spec:
  workers: 2
  admin: {address: "127.0.0.1:0"}
  listeners: [{name: web, address: "127.0.0.1:0", direction: GATEWAY, protocol: HTTP}]
  drain: {delay: 0s, timeout: 5s}
"#;
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server that answers every request with `text`, for as long as the test runs.
pub fn upstream(text: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move |stream: TcpStream| {
        let mut reader = BufReader::new(stream);
        while let Some(_head) = read_head(&mut reader) {
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
            if reader.get_mut().write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    };
    thread::spawn(move || {
        listener.incoming().flatten().for_each(|stream| drop(thread::spawn(move || serve(stream))));
    });
    address
}

fn read_head(reader: &mut impl std::io::BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

/// Head (in lower case) and body of the answer to one GET on a connection that is kept.
pub fn get<S: Read + Write>(
    connection: &mut BufReader<S>,
    path: &str,
    headers: &[(&str, &str)],
) -> Option<(String, String)> {
    let fields: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n{fields}\r\n");
    connection.get_mut().write_all(request.as_bytes()).ok()?;
    let head = read_head(connection)?.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    let mut body = vec![0; length.trim().parse().ok()?];
    connection.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8(body).ok()?))
}

pub fn connect(address: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    BufReader::new(stream)
}

/// One GET on a connection of its own.
pub fn fetch(address: SocketAddr, path: &str) -> (String, String) {
    get_with(address, path, &[])
}

/// One GET with these headers, on a connection of its own.
pub fn get_with(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> (String, String) {
    get(&mut connect(address), path, headers).unwrap()
}

pub fn backend(address: SocketAddr) -> String {
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: Backend\nmetadata: {{name: app}}\n\
         spec: {{protocol: HTTP, endpoints: [{{address: \"{address}\"}}]}}\n"
    )
}

pub const ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
    metadata: {name: app}\nspec: {rules: [{backendRefs: [{name: app, port: 80}]}]}\n";

/// The whole program on a folder.
pub struct House {
    pub app: App,
    pub folder: TempDir,
}

impl House {
    pub fn new(files: &[(&str, &[u8])]) -> House {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            replace(folder.path(), name, bytes);
        }
        let settings = Settings {
            paths: vec![folder.path().to_owned()],
            cache: Some(folder.path().join("cache")),
            ..Settings::default()
        };
        House { app: App::start(settings).unwrap(), folder }
    }

    pub fn address(&self) -> SocketAddr {
        self.app.addresses()[0].1
    }

    pub fn status(&self) -> Value {
        let (_, body) = fetch(self.app.admin().unwrap(), "/status");
        serde_json::from_str(&body).unwrap()
    }

    /// Replaces a file and waits until a new generation is live.
    pub fn edit(&self, name: &str, bytes: &[u8]) {
        let before = self.app.board().generation();
        replace(self.folder.path(), name, bytes);
        eventually(|| self.app.board().generation() > before);
    }

    /// Replaces a file and waits until it is refused; the code.
    pub fn spoil(&self, name: &str, bytes: &[u8]) -> String {
        replace(self.folder.path(), name, bytes);
        eventually(|| !self.app.board().problems().is_empty());
        self.app.board().problems()[0].code.to_string()
    }
}

pub fn replace(folder: &Path, name: &str, bytes: &[u8]) {
    let new = folder.join(format!(".{name}"));
    fs::write(&new, bytes).unwrap();
    fs::rename(new, folder.join(name)).unwrap();
}

#[track_caller]
pub fn eventually(holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "it does not come true");
        thread::yield_now();
    }
}
