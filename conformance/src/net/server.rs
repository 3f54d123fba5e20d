//! Servers behind a host: each answers what its script says and records what it was sent.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http::header::TRAILER;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::bodies::{Outgoing, Seen, Waiter, fields, outgoing};
use super::tcp;
use crate::case::{Answer, Backend, Protocol};

/// A request that a server was sent.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Of the request line.
    pub method: String,
    /// With its query.
    pub path: String,
    /// The rest of it.
    pub seen: Seen,
}

/// The servers of one case. They end with the runtime that they were started on.
pub struct Servers {
    servers: BTreeMap<String, Arc<Server>>,
    addresses: BTreeMap<String, SocketAddr>,
}

struct Server {
    protocol: Protocol,
    answer: Mutex<Answer>,
    recorded: Mutex<Vec<Recorded>>,
    arrived: Notify,
    waiter: Mutex<Option<Waiter>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Servers {
    /// Binds and serves.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(backends: &BTreeMap<String, Backend>) -> Result<Servers> {
        let mut started = Servers { servers: BTreeMap::new(), addresses: BTreeMap::new() };
        for (name, backend) in backends {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            started.addresses.insert(name.clone(), listener.local_addr()?);
            let server = Arc::new(Server {
                protocol: backend.protocol,
                answer: Mutex::new(backend.answer.clone()),
                recorded: Mutex::default(),
                arrived: Notify::new(),
                waiter: Mutex::default(),
            });
            started.servers.insert(name.clone(), server.clone());
            if !backend.refuses {
                tokio::spawn(accept(listener, server));
            }
        }
        Ok(started)
    }

    /// Where they listen, and what they speak.
    pub fn addresses(&self) -> impl Iterator<Item = (&String, SocketAddr, Protocol)> {
        self.servers
            .iter()
            .filter_map(|(name, server)| Some((name, *self.addresses.get(name)?, server.protocol)))
    }

    /// What pieces of answers wait with.
    pub fn set_waiter(&self, waiter: &Waiter) {
        for server in self.servers.values() {
            *locked(&server.waiter) = Some(waiter.clone());
        }
    }

    /// From now on `name` answers this.
    pub fn set_answer(&self, name: &str, answer: &Answer) {
        if let Some(server) = self.servers.get(name) {
            locked(&server.answer).clone_from(answer);
        }
    }

    /// As [`take_recorded`](Self::take_recorded), but nothing is taken for an answer only after `patience`: a client can
    /// have its response before a request that was broken off has come to its end here.
    pub async fn await_recorded(&self, name: &str, patience: Duration) -> Vec<Recorded> {
        if let Some(server) = self.servers.get(name) {
            let arrived = async {
                while locked(&server.recorded).is_empty() {
                    server.arrived.notified().await;
                }
            };
            let _nothing_came = timeout(patience, arrived).await;
        }
        self.take_recorded(name)
    }

    /// Takes what `name` was sent.
    #[must_use]
    pub fn take_recorded(&self, name: &str) -> Vec<Recorded> {
        let taken =
            self.servers.get(name).map(|server| std::mem::take(&mut *locked(&server.recorded)));
        taken.unwrap_or_default()
    }
}

async fn accept(listener: TcpListener, server: Arc<Server>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, server.clone()));
    }
}

async fn serve(stream: TcpStream, server: Arc<Server>) {
    let protocol = server.protocol;
    if protocol == Protocol::Tcp {
        let answer = locked(&server.answer).clone();
        let _broken = tcp::serve(stream, &answer).await;
        return;
    }
    let service = service_fn(move |request| {
        let server = server.clone();
        async move { answer(request, &server).await }
    });
    let _undelayed = stream.set_nodelay(true);
    let io = TokioIo::new(stream);
    // What breaks a connection shows at the client.
    let _broken = match protocol {
        Protocol::Http1 => http1::Builder::new().serve_connection(io, service).await,
        _ => http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await,
    };
}

/// Recorded before it answers, so that a client that has its answer finds the record.
async fn answer(
    request: Request<Incoming>,
    server: &Server,
) -> Result<Response<Outgoing>, http::Error> {
    let (head, body) = request.into_parts();
    let seen = Seen::read(&head.headers, body).await;
    let sent = Bytes::from(seen.body.clone());
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    locked(&server.recorded).push(Recorded { method: head.method.to_string(), path, seen });
    server.arrived.notify_one();
    let answer = locked(&server.answer).clone();
    if answer.silent {
        std::future::pending::<Infallible>().await;
    }
    let mut response = Response::builder().status(answer.status.unwrap_or(200));
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    let trailers = fields(&answer.trailers)?;
    if server.protocol == Protocol::Http1 {
        for name in trailers.keys() {
            response = response.header(TRAILER, name.as_str());
        }
    }
    if answer.echo {
        return response.body(Full::new(sent).boxed_unsync());
    }
    let waiter = locked(&server.waiter).clone().unwrap_or_else(|| Arc::new(|_| false));
    response.body(outgoing(&answer.body, trailers, &waiter))
}
