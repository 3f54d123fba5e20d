//! How each proxy tells what it has counted.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::net;
use crate::upstream::StubStatus;

/// Where a proxy's counters are.
#[derive(Debug)]
pub(super) enum Counters {
    /// Its admin server's `/metrics`.
    Portcullis(SocketAddr),
    /// Its admin server's `/stats`.
    Envoy(SocketAddr),
    /// `stub_status`.
    Nginx(StubStatus),
    /// Its stats socket.
    Haproxy(PathBuf),
}

impl Counters {
    pub(super) fn requests(&self) -> Result<u64> {
        match self {
            Counters::Portcullis(admin) => {
                Ok(metric(&net::page(*admin, "/metrics")?, "portcullis_requests_total"))
            }
            Counters::Envoy(admin) => {
                let name = "http.bench.downstream_rq_total";
                stat(&net::page(*admin, &format!("/stats?filter={name}"))?, name)
                    .context("no downstream_rq_total")
            }
            Counters::Nginx(status) => status.requests(),
            Counters::Haproxy(socket) => {
                let mut stream = UnixStream::connect(socket)?;
                stream.write_all(b"show stat\n")?;
                let mut table = String::new();
                stream.read_to_string(&mut table)?;
                requests_of_frontend(&table, "bench").context("no frontend bench")
            }
        }
    }

    pub(super) fn filter_count(&self, name: &str) -> Result<u64> {
        match self {
            Counters::Portcullis(admin) => {
                Ok(metric(&net::page(*admin, "/metrics")?, &format!("wasmcustom_{name}")))
            }
            // A counter that no filter has touched yet is not there.
            Counters::Envoy(admin) => {
                let name = format!("wasmcustom.{name}");
                let page = net::page(*admin, &format!("/stats?filter={name}"))?;
                Ok(stat(&page, &name).unwrap_or(0))
            }
            Counters::Nginx(_) | Counters::Haproxy(_) => bail!("it runs no filters"),
        }
    }
}

/// The sum of a family's series in Prometheus' text.
#[must_use]
pub fn metric(page: &str, family: &str) -> u64 {
    let value = |line: &str| {
        let rest = line.strip_prefix(family)?;
        if !rest.starts_with(['{', ' ']) {
            return None;
        }
        rest.rsplit_once(' ')?.1.parse::<u64>().ok()
    };
    page.lines().filter_map(value).sum()
}

/// Envoy's `NAME: VALUE`.
#[must_use]
pub fn stat(page: &str, name: &str) -> Option<u64> {
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok();
    page.lines().find_map(value)
}

/// `req_tot` of a frontend in HAProxy's table of statistics.
#[must_use]
pub fn requests_of_frontend(table: &str, name: &str) -> Option<u64> {
    let mut lines = table.lines();
    let head = lines.next()?.trim_start_matches("# ");
    let column = head.split(',').position(|title| title == "req_tot")?;
    let row = lines.find(|line| line.starts_with(&format!("{name},FRONTEND,")))?;
    row.split(',').nth(column)?.parse().ok()
}
