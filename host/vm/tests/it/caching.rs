//! Compiled modules on disk: what is loaded, and what is never loaded.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use portcullis_vm::{Cache, LoadError, Module};

use crate::host::engine;

fn load(number: u32, cache: &Cache) -> Module {
    let text = format!(
        r#"(module (func (export "proxy_abi_version_0_2_1")) (func (export "f") (result i32) (i32.const {number})))"#
    );
    Module::load(engine(), &::wat::parse_str(text).unwrap(), Some(cache)).unwrap()
}

fn open() -> (tempfile::TempDir, PathBuf, Cache) {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("modules");
    let cache = Cache::open(&folder).unwrap();
    (parent, folder, cache)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_module_is_compiled_once() {
    let (_parent, folder, cache) = open();
    assert!(!load(1, &cache).from_cache());
    assert!(load(1, &cache).from_cache());
    assert!(!load(2, &cache).from_cache());
    assert!(load(1, &Cache::open(&folder).unwrap()).from_cache());
    assert_eq!(files(&folder).len(), 2);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&files(&folder)[0]), 0o600);
}

#[test]
fn what_was_not_used_for_longest_makes_room_and_files_of_others_stay() {
    let (_parent, folder, cache) = open();
    load(1, &cache);
    let size = fs::metadata(&files(&folder)[0]).unwrap().len();
    load(2, &cache);
    // Of a process that was killed, and of nobody that we know.
    for (name, bytes) in [(".7-0.draft", size), ("notes.txt", 9 * size)] {
        fs::write(folder.join(name), vec![0; usize::try_from(bytes).unwrap()]).unwrap();
    }
    for file in files(&folder) {
        let file = fs::File::options().write(true).open(file).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }
    let cache = cache.within(size * 5 / 2);
    assert!(load(1, &cache).from_cache());
    load(3, &cache);
    assert!(load(1, &cache).from_cache() && load(3, &cache).from_cache());
    assert_eq!(files(&folder).len(), 3);
    assert!(folder.join("notes.txt").exists());
    assert!(!load(2, &cache).from_cache());
    // The last one stays, whatever its size.
    load(4, &cache.within(1));
    assert_eq!(files(&folder).len(), 2);
}

#[test]
fn a_damaged_file_is_compiled_again_and_healed() {
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes.clear(),
        |bytes| {
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
        },
        |bytes| bytes[0] ^= 1,
    ];
    for damage in damages {
        let (_parent, folder, cache) = open();
        load(1, &cache);
        let file = &files(&folder)[0];
        let mut bytes = fs::read(file).unwrap();
        damage(&mut bytes);
        fs::write(file, bytes).unwrap();
        assert!(!load(1, &cache).from_cache());
        assert!(load(1, &cache).from_cache());
    }
}

#[test]
fn the_file_of_another_module_is_not_loaded_under_this_ones_name() {
    let (_parent, folder, cache) = open();
    load(1, &cache);
    let first = files(&folder)[0].clone();
    load(2, &cache);
    let second = files(&folder).into_iter().find(|file| *file != first).unwrap();
    fs::copy(&first, &second).unwrap();
    assert!(!load(2, &cache).from_cache());
}

#[test]
fn a_symlink_or_a_file_that_others_may_write_is_not_loaded() {
    let (parent, folder, cache) = open();
    load(1, &cache);
    let file = files(&folder)[0].clone();
    let elsewhere = parent.path().join("elsewhere");
    fs::rename(&file, &elsewhere).unwrap();
    symlink(&elsewhere, &file).unwrap();
    assert!(!load(1, &cache).from_cache());
    assert!(!fs::symlink_metadata(&file).unwrap().is_symlink());

    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(!load(1, &cache).from_cache());
    assert!(load(1, &cache).from_cache());
}

#[test]
fn a_folder_that_others_may_enter_or_that_is_none_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let loose = parent.path().join("loose");
    fs::create_dir(&loose).unwrap();
    fs::set_permissions(&loose, fs::Permissions::from_mode(0o755)).unwrap();
    let problem = Cache::open(&loose).unwrap_err();
    assert!(problem.to_string().ends_with("mode is 0755, expected 0700"), "{problem}");

    let tight = parent.path().join("tight");
    Cache::open(&tight).unwrap();
    let link = parent.path().join("link");
    symlink(&tight, &link).unwrap();
    assert!(matches!(Cache::open(&link), Err(LoadError::Cache { .. })));

    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(Cache::open(&file), Err(LoadError::Cache { .. })));
}

#[test]
fn a_cache_that_cannot_be_written_still_lets_modules_load() {
    let (_parent, folder, cache) = open();
    fs::remove_dir_all(&folder).unwrap();
    assert!(!load(1, &cache).from_cache());
}
