//! Which path shows what. Pure: a request's method and path, and a report, make a page.

use http::{Method, StatusCode};
use serde_json::Value;

use super::{Report, redact};

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

/// Which of the two servers was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    /// Everything.
    Admin,
    /// What may be shown to the cluster.
    Health,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Page {
    fn new(content_type: &'static str, body: String) -> Page {
        Page { status: StatusCode::OK, content_type, body }
    }

    fn with_status(self, status: StatusCode) -> Page {
        Page { status, ..self }
    }
}

/// Path, what it shows, and how.
type Entry = (&'static str, &'static str, fn(&dyn Report) -> Page);

const ENTRIES: &[Entry] = &[
    ("/healthz/live", "whether the process works", live),
    ("/healthz/ready", "whether traffic should be sent here", ready),
    ("/metrics", "metrics, in the Prometheus text format", |report| {
        Page::new(PROMETHEUS, report.metrics())
    }),
    ("/status", "generation, sources, listeners and filters, as JSON", |report| {
        json(&report.status())
    }),
    ("/config", "the documents in force, secrets redacted, as JSON", |report| {
        let mut config = report.config();
        redact(&mut config);
        json(&config)
    }),
];

/// The answer to a request. May block as long as the report does.
pub(super) fn answer(site: Site, method: &Method, path: &str, report: &dyn Report) -> Page {
    let entry = entries(site).find(|(known, _, _)| *known == path);
    if entry.is_none() && path != "/" {
        let body = format!("there is no {path} here; there is\n\n{}", index(site));
        return Page::new(TEXT, body).with_status(StatusCode::NOT_FOUND);
    }
    if method != Method::GET && method != Method::HEAD {
        let body = format!("{method} is not allowed: everything here is read with GET\n");
        return Page::new(TEXT, body).with_status(StatusCode::METHOD_NOT_ALLOWED);
    }
    match entry {
        Some((_, _, show)) => show(report),
        None => Page::new(TEXT, index(site)),
    }
}

fn entries(site: Site) -> impl Iterator<Item = &'static Entry> {
    ENTRIES.iter().filter(move |(path, _, _)| site == Site::Admin || *path != "/config")
}

fn index(site: Site) -> String {
    entries(site).map(|(path, shows, _)| format!("{path:<16}{shows}\n")).collect()
}

fn live(report: &dyn Report) -> Page {
    if report.live() {
        return Page::new(TEXT, "live\n".to_owned());
    }
    Page::new(TEXT, "not live\n".to_owned()).with_status(StatusCode::SERVICE_UNAVAILABLE)
}

fn ready(report: &dyn Report) -> Page {
    match report.ready() {
        Ok(()) => Page::new(TEXT, "ready\n".to_owned()),
        Err(reason) => Page::new(TEXT, format!("not ready: {reason}\n"))
            .with_status(StatusCode::SERVICE_UNAVAILABLE),
    }
}

fn json(value: &Value) -> Page {
    Page::new(JSON, format!("{value:#}\n"))
}
