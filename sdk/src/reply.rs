//! An answer that a filter gives in place of the upstream.

use proxy_wasm::hostcalls;

/// An answer to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    grpc: Option<u8>,
}

impl Reply {
    /// An empty answer with this status.
    pub fn new(status: u16) -> Reply {
        Reply { status, headers: Vec::new(), body: Vec::new(), grpc: None }
    }

    /// 403 with a text.
    pub fn forbidden(text: impl Into<String>) -> Reply {
        Reply::new(403).body(text.into())
    }

    /// 401 with a challenge, such as `Bearer`.
    pub fn unauthorized(challenge: impl Into<String>) -> Reply {
        Reply::new(401).header("www-authenticate", challenge)
    }

    /// A gRPC answer: HTTP 200 with this `grpc-status` and message, sent by the host in the form
    /// that gRPC clients read.
    pub fn grpc(status: u8, message: impl Into<String>) -> Reply {
        Reply { grpc: Some(status), ..Reply::new(200).body(message.into()) }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Reply {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body; with [`Reply::grpc`] the message.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Reply {
        self.body = body.into();
        self
    }

    /// Hands it to the host, for the stream in effect. A second one is ignored there.
    pub(crate) fn send(&self) {
        let status = self.grpc.and_then(grpc_code);
        let Some(status) = status else {
            let headers = self.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
            let body = Some(&*self.body).filter(|body| !body.is_empty());
            let _ = hostcalls::send_http_response(self.status.into(), headers, body);
            return;
        };
        let headers =
            self.headers.iter().map(|(name, value)| (&**name, value.as_bytes())).collect();
        let message = String::from_utf8_lossy(&self.body);
        let _ = hostcalls::send_grpc_response(status, Some(&message), headers);
    }
}

/// The `proxy-wasm` crate's name for a gRPC status.
fn grpc_code(status: u8) -> Option<proxy_wasm::types::GrpcStatusCode> {
    use proxy_wasm::types::GrpcStatusCode as Code;
    const CODES: [Code; 17] = [
        Code::Ok,
        Code::Cancelled,
        Code::Unknown,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
        Code::Unauthenticated,
    ];
    CODES.get(usize::from(status)).copied()
}
