//! Keeps the live configuration at what the sources say, as far as that is good.
//!
//! One thread reads, plans, rehearses and publishes, so that changes go live one after the other; what changes
//! meanwhile is read by the next round, whatever came between. A refusal changes a counter, the status and the log,
//! and never traffic.

mod accept;
mod blame;
mod board;
mod candidate;
mod plane;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Instant, SystemTime};

pub use accept::{Eagerness, Live, Outcome, Seat, Verdict, accept};
pub use blame::{place, refusal_problem};
pub use board::{Board, SourceState};
pub use candidate::{Candidate, plan_all};
pub use plane::Plane;

use crate::diagnose::{Code, Problem};
use crate::fetch::{Store, Version};
use crate::plan::Planned;
use crate::source::{Change, Files, Object, ReadError, Watch};

/// Sources on one side, a [`Plane`] on the other.
pub struct Control<P> {
    files: Files,
    watch: Watch,
    store: Arc<Store>,
    proxy: Option<String>,
    plane: P,
    live: Live,
    /// What the last round was offered. The same once more is no change; `None` is like nothing else.
    offered: Option<Vec<Arc<Candidate>>>,
    /// Folders that the last round could not list.
    lost: Vec<Problem>,
    accepted: BTreeMap<Arc<str>, (Version, SystemTime)>,
    board: Arc<Board>,
}

impl<P: Plane> Control<P> {
    /// Nothing is read yet. `proxy` names the Proxy document that is meant, where there are several.
    pub fn new(files: Files, store: Arc<Store>, proxy: Option<String>, plane: P) -> Control<P> {
        let watch = Watch::new();
        let door = watch.door();
        store.ring(move || {
            // Nobody listens only while the process ends.
            let _ = door.send(Change::Maybe);
        });
        Control {
            files,
            watch,
            store,
            proxy,
            plane,
            live: Live::default(),
            offered: None,
            lost: Vec::new(),
            accepted: BTreeMap::new(),
            board: Arc::default(),
        }
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
        self.watch.follow(self.files.folders(), []);
        self.round(Eagerness::WhenChanged);
        while self.live.generation == 0 && self.wait_for_modules() {
            self.round(Eagerness::WhenChanged);
        }
        match self.live.generation {
            0 => Err(self.board.problems()),
            _ => Ok(()),
        }
    }

    /// True when a module has come since the last round, or is taken as it was.
    fn wait_for_modules(&self) -> bool {
        let on_their_way = |problem: &Problem| problem.code == Code::P0413;
        if self.board.problems().iter().any(on_their_way) {
            self.store.settle();
            return true;
        }
        self.store.make_do()
    }

    /// Follows changes until it is told to stop.
    pub fn serve(mut self) {
        loop {
            match self.watch.wait() {
                Change::Stop => return,
                Change::Maybe | Change::Writing => self.round(Eagerness::WhenChanged),
                Change::Asked => self.round(Eagerness::Always),
            }
        }
    }

    /// Reads everything and makes it live as far as it is good.
    pub fn round(&mut self, eagerness: Eagerness) {
        let started = Instant::now();
        if eagerness == Eagerness::Always {
            self.offered.iter().flatten().for_each(|candidate| candidate.try_again());
            self.store.hurry();
        }
        let (objects, errors) = self.files.read();
        let mut offered = self.candidates(objects);
        offered.extend(self.in_lost_folders(&errors));
        let lost: Vec<Problem> = errors.into_iter().map(unlisted).collect();
        if !lost.is_empty() && self.live.generation == 0 {
            return self.board.refused_whole(lost);
        }
        let known = self.offered.as_ref().is_some_and(|known| same(&offered, known));
        if eagerness == Eagerness::WhenChanged && known && lost == self.lost {
            return self.follow();
        }
        self.lost = lost;
        let before = self.offered.replace(offered.clone()).unwrap_or_default();
        let proxy = self.proxy.as_deref();
        let outcome = accept(&self.live, offered, proxy, eagerness, &mut self.plane);
        self.conclude(outcome, &before, started);
        self.follow();
    }

    /// What is live of folders that cannot be listed: its files were not deleted one by one.
    fn in_lost_folders(&self, errors: &[ReadError]) -> Vec<Arc<Candidate>> {
        let lost = |candidate: &&Arc<Candidate>| {
            let folder = Path::new(&**candidate.name()).parent();
            errors.iter().any(|error| folder == Some(Path::new(&error.path)))
        };
        self.live.candidates.iter().filter(lost).cloned().collect()
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
        let files: Vec<_> = candidates.flat_map(|candidate| candidate.files()).collect();
        if self.watch.follow(self.files.folders(), files) {
            self.round(Eagerness::WhenChanged);
        }
    }

    fn conclude(&mut self, outcome: Outcome, before: &[Arc<Candidate>], started: Instant) {
        let Outcome { seats, verdict } = outcome;
        let mut whole = self.lost.clone();
        match verdict {
            Ok(Verdict::Published { live, planned }) => self.publish(live, &planned, started),
            Ok(Verdict::Same) => {}
            Err(problems) => whole.extend(problems),
        }
        let states = seats.iter().map(|seat| self.state(seat)).collect();
        let anew = |seat: &Seat| {
            seat.is_refused()
                && !seat.waits()
                && !before.iter().any(|other| Arc::ptr_eq(other, &seat.offered))
        };
        let refused: Vec<&Seat> = seats.iter().filter(|seat| anew(seat)).collect();
        let errors = refused.iter().flat_map(|seat| seat.problems.iter());
        let errors: Vec<Problem> = errors.filter(|problem| problem.is_error()).cloned().collect();
        self.board.show(states);
        self.board.refused(refused.len() as u64, &errors);
        self.board.refused_whole(whole);
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

fn unlisted(error: ReadError) -> Problem {
    Problem::new(Code::P0401, format!("cannot read {}", error.path)).because(error.problem)
}

fn same(one: &[Arc<Candidate>], other: &[Arc<Candidate>]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| Arc::ptr_eq(one, other))
}
