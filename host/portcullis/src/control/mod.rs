//! Keeps the live configuration at what the sources say, as far as that is good.
//!
//! One thread reads, plans, rehearses and publishes, so that changes go live one after the other; what changes
//! meanwhile is read by the next round, whatever came between. A refusal changes a counter, the status and the log,
//! and never traffic.

mod accept;
mod blame;
mod board;
mod candidate;
mod last_good;
mod plane;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Instant, SystemTime};

use portcullis_proxy::observe::rfc3339;

pub use accept::{Eagerness, Live, Outcome, Seat, Verdict, accept};
pub use blame::refusal_problem;
pub use board::{Board, SourceState};
pub use candidate::{Candidate, plan_all};
pub use last_good::LastGood;
pub use plane::Plane;

use crate::cluster::{Failure, Secrets};
use crate::diagnose::Problem;
use crate::fetch::{Store, Version, is_config_map};
use crate::memory;
use crate::plan::{CONFIG_MAP, Planned};
use crate::source::{Change, Fate, KubernetesSettings, Lost, Object, Sources, View, Watch};

/// Sources on one side, a [`Plane`] on the other.
pub struct Control<P> {
    sources: Sources,
    watch: Watch,
    store: Arc<Store>,
    proxy: Option<String>,
    plane: P,
    live: Live,
    /// What the last round was offered. The same once more is no change; `None` is like nothing else.
    offered: Option<Vec<Arc<Candidate>>>,
    /// Folders and namespaces that the last round could not list.
    lost: Vec<Problem>,
    /// Where the generation is kept that a start without an API server serves.
    last_good: Option<LastGood>,
    /// When that was stored, as long as nothing newer is known.
    restored: Option<SystemTime>,
    /// Whether what is live is stored there.
    kept: bool,
    /// Whether what is live has come since the last pause.
    fresh: bool,
    accepted: BTreeMap<Arc<str>, (Version, SystemTime)>,
    /// What was said last of each object.
    told: BTreeMap<Arc<str>, Told>,
    board: Arc<Board>,
}

impl<P: Plane> Control<P> {
    /// Nothing is read yet. `proxy` names the Proxy document that is meant, where there are several.
    pub fn new(
        sources: impl Into<Sources>,
        store: Arc<Store>,
        proxy: Option<String>,
        plane: P,
    ) -> Control<P> {
        let watch = Watch::new();
        let door = watch.door();
        store.ring(move || {
            // Nobody listens only while the process ends.
            let _ = door.send(Change::Maybe);
        });
        Control {
            sources: sources.into(),
            watch,
            store,
            proxy,
            plane,
            live: Live::default(),
            offered: None,
            lost: Vec::new(),
            last_good: None,
            restored: None,
            kept: false,
            fresh: false,
            accepted: BTreeMap::new(),
            told: BTreeMap::new(),
            board: Arc::default(),
        }
    }

    /// Follows the ConfigMaps of a cluster as well.
    ///
    /// # Errors
    /// Nobody says where the cluster is.
    pub fn connect(&mut self, settings: KubernetesSettings) -> Result<Arc<View>, Failure> {
        self.store.unlock(Secrets::new(settings.access.clone(), settings.patience));
        self.sources.connect(settings, self.watch.door())
    }

    /// Remembers what was live of a cluster, and keeps what will be; where there is no place for it, `/status` says so.
    pub fn remember(&mut self, last_good: io::Result<LastGood>) {
        let last_good = match last_good {
            Ok(last_good) => last_good,
            Err(error) => return self.board.kept(Some(format!("it cannot be kept: {error}"))),
        };
        match last_good.load(&self.store) {
            Ok(Some((stored_at, candidates))) => {
                self.restored = Some(stored_at);
                self.live.candidates = candidates;
            }
            Ok(None) => {}
            Err(error) => {
                let file = last_good.file().display();
                self.board.kept(Some(format!("{file} cannot be used: {error}")));
            }
        }
        self.last_good = Some(last_good);
    }

    /// What others may know.
    pub fn board(&self) -> Arc<Board> {
        self.board.clone()
    }

    /// Wakes [`Control::serve`].
    pub fn door(&self) -> Sender<Change> {
        self.watch.door()
    }

    /// The first configuration. Objects that are broken are left out, as long as something remains that can serve. Waits
    /// for modules that have to be fetched: nothing serves yet, and without them nothing might be good enough. Where a
    /// registry is down, a tag means what it meant when it was last looked up.
    ///
    /// # Errors
    /// Nothing is good enough to start with: all problems there are.
    pub fn start(&mut self) -> Result<(), Vec<Problem>> {
        self.watch.follow(self.sources.folders(), []);
        self.round(Eagerness::WhenChanged);
        self.first_modules();
        // Whoever starts us leaves the changes to a thread of their own, and never gives back what planning took.
        memory::release();
        match self.live.generation {
            0 => Err(self.board.problems()),
            _ => Ok(()),
        }
    }

    /// Waits for modules and Secrets that a first start needs.
    fn first_modules(&mut self) {
        while self.live.generation == 0 && self.wait_for_modules() {
            self.round(Eagerness::WhenChanged);
        }
    }

    /// True when a module has come since the last round, or is taken as it was.
    fn wait_for_modules(&self) -> bool {
        let on_their_way = |problem: &Problem| problem.code.is_passing();
        if self.board.problems().iter().any(on_their_way) {
            self.store.settle();
            return true;
        }
        self.store.make_do()
    }

    /// Follows changes until something is live; false: until it is told to stop.
    pub fn wait(&mut self) -> bool {
        while self.live.generation == 0 {
            if !self.turn() {
                return false;
            }
            self.first_modules();
        }
        true
    }

    /// Follows changes until it is told to stop.
    pub fn serve(mut self) {
        while self.turn() {}
    }

    fn turn(&mut self) -> bool {
        if std::mem::take(&mut self.fresh) {
            memory::settle();
        }
        match self.watch.wait() {
            Change::Stop => return false,
            Change::Maybe | Change::Writing => self.round(Eagerness::WhenChanged),
            Change::Asked => self.round(Eagerness::Always),
        }
        true
    }

    /// Reads everything and makes it live as far as it is good.
    pub fn round(&mut self, eagerness: Eagerness) {
        let started = Instant::now();
        if eagerness == Eagerness::Always {
            self.offered.iter().flatten().for_each(|candidate| candidate.try_again());
            self.store.hurry();
        }
        let reading = self.sources.read();
        self.store.hand_down(reading.config_maps);
        let mut offered = self.candidates(reading.objects);
        offered.extend(self.in_lost_places(&reading.lost));
        let unknown = reading.lost.iter().any(|lost| !self.remembers(lost));
        let lost: Vec<Problem> = reading.lost.into_iter().map(|lost| lost.problem).collect();
        if unknown && self.live.generation == 0 {
            return self.board.refused_whole(lost);
        }
        self.restored = self.restored.filter(|_| !lost.is_empty());
        self.board.restored(self.restored);
        let known = self.offered.as_ref().is_some_and(|known| same(&offered, known));
        if eagerness == Eagerness::WhenChanged && known && lost == self.lost {
            self.sources.judged();
            return self.follow();
        }
        self.lost = lost;
        let before = self.offered.replace(offered.clone()).unwrap_or_default();
        let outcome = self.accept(offered, eagerness);
        self.conclude(outcome, &before, started);
        self.keep();
        self.sources.judged();
        self.follow();
    }

    fn accept(&mut self, offered: Vec<Arc<Candidate>>, eagerness: Eagerness) -> Outcome {
        let proxy = self.proxy.as_deref();
        let outcome = accept(&self.live, offered.clone(), proxy, eagerness, &mut self.plane);
        let first = self.live.generation == 0 && !self.live.candidates.is_empty();
        if !first || outcome.verdict.is_ok() {
            return outcome;
        }
        // What was good before this start may be good no more.
        accept(&Live::default(), offered, proxy, eagerness, &mut self.plane)
    }

    /// What is live of folders and namespaces that cannot be listed: what is there was not deleted one by one.
    fn in_lost_places(&self, lost: &[Lost]) -> Vec<Arc<Candidate>> {
        let lost =
            |candidate: &&Arc<Candidate>| lost.iter().any(|lost| lost.holds(candidate.name()));
        self.live.candidates.iter().filter(lost).cloned().collect()
    }

    /// Whether what was in `lost` is known from before this start.
    fn remembers(&self, lost: &Lost) -> bool {
        self.restored.is_some() && lost.place.starts_with(CONFIG_MAP)
    }

    /// The versions that are live or were offered before, where they still are what the files say.
    fn candidates(&self, objects: Vec<Object>) -> Vec<Arc<Candidate>> {
        let mut known: HashMap<&str, Vec<&Arc<Candidate>>> = HashMap::new();
        for candidate in self.live.candidates.iter().chain(self.offered.iter().flatten()) {
            known.entry(candidate.name()).or_default().push(candidate);
        }
        let version = |object: Object| {
            let mut versions = known.get(&*object.name).into_iter().flatten();
            match versions.find(|known| known.is_current(&object)) {
                Some(known) => (*known).clone(),
                None => Arc::new(Candidate::new(object, self.store.clone())),
            }
        };
        objects.into_iter().map(version).collect()
    }

    /// Watches what was read. What changed between the reading and the first watch is read now.
    fn follow(&mut self) {
        let candidates = self.offered.iter().flatten().chain(&self.live.candidates);
        let files = candidates.flat_map(|candidate| candidate.files());
        let files: Vec<PathBuf> = files.filter(|file| !is_config_map(file)).collect();
        if self.watch.follow(self.sources.folders(), files) {
            self.round(Eagerness::WhenChanged);
        }
    }

    fn conclude(&mut self, outcome: Outcome, before: &[Arc<Candidate>], started: Instant) {
        let Outcome { seats, verdict } = outcome;
        let mut whole = self.lost.clone();
        let judged = verdict.is_ok();
        match verdict {
            Ok(Verdict::Published { live, planned }) => self.publish(live, &planned, started),
            Ok(Verdict::Same) => {}
            Err(problems) => whole.extend(problems),
        }
        let before: HashSet<_> = before.iter().map(Arc::as_ptr).collect();
        self.tell(&seats, judged);
        let is_new = |seat: &&Seat| !before.contains(&Arc::as_ptr(&seat.offered));
        let news: Vec<&Seat> = seats.iter().filter(is_new).collect();
        let states = seats.iter().map(|seat| self.state(seat)).collect();
        let anew = |seat: &&Seat| seat.is_refused() && !seat.waits();
        let refused: Vec<&Seat> = news.into_iter().filter(anew).collect();
        let errors = refused.iter().flat_map(|seat| seat.problems.iter());
        let errors: Vec<Problem> = errors.filter(|problem| problem.is_error()).cloned().collect();
        self.board.show(states);
        self.board.refused(refused.len() as u64, &errors);
        self.board.refused_whole(whole);
    }

    /// Says what became of versions, once: what was refused may be good now, since something else has changed. `judged`:
    /// those that are not refused are live.
    fn tell(&mut self, seats: &[Seat], judged: bool) {
        let concluded = seats.iter().filter(|seat| !seat.waits() && (judged || seat.is_refused()));
        let told: BTreeMap<Arc<str>, Told> =
            concluded.map(|seat| (seat.offered.name().clone(), Told::of(seat))).collect();
        let news = told.iter().filter(|(name, told)| self.told.get(*name) != Some(*told));
        self.sources.tell(news.map(|(name, told)| told.fate(name)).collect());
        self.told = told;
    }

    fn publish(&mut self, live: Live, planned: &Planned, started: Instant) {
        let now = SystemTime::now();
        let versions = live.candidates.iter().map(|candidate| {
            let (name, version) = (candidate.name().clone(), candidate.version());
            let since = self.accepted.get(&name).filter(|(known, _)| *known == version);
            let since = since.map_or(now, |(_, since)| *since);
            (name, (version, since))
        });
        self.accepted = versions.collect();
        self.board.published(&live, planned);
        tracing::info!(
            generation = live.generation,
            objects = live.candidates.len(),
            filters = live.filters.len(),
            took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "configuration accepted"
        );
        self.live = live;
        self.fresh = true;
        self.kept = false;
        if let Some(stored_at) = self.restored.map(rfc3339) {
            let problem = self.lost.first().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(stored_at, "the last good configuration from disk is served: {problem}");
        }
    }

    /// On disk; not as long as a part of it comes from there, and may be old.
    fn keep(&mut self) {
        let Some(last_good) = &self.last_good else { return };
        if self.kept || self.restored.is_some() || self.live.generation == 0 {
            return;
        }
        let saved = last_good.save(&self.live.candidates);
        self.kept = saved.is_ok();
        let file = last_good.file().display();
        self.board.kept(saved.err().map(|error| format!("{file} cannot be written: {error}")));
    }

    fn state(&self, seat: &Seat) -> SourceState {
        let accepted = seat.standing.as_ref().and_then(|_| self.accepted.get(seat.offered.name()));
        SourceState {
            name: seat.offered.name().clone(),
            version: seat.offered.version(),
            accepted: accepted.copied(),
            problems: seat.problems.clone(),
        }
    }
}

/// A version, and why it is refused; `None`: it is live.
struct Told(Arc<Candidate>, Option<Box<Problem>>);

impl Told {
    fn of(seat: &Seat) -> Told {
        let problem = seat.problems.iter().find(|problem| problem.is_error());
        Told(seat.offered.clone(), problem.filter(|_| seat.is_refused()).cloned().map(Box::new))
    }

    fn fate(&self, name: &Arc<str>) -> Fate {
        Fate {
            name: name.clone(),
            refers_to: self.0.files().filter(|file| is_config_map(file)).collect(),
            refused: self.1.as_deref().cloned(),
        }
    }
}

impl PartialEq for Told {
    fn eq(&self, other: &Told) -> bool {
        Arc::ptr_eq(&self.0, &other.0) && self.1 == other.1
    }
}

fn same(one: &[Arc<Candidate>], other: &[Arc<Candidate>]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| Arc::ptr_eq(one, other))
}
