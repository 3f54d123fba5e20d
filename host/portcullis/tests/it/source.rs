//! What is read from files and folders, and what wakes the reader.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use portcullis::fetch::Version;
use portcullis::source::{Change, Files, Object, Watch};
use tempfile::TempDir;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn read(paths: &[&Path]) -> Vec<Object> {
    Files::new(paths.iter().map(|path| path.to_path_buf()).collect()).read().0
}

fn text(object: &Object) -> &str {
    &object.texts.as_ref().unwrap()[0].text
}

fn names(objects: &[Object], folder: &Path) -> Vec<String> {
    let folder = format!("{}/", folder.display());
    objects.iter().map(|object| object.name.replace(&folder, "")).collect()
}

#[test]
fn a_folder_is_read_flat_and_without_hidden_files() {
    let folder = folder(&[
        ("b.yml", "b"),
        ("a.yaml", "a"),
        ("c.json", "c"),
        (".hidden.yaml", "no"),
        ("notes.txt", "no"),
        ("a.yaml~", "no"),
    ]);
    fs::create_dir(folder.path().join("deeper.yaml")).unwrap();
    let objects = read(&[folder.path()]);
    assert_eq!(names(&objects, folder.path()), ["a.yaml", "b.yml", "c.json"]);
    assert_eq!(text(&objects[0]), "a");
}

#[test]
fn a_file_named_twice_is_one_object() {
    let folder = folder(&[("a.yaml", "a"), ("b.yaml", "b")]);
    let objects = read(&[&folder.path().join("b.yaml"), folder.path()]);
    assert_eq!(names(&objects, folder.path()), ["b.yaml", "a.yaml"]);
}

#[test]
fn a_mounted_config_map_is_read_through_its_link() {
    let mount = folder(&[]);
    for (version, text) in [("..v1", "one"), ("..v2", "two")] {
        fs::create_dir(mount.path().join(version)).unwrap();
        fs::write(mount.path().join(version).join("a.yaml"), text).unwrap();
    }
    symlink("..v1", mount.path().join("..data")).unwrap();
    symlink("..data/a.yaml", mount.path().join("a.yaml")).unwrap();
    assert_eq!(text(&read(&[mount.path()])[0]), "one");

    let mut watch = Watch::new();
    watch.follow(Files::new(vec![mount.path().to_owned()]).folders(), []);
    symlink("..v2", mount.path().join("..data_tmp")).unwrap();
    fs::rename(mount.path().join("..data_tmp"), mount.path().join("..data")).unwrap();
    assert_eq!(watch.wait(), Change::Maybe);
    assert_eq!(text(&read(&[mount.path()])[0]), "two");
}

#[test]
fn what_cannot_be_read_is_an_object_without_text() {
    let folder = folder(&[]);
    fs::write(folder.path().join("a.yaml"), b"name: \xff").unwrap();
    symlink("nowhere", folder.path().join("b.yaml")).unwrap();
    let gone = folder.path().join("gone.yaml");
    let objects = read(&[folder.path(), &gone]);
    let texts: Vec<&str> =
        objects.iter().map(|object| &**object.texts.as_ref().unwrap_err()).collect();
    assert_eq!(texts[0], "not UTF-8 from byte 6");
    assert!(texts[1].contains("No such file"), "{texts:?}");
    assert!(texts[2].contains("No such file"), "{texts:?}");
}

#[test]
fn a_folder_that_cannot_be_listed_is_an_error_and_not_an_empty_folder() {
    let folder = folder(&[]);
    let path = folder.path().join("conf");
    fs::create_dir(&path).unwrap();
    let mut files = Files::new(vec![path.clone()]);
    assert_eq!(files.read().0, []);
    fs::remove_dir(&path).unwrap();
    let error = files.read().1[0].to_string();
    assert!(error.starts_with(&format!("cannot read {}: No such file", path.display())), "{error}");
}

#[test]
fn the_version_is_that_of_the_content_and_of_what_it_refers_to() {
    let (one, two) = (Version::of(b"one"), Version::of(b"two"));
    assert_eq!(Version::of(b"abc").to_string(), "ba7816bf8f01");
    assert_eq!(one.with([]), one);
    assert_ne!(one.with([Some(two)]), one);
    assert_ne!(one.with([Some(two)]), one.with([None]));
}

#[test]
fn a_write_wakes_the_reader() {
    let folder = folder(&[("a.yaml", "a")]);
    let mut watch = Watch::new();
    watch.follow(vec![folder.path().to_owned()], []);
    fs::write(folder.path().join("a.yaml"), "b").unwrap();
    assert_eq!(watch.wait(), Change::Maybe);
}

#[test]
fn a_file_that_a_document_refers_to_is_watched_in_its_own_folder() {
    let (documents, certificates) = (folder(&[]), folder(&[("cert.pem", "old")]));
    let mut watch = Watch::new();
    let cert = certificates.path().join("cert.pem");
    watch.follow(vec![documents.path().to_owned()], [cert.clone()]);
    fs::write(cert, "new").unwrap();
    assert_eq!(watch.wait(), Change::Maybe);
}

#[test]
fn a_folder_replaced_under_its_name_is_watched_again() {
    let around = folder(&[]);
    let path = around.path().join("conf");
    fs::create_dir(&path).unwrap();
    let mut watch = Watch::new();
    watch.follow(vec![path.clone()], []);
    fs::rename(&path, around.path().join("old")).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(watch.wait(), Change::Maybe);
    watch.follow(vec![path.clone()], []);
    fs::write(path.join("a.yaml"), "a").unwrap();
    assert_eq!(watch.wait(), Change::Maybe);
}

#[test]
fn who_asks_for_a_reload_or_for_the_end_is_heard_at_once() {
    let mut watch = Watch::new();
    let door = watch.door();
    door.send(Change::Asked).unwrap();
    assert_eq!(watch.wait(), Change::Asked);
    door.send(Change::Maybe).unwrap();
    door.send(Change::Stop).unwrap();
    assert_eq!(watch.wait(), Change::Stop);
}
