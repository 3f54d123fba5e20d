//! Runs h2spec, the conformance tests of HTTP/2 servers, against the listeners of Portcullis: in plain text and over TLS, each
//! with an HTTP/2 upstream behind it.
//!
//! A test that fails has to be explained by its id in DIFFERENCES.md (`Cells: h2spec/h2c/http2/3.5/2`).

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use rcgen::CertifiedKey;
use serde_json::json;

use crate::case::{Answer, Backend, Piece, Protocol};
use crate::host::{Portcullis, Serving};
use crate::net::Servers;
use crate::place;

const TOOL: &str = "github.com/summerwind/h2spec/cmd/h2spec";
/// Seconds that one of its tests may take.
const SECONDS: &str = "5";

/// Where the program is, or why there is none.
pub enum Found {
    /// Its path.
    Here(PathBuf),
    /// Why not.
    Missing(String),
}

/// Builds the program from its Go module.
///
/// # Errors
/// It does not compile.
pub fn install() -> Result<Found> {
    let program = std::path::absolute(place::kept().join("h2spec"))?;
    fs::create_dir_all(place::kept())?;
    let mut go = Command::new("go");
    go.current_dir(place::home().join("h2spec")).args(["build", "-o"]).arg(&program).arg(TOOL);
    match go.stdin(Stdio::null()).output() {
        Err(error) => Ok(Found::Missing(format!("no go here: {error}"))),
        Ok(output) if output.status.success() => Ok(Found::Here(program)),
        Ok(output) => bail!("{TOOL}:\n{}", String::from_utf8_lossy(&output.stderr).trim_end()),
    }
}

/// A test and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tested {
    /// `h2c/http2/3.5/2`: how it was spoken, the section of the test, its number there.
    pub id: String,
    /// In h2spec's words.
    pub about: String,
    /// What happened in place of what should.
    pub failure: Option<String>,
}

/// Runs all tests, the strict ones too, against both kinds of listener.
///
/// # Errors
/// Portcullis does not start or dies, or h2spec says nothing.
pub fn run(program: &Path, portcullis: &Portcullis) -> Result<Vec<Tested>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (program, portcullis) = (program.to_owned(), portcullis.clone());
    runtime.block_on(async {
        let servers = Servers::start(&backends()).await?;
        let (_, origin, _) = servers.addresses().next().context("no origin")?;
        tokio::task::spawn_blocking(move || against(&program, &portcullis, origin)).await?
    })
}

/// A response has to have a body: what windows do is tested with it.
fn backends() -> BTreeMap<String, Backend> {
    let body = vec![Piece::Fill { fill: 'x', count: 100 }];
    let answer = Answer { body, ..Answer::default() };
    let origin = Backend { protocol: Protocol::Http2, answer, ..Backend::default() };
    BTreeMap::from([("origin".to_owned(), origin)])
}

fn against(program: &Path, portcullis: &Portcullis, origin: SocketAddr) -> Result<Vec<Tested>> {
    let home = tempfile::tempdir()?;
    let folder = home.path().join("conf");
    fs::create_dir(&folder)?;
    for (name, content) in files(origin)? {
        fs::write(folder.join(name), content)?;
    }
    let Serving { mut process, listeners, .. } =
        portcullis.serve(&folder, &home.path().join("cache"), "warn")?;
    let mut tested = Vec::new();
    for (name, flags) in [("h2c", [].as_slice()), ("tls", &["--tls", "--insecure"])] {
        let address = listeners.get(name).context("a listener does not listen")?;
        tested.extend(read(name, &report(program, *address, flags)?)?);
        ensure!(process.lives(), "portcullis has ended");
    }
    process.stop()?;
    Ok(tested)
}

/// Documents, and what they name.
fn files(origin: SocketAddr) -> Result<[(&'static str, String); 3]> {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let api = "portcullis.dev/v1alpha1";
    let tls = json!({"certificateFile": "cert.pem", "keyFile": "key.pem"});
    let listeners = json!([
        {"name": "h2c", "address": "127.0.0.1:0", "protocol": "HTTP"},
        {"name": "tls", "address": "127.0.0.1:0", "protocol": "HTTPS", "tls": tls},
    ]);
    let endpoints = json!([{"address": origin.to_string()}]);
    let rules = json!([{"backendRefs": [{"name": "origin", "port": 80}]}]);
    let proxy = json!({"apiVersion": api, "kind": "Proxy", "metadata": {"name": "host"},
        "spec": {"workers": 1, "admin": {"address": "127.0.0.1:0"}, "listeners": listeners,
            "drain": {"delay": "0s", "timeout": "5s"}}});
    let backend = json!({"apiVersion": api, "kind": "Backend", "metadata": {"name": "origin"},
        "spec": {"protocol": "H2C", "endpoints": endpoints}});
    let route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "everything"}, "spec": {"rules": rules}});
    Ok([
        ("all.yaml", format!("{proxy}\n---\n{backend}\n---\n{route}\n")),
        ("cert.pem", cert.pem()),
        ("key.pem", signing_key.serialize_pem()),
    ])
}

/// What it writes for machines.
fn report(program: &Path, address: SocketAddr, flags: &[&str]) -> Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    let mut command = Command::new(program);
    command.args(["--strict", "--timeout", SECONDS, "--host", "127.0.0.1", "--port"]);
    command.arg(address.port().to_string()).args(flags).arg("--junit-report").arg(file.path());
    let output = command.stdin(Stdio::null()).output()?;
    let report = fs::read_to_string(file.path())?;
    ensure!(
        report.contains("<testcase"),
        "h2spec runs no test:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(report)
}

/// Its report has a line for each test and element: `<testcase package="http2/3.5" classname="Sends …" time="…">`, behind it
/// `<error>` if it failed. Tests are numbered in their section, as on h2spec's command line.
///
/// # Errors
/// A test without a section or a name.
pub fn read(name: &str, report: &str) -> Result<Vec<Tested>> {
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    let tests = report.split("<testcase ").skip(1);
    tests
        .map(|test| {
            let section = attribute(test, "package").context("a test without a section")?;
            let about = attribute(test, "classname").context("a test without a name")?;
            let number = numbers.entry(section).or_default();
            *number += 1;
            let body = test.split("</testcase>").next().unwrap_or(test);
            let failure = ["<error>", "<failure>", "<skipped"]
                .iter()
                .find_map(|mark| Some(body.split_once(mark)?.1.split("</").next()?.to_owned()));
            let id = format!("{name}/{section}/{number}");
            Ok(Tested { id, about: about.to_owned(), failure })
        })
        .collect()
}

fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    element.split_once(&format!("{name}=\""))?.1.split('"').next()
}
