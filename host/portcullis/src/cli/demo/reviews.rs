//! The application of the demo, in two versions: says which version answered and which headers it saw.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use serde_json::{Map, Value, json};

use super::http::{Connection, Message};

/// Serves one version of the application, on a port that the system chooses, until the process ends.
///
/// # Errors
/// No port, or no thread, is left.
pub fn serve(version: &'static str) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::Builder::new().name(format!("reviews-{version}")).spawn(move || {
        for stream in listener.incoming().flatten() {
            // A connection that fails shows at the client, which counts it.
            let _ = thread::Builder::new().spawn(move || converse(stream, version));
        }
    })?;
    Ok(address)
}

fn converse(stream: TcpStream, version: &str) -> io::Result<()> {
    let mut connection = Connection::accepted(stream)?;
    while let Some(request) = connection.receive()? {
        let body = answer(&request, version).to_string();
        let length = body.len();
        connection.send(&format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ))?;
    }
    Ok(())
}

fn answer(request: &Message, version: &str) -> Value {
    let path = request.start.split(' ').nth(1).unwrap_or_default();
    let headers: Map<String, Value> = request
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), Value::String(value.clone())))
        .collect();
    json!({"service": "reviews", "version": version, "path": path, "headers": headers})
}
