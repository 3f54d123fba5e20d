//! Redis as an upstream of guests: one connection for each filter, worker and store, on which commands are pipelined. Every
//! command ends once: with its reply as it came, or without one.

mod link;
mod reply;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use portcullis_vm::RedisSettings;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Cluster;
use crate::snapshot::BackendProtocol;
use link::{Command, Link};

/// For a guest that sets none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// However long a guest would wait.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// A store as one filter on one worker uses it.
#[derive(Debug)]
pub struct Redis {
    cluster: Rc<Cluster>,
    settings: Rc<RedisSettings>,
    link: RefCell<Option<Rc<Link>>>,
}

impl Redis {
    /// Without a connection yet. To be used inside a `LocalSet`.
    pub fn new(cluster: Rc<Cluster>, settings: Rc<RedisSettings>) -> Rc<Redis> {
        Rc::new(Redis { cluster, settings, link: RefCell::default() })
    }

    /// Whether it uses the connections of this cluster.
    pub fn is_of(&self, cluster: &Rc<Cluster>) -> bool {
        Rc::ptr_eq(&self.cluster, cluster)
    }

    /// Sends one command and waits for its reply. When there is none in time, the connection is given up with everything that
    /// waits on it: replies have no names, only an order.
    ///
    /// Cancel safe: the command may have been sent, and its reply is dropped.
    ///
    /// # Errors
    /// The reason, for the log; the guest only learns that the command failed.
    pub async fn call(&self, query: Bytes) -> Result<Bytes, String> {
        if self.cluster.backend().protocol != BackendProtocol::Redis {
            return Err(format!("backend {} is no Redis", self.cluster.backend().name));
        }
        let limit = self.settings.timeout.unwrap_or(DEFAULT_TIMEOUT).min(MAX_TIMEOUT);
        let (sender, reply) = oneshot::channel();
        let link = self.link();
        link.send(Command { query, reply: sender });
        match timeout(limit, reply).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err("the connection has ended".to_owned()),
            Err(_) => {
                self.give_up(&link);
                Err(format!("no reply within {limit:?}"))
            }
        }
    }

    /// The connection, a new one if there is none.
    fn link(&self) -> Rc<Link> {
        let mut link = self.link.borrow_mut();
        match &*link {
            Some(link) if !link.has_ended() => link.clone(),
            _ => {
                let opened = Rc::new(Link::open(&self.cluster, self.greeting()));
                link.insert(opened).clone()
            }
        }
    }

    fn give_up(&self, late: &Rc<Link>) {
        let mut link = self.link.borrow_mut();
        if link.as_ref().is_some_and(|link| Rc::ptr_eq(link, late)) {
            *link = None;
        }
        late.close();
    }

    /// What a new connection begins with.
    fn greeting(&self) -> Vec<Bytes> {
        let RedisSettings { user, password, database, .. } = &*self.settings;
        let mut greeting = Vec::new();
        match (user.is_empty(), password.is_empty()) {
            (_, true) => {}
            (true, false) => greeting.push(command(&[b"AUTH", password])),
            (false, false) => greeting.push(command(&[b"AUTH", user, password])),
        }
        if *database != 0 {
            greeting.push(command(&[b"SELECT", database.to_string().as_bytes()]));
        }
        greeting
    }
}

fn command(parts: &[&[u8]]) -> Bytes {
    let mut bytes = BytesMut::from(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        bytes.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        bytes.extend_from_slice(part);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.freeze()
}
