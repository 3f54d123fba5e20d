//! Clients: one request on a connection of its own, and plain GETs for admin servers.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use http::header::{CONTENT_LENGTH, HOST, TRAILER};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;
use super::bodies::{Outgoing, Seen, Waiter, fields, outgoing};
use crate::case::{Exchange, Protocol};

const AUTHORITY: &str = "conformance.test";

/// What a client got; without a status where there was no response.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Of the response.
    pub status: Option<u16>,
    /// The rest of it.
    pub seen: Seen,
}

/// Sends a case's request and reads what comes back.
///
/// # Errors
/// Nobody listens, the request cannot be written down, or no end of the response in time.
pub async fn send(address: SocketAddr, exchange: &Exchange, waiter: &Waiter) -> Result<Received> {
    let request = request(exchange, waiter)?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let answer = async {
        match exchange.protocol {
            Protocol::Http1 => {
                let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
                let connection = tokio::spawn(connection);
                let received = read(sender.send_request(request).await).await;
                connection.abort();
                Ok::<_, hyper::Error>(received)
            }
            Protocol::Http2 | Protocol::Tcp => {
                let executor = TokioExecutor::new();
                let (mut sender, connection) =
                    http2::handshake(executor, TokioIo::new(stream)).await?;
                let connection = tokio::spawn(connection);
                let received = read(sender.send_request(request).await).await;
                connection.abort();
                Ok(received)
            }
        }
    };
    let answer = timeout(PATIENCE, answer).await.context("no end of the response in time")?;
    Ok(answer?)
}

async fn read(answer: hyper::Result<Response<Incoming>>) -> Received {
    let Ok(response) = answer else {
        return Received { status: None, seen: Seen { broken: true, ..Seen::default() } };
    };
    let (head, body) = response.into_parts();
    Received { status: Some(head.status.as_u16()), seen: Seen::read(&head.headers, body).await }
}

fn request(exchange: &Exchange, waiter: &Waiter) -> Result<Request<Outgoing>> {
    let trailers = fields(&exchange.trailers)?;
    let mut request = Request::builder().method(exchange.method.as_str());
    if exchange.protocol == Protocol::Http1 {
        request = request.uri(&exchange.path).header(HOST, AUTHORITY);
        for name in trailers.keys() {
            request = request.header(TRAILER, name.as_str());
        }
    } else {
        request = request.uri(format!("http://{AUTHORITY}{}", exchange.path));
    }
    for (name, value) in &exchange.headers {
        request = request.header(name, value);
    }
    let mut request = request.body(outgoing(&exchange.body, trailers, waiter))?;
    if exchange.body.is_empty() && exchange.trailers.is_empty() && exchange.method != "GET" {
        request.headers_mut().insert(CONTENT_LENGTH, 0.into());
    }
    Ok(request)
}

/// The page of an admin server. Blocks.
///
/// # Errors
/// It does not answer 200.
pub fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = std::net::TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no response")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return dechunked(body).with_context(|| format!("{path}: broken chunks"));
    }
    Ok(body.to_owned())
}

fn dechunked(mut body: &str) -> Option<String> {
    let mut whole = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n")?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole.push_str(rest.get(..size)?);
        body = rest.get(size + 2..)?;
    }
}
