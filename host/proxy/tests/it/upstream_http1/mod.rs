//! What an HTTP/1 upstream may say, and when: bytes on a socket on one side, the cluster on the other.

mod answers;
mod requests;
mod reuse;

use http::{HeaderMap, Method};
use http_body::Frame;
use http_body_util::BodyExt;
use portcullis_proxy::upstream::Upstreamed;
use portcullis_vm::RequestHead;

use crate::upstream_origin::get;

/// The body as it came, and its trailers or what broke it off.
async fn whole(answer: Box<Upstreamed>) -> (Vec<u8>, Result<HeaderMap, String>) {
    let mut body = answer.response.body;
    let (mut bytes, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => bytes.extend_from_slice(&data),
            Ok(Err(frame)) => trailers = frame.into_trailers().unwrap(),
            Err(error) => return (bytes, Err(error.to_string())),
        }
    }
    (bytes, Ok(trailers))
}

fn post(headers: &[(&'static str, &'static str)]) -> RequestHead {
    let mut head = get("/");
    head.method = Method::POST;
    for (name, value) in headers {
        head.headers.append(name, value).unwrap();
    }
    head
}
