//! HTTP/1.1 to registries and module servers: one request on one connection, under the guard, with bounded answers.
//!
//! Whoever calls bounds the whole in time. This module never dials an address that [`guard`] refuses, never speaks plain
//! HTTP to a host that was not named for it, and never sends credentials on to the target of a redirect.

mod dial;
pub mod guard;
mod origin;
mod proxies;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, LOCATION, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use origin::{Origin, join, shown};
pub use proxies::{Proxies, Proxy};

use super::error::{FetchError, FetchErrorKind};
use crate::plan::Registry;
use guard::Standing;

/// How often something is asked for that fails in passing.
const ATTEMPTS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Whoever wants to be left alone for longer is asked again some other time.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
const REDIRECTS: usize = 5;
/// Until the head of an answer, and between two pieces of its body.
const SILENCE: Duration = Duration::from_secs(10);
/// Bytes a second that an upload has to make.
const SLOWEST: u64 = 256 << 10;
const AGENT: &str = concat!("portcullis/", env!("CARGO_PKG_VERSION"));

/// Makes requests.
#[derive(Clone, Debug)]
pub struct Client {
    named: Arc<[Registry]>,
    proxies: Arc<Proxies>,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Redirects are followed for GET and HEAD.
    pub method: Method,
    /// Absolute.
    pub uri: Uri,
    /// `host` and `user-agent` are added.
    pub headers: HeaderMap,
    /// May be empty.
    pub body: Bytes,
}

/// The head of an answer, and the way to its body.
pub struct Answer {
    /// Who answered, after redirects.
    pub uri: Uri,
    /// Any.
    pub status: StatusCode,
    /// Any.
    pub headers: HeaderMap,
    body: Incoming,
    _driver: Driver,
}

/// The task that moves a connection's bytes; ends with its owner.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Ask {
    /// A GET without headers.
    pub fn get(uri: Uri) -> Ask {
        Ask { method: Method::GET, uri, headers: HeaderMap::new(), body: Bytes::new() }
    }
}

impl Client {
    /// `named`: hosts that the operator named, and how to speak to them.
    pub fn new(named: Arc<[Registry]>) -> Client {
        Client { named, proxies: Arc::new(Proxies::of_environment()) }
    }

    /// How the operator wants `origin` to be spoken to, if they named it.
    pub fn named(&self, origin: &Origin) -> Option<&Registry> {
        let authority = origin.authority();
        let spelled = format!("{}:{}", origin.host, origin.port);
        self.named.iter().find(|registry| {
            let host = registry.host.as_str();
            host == authority || host == spelled || Some(host) == hub(&origin.host)
        })
    }

    /// One request and, for GET and HEAD, those to which it is sent on.
    ///
    /// Cancel safe: dropped, it closes the connection.
    ///
    /// # Errors
    /// Nobody was reached, or nobody may be.
    pub async fn send(&self, mut ask: Ask) -> Result<Answer, FetchError> {
        for _ in 0..=REDIRECTS {
            let answer = self.send_once(&ask).await?;
            let follows = matches!(ask.method, Method::GET | Method::HEAD);
            let location = answer.headers.get(LOCATION).filter(|_| answer.status.is_redirection());
            let Some(location) = location.filter(|_| follows) else { return Ok(answer) };
            let target = join(&ask.uri, location.to_str().unwrap_or_default())?;
            if Origin::of(&target)? != Origin::of(&ask.uri)? {
                ask.headers.remove(AUTHORIZATION);
            }
            ask.uri = target;
        }
        let title = format!("{} leads nowhere", shown(&ask.uri));
        Err(FetchError::new(
            FetchErrorKind::Damaged,
            title,
            format!("more than {REDIRECTS} redirects"),
        ))
    }

    async fn send_once(&self, ask: &Ask) -> Result<Answer, FetchError> {
        let origin = Origin::of(&ask.uri)?;
        let named = self.named(&origin);
        if !origin.secure && !named.is_some_and(|registry| registry.plain_http) {
            let title = format!("{} is not spoken to without TLS", origin.authority());
            let cause = "the Proxy's registries do not name it with plainHttp: true";
            return Err(FetchError::new(FetchErrorKind::Forbidden, title, cause));
        }
        let standing = if named.is_some() { Standing::Named } else { Standing::Stranger };
        let ca = named.and_then(|registry| registry.ca.as_deref());
        let proxy = self.proxies.before(&origin);
        let wire = dial::dial(&origin, standing, ca, proxy).await?;
        let before = proxy.filter(|_| !origin.secure);
        // A body of ours takes its time to be sent.
        let patience = SILENCE + Duration::from_secs(ask.body.len() as u64 / SLOWEST);
        match timeout(patience, exchange(wire, ask, &origin, before)).await {
            Ok(answer) => answer.map_err(|problem| broken(&ask.uri, &problem)),
            Err(_) => {
                let title = format!("{} does not answer", origin.authority());
                let cause = format!("nothing came for {} s", patience.as_secs());
                Err(FetchError::new(FetchErrorKind::Unreachable, title, cause))
            }
        }
    }
}

/// Overload and trouble that may pass; what a server does not implement does not.
pub(super) fn is_passing(status: StatusCode) -> bool {
    let lasting = [StatusCode::NOT_IMPLEMENTED, StatusCode::HTTP_VERSION_NOT_SUPPORTED];
    status == StatusCode::TOO_MANY_REQUESTS
        || status.is_server_error() && !lasting.contains(&status)
}

/// Whether to make attempt `attempt + 1` after this error. Then a pause has passed: longer each time, never the same for
/// two, and as long as was asked for.
pub(super) async fn again(attempt: u32, error: &FetchError) -> bool {
    if !error.is_passing() || attempt >= ATTEMPTS || error.wait() > LONGEST_WAIT {
        return false;
    }
    let longest = (FIRST_PAUSE * 2_u32.pow(attempt.min(8))).min(LONGEST_PAUSE);
    let pause = longest.mul_f64(0.5 + fastrand::f64() / 2.0);
    tokio::time::sleep(pause.max(error.wait())).await;
    true
}

/// Docker Hub goes by one name and answers under another.
fn hub(host: &str) -> Option<&'static str> {
    matches!(host, "registry-1.docker.io" | "index.docker.io").then_some("docker.io")
}

fn path(uri: &Uri) -> Uri {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    path.parse().unwrap_or_default()
}

/// `before`: the forward proxy that passes it on, and wants to see the whole URL, not the path alone.
async fn exchange(
    wire: dial::Wire,
    ask: &Ask,
    origin: &Origin,
    before: Option<&Proxy>,
) -> hyper::Result<Answer> {
    let io = TokioIo::new(wire.into_io());
    let (mut sender, connection) = http1::handshake(io).await?;
    let driver = Driver(tokio::spawn(async move {
        // What breaks the connection breaks the request as well.
        let _ = connection.await;
    }));
    let mut request = Request::new(Full::new(ask.body.clone()));
    *request.method_mut() = ask.method.clone();
    *request.headers_mut() = ask.headers.clone();
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
    if let Ok(host) = origin.authority().parse() {
        request.headers_mut().insert(HOST, host);
    }
    let pass = before.and_then(|proxy| proxy.pass.clone());
    request.headers_mut().extend(pass.map(|pass| (PROXY_AUTHORIZATION, pass)));
    *request.uri_mut() = before.map_or_else(|| path(&ask.uri), |_| ask.uri.clone());
    let (head, body) = sender.send_request(request).await?.into_parts();
    let uri = ask.uri.clone();
    Ok(Answer { uri, status: head.status, headers: head.headers, body, _driver: driver })
}

fn broken(uri: &Uri, problem: &hyper::Error) -> FetchError {
    let cause = std::error::Error::source(problem).map(|source| format!(": {source}"));
    let cause = format!("{problem}{}", cause.unwrap_or_default());
    let host = uri.authority().map_or("", |authority| authority.as_str());
    FetchError::new(FetchErrorKind::Unreachable, format!("{host} broke off"), cause)
}

impl Answer {
    /// The next piece of the body; `None` at its end.
    ///
    /// Cancel safe: a piece that has not been returned comes next time.
    ///
    /// # Errors
    /// The connection broke, or nothing came for ten seconds.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            let Ok(frame) = timeout(SILENCE, self.body.frame()).await else {
                let title = format!("{} stopped in the middle", shown(&self.uri));
                let cause = format!("nothing came for {} s", SILENCE.as_secs());
                return Err(FetchError::new(FetchErrorKind::Unreachable, title, cause));
            };
            match frame.transpose().map_err(|problem| broken(&self.uri, &problem))? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The whole body, of at most `limit` bytes.
    ///
    /// # Errors
    /// It is longer, or does not come to its end.
    pub async fn whole(mut self, limit: usize) -> Result<Bytes, FetchError> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece().await? {
            if bytes.len() + piece.len() > limit {
                let title = format!("{} sends too much", shown(&self.uri));
                let cause = format!("more than {limit} bytes");
                return Err(FetchError::new(FetchErrorKind::Damaged, title, cause));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.into())
    }
}
