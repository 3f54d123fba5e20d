//! HTTP/1.1 on blocking sockets, just enough for the demo's clients and its application: requests without a body,
//! responses with a `content-length`. Whatever else arrives is an error and counts as a failed request.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
const HEAD_BYTES: u64 = 64 << 10;

/// A head and its body.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Request or status line.
    pub start: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// As text.
    pub body: String,
}

impl Message {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The status of a response; 0 where there is none.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }
}

/// One connection, from either end.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects to a server.
    ///
    /// # Errors
    /// Nobody answers there.
    pub fn open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Connection::accepted(stream)
    }

    /// The server's end.
    ///
    /// # Errors
    /// The socket is dead already.
    pub fn accepted(stream: TcpStream) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        Ok(Connection { stream: BufReader::new(stream) })
    }

    /// Sends a GET and waits for the whole response.
    ///
    /// # Errors
    /// The connection broke, or what came is no response that we understand.
    pub fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> io::Result<Message> {
        let fields: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: reviews.example\r\n{fields}\r\n"))?;
        self.receive()?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Writes everything.
    ///
    /// # Errors
    /// The connection broke.
    pub fn send(&mut self, text: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(text.as_bytes())
    }

    /// The next message; `None` when the peer closed the connection between two.
    ///
    /// # Errors
    /// The connection broke, or what came is no message that we understand.
    pub fn receive(&mut self) -> io::Result<Option<Message>> {
        let mut message = Message { start: self.line()?, ..Message::default() };
        if message.start.is_empty() {
            return Ok(None);
        }
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
            message.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        if message.header("transfer-encoding").is_some() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let length = message.header("content-length").map_or(Ok(0), str::parse::<usize>);
        let mut body = vec![0; length.map_err(|_| io::ErrorKind::InvalidData)?];
        self.stream.read_exact(&mut body)?;
        message.body = String::from_utf8(body).map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(Some(message))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        (&mut self.stream).take(HEAD_BYTES).read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}
