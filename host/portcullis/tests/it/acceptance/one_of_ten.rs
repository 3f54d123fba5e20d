//! One bad object among ten that change at once: nine go live, the tenth keeps its last good version.

use std::net::SocketAddr;

use serde_json::Value;

use super::clients::{Client, Protocol, block_on, get};
use super::documents::{self, Identity};
use super::guests;
use super::origin::Origin;
use super::program::Program;

const ROUTES: [&str; 4] = ["one", "two", "three", "four"];

/// Everything but the filter: nine objects.
struct Nine<'a> {
    version: char,
    origin: &'a Origin,
    identity: &'a Identity,
}

impl Nine<'_> {
    fn files(&self) -> Vec<(String, String)> {
        let mut files = vec![
            ("both.pem".to_owned(), self.identity.file.clone()),
            ("proxy.yaml".to_owned(), documents::proxy_with_tls("both.pem")),
        ];
        for name in ROUTES {
            let rule = format!(
                "matches: [{{path: {{type: PathPrefix, value: /{name}}}}}], \
                 filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: \
                 {{set: [{{name: x-route, value: \"{}\"}}]}}}}], \
                 backendRefs: [{{name: {name}, port: 80}}]",
                self.version
            );
            let backend = documents::backend(name, "HTTP", self.origin.address);
            files.push((format!("backend-{name}.yaml"), backend));
            files.push((format!("route-{name}.yaml"), documents::route(name, &rule)));
        }
        files
    }

    /// What clients see of all nine, with the last good version of the tenth.
    fn are_live(&self, program: &Program, origin: &str, others: &Identity) {
        let trusted = [self.identity.certificate.clone(), others.certificate.clone()];
        block_on(async {
            let secure = program.address("secure");
            let (_, shown) = Client::secure(secure, Protocol::Http1, &trusted).await.unwrap();
            assert_eq!(shown, self.identity.certificate);
            for name in ROUTES {
                let (route, body) = seen(program.address("web"), name).await;
                assert_eq!(route, self.version.to_string(), "{name}");
                assert_eq!(body, format!("{origin} guest=a1 route=none\na1"), "{name}");
            }
        });
    }
}

async fn seen(address: SocketAddr, name: &str) -> (String, String) {
    let mut client = Client::connect(address, Protocol::Http1).await.unwrap();
    let answer = client.send(get(&format!("/{name}"))).await.unwrap();
    assert!(answer.status.is_success(), "{answer:?}");
    (answer.header("x-route").to_owned(), String::from_utf8(answer.body.to_vec()).unwrap())
}

fn source<'a>(status: &'a Value, file: &str) -> &'a Value {
    let is_it = |source: &&Value| source["name"].as_str().unwrap().ends_with(file);
    status["sources"].as_array().unwrap().iter().find(is_it).unwrap()
}

fn filter(spec: &str) -> String {
    documents::filter("stamp", &format!("url: file://stamp.wasm, pluginConfig: \"1\"{spec}"))
}

/// A broken tenth object, and the status's words for it.
struct Broken {
    file: &'static str,
    bytes: Vec<u8>,
    code: &'static str,
    text: &'static str,
}

#[track_caller]
fn check(program: &Program, nine: &Nine<'_>, origin: &str, others: &Identity, broken: &Broken) {
    let before = program.status();
    let accepted = source(&before, "/filter.yaml")["accepted_version"].clone();
    program.write(broken.file, &broken.bytes);
    for (name, text) in nine.files() {
        program.write(&name, text.as_bytes());
    }
    let status = program.wait("nine are live and one is refused", |status| {
        let sources = status["sources"].as_array().unwrap();
        sources.iter().all(|source| {
            let tenth = source["name"].as_str().unwrap().ends_with("/filter.yaml");
            let live = source["version"] == source["accepted_version"];
            let changed = tenth || {
                let name = source["name"].as_str().unwrap();
                let file = name.rsplit_once('/').unwrap().1;
                source["version"] != self::source(&before, file)["version"]
            };
            changed && live != tenth && source["problem"].is_null() != tenth
        })
    });
    let tenth = source(&status, "/filter.yaml");
    assert_eq!(tenth["accepted_version"], accepted, "{tenth:#}");
    assert_eq!(tenth["problem"]["code"], broken.code, "{tenth:#}");
    assert!(tenth["problem"].to_string().contains(broken.text), "{tenth:#}");
    assert_eq!(status["ready"], true);
    nine.are_live(program, origin, others);
}

#[test]
fn of_ten_objects_that_change_nine_go_live_and_a_broken_one_keeps_its_last_good_version() {
    let (old, new) = (Origin::start("old"), Origin::start("new"));
    let identities = [Identity::new(), Identity::new()];
    let first = Nine { version: '1', origin: &old, identity: &identities[0] };
    let second = Nine { version: '2', origin: &new, identity: &identities[1] };
    let mut files: Vec<(String, Vec<u8>)> =
        first.files().into_iter().map(|(name, text)| (name, text.into_bytes())).collect();
    files.push(("filter.yaml".to_owned(), filter("").into_bytes()));
    files.push(("stamp.wasm".to_owned(), guests::stamp('a')));
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let program = Program::start(&files);
    first.are_live(&program, "old", &identities[1]);
    let document = |text: &str| text.as_bytes().to_vec();
    let broken = [
        Broken {
            file: "filter.yaml",
            bytes: document(&filter(", failStratgy: FAIL_OPEN")),
            code: "P0102",
            text: "failStratgy",
        },
        Broken {
            file: "stamp.wasm",
            bytes: document("no module"),
            code: "P0203",
            text: "stamp.wasm",
        },
        Broken {
            file: "stamp.wasm",
            bytes: guests::refusing(),
            code: "P0205",
            text: "I do not like this",
        },
    ];
    for (index, broken) in broken.iter().enumerate() {
        match index % 2 {
            0 => check(&program, &second, "new", &identities[0], broken),
            _ => check(&program, &first, "old", &identities[1], broken),
        }
        program.write("filter.yaml", filter("").as_bytes());
        program.write("stamp.wasm", &guests::stamp('a'));
        program.wait("nothing is wrong any more", |status| {
            let sources = status["sources"].as_array().unwrap();
            sources.iter().all(|source| source["problem"].is_null())
        });
    }
}
