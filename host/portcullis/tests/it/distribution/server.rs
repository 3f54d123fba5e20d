//! A registry that does what a test says, byte by byte, and remembers what it was asked.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use portcullis_vm::Digest;
use rcgen::{CertifiedKey, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const TLS_HANDSHAKE: u8 = 0x16;

/// What a client sent.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    /// With its query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What it gets.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
}

#[derive(Clone)]
pub enum Body {
    Whole(Vec<u8>),
    /// Says that it has so many bytes, sends these, and hangs up.
    Short(usize, Vec<u8>),
    /// For as long as somebody reads.
    Endless,
    /// A byte now and then.
    Drip,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status, headers: Vec::new(), body: Body::Whole(body.into()) }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }

    pub fn body(self, body: Body) -> Answer {
        Answer { body, ..self }
    }
}

pub struct Server {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    stranger: Arc<Mutex<usize>>,
}

impl Server {
    /// Answers for as long as the test runs.
    pub fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Server {
        Server::start_on(Some, answer)
    }

    /// Over TLS, with this certificate and key.
    pub fn start_tls(
        own: &CertifiedKey<KeyPair>,
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let secure = move |mut socket| {
            let mut session = ServerConnection::new(config.clone()).unwrap();
            session.complete_io(&mut socket).ok()?;
            Some(StreamOwned::new(session, socket))
        };
        Server::start_on(secure, answer)
    }

    fn start_on<S: Read + Write>(
        open: impl Fn(TcpStream) -> Option<S> + Send + Sync + 'static,
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, connections) = (Arc::<Mutex<Vec<Request>>>::default(), Arc::default());
        let server = Server { address, seen: seen.clone(), stranger: Arc::clone(&connections) };
        let (open, answer) = (Arc::new(open), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                *connections.lock().unwrap() += 1;
                let (open, answer, seen) = (open.clone(), answer.clone(), seen.clone());
                thread::spawn(move || {
                    if let Some(stream) = open(stream) {
                        serve(stream, &*answer, &seen);
                    }
                });
            }
        });
        server
    }

    /// A listener that must not be dialled.
    pub fn forbidden() -> Server {
        Server::start(|_| Answer::new(200, "you should not be here"))
    }

    /// What was asked so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// `METHOD path` of what was asked so far.
    pub fn asked(&self) -> Vec<String> {
        self.seen().iter().map(|one| format!("{} {}", one.method, one.path)).collect()
    }

    /// How often somebody connected.
    pub fn connections(&self) -> usize {
        // Whoever connected before this did is counted once it is.
        let mut probe = BufReader::new(TcpStream::connect(self.address).unwrap());
        probe.get_mut().write_all(b"GET /probe HTTP/1.1\r\n\r\n").unwrap();
        probe.read_line(&mut String::new()).unwrap();
        let mut connections = self.stranger.lock().unwrap();
        *connections -= 1;
        *connections
    }
}

fn serve<S: Read + Write>(
    stream: S,
    answer: &(impl Fn(&Request) -> Answer + ?Sized),
    seen: &Mutex<Vec<Request>>,
) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        if request.path != "/probe" {
            seen.lock().unwrap().push(request.clone());
        }
        let answer = answer(&request);
        if write(reader.get_mut(), &request, &answer).is_none() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<impl Read>) -> Option<Request> {
    if reader.fill_buf().ok()?.first() == Some(&TLS_HANDSHAKE) {
        return None;
    }
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        Some(line.trim_end().to_owned())
    };
    let start = line()?;
    let mut words = start.split(' ').map(str::to_owned);
    let mut request = Request { method: words.next()?, path: words.next()?, ..Request::default() };
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(':') else { break };
        request.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    request.body = vec![0; request.header("content-length").parse().unwrap_or_default()];
    reader.read_exact(&mut request.body).ok()?;
    Some(request)
}

/// `None`: the connection is over.
fn write(stream: &mut impl Write, request: &Request, answer: &Answer) -> Option<()> {
    let mut head = format!("HTTP/1.1 {} x\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let length = match &answer.body {
        Body::Whole(bytes) => Some(bytes.len()),
        Body::Short(claimed, _) => Some(*claimed),
        Body::Endless | Body::Drip => None,
    };
    head += &length.map_or_else(String::new, |length| format!("content-length: {length}\r\n"));
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    stream.flush().ok()?;
    if request.method == "HEAD" {
        return Some(());
    }
    match &answer.body {
        Body::Whole(bytes) => {
            stream.write_all(bytes).ok()?;
            stream.flush().ok()
        }
        Body::Short(_, bytes) => {
            stream.write_all(bytes).ok()?;
            None
        }
        Body::Endless => loop {
            stream.write_all(&[0; 64 << 10]).ok()?;
        },
        Body::Drip => loop {
            stream.write_all(b"x").ok()?;
            thread::sleep(Duration::from_millis(20));
        },
    }
}

/// What a registry keeps: manifests by tag and by digest, blobs by digest.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    manifests: BTreeMap<String, (String, Vec<u8>)>,
    blobs: BTreeMap<String, Vec<u8>>,
}

pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", Digest::of(bytes))
}

impl Contents {
    pub fn blob(&mut self, bytes: &[u8]) -> String {
        self.blobs.insert(digest(bytes), bytes.to_owned());
        digest(bytes)
    }

    /// Under a tag too, unless that is empty.
    pub fn manifest(&mut self, tag: &str, kind: &str, text: &str) -> String {
        let entry = (kind.to_owned(), text.as_bytes().to_owned());
        self.manifests.insert(digest(text.as_bytes()), entry.clone());
        if !tag.is_empty() {
            self.manifests.insert(tag.to_owned(), entry);
        }
        digest(text.as_bytes())
    }

    /// As a well-behaved registry would; every repository holds the same.
    pub fn answer(&self, request: &Request) -> Answer {
        let (path, _) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let mut parts = path.rsplit('/');
        let (version, what) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        match (what, self.manifests.get(version), self.blobs.get(version)) {
            ("manifests", Some((kind, bytes)), _) => {
                Answer::new(200, bytes.clone()).with("content-type", kind.clone())
            }
            ("blobs", _, Some(bytes)) => ranged(request, bytes),
            _ => Answer::new(404, "{}"),
        }
    }
}

fn ranged(request: &Request, bytes: &[u8]) -> Answer {
    let from = request.header("range").strip_prefix("bytes=");
    let from = from.and_then(|range| range.strip_suffix('-')?.parse::<usize>().ok());
    match from.and_then(|from| bytes.get(from..).map(|rest| (from, rest))) {
        None => Answer::new(200, bytes),
        Some((from, rest)) => {
            let (last, total) = (bytes.len() - 1, bytes.len());
            Answer::new(206, rest).with("content-range", format!("bytes {from}-{last}/{total}"))
        }
    }
}
