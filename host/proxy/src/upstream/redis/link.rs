//! One connection to a Redis: commands go out as they come, and replies are handed out in the same order.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::select;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::reply::Replies;
use crate::upstream::Cluster;
use crate::wire::Wire;

/// Bytes of commands that are taken on while the server does not read.
const MAX_UNSENT: usize = 256 << 10;

/// A command, and where its reply goes; dropped without one, it has failed.
pub(super) struct Command {
    pub(super) query: Bytes,
    pub(super) reply: oneshot::Sender<Bytes>,
}

/// A connection and the task that works it. Dropped by its last user, it ends.
#[derive(Debug)]
pub(super) struct Link {
    commands: mpsc::UnboundedSender<Command>,
    task: AbortHandle,
}

impl Link {
    /// Begins to connect; `greeting` is sent first, and each part of it has to be answered without an error.
    pub(super) fn open(cluster: &Rc<Cluster>, greeting: Vec<Bytes>) -> Link {
        let (commands, received) = mpsc::unbounded_channel();
        let cluster = cluster.clone();
        let task = tokio::task::spawn_local(async move {
            if let Err(reason) = run(&cluster, &greeting, received).await {
                tracing::info!(backend = %cluster.backend().name, "a connection to Redis ended: {reason}");
            }
        });
        Link { commands, task: task.abort_handle() }
    }

    /// A command that comes too late fails.
    pub(super) fn send(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::debug!("a command met the end of its connection");
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.commands.is_closed()
    }

    /// Ends the connection; what waits on it fails.
    pub(super) fn close(&self) {
        self.task.abort();
    }
}

async fn run(
    cluster: &Cluster,
    greeting: &[Bytes],
    mut commands: mpsc::UnboundedReceiver<Command>,
) -> Result<(), String> {
    let connection = cluster.connect().await.map_err(|problem| problem.to_string())?;
    let _open = connection.held;
    let mut wire = connection.wire;
    let mut replies = Replies::default();
    greet(&mut wire, greeting, &mut replies).await?;
    let (mut reading, mut writing) = split(wire);
    let mut unsent = BytesMut::new();
    let mut waiting: VecDeque<oneshot::Sender<Bytes>> = VecDeque::new();
    let idle_timeout = cluster.backend().idle_timeout;
    loop {
        select! {
            // A command that has come goes before the end of an idle connection.
            biased;
            command = commands.recv(), if unsent.len() < MAX_UNSENT => {
                let Some(command) = command else { return Ok(()) };
                unsent.extend_from_slice(&command.query);
                waiting.push_back(command.reply);
            }
            written = writing.write_buf(&mut unsent), if !unsent.is_empty() => {
                written.map_err(|problem| problem.to_string())?;
                writing.flush().await.map_err(|problem| problem.to_string())?;
            }
            read = reading.read_buf(replies.room()) => {
                if read.map_err(|problem| problem.to_string())? == 0 {
                    return ended(&waiting);
                }
                while let Some(reply) = replies.next()? {
                    let asked = waiting.pop_front().ok_or("it sends what nobody has asked for")?;
                    // Nobody waits for it any more, perhaps.
                    let _unwanted = asked.send(reply);
                }
            }
            () = sleep(idle_timeout), if waiting.is_empty() && unsent.is_empty() => return Ok(()),
        }
    }
}

async fn greet(wire: &mut Wire, greeting: &[Bytes], replies: &mut Replies) -> Result<(), String> {
    for command in greeting {
        wire.write_all(command).await.map_err(|problem| problem.to_string())?;
        wire.flush().await.map_err(|problem| problem.to_string())?;
        let reply = loop {
            if let Some(reply) = replies.next()? {
                break reply;
            }
            let read = wire.read_buf(replies.room()).await;
            if read.map_err(|problem| problem.to_string())? == 0 {
                return Err("it was closed".to_owned());
            }
        };
        if reply.starts_with(b"-") {
            return Err(String::from_utf8_lossy(&reply).trim().to_owned());
        }
    }
    Ok(())
}

/// A server may close what is idle.
fn ended(waiting: &VecDeque<oneshot::Sender<Bytes>>) -> Result<(), String> {
    match waiting.is_empty() {
        true => Ok(()),
        false => Err("it was closed".to_owned()),
    }
}
