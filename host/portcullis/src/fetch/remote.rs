//! Orders that are under way: carried out on a thread of their own, tried again by themselves, told when they are done.
//!
//! Nobody waits here but [`Remote::settle`]. An [`Errand`] lives as long as somebody wants its module; it stays what it is
//! until something new is known, so that an attempt that fails as the last one did wakes nobody.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use portcullis_proxy::observe::rfc3339;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::timeout;

use super::downloads::{DOWNLOADS_BYTES, Downloads};
use super::error::{FetchError, FetchErrorKind};
use super::order::{Delivery, Order, Reach, shown_url};
use super::{Version, lock};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Enough that a few registries which answer nothing hold up nobody else.
const AT_ONCE: usize = 32;
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

type Bell = Box<dyn Fn() + Send>;

/// Everything that is fetched.
pub(super) struct Remote {
    office: Arc<Office>,
    crew: OnceLock<Result<Crew, String>>,
}

struct Office {
    /// Where to keep what was fetched; `None`: nowhere for long.
    folder: Option<PathBuf>,
    downloads: OnceLock<Result<Downloads, FetchError>>,
    reach: Reach,
    errands: Mutex<BTreeMap<Version, Weak<Errand>>>,
    bell: Mutex<Option<Bell>>,
    done: Condvar,
    /// How many are fetched at once.
    turns: Semaphore,
    /// Attempts that brought a module, and that did not.
    tally: [AtomicU64; 2],
}

/// The thread that fetches; ends with its owner.
struct Crew {
    handle: Handle,
    _end: oneshot::Sender<()>,
}

/// One order, for all who gave it.
pub(super) struct Errand {
    order: Order,
    progress: Mutex<Progress>,
    again: Arc<Notify>,
}

struct Progress {
    state: State,
    since: SystemTime,
    attempts: u64,
    /// Changes with `state`.
    news: u64,
}

/// How far it is.
#[derive(Clone, Debug)]
pub(super) enum State {
    Pending,
    Here(Delivery),
    /// It is tried again after a pause.
    Failed(FetchError),
}

impl Remote {
    /// Nothing is made before it is needed.
    pub(super) fn new(folder: Option<PathBuf>, reach: Reach) -> Remote {
        let office = Office {
            folder,
            downloads: OnceLock::new(),
            reach,
            errands: Mutex::default(),
            bell: Mutex::default(),
            done: Condvar::new(),
            turns: Semaphore::new(AT_ONCE),
            tally: Default::default(),
        };
        Remote { office: Arc::new(office), crew: OnceLock::new() }
    }

    pub(super) fn within(self, reach: Reach) -> Remote {
        Remote::new(self.office.folder.clone(), reach)
    }

    /// The bytes of what was delivered; `None`: they are damaged on disk.
    pub(super) fn bytes(&self, delivery: &Delivery) -> Option<Bytes> {
        Some(self.office.downloads().ok()?.module(delivery.module)?.0)
    }

    /// Called whenever something is new, from any thread.
    pub(super) fn ring(&self, bell: Bell) {
        *lock(&self.office.bell) = Some(bell);
    }

    /// The errand for this order: one that is under way or done, or a new one. What is on this machine is there at once.
    pub(super) fn errand(&self, order: Order) -> Arc<Errand> {
        let mut errands = lock(&self.office.errands);
        errands.retain(|_, errand| errand.strong_count() > 0);
        let key = order.key();
        let known = errands.get(&key).and_then(Weak::upgrade);
        if let Some(errand) = known.filter(|errand| self.office.still_has(errand)) {
            return errand;
        }
        let errand = Arc::new(Errand::new(order));
        errands.insert(key, Arc::downgrade(&errand));
        drop(errands);
        if let Err(error) = self.begin(&errand) {
            errand.tell(State::Failed(error));
        }
        errand
    }

    fn begin(&self, errand: &Arc<Errand>) -> Result<(), FetchError> {
        errand.order.address()?;
        let downloads = self.office.downloads()?;
        if let Some(delivery) = errand.order.at_hand(&downloads, self.office.reach) {
            errand.tell(State::Here(delivery));
            return Ok(());
        }
        self.spawn(follow(self.office.clone(), downloads, Arc::downgrade(errand)))
    }

    /// Has work done on the thread that fetches.
    pub(super) fn spawn(
        &self,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), FetchError> {
        let crew = self.crew.get_or_init(|| Crew::hire().map_err(|problem| problem.to_string()));
        let crew = crew.as_ref().map_err(|problem| {
            FetchError::new(FetchErrorKind::Folder, "nothing can be fetched: no thread", problem)
        })?;
        crew.handle.spawn(work);
        Ok(())
    }

    /// Says that something is new.
    pub(super) fn announcer(&self) -> impl Fn() + Send + use<> {
        let office = self.office.clone();
        move || office.announce()
    }

    /// Waits until nothing is pending any more, no longer than that may take.
    pub(super) fn settle(&self) {
        let pending = |errands: &mut BTreeMap<Version, Weak<Errand>>| {
            let live = errands.values().filter_map(Weak::upgrade);
            live.filter(|errand| errand.is_pending()).map(|errand| errand.order.patience()).max()
        };
        let mut errands = lock(&self.office.errands);
        let Some(longest) = pending(&mut errands) else { return };
        let wait = longest + Duration::from_secs(5);
        let waited = self
            .office
            .done
            .wait_timeout_while(errands, wait, |errands| pending(errands).is_some());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Delivers what is on this machine where the network failed. True: there was such a thing.
    pub(super) fn make_do(&self) -> bool {
        let Ok(downloads) = self.office.downloads() else { return false };
        let errands = lock(&self.office.errands);
        let old = errands.values().filter_map(Weak::upgrade).filter(|errand| {
            let (State::Failed(error), _) = errand.state() else { return false };
            let silent = matches!(
                error.kind(),
                FetchErrorKind::Unreachable | FetchErrorKind::Late | FetchErrorKind::Cluster
            );
            let found = errand.order.at_hand(&downloads, Reach::Offline).filter(|_| silent);
            let Some(delivery) = found else { return false };
            tracing::warn!(url = delivery.pinned, %error, "as it was last looked up");
            errand.tell(State::Here(delivery))
        });
        old.count() > 0
    }

    /// Tries again now what would be tried again later.
    pub(super) fn hurry(&self) {
        let errands = lock(&self.office.errands);
        errands.values().filter_map(Weak::upgrade).for_each(|errand| errand.again.notify_one());
    }

    /// Attempts that brought a module, and that did not.
    pub(super) fn tally(&self) -> [u64; 2] {
        let [good, bad] = &self.office.tally;
        [good.load(Ordering::Relaxed), bad.load(Ordering::Relaxed)]
    }

    pub(super) fn status(&self) -> Value {
        let errands = lock(&self.office.errands);
        errands.values().filter_map(Weak::upgrade).map(|errand| errand.status()).collect()
    }
}

impl Crew {
    fn hire() -> io::Result<Crew> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        thread::Builder::new().name("fetch".to_owned()).spawn(move || {
            // The sender says nothing; it goes.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(Crew { handle, _end: end })
    }
}

/// Attempts until one succeeds or nobody wants it any more.
async fn follow(office: Arc<Office>, downloads: Downloads, errand: Weak<Errand>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let Some(working) = errand.upgrade().filter(|errand| !errand.is_here()) else { return };
        let turn = office.turns.acquire().await;
        let result = working.order.deliver(&downloads, office.reach).await;
        drop(turn);
        let done = result.is_ok();
        let [good, bad] = &office.tally;
        let counter = if done { good } else { bad };
        counter.fetch_add(1, Ordering::Relaxed);
        let wait = result.as_ref().map_or_else(FetchError::wait, |_| Duration::ZERO);
        let news = match result {
            Ok(delivery) => {
                tracing::info!(url = delivery.pinned, module = %delivery.module, "fetched");
                working.tell(State::Here(delivery))
            }
            Err(error) => working.tell(State::Failed(error)),
        };
        if news {
            office.announce();
        }
        if done {
            return;
        }
        let again = working.again.clone();
        drop(working);
        let jittered = pause.mul_f64(0.5 + fastrand::f64() / 2.0).max(wait.min(LONGEST_PAUSE));
        // Hurried or not, it is time.
        let hurried = timeout(jittered, again.notified()).await.is_ok();
        pause = if hurried { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
    }
}

impl Office {
    /// False for what was delivered and is gone from the disk, or damaged.
    fn still_has(&self, errand: &Errand) -> bool {
        match (errand.state(), self.downloads()) {
            ((State::Here(delivery), _), Ok(kept)) => kept.lease(delivery.module).is_some(),
            _ => true,
        }
    }

    fn downloads(&self) -> Result<Downloads, FetchError> {
        let open = || {
            let kept = self.folder.as_ref().map(|folder| Downloads::open(folder, DOWNLOADS_BYTES));
            match kept {
                Some(Ok(kept)) => return Ok(kept),
                Some(Err(error)) => tracing::warn!(%error, "fetched modules are not kept"),
                None => {}
            }
            Downloads::passing()
        };
        self.downloads.get_or_init(open).clone()
    }

    fn announce(&self) {
        // Whoever settles looks and then waits, both under this lock.
        drop(lock(&self.errands));
        self.done.notify_all();
        if let Some(bell) = &*lock(&self.bell) {
            bell();
        }
    }
}

impl Errand {
    fn new(order: Order) -> Errand {
        let progress =
            Progress { state: State::Pending, since: SystemTime::now(), attempts: 0, news: 0 };
        Errand { order, progress: Mutex::new(progress), again: Arc::default() }
    }

    pub(super) fn state(&self) -> (State, u64) {
        let progress = lock(&self.progress);
        (progress.state.clone(), progress.news)
    }

    /// Changes whenever [`Errand::state`] does.
    pub(super) fn news(&self) -> u64 {
        lock(&self.progress).news
    }

    fn is_here(&self) -> bool {
        matches!(lock(&self.progress).state, State::Here(_))
    }

    fn is_pending(&self) -> bool {
        matches!(lock(&self.progress).state, State::Pending)
    }

    /// True when it is something new.
    fn tell(&self, state: State) -> bool {
        let mut progress = lock(&self.progress);
        progress.attempts += 1;
        let same = matches!((&progress.state, &state), (State::Failed(old), State::Failed(new)) if old == new);
        if !same {
            progress.state = state;
            progress.since = SystemTime::now();
            progress.news += 1;
        }
        !same
    }

    fn status(&self) -> Value {
        let progress = lock(&self.progress);
        let (word, pinned, module, problem) = match &progress.state {
            State::Pending => ("fetching", None, None, None),
            State::Here(found) => ("here", Some(&found.pinned), Some(found.module), None),
            State::Failed(error) => ("failed", None, None, Some(error)),
        };
        json!({
            "url": shown_url(&self.order.url),
            "state": word,
            "since": rfc3339(progress.since),
            "attempts": progress.attempts,
            "pinned": pinned,
            "module": module.map(|module| format!("sha256:{module}")),
            "problem": problem.map(|error| json!({"code": error.code().as_str(), "text": error.to_string()})),
        })
    }
}
