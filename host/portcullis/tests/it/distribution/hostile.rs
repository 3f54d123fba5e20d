//! Ten registries that are broken or mean harm: each is refused with its own words, soon, and costs little.

use std::fs;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use portcullis::fetch::oci::{Content, media};
use portcullis::fetch::{Member, Parcel, Shape};
use portcullis_vm::Digest;
use tar::{EntryType, Header};

use super::images::{OCI_CONFIG, compat, gzip, image as add, mark, plugin, tar};
use super::server::{Answer, Body, Contents, Request, Server, digest};
use super::{Order, bring, downloads, image, impatient, refused};

const OCI: (&str, &str) = (media::OCI_MANIFEST, OCI_CONFIG);

/// Serves an image of one archive, except where `answer` has something else.
fn registry(
    archive: &[u8],
    answer: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static,
) -> Server {
    let mut contents = Contents::default();
    add(&mut contents, "1", OCI, &[(media::OCI_TAR_GZIP, archive)]);
    Server::start(move |request| answer(request).unwrap_or_else(|| contents.answer(request)))
}

/// For every blob.
fn blobs(answer: Answer) -> impl Fn(&Request) -> Option<Answer> {
    move |request| request.path.contains("/blobs/").then(|| answer.clone())
}

fn unpacked(files: &[(&str, EntryType, &[u8])]) -> Server {
    registry(&gzip(&tar(files)), |_| None)
}

/// Unpacks to 256 MiB before the module comes.
fn bomb() -> Vec<u8> {
    let mut head = Header::new_gnu();
    head.set_path("padding").unwrap();
    head.set_size(256 << 20);
    head.set_cksum();
    let mebibyte = gzip(&vec![0; 1 << 20]);
    let archive = tar(&[("plugin.wasm", EntryType::Regular, &mark('a'))]);
    [gzip(head.as_bytes()), mebibyte.repeat(256), gzip(&archive)].concat()
}

/// Hands tokens out, and then does not take them.
fn never_in(request: &Request) -> Option<Answer> {
    let text = format!("Bearer realm=\"http://{}/token\"", request.header("host"));
    Some(match request.path.starts_with("/token") {
        true => Answer::new(200, r#"{"token": "x"}"#),
        false => Answer::new(401, "").with("www-authenticate", text),
    })
}

/// A registry, and how what it does is told: code and a part of the words.
pub fn ten() -> Vec<(&'static str, Server, &'static str, &'static str)> {
    let good = plugin(&mark('a'));
    let mut other = good.clone();
    *other.last_mut().unwrap() ^= 1;
    let half = good.get(..good.len() / 2).unwrap().to_owned();
    let bomb = bomb();
    let metadata = Answer::new(302, "").with("location", "http://169.254.169.254/latest/");
    let page = Server::start(|_| Answer::new(200, "<html>").with("content-type", "text/html"));
    let regular = EntryType::Regular;
    vec![
        (
            "wrong digest",
            registry(&good, blobs(Answer::new(200, other))),
            "P0408",
            "its digest is not",
        ),
        (
            "endless body",
            registry(&good, blobs(Answer::new(200, "").body(Body::Endless))),
            "P0408",
            "more than the",
        ),
        ("redirect to metadata", registry(&good, blobs(metadata)), "P0407", "169.254.169.254"),
        ("gzip bomb", registry(&bomb, |_| None), "P0411", "unpacks to more"),
        (
            "path traversal",
            unpacked(&[("../../plugin.wasm", regular, b"\0asm")]),
            "P0411",
            "outside",
        ),
        ("401 for ever", registry(&good, never_in), "P0405", "401"),
        (
            "slow drip",
            registry(&good, blobs(Answer::new(200, "").body(Body::Drip))),
            "P0409",
            "in time",
        ),
        (
            "truncated blob",
            registry(&good, blobs(Answer::new(200, "").body(Body::Short(good.len(), half)))),
            "P0404",
            "broke off",
        ),
        ("no plugin", unpacked(&[("README.md", regular, b"hello")]), "P0410", "README.md"),
        ("wrong media type", page, "P0408", "text/html"),
    ]
}

#[test]
fn each_of_ten_registries_is_refused_in_its_own_words() {
    for (name, server, code, words) in ten() {
        let patience = if name == "slow drip" { 300 } else { 60_000 };
        let order = impatient(image(&server, "acme/mark:1"), Duration::from_millis(patience));
        let (found, text) = refused(&order);
        assert_eq!(found, code, "{name}: {text}");
        assert!(text.contains(words), "{name}: {text}");
    }
}

/// What lies in a folder.
fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |path: &Path| match path.is_dir() {
        true => bytes_in(path),
        false => path.metadata().map_or(0, |meta| meta.len()),
    };
    entries.map(|entry| size(&entry.path())).sum()
}

/// Peak memory in KiB of `pull`, as a process of its own, as long as it was to be seen; what it left on disk; and what it
/// complained about.
fn pulled(server: &Server, patience: &str) -> (u64, u64, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["pull", "--plain-http", "--timeout", patience, "--cache"])
        .arg(folder.path().join("cache"))
        .arg(format!("{}/acme/mark:1", server.address))
        .env("HOME", folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
        let status = status.unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        most = peak.unwrap_or_default().max(most);
        std::thread::yield_now();
    }
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(most > 0, "{said}");
    (most, bytes_in(folder.path()), said)
}

#[test]
fn what_is_hostile_costs_little_memory_and_leaves_little_on_disk() {
    let mut contents = Contents::default();
    compat(&mut contents, "1", &mark('a'));
    let (usual, _, said) = pulled(&Server::start(move |request| contents.answer(request)), "60");
    assert_eq!(said, "");
    let layers = |size: usize| {
        let layers = vec![r#"{"digest":""}"#; size / 14].join(",");
        let text = format!(r#"{{"mediaType":"{}","layers":[{layers}]}}"#, media::OCI_MANIFEST);
        ("layers", Server::start(move |_| Answer::new(200, text.clone())), "P0408", "")
    };
    for (name, server, code, _) in ten().into_iter().chain([layers(2_000_000), layers(4_000_000)]) {
        let patience = if name == "slow drip" { "1" } else { "60" };
        let (memory, disk, said) = pulled(&server, patience);
        assert!(said.contains(code), "{name}: {said}");
        assert!(memory < usual + (64 << 10), "{name}: {memory} KiB, usually {usual}");
        assert!(disk < 1 << 20, "{name}: {disk} bytes");
    }
}

#[test]
fn an_archive_has_no_link_and_no_long_way_round() {
    let module = mark('a');
    let long = "a/".repeat(5000) + "plugin.wasm\0";
    let huge = vec![b'a'; 1 << 20];
    let giant = [b"\0asm".as_slice(), &vec![0; 64 << 20]].concat();
    for (name, files, code) in [
        ("link", vec![("plugin.wasm", EntryType::Symlink, b"".as_slice())], "P0411"),
        ("hard link", vec![("a/plugin.wasm", EntryType::Link, b"")], "P0411"),
        ("absolute", vec![("/plugin.wasm", EntryType::Regular, &module)], "P0411"),
        (
            "a name without end",
            vec![
                ("x", EntryType::GNULongName, &huge),
                ("plugin.wasm", EntryType::Regular, &module),
            ],
            "P0411",
        ),
        ("a giant", vec![("plugin.wasm", EntryType::Regular, &giant)], "P0402"),
        ("a text", vec![("plugin.wasm", EntryType::Regular, b"hello")], "P0410"),
    ] {
        let (found, text) = refused(&image(&unpacked(&files), "a/b:1"));
        assert_eq!(found, code, "{name}: {text}");
    }
    let named = [
        ("x", EntryType::GNULongName, long.as_bytes()),
        ("short", EntryType::Regular, module.as_slice()),
    ];
    assert_eq!(bring(&image(&unpacked(&named), "a/b:1")).unwrap().bytes, module);
}

#[test]
fn media_types_bind() {
    let (module, mut contents) = (mark('a'), Contents::default());
    add(&mut contents, "packed", OCI, &[(media::WASM, &gzip(&module))]);
    add(&mut contents, "plain", OCI, &[(media::OCI_TAR_GZIP, &module)]);
    add(&mut contents, "empty", OCI, &[]);
    let server = Server::start(move |request| contents.answer(request));
    for tag in ["packed", "plain", "empty"] {
        assert_eq!(refused(&image(&server, &format!("a/b:{tag}"))).0, "P0410", "{tag}");
    }
}

#[test]
fn a_blob_that_breaks_off_is_resumed_where_it_broke() {
    let good = plugin(&mark('a'));
    let (first, half) = (std::sync::Once::new(), good.get(..good.len() / 2).unwrap().to_owned());
    let whole = good.len();
    let server = registry(&good, move |request| {
        let mut answer = None;
        if request.path.contains("/blobs/") {
            first.call_once(|| {
                answer = Some(Answer::new(200, "").body(Body::Short(whole, half.clone())));
            });
        }
        answer
    });
    assert_eq!(bring(&image(&server, "acme/mark:1")).unwrap().bytes, mark('a'));
    let ranges: Vec<String> = server
        .seen()
        .iter()
        .map(|one| one.header("range").to_owned())
        .filter(|one| !one.is_empty())
        .collect();
    assert_eq!(ranges, [format!("bytes={}-", whole / 2)]);
}

#[test]
fn a_range_that_is_not_understood_is_asked_for_once() {
    for (status, range) in [(206, "bytes 7-9/10"), (206, "nonsense"), (416, "bytes */10")] {
        let good = plugin(&mark('a'));
        let (whole, half) = (good.len(), good.get(..good.len() / 2).unwrap().to_owned());
        let first = std::sync::Once::new();
        let server = registry(&good, move |request| {
            let mut answer = (!request.header("range").is_empty())
                .then(|| Answer::new(status, "xxx").with("content-range", range));
            if request.path.contains("/blobs/") {
                first.call_once(|| {
                    answer = Some(Answer::new(200, "").body(Body::Short(whole, half.clone())));
                });
            }
            answer
        });
        assert_eq!(bring(&image(&server, "acme/mark:1")).unwrap().bytes, mark('a'), "{range}");
        let ranges = server.seen().iter().filter(|one| !one.header("range").is_empty()).count();
        assert_eq!(ranges, 1, "{range}");
    }
}

#[test]
fn another_registry_does_not_hold_up_what_it_names_as_well() {
    let mut module = mark('a');
    let mut random = fastrand::Rng::with_seed(1);
    module.extend(std::iter::repeat_with(|| random.u8(..)).take(64 << 10));
    let good = plugin(&module);
    let (asked, was_asked) = std::sync::mpsc::channel();
    let slow = registry(&good, move |request| {
        let drip = blobs(Answer::new(200, "").body(Body::Drip))(request);
        drip.inspect(|_| asked.send(()).unwrap())
    });
    let (_folder, downloads) = downloads();
    let patient = impatient(image(&slow, "acme/mark:1"), Duration::from_secs(60));
    let theirs = downloads.clone();
    std::thread::spawn(move || patient.bring(&theirs));
    was_asked.recv().unwrap();
    let ours = image(&registry(&good, |_| None), "acme/mark:1");
    let brought = impatient(ours, Duration::from_secs(20)).bring(&downloads);
    assert_eq!(brought.unwrap().bytes, module);
}

#[test]
fn what_is_an_index_and_an_image_at_once_is_neither() {
    let both = |kind: &str| {
        let digest = digest(b"x");
        let text = format!(
            r#"{{"layers":[{{"digest":"{digest}"}}],"manifests":[{{"digest":"{digest}"}}]}}"#
        );
        Content::read("it", kind, text.as_bytes()).unwrap_err().to_string()
    };
    for kind in [media::OCI_INDEX, media::OCI_MANIFEST] {
        assert!(both(kind).contains("an index and an image at once"), "{}", both(kind));
    }
}

#[test]
fn a_manifest_that_is_not_the_one_asked_for_is_refused() {
    let mut contents = Contents::default();
    let (one, other) =
        (compat(&mut contents, "", &mark('a')), compat(&mut contents, "", &mark('b')));
    let swapped = other.clone();
    let server = Server::start(move |request| {
        let path = request.path.replace(&one, &swapped);
        contents.answer(&Request { path, ..request.clone() })
    });
    let (code, text) = refused(&image(&server, &format!("a/b@{}", digest_of('a'))));
    assert_eq!(code, "P0408", "{text}");
    assert!(text.contains(&other), "{text}");
}

fn digest_of(letter: char) -> String {
    compat(&mut Contents::default(), "", &mark(letter))
}

#[test]
fn what_differs_between_url_and_field_is_said() {
    let server = Server::forbidden();
    let order = image(&server, &format!("a/b@{}", digest(b"one")));
    let order = Order { sha256: portcullis::fetch::oci::sha256(&digest(b"two")), ..order };
    assert_eq!(refused(&order).0, "P0403");
    let (_folder, downloads) = downloads();
    assert!(order.bring(&downloads).is_err());
    assert_eq!(server.connections(), 0);
}

/// `bytes` with a few of them changed, or cut short.
fn spoilt(bytes: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = bytes.to_owned();
    for _ in 0..random.usize(1..8) {
        let at = random.usize(..bytes.len());
        bytes[at] = random.u8(..);
    }
    if random.u8(..) < 64 {
        bytes.truncate(random.usize(..bytes.len()));
    }
    bytes
}

#[test]
fn whatever_the_bytes_are_they_are_taken_or_refused() {
    let module = mark('a');
    let plain = tar(&[
        ("a", EntryType::XHeader, b"16 path=b/c/d.x\n"),
        ("README.md", EntryType::Regular, b"hello"),
        ("b", EntryType::GNULongName, b"x/plugin.wasm\0"),
        ("plugin.wasm", EntryType::Regular, &module),
    ]);
    let packed = gzip(&plain);
    let manifest = format!(
        r#"{{"mediaType":"{}","manifests":[{{"digest":"{}","size":1,"platform":{{"os":"linux"}}}}]}}"#,
        media::OCI_INDEX,
        digest(b"x")
    );
    let (mut from, mut to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    for seed in 0..4000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let bytes = spoilt(if seed % 2 == 0 { &plain } else { &packed }, &mut random);
        from.set_len(0).unwrap();
        from.rewind().unwrap();
        from.write_all(&bytes).unwrap();
        let shape = random.choice([Shape::Any, Shape::Archive, Shape::Module]).unwrap();
        let parcel = Parcel { name: "it", shape, member: Member::Plugin, limit: 1 << 20 };
        if let Ok(digest) = parcel.open(&mut from, &mut to) {
            let mut found = Vec::new();
            to.rewind().unwrap();
            to.read_to_end(&mut found).unwrap();
            assert_eq!(digest, Digest::of(&found), "seed {seed}");
            assert!(found.starts_with(b"\0asm"), "seed {seed}");
        }
        let text = spoilt(manifest.as_bytes(), &mut random);
        if let Ok(Content::Index(manifests)) = Content::read("it", "", &text) {
            assert!(manifests.len() <= 1, "seed {seed}");
        }
    }
}
