//! An API server that is killed, started again, or not there when the proxy starts: clients notice nothing.

use std::io;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::Connection;
use crate::server::Server;
use crate::sidecar::{Everyone, MARKED, Presence, Sidecar, config_map, stamp, under_load};
use crate::stories::{marked, populate, sidecar};

/// Changes in a row.
const CHANGES: usize = 500;
/// Changes that need a module which nobody has compiled.
const NEW: usize = 500;
const NAMESPACE: &str = "outage";

const FILTER: &str = "apiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\n\
    metadata: {name: stamp}\nspec: {url: \"configmap:///stamp/stamp.wasm\"}\n";

/// What a change took: the API server's answer to the write, and the last worker's first answer, both from when the write
/// was sent.
#[derive(Default)]
struct Times {
    written: Vec<Duration>,
    live: Vec<Duration>,
}

impl Times {
    /// Puts the module into its ConfigMap and waits until everybody has the header `x-version: VERSION`.
    fn change(
        &mut self,
        api: &mut Connection,
        everyone: &mut Everyone,
        version: &str,
        module: &[u8],
    ) -> io::Result<()> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/stamp");
        let patch = json!({"binaryData": {"stamp.wasm": base64(module)}});
        let sent = Instant::now();
        api.ask("PATCH", &path, Some(&patch))?.json();
        self.written.push(sent.elapsed());
        self.live.push(everyone.until(&format!("x-version: {version}")) - sent);
        Ok(())
    }

    fn tell(&mut self, what: &str) {
        self.written.sort();
        self.live.sort();
        let at = |times: &[Duration], percent: usize| {
            times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1000.0
        };
        println!(
            "{what}, n = {}: the API server has it after {:.1} / {:.1} ms, the last worker answers with it after {:.1} / {:.1} ms \
             (p50 / p99, since the write was sent)",
            self.live.len(),
            at(&self.written, 50),
            at(&self.written, 99),
            at(&self.live, 50),
            at(&self.live, 99),
        );
    }
}

pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |bits: u32| char::from(LETTERS[(bits & 63) as usize]);
    let group = |group: &[u8]| {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        let mut text: String = [18, 12, 6, 0].map(|shift| letter(bits >> shift)).iter().collect();
        text.replace_range(group.len() + 1.., &"=="[..3 - group.len()]);
        text
    };
    bytes.chunks(3).map(group).collect()
}

/// `populate`, and a filter that stamps responses.
fn prepare(server: &Server) {
    populate(server, NAMESPACE);
    let mut map = config_map(NAMESPACE, "stamp", &[("stamp.yaml", FILTER)]);
    map["binaryData"] = json!({"stamp.wasm": base64(&stamp("a"))});
    server.kubectl(&["apply", "-f", "-"], &map.to_string());
}

#[test]
fn five_hundred_changes_with_the_api_server_killed_in_between_fail_no_request() {
    let Some(server) = Server::start("changes") else { return };
    let home = tempfile::tempdir().unwrap();
    prepare(&server);
    let mut sidecar = sidecar(&server, NAMESPACE, home.path());
    let mut everyone = Everyone::of(sidecar.web);
    let known = [("b", stamp("b")), ("a", stamp("a"))];
    let tally = under_load(sidecar.web, "hello", || {
        let mut times = Times::default();
        let mut api = server.api().connect().unwrap();
        for (number, (version, module)) in known.iter().cycle().take(CHANGES).enumerate() {
            if number == CHANGES / 2 {
                server.kill_apiserver();
                assert!(server.start_apiserver());
                api = server.api().connect().unwrap();
            }
            times.change(&mut api, &mut everyone, version, module).unwrap();
        }
        times.tell("a module that is compiled already");
        let mut times = Times::default();
        for number in 0..NEW {
            let version = format!("new-{number}");
            times.change(&mut api, &mut everyone, &version, &stamp(&version)).unwrap();
        }
        times.tell("a module that is new");
    });
    println!("changes: {tally:?}");
    assert_eq!(tally.failed.into_inner(), 0);
    sidecar.process.stop();
}

/// Since when the source of documents has not been heard of.
fn stale(status: &Value) -> Option<String> {
    status["kubernetes"]["stale_since"].as_str().map(str::to_owned)
}

#[test]
fn started_without_an_api_server_it_serves_what_was_good_and_says_since_when_it_is_stale() {
    let Some(server) = Server::start("restart") else { return };
    let home = tempfile::tempdir().unwrap();
    prepare(&server);
    let mut first = sidecar(&server, NAMESPACE, home.path());
    assert_eq!(stale(&first.status()), None);
    Everyone::of(first.web).until("x-version: a");
    first.process.stop();

    server.kill_apiserver();
    let account = server.account_made(NAMESPACE, "portcullis");
    let mut second = Sidecar::start(&account, NAMESPACE, &format!("{NAMESPACE}-mesh"), home.path());
    let tally = under_load(second.web, "hello", || {
        Everyone::of(second.web).until("x-version: a");
        second.until_status(stale);
        // The store goes too, and both come back.
        server.kill_store();
        assert!(server.start_store());
        assert!(server.start_apiserver());
        second.until_status(|status| stale(status).is_none().then_some(()));
        let map = config_map(NAMESPACE, "marked", &[("marked.yaml", &marked("back"))]);
        server.kubectl(&["apply", "-f", "-"], &map.to_string());
        second.until_header("x-mark: back", Presence::There);
    });
    println!("outage, at {MARKED} and elsewhere: {tally:?}");
    assert_eq!(tally.failed.into_inner(), 0);
    second.process.stop();
}
