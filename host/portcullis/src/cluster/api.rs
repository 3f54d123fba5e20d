//! Requests to the API server, with bounds on time and size. kube brings credentials, TLS and connections; answers are read
//! here, since nothing that answers in the server's place may make us wait or hoard.

use std::error::Error;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, Response, StatusCode, request};
use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Status;
use kube::{Client, Config};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{self, Instant};

use super::{Access, Patience};

pub(super) const JSON: &str = "application/json";
/// An answer as a whole. A ConfigMap has 1 MiB at most, and base64 adds a third.
const ANSWER_BYTES: usize = 256 << 20;
/// Pieces of a list, so that one without an end comes to one.
const PAGES: usize = 1000;
/// What an answer brings at least while we wait for its next piece.
const PROGRESS_BYTES: usize = 64 << 10;
/// One event of a watch.
const LINE_BYTES: usize = 8 << 20;
/// Who we are, for whoever reads the API server's logs.
const AGENT: &str = concat!("portcullis/", env!("CARGO_PKG_VERSION"));
/// How much of somebody's words is shown.
const WORDS: usize = 300;

/// Why there is no answer, or not the one that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nobody says where the API server is, or who we are.
    #[error("no access to a cluster: {0}")]
    Access(String),
    /// No connection, or it broke.
    #[error("no answer from the API server: {0}")]
    Unreachable(String),
    /// What answers is no API server, or not a whole one.
    #[error("this is no answer of an API server: {0}")]
    Nonsense(String),
    /// The server's own no.
    #[error("the API server answers {status}: {message}")]
    Refused {
        /// Of HTTP.
        status: u16,
        /// What the server says.
        message: String,
        /// When to ask again.
        retry_after: Option<Duration>,
    },
    /// A watch without a word.
    #[error("the watch was silent for {} s", .0.as_secs_f64())]
    Silent(Duration),
    /// A watch that has hardly begun.
    #[error("the watch was ended at once, by the API server or by something in between")]
    Ended,
}

impl Failure {
    /// When the server wants to be asked again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Failure::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Failure::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    fn refused(status: &Status) -> Failure {
        let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        let retry_after = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        Failure::Refused { status: status.code, message: status.message.clone(), retry_after }
    }
}

/// A way to the API server.
pub struct Api {
    client: Client,
    namespace: String,
    server: String,
    patience: Patience,
}

impl Api {
    /// Reads credentials; asks nothing yet. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`Failure::Access`]
    pub async fn new(access: &Access, patience: Patience) -> Result<Api, Failure> {
        let mut config = config(access).await.map_err(|error| Failure::Access(words(&*error)))?;
        // Attempts follow each other in our own time.
        config.default_retry = false;
        let (namespace, server) =
            (config.default_namespace.clone(), config.cluster_url.to_string());
        let client = Client::try_from(config).map_err(|error| Failure::Access(words(&error)))?;
        Ok(Api { client, namespace, server, patience })
    }

    /// The namespace of the pod, or that of the kubeconfig's context.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Where the API server is.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The answer to a request, parsed.
    ///
    /// # Errors
    /// No answer, a refusal, or no JSON of this form.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<T, Failure> {
        let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
        let request = Request::builder().method(method).uri(path);
        let request = request.header(ACCEPT, JSON).header(CONTENT_TYPE, content_type);
        let response = self.send(request, body).await?;
        let bytes = self.whole(response, ANSWER_BYTES).await?;
        serde_json::from_slice(&bytes).map_err(|error| nonsense(&bytes, &error))
    }

    /// [`Api::ask`] with GET.
    ///
    /// # Errors
    /// See there.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(Method::GET, path, JSON, None).await
    }

    /// The answer to a GET, unread.
    pub(super) async fn bytes(&self, path: &str) -> Result<Bytes, Failure> {
        let response = self.send(Request::get(path).header(ACCEPT, JSON), Vec::new()).await?;
        self.whole(response, ANSWER_BYTES).await
    }

    /// [`Api::get`] in a form that the server may know, and of at most `limit` bytes.
    pub(super) async fn get_bounded<T: DeserializeOwned>(
        &self,
        path: &str,
        form: &str,
        limit: usize,
    ) -> Result<T, Failure> {
        let response = self.send(Request::get(path).header(ACCEPT, form), Vec::new()).await?;
        parse(&self.whole(response, limit).await?)
    }

    /// An answer that comes line by line.
    ///
    /// # Errors
    /// It does not begin.
    pub(super) async fn lines(&self, path: &str) -> Result<Lines, Failure> {
        let response = self.send(Request::get(path).header(ACCEPT, JSON), Vec::new()).await?;
        let (body, buffer) = (response.into_body(), BytesMut::new());
        Ok(Lines { body, buffer, searched: 0, silence: self.patience.silence })
    }

    async fn send(
        &self,
        request: request::Builder,
        body: Vec<u8>,
    ) -> Result<Response<Body>, Failure> {
        let request = request.header(USER_AGENT, AGENT).body(Body::from(body));
        let request = request.map_err(|error| Failure::Nonsense(error.to_string()))?;
        let sent = time::timeout(self.patience.answer, self.client.send(request)).await;
        let response =
            sent.map_err(|_| self.late())?.map_err(|error| Failure::Unreachable(words(&error)))?;
        if response.status().is_success() {
            return match is_json(response.headers()) {
                true => Ok(response),
                false => Err(not_json(response.headers())),
            };
        }
        Err(self.refusal(response).await)
    }

    async fn refusal(&self, response: Response<Body>) -> Failure {
        let (status, asked) = (response.status(), retry_after(response.headers()));
        let bytes = self.whole(response, ANSWER_BYTES).await.unwrap_or_default();
        let said = serde_json::from_slice::<Status>(&bytes).ok();
        match said.filter(|said| !said.message.is_empty()) {
            Some(said) => match Failure::refused(&said) {
                Failure::Refused { message, retry_after, .. } => Failure::Refused {
                    status: status.as_u16(),
                    message,
                    retry_after: asked.or(retry_after),
                },
                other => other,
            },
            None => Failure::Refused {
                status: status.as_u16(),
                message: reason(status),
                retry_after: asked,
            },
        }
    }

    /// Whoever sends byte after byte for ever is late as well.
    async fn whole(&self, response: Response<Body>, limit: usize) -> Result<Bytes, Failure> {
        let mut body = response.into_body();
        let mut bytes = BytesMut::new();
        let (mut end, mut due) = (Instant::now() + self.patience.answer, PROGRESS_BYTES);
        while let Some(frame) =
            time::timeout_at(end, body.frame()).await.map_err(|_| self.late())?
        {
            let frame = frame.map_err(|error| Failure::Unreachable(words(&error)))?;
            if let Ok(data) = frame.into_data() {
                bytes.extend_from_slice(&data);
            }
            if bytes.len() > limit {
                let problem = format!("more than {} MiB", limit >> 20);
                return Err(Failure::Nonsense(problem));
            }
            if bytes.len() >= due {
                (end, due) = (Instant::now() + self.patience.answer, bytes.len() + PROGRESS_BYTES);
            }
        }
        Ok(bytes.freeze())
    }

    fn late(&self) -> Failure {
        Failure::Unreachable(format!("none within {} s", self.patience.answer.as_secs_f64()))
    }
}

/// The lines of an answer, as they come.
pub(super) struct Lines {
    body: Body,
    buffer: BytesMut,
    /// Bytes of `buffer` without a line's end.
    searched: usize,
    silence: Duration,
}

impl Lines {
    /// The next line; `None`: the server has ended the answer. Half a line at the end was never said. Not cancel safe
    /// in that nobody knows what was lost; drop it then.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let rest = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + end).freeze();
                self.buffer.advance(1);
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.searched > LINE_BYTES {
                let problem = format!("an event of more than {} MiB", LINE_BYTES >> 20);
                return Err(Failure::Nonsense(problem));
            }
            let frame = time::timeout(self.silence, self.body.frame()).await;
            let Some(frame) = frame.map_err(|_| Failure::Silent(self.silence))? else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| Failure::Unreachable(words(&error)))?;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}

/// Fails when a list has gone on for too long after this many pieces.
pub(super) fn bounded(pages: usize) -> Result<(), Failure> {
    match pages < PAGES {
        true => Ok(()),
        false => Err(Failure::Nonsense(format!("a list of more than {PAGES} pieces"))),
    }
}

/// What stands in an answer, or in a line of a watch.
pub(super) fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(line).map_err(|error| nonsense(line, &error))
}

/// What an event of the kind ERROR says.
pub(super) fn refused(status: &Status) -> Failure {
    Failure::refused(status)
}

async fn config(access: &Access) -> Result<Config, Box<dyn Error + Send + Sync>> {
    let Some(path) = &access.kubeconfig else { return Ok(Config::infer().await?) };
    let kubeconfig = Kubeconfig::read_from(path)?;
    Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}

fn is_json(headers: &HeaderMap) -> bool {
    let named = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    named.is_some_and(|named| named.split(';').next().unwrap_or_default().trim() == JSON)
}

fn not_json(headers: &HeaderMap) -> Failure {
    let named = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    Failure::Nonsense(format!("{} instead of JSON", named.unwrap_or("nothing named")))
}

fn nonsense(bytes: &[u8], error: &serde_json::Error) -> Failure {
    let begin = String::from_utf8_lossy(bytes.get(..bytes.len().min(40)).unwrap_or_default());
    Failure::Nonsense(format!("{error}; it begins with {:?}", begin.into_owned()))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn reason(status: StatusCode) -> String {
    status.canonical_reason().unwrap_or("no reason given").to_owned()
}

/// What an error says together with its causes, each once.
fn words(error: &dyn Error) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        let text = text.trim_start_matches("ServiceError: ").to_owned();
        match said.last() {
            Some(last) if last.contains(&text) => {}
            _ => said.push(text),
        }
        next = error.source();
    }
    said.join(": ").chars().take(WORDS).collect()
}
