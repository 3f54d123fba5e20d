//! What was fetched stays on disk: shared, verified, bounded, never evicted while somebody uses it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use portcullis::fetch::{Downloads, Evidence, Known, Reach, wait_for};
use portcullis_vm::Digest;

use super::images::{compat, mark};
use super::server::{Contents, Server};
use super::{Order, bring, downloads, image};
use portcullis::spec::filter::PullPolicy;

fn serving(letter: char) -> Server {
    let mut contents = Contents::default();
    compat(&mut contents, "1", &mark(letter));
    compat(&mut contents, "latest", &mark(letter));
    Server::start(move |request| contents.answer(request))
}

fn modules(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("fetched/modules")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn what_was_fetched_is_not_asked_for_again_unless_the_policy_says_so() {
    let server = serving('a');
    let (_folder, downloads) = downloads();
    let asked = |order: &Order| {
        let before = server.asked().len();
        order.bring(&downloads).unwrap();
        server.asked().len() - before
    };
    let (tag, latest) = (image(&server, "a/b:1"), image(&server, "a/b"));
    assert_eq!(asked(&tag), 2, "manifest and layer");
    assert_eq!(asked(&tag), 0);
    let policy = |policy, order: &Order| Order { policy, ..order.clone() };
    assert_eq!(asked(&policy(PullPolicy::Always, &tag)), 1, "the manifest");
    assert_eq!(asked(&latest), 1, "the module is known by its digest");
    assert_eq!(asked(&latest), 1, "latest is looked up again");
    assert_eq!(asked(&policy(PullPolicy::IfNotPresent, &latest)), 0);
    let pinned = latest.bring(&downloads).unwrap().delivery.pinned;
    let pinned = Order { url: pinned, ..policy(PullPolicy::Always, &latest) };
    assert_eq!(asked(&pinned), 0, "what a digest names does not change");
}

#[test]
fn nothing_is_asked_offline() {
    let server = serving('a');
    let (_folder, downloads) = downloads();
    let offline = |order: &Order| wait_for(order.deliver(&downloads, Reach::Offline));
    let order = Order { policy: PullPolicy::Always, ..image(&server, "a/b:1") };
    assert_eq!(offline(&order).unwrap_err().code().to_string(), "P0412");
    assert_eq!(server.connections(), 0);
    let digest = order.bring(&downloads).unwrap().delivery.digest;
    let asked = server.asked().len();
    assert_eq!(offline(&order).unwrap().digest, digest, "even what is to be looked up each time");
    assert_eq!(server.asked().len(), asked);
}

#[test]
fn what_is_damaged_on_disk_is_fetched_again() {
    let server = serving('a');
    let (folder, downloads) = downloads();
    let order = image(&server, "a/b:1");
    order.bring(&downloads).unwrap();
    let [file] = modules(folder.path()).try_into().unwrap();
    fs::write(&file, b"\0asm something else").unwrap();
    assert_eq!(order.bring(&downloads).unwrap().bytes, mark('a'));
    assert_eq!(fs::read(&file).unwrap(), mark('a'));
}

#[test]
fn nobody_else_may_enter_the_folder() {
    let (folder, _) = downloads();
    for part in ["modules", "names", "parts"] {
        let meta = fs::metadata(folder.path().join("fetched").join(part)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o700);
    }
    let open = folder.path().join("open/modules");
    fs::create_dir_all(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
    let error = Downloads::open(&folder.path().join("open"), 1).unwrap_err();
    assert_eq!(error.code().to_string(), "P0414");
}

#[test]
fn room_is_made_by_what_nobody_holds_and_was_not_used_for_longest() {
    let folder = tempfile::tempdir().unwrap();
    let room = 3 * 1000;
    let open = || Downloads::open(&folder.path().join("fetched"), room).unwrap();
    // Two processes of one user, as far as the folder can tell.
    let (one, other) = (open(), open());
    let keep = |downloads: &Downloads, letter: u8| {
        let (bytes, draft) = (vec![letter; 1000], downloads.draft().unwrap());
        fs::write(draft.path(), &bytes).unwrap();
        (Digest::of(&bytes), downloads.keep(draft, Digest::of(&bytes)).unwrap())
    };
    let (held, lease) = keep(&one, b'a');
    let (first, _) = keep(&one, b'b');
    let (second, _) = keep(&one, b'c');
    assert!(one.module(first).is_some(), "there is room for three, and this one was used last");
    for letter in b"defg" {
        let (new, _) = keep(&other, *letter);
        assert!(other.module(new).is_some());
    }
    assert!(other.module(second).is_none());
    assert!(other.module(held).is_some(), "somebody uses it");
    drop(lease);
    keep(&other, b'h');
    let total: u64 = modules(folder.path()).iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(total <= room, "{total}");
}

#[test]
fn a_name_is_believed_only_for_what_it_was_written_for() {
    let (folder, downloads) = downloads();
    let draft = downloads.draft().unwrap();
    fs::write(draft.path(), b"module").unwrap();
    let module = Digest::of(b"module");
    let lease = downloads.keep(draft, module).unwrap();
    let known = Known { digest: Digest::of(b"manifest"), module };
    downloads.remember("ghcr.io/a/b:1", &known).unwrap();
    assert_eq!(downloads.known("ghcr.io/a/b:1"), Some(known));
    assert_eq!(downloads.known("ghcr.io/a/b:2"), None);
    drop(lease);
    fs::remove_file(modules(folder.path()).first().unwrap()).unwrap();
    assert_eq!(downloads.known("ghcr.io/a/b:1"), None, "it leads nowhere any more");
}

#[test]
fn several_who_want_the_same_layer_fetch_it_once() {
    let server = serving('a');
    let (_folder, downloads) = downloads();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| image(&server, "a/b:1").bring(&downloads).unwrap());
        }
    });
    let blobs = server.asked().iter().filter(|asked| asked.contains("/blobs/")).count();
    assert_eq!(blobs, 1);
    assert!(bring(&image(&server, "a/b:1")).is_ok());
}

#[test]
fn what_does_not_arrive_whole_takes_little_room_and_none_from_modules() {
    let (folder, downloads) = downloads();
    let part = |number: u8| wait_for(downloads.part(Digest([number; 32]))).unwrap();
    let under_way = part(0);
    under_way.file.set_len(60 << 20).unwrap();
    let draft = downloads.draft().unwrap();
    fs::write(draft.path(), b"module").unwrap();
    downloads.keep(draft, Digest::of(b"module")).unwrap();
    for number in 1..20 {
        part(number).file.set_len(60 << 20).unwrap();
    }
    let parts = fs::read_dir(folder.path().join("fetched/parts")).unwrap();
    let sizes = parts.map(|part| part.unwrap().metadata().unwrap().len());
    assert!(sizes.sum::<u64>() <= (256 + 60) << 20);
    assert_ne!(under_way.file.metadata().unwrap().nlink(), 0, "it is being fetched");
    assert!(downloads.module(Digest::of(b"module")).is_some());
}

#[test]
fn who_keeps_what_another_keeps_at_the_same_moment_holds_what_lies_there() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Downloads::open(&folder.path().join("fetched"), 0).unwrap();
    let draft = |downloads: &Downloads, bytes: &[u8]| {
        let draft = downloads.draft().unwrap();
        fs::write(draft.path(), bytes).unwrap();
        (draft, Digest::of(bytes))
    };
    for round in 0..200_u32 {
        let both = std::sync::Barrier::new(2);
        let keep = || {
            let downloads = open();
            let (draft, digest) = draft(&downloads, &round.to_be_bytes());
            both.wait();
            downloads.keep(draft, digest).unwrap()
        };
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(keep);
            (keep(), other.join().unwrap())
        });
        let (_lease, gone) = if round % 2 == 0 { (one, other) } else { (other, one) };
        drop(gone);
        let (filler, digest) = draft(&open(), &[&b"filler"[..], &round.to_be_bytes()].concat());
        drop(open().keep(filler, digest).unwrap());
        assert!(open().module(Digest::of(&round.to_be_bytes())).is_some(), "round {round}");
    }
}

#[test]
fn an_image_may_have_a_name_that_begins_like_a_url() {
    let (_folder, downloads) = downloads();
    let draft = downloads.draft().unwrap();
    fs::write(draft.path(), mark('a')).unwrap();
    let (module, image) = (Digest::of(&mark('a')), Digest::of(b"manifest"));
    let _lease = downloads.keep(draft, module).unwrap();
    let name = format!("docker.io/library/httpd@sha256:{image}");
    downloads.remember(&name, &Known { digest: image, module }).unwrap();
    let order = Order { sha256: Some(image), ..super::order("httpd", &[]) };
    assert_eq!(wait_for(order.deliver(&downloads, Reach::Offline)).unwrap().module, module);
}

#[test]
fn what_somebody_uses_is_known_by_name_however_many_names_there_are() {
    let (folder, downloads) = downloads();
    let keep = |bytes: &[u8]| {
        let draft = downloads.draft().unwrap();
        fs::write(draft.path(), bytes).unwrap();
        downloads.keep(draft, Digest::of(bytes)).unwrap()
    };
    let vouched = |name: &str, module: &[u8]| {
        let known = Known { digest: Digest::of(name.as_bytes()), module: Digest::of(module) };
        downloads.remember(name, &known).unwrap();
        let evidence = Evidence { digests: vec![known.digest], signatures: Vec::new() };
        downloads.keep_evidence(known.digest, &evidence).unwrap();
        known.digest
    };
    let _lease = keep(b"used");
    drop(keep(b"unused"));
    let (used, unused) = (vouched("used", b"used"), vouched("unused", b"unused"));
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    for part in ["names", "signatures"] {
        for file in fs::read_dir(folder.path().join("fetched").join(part)).unwrap() {
            fs::File::open(file.unwrap().path()).unwrap().set_modified(yesterday).unwrap();
        }
    }
    for number in 0..4096 {
        vouched(&number.to_string(), b"unused");
    }
    drop(keep(b"another"));
    assert!(downloads.known("used").is_some() && downloads.evidence(used).is_some());
    assert!(downloads.known("unused").is_none() && downloads.evidence(unused).is_none());
}
