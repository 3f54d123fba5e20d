//! Says when something that was read may have changed.
//!
//! Folders are watched, never files, because editors and Kubernetes replace files. A watch says only "look again": the
//! reader compares content, so that a wrong or doubled event costs a reading and nothing else. Where the system
//! refuses to watch, a poll every few seconds takes its place, and the log says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use super::files::holding_folders;

/// After a file was replaced, closed or removed: others may follow at once, as when a folder is copied.
const SETTLED: Duration = Duration::from_millis(10);
/// While somebody writes into a file; it ends early when that file is closed.
const QUIET: Duration = Duration::from_millis(100);
const LONGEST_WAIT_FOR_QUIET: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_secs(3);

/// Why the reader wakes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Something that was read may have changed.
    Maybe,
    /// Something that was read is being written to.
    Writing,
    /// Somebody asked for a reload, changed or not.
    Asked,
    /// The end.
    Stop,
}

/// Watches folders; also the door through which others wake the reader.
pub struct Watch {
    changes: Receiver<Change>,
    wake: Sender<Change>,
    watcher: Option<RecommendedWatcher>,
    followed: Arc<Mutex<BTreeSet<PathBuf>>>,
    /// Watched folders with device and inode: a folder that was replaced under its name is watched anew.
    watched: BTreeMap<PathBuf, (u64, u64)>,
    polling: bool,
}

impl Watch {
    /// A watch of nothing yet.
    pub fn new() -> Watch {
        let (wake, changes) = mpsc::channel();
        let followed = Arc::new(Mutex::new(BTreeSet::new()));
        let watcher = watcher(wake.clone(), followed.clone());
        let polling = watcher.is_none();
        Watch { changes, wake, watcher, followed, watched: BTreeMap::new(), polling }
    }

    /// Wakes the reader from elsewhere.
    pub fn door(&self) -> Sender<Change> {
        self.wake.clone()
    }

    /// Watches these folders and the folders of these files, and nothing else. Folders that do not exist are looked
    /// for in their parent. True: something is watched that was not watched before, so that a change since it was
    /// read may have gone unseen.
    pub fn follow(
        &mut self,
        folders: Vec<PathBuf>,
        files: impl IntoIterator<Item = PathBuf>,
    ) -> bool {
        let mut wanted: BTreeSet<PathBuf> = folders.into_iter().collect();
        wanted.extend(files.into_iter().flat_map(|file| holding_folders(&file)));
        // A replaced folder shows in the folder that holds it.
        let holders: Vec<PathBuf> =
            wanted.iter().flat_map(|folder| holding_folders(folder)).collect();
        *self.followed.lock().unwrap_or_else(PoisonError::into_inner) =
            wanted.iter().map(|folder| absolute(folder)).collect();
        wanted.extend(holders);
        self.arm(wanted.iter().map(|folder| absolute(folder)).collect())
    }

    /// Waits until something may have changed and then was quiet for a moment.
    pub fn wait(&mut self) -> Change {
        let first = match self.changes.recv_timeout(self.patience()) {
            Ok(change) => change,
            Err(RecvTimeoutError::Timeout) => return Change::Maybe,
            Err(RecvTimeoutError::Disconnected) => return Change::Stop,
        };
        match first {
            Change::Maybe | Change::Writing => self.settle(first),
            Change::Asked | Change::Stop => first,
        }
    }

    fn patience(&self) -> Duration {
        if self.polling { POLL } else { Duration::MAX }
    }

    fn settle(&self, mut last: Change) -> Change {
        let started = Instant::now();
        while started.elapsed() < LONGEST_WAIT_FOR_QUIET {
            let quiet = if last == Change::Writing { QUIET } else { SETTLED };
            match self.changes.recv_timeout(quiet) {
                Ok(Change::Asked) => return Change::Asked,
                Ok(Change::Stop) => return Change::Stop,
                Ok(change) => last = change,
                Err(_) => break,
            }
        }
        Change::Maybe
    }

    fn arm(&mut self, wanted: BTreeSet<PathBuf>) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let mut failed = None;
        let mut anew = false;
        for folder in self.watched.keys().filter(|folder| !wanted.contains(*folder)) {
            // It may be gone already, and then so is its watch.
            let _ = watcher.unwatch(folder);
        }
        self.watched.retain(|folder, _| wanted.contains(folder));
        for folder in wanted {
            let Some(identity) = identity(&folder) else {
                self.watched.remove(&folder);
                continue;
            };
            if self.watched.get(&folder) == Some(&identity) {
                continue;
            }
            let _ = watcher.unwatch(&folder);
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(folder, identity);
                    anew = true;
                }
                Err(error) => failed = Some((folder, error)),
            }
        }
        self.fall_back(failed);
        anew
    }

    fn fall_back(&mut self, failed: Option<(PathBuf, notify::Error)>) {
        if failed.is_some() == self.polling {
            return;
        }
        self.polling = failed.is_some();
        match failed {
            Some((folder, error)) => tracing::warn!(
                folder = %folder.display(),
                %error,
                "cannot watch, looking every {} s instead",
                POLL.as_secs()
            ),
            None => tracing::info!("watching again"),
        }
    }
}

impl Default for Watch {
    fn default() -> Watch {
        Watch::new()
    }
}

fn watcher(
    wake: Sender<Change>,
    followed: Arc<Mutex<BTreeSet<PathBuf>>>,
) -> Option<RecommendedWatcher> {
    let seen = move |event: notify::Result<notify::Event>| {
        let concerns = event.as_ref().map_or(true, |event| concerns(event, &followed));
        if concerns {
            let writing = event.is_ok_and(|event| is_half_way(&event.kind));
            // The reader is gone only when the process ends.
            let _ = wake.send(if writing { Change::Writing } else { Change::Maybe });
        }
    };
    notify::recommended_watcher(seen)
        .inspect_err(|error| {
            tracing::warn!(%error, "cannot watch, looking every {} s instead", POLL.as_secs());
        })
        .ok()
}

/// A new file is empty until somebody has written to it and closed it; links and folders are whole at once, and look the
/// same here, so that they wait as well.
fn is_half_way(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_)))
}

/// Reading is no change (our own readings would wake us for ever), and of a folder's neighbours only the folder itself
/// concerns us.
fn concerns(event: &notify::Event, followed: &Mutex<BTreeSet<PathBuf>>) -> bool {
    let wrote = EventKind::Access(AccessKind::Close(AccessMode::Write));
    if event.need_rescan() {
        return true;
    }
    if event.kind.is_access() && event.kind != wrote {
        return false;
    }
    let followed = followed.lock().unwrap_or_else(PoisonError::into_inner);
    event.paths.iter().any(|path| {
        followed.contains(path) || path.parent().is_some_and(|parent| followed.contains(parent))
    })
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn identity(folder: &Path) -> Option<(u64, u64)> {
    fs::metadata(folder).ok().filter(fs::Metadata::is_dir).map(|meta| (meta.dev(), meta.ino()))
}
