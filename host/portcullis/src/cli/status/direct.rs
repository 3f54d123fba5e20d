//! `/status` at an address that a person typed: one GET, without TLS, as the admin and health servers speak.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http::header::HOST;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time;

use super::account::Proxy;
use crate::diagnose::{Code, Problem};

/// For a whole answer.
const PATIENCE: Duration = Duration::from_secs(10);
const ANSWER_BYTES: usize = 16 << 20;
/// Of the admin server, where no port was typed.
const PORT: u16 = 19000;

/// Where an admin or health server listens.
#[derive(Clone, Debug)]
pub struct Address {
    /// `HOST:PORT`
    authority: String,
}

impl FromStr for Address {
    type Err = String;

    /// `http://HOST[:PORT][/status]`, or without the scheme.
    fn from_str(text: &str) -> Result<Address, String> {
        let whole = match text.contains("://") {
            true => text.to_owned(),
            false => format!("http://{text}"),
        };
        let wrong = || "an address is http://HOST:PORT".to_owned();
        let uri: Uri = whole.parse().map_err(|_| wrong())?;
        let right = uri.scheme_str() == Some("http") && ["/", "/status"].contains(&uri.path());
        let host = uri.host().filter(|host| right && !host.is_empty()).ok_or_else(wrong)?;
        Ok(Address { authority: format!("{host}:{}", uri.port_u16().unwrap_or(PORT)) })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

/// Asks one after the other.
pub async fn ask(addresses: &[Address]) -> Vec<Proxy> {
    let mut proxies = Vec::new();
    for address in addresses {
        let answer = time::timeout(PATIENCE, get(&address.authority)).await;
        let answer =
            answer.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
        let unknown = |cause| {
            let hint = "`admin` of the Proxy document, `run --admin` and `run --health` say where";
            let problem = Problem::new(Code::P0425, format!("nothing is known of {address}"));
            Box::new(problem.because(cause).hint(hint))
        };
        proxies.push(Proxy::new(address.to_string(), answer.map_err(unknown)));
    }
    proxies
}

/// Ends the connection with its value.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn get(authority: &str) -> Result<Value, String> {
    let stream = TcpStream::connect(authority).await.map_err(|error| error.to_string())?;
    let broken = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let driver = tokio::spawn(async move {
        // What breaks the connection breaks the request as well.
        let _ = connection.await;
    });
    let _driver = Driver(driver.abort_handle());
    let request = Request::get("/status").header(HOST, authority).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(broken)?;
    if !response.status().is_success() {
        return Err(format!("it answers {}", response.status()));
    }
    let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| format!("this is no JSON: {error}"))
}
