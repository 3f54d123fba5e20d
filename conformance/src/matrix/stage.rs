//! A host that runs the probe, the servers behind it, and what is sent through.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::time::timeout;

use super::Cell;
use super::phases::Way;
use super::traffic::{backends, bytes, request, unusual, unusual_connection};
use crate::case::FilterType;
use crate::host::{Host, Line, Listener, Plugin, Running, Server, Setup};
use crate::net::{Received, Servers, Waiter, send, talk};
use crate::play::only;

/// The probe ended in the middle of a call, or did not come to it.
pub(super) const NO_LINE: &str = "no line";
/// How long the end of an exchange, or a line, may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long after a client's response the end of its request may come to the origin.
const BEHIND: Duration = Duration::from_millis(250);
const LISTENER: &str = "web";
const ORIGIN: &str = "origin";

/// A host that runs the probe, for exchanges or for connections.
pub(super) struct Stage {
    kind: FilterType,
    servers: Servers,
    running: Arc<Running>,
    waiter: Waiter,
}

/// What a client gets; nothing: it waits in vain, or nobody listens.
enum Got {
    Response(Option<Received>),
    Bytes(Option<Vec<u8>>),
}

impl Stage {
    pub(super) async fn start(host: &Host, plugin: Plugin) -> Result<Stage> {
        let kind = plugin.kind;
        let servers = Servers::start(&backends(kind)).await?;
        let listener = Listener { name: LISTENER.to_owned(), plugins: vec![plugin] };
        let addresses = servers.addresses();
        let backends: BTreeMap<String, Server> = addresses
            .map(|(name, address, protocol)| (name.clone(), Server { protocol, address }))
            .collect();
        let setup = Setup { workers: 1, listeners: vec![listener], backends };
        let host = host.clone();
        let running = tokio::task::spawn_blocking(move || host.start(&setup)).await??;
        let waiter: Waiter = Arc::new(|_| false);
        Ok(Stage { kind, servers, running: Arc::new(running), waiter })
    }

    /// Sends what names a cell; its result.
    pub(super) async fn cell(&self, cell: &Cell, way: Way) -> Result<String> {
        let words = cell.words();
        let seen = self.running.line_count();
        let (mut sent, mut got) = (words.as_str(), self.send(&words).await);
        if matches!(way, Way::NextExchange | Way::NextConnection) {
            let _of_the_one_before = self.servers.take_recorded(ORIGIN);
            (sent, got) = ("", self.send("").await);
        }
        let line = self.line(seen, &format!("cell {words} ")).await?;
        let result = line.and_then(|line| text(&line, cell)).unwrap_or(NO_LINE.to_owned());
        Ok(result + &self.unusual(sent, &got).await)
    }

    /// Sends something that names no cell; what was unusual about it.
    pub(super) async fn pass(&self) -> String {
        let got = self.send("").await;
        self.unusual("", &got).await
    }

    /// Leads through phases, and waits for what shall be logged meanwhile.
    pub(super) async fn tour(&self, cells: &str, last: &str) -> Result<()> {
        let seen = self.running.line_count();
        let _seen_elsewhere = self.send(cells).await;
        for part in cells.split(' ').chain([last]) {
            let _not_called = self.line(seen, part).await?;
        }
        Ok(())
    }

    async fn send(&self, cells: &str) -> Got {
        let address = self.running.address(LISTENER).ok();
        match self.kind {
            FilterType::Http => Got::Response(
                async {
                    let request = request(cells);
                    timeout(PATIENCE, send(address?, &request, &self.waiter)).await.ok()?.ok()
                }
                .await,
            ),
            FilterType::Network => Got::Bytes(
                async {
                    let bytes = bytes(cells);
                    timeout(PATIENCE, talk(address?, bytes.as_bytes())).await.ok()?.ok()
                }
                .await,
            ),
        }
    }

    async fn unusual(&self, sent: &str, got: &Got) -> String {
        match got {
            Got::Response(received) => {
                unusual(received.as_ref(), &self.servers.await_recorded(ORIGIN, BEHIND).await)
            }
            Got::Bytes(received) => unusual_connection(&bytes(sent), received.as_deref()),
        }
    }

    /// Waits for a line that contains this.
    async fn line(&self, skip: usize, part: &str) -> Result<Option<Line>> {
        let (running, part) = (self.running.clone(), part.to_owned());
        let found = tokio::task::spawn_blocking(move || {
            running.find_line(skip, PATIENCE, |line| line.message.contains(&part))
        });
        Ok(found.await?)
    }

    /// Whether the process has ended, or is about to: one that writes down why it crashed still lives, and answers nobody.
    pub(super) async fn ends(&mut self) -> bool {
        let got = self.send("").await;
        let _of_this_one = self.servers.take_recorded(ORIGIN);
        match got {
            Got::Response(received) => received.is_none_or(|received| received.status.is_none()),
            Got::Bytes(received) => received.is_none_or(|received| received.is_empty()),
        }
    }

    /// The plugin ends, and then the process; `last` is the line to wait for in between, if the end of the process does not bring it.
    pub(super) async fn end_plugin(self, last: &str) -> Result<Vec<Line>> {
        if self.running.withdraw_filters()? {
            let _judged_by_the_lines = self.line(0, last).await?;
        }
        self.end().await
    }

    pub(super) async fn end(self) -> Result<Vec<Line>> {
        drop(self.servers);
        let running = only(self.running).await?;
        tokio::task::spawn_blocking(move || running.stop()).await?
    }
}

/// What the probe logged for a cell.
pub(super) fn text(line: &Line, cell: &Cell) -> Option<String> {
    let prefix = format!("cell {} ", cell.words());
    line.message.strip_prefix(&prefix).map(str::to_owned)
}
