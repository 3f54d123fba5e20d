//! Which version of each source object goes live: the law of acceptance, without sockets, files or clocks.
//!
//! The unit of acceptance is the source object. One that is refused is replaced by its own last good version, or left
//! out where it has none, and everything is planned again, until nothing more is refused. Traffic sees only the end.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use portcullis_proxy::Refusal;
use portcullis_proxy::snapshot::{Filter, Listener, Snapshot};

use super::blame::{refusal_problem, same_problem};
use super::candidate::{Candidate, plan_all};
use super::plane::Plane;
use crate::diagnose::{Code, Kind, Problem};
use crate::plan::{Planned, ProcessSettings};

/// What traffic is served with now.
#[derive(Default)]
pub struct Live {
    /// 0 until something is live.
    pub generation: u64,
    /// One for each source object that is live, in the order of their names.
    pub candidates: Vec<Arc<Candidate>>,
    /// The filters that run; what is equal to one of them needs no rehearsal.
    pub filters: Vec<Arc<Filter>>,
    /// Where it is served.
    pub listeners: Vec<Arc<Listener>>,
    /// The source object that defines the Proxy.
    pub proxy: Option<Arc<str>>,
    /// What is wrong although it is live: object's name and problem.
    pub blemishes: Vec<(Arc<str>, Problem)>,
}

/// One source object that should be live, and what became of it.
pub struct Seat {
    /// What was offered.
    pub offered: Arc<Candidate>,
    /// The version that is live so far.
    pub last_good: Option<Arc<Candidate>>,
    /// The version that goes live; `None` leaves the object out.
    pub standing: Option<Arc<Candidate>>,
    /// What is wrong with the offered version, or with the one that stands.
    pub problems: Vec<Problem>,
}

impl Seat {
    fn is_new(&self) -> bool {
        match (&self.standing, &self.last_good) {
            (Some(standing), Some(last_good)) => !Arc::ptr_eq(standing, last_good),
            (standing, _) => standing.is_some(),
        }
    }

    /// Whether the offered version is not the one that stands.
    pub fn is_refused(&self) -> bool {
        self.standing.as_ref().is_none_or(|standing| !Arc::ptr_eq(standing, &self.offered))
    }

    /// Whether all that the offered version lacks is on its way. That is no refusal yet.
    pub fn waits(&self) -> bool {
        let mut errors = self.problems.iter().filter(|problem| problem.is_error()).peekable();
        errors.peek().is_some() && errors.all(|problem| problem.code.is_passing())
    }

    /// What was live before any newcomer; changed objects before new ones: of two that define the same thing, the
    /// later one is refused.
    fn rank(&self) -> u8 {
        match (self.is_new(), &self.last_good) {
            (false, _) => 0,
            (true, Some(_)) => 1,
            (true, None) => 2,
        }
    }
}

/// What became of an attempt.
pub struct Outcome {
    /// In the order in which they were offered.
    pub seats: Vec<Seat>,
    /// What is live from now on; an error leaves everything as it was.
    pub verdict: Result<Verdict, Vec<Problem>>,
}

/// What is live after an attempt.
pub enum Verdict {
    /// What was live before: nothing that is good is new.
    Same,
    /// A new generation.
    Published {
        /// What is live.
        live: Live,
        /// What the planner found; its snapshot is with the data plane.
        planned: Box<Planned>,
    },
}

/// Whether a set of versions that is live already is published once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eagerness {
    /// Only what is new.
    WhenChanged,
    /// Somebody asked for a reload.
    Always,
}

/// One attempt to make `offered` live.
pub fn accept(
    live: &Live,
    offered: Vec<Arc<Candidate>>,
    proxy: Option<&str>,
    eagerness: Eagerness,
    plane: &mut dyn Plane,
) -> Outcome {
    let mut attempt = Attempt { live, proxy, plane, seats: Vec::new(), rehearsed: Vec::new() };
    attempt.seat(offered);
    let verdict = attempt.settle(eagerness);
    Outcome { seats: attempt.seats, verdict }
}

struct Attempt<'a> {
    live: &'a Live,
    proxy: Option<&'a str>,
    plane: &'a mut dyn Plane,
    seats: Vec<Seat>,
    rehearsed: Vec<Arc<Filter>>,
}

impl Attempt<'_> {
    fn seat(&mut self, offered: Vec<Arc<Candidate>>) {
        let live = self.live.candidates.iter().map(|live| (live.name(), live));
        let live: HashMap<&Arc<str>, &Arc<Candidate>> = live.collect();
        for offered in offered {
            let last_good = live.get(offered.name()).copied().cloned();
            let standing = Some(offered.clone());
            self.seats.push(Seat { offered, last_good, standing, problems: Vec::new() });
        }
        for index in 0..self.seats.len() {
            if let Some(problem) = self.seats.get(index).and_then(|seat| seat.offered.unreadable())
            {
                self.refuse(index, problem);
            }
        }
    }

    /// Refuses until nothing more is refused, then publishes. Every round refuses at least one new version, so the
    /// number of rounds is bounded by that of the objects.
    fn settle(&mut self, eagerness: Eagerness) -> Result<Verdict, Vec<Problem>> {
        loop {
            if eagerness == Eagerness::WhenChanged && self.nothing_new() {
                self.note(&self.live.blemishes);
                return Ok(Verdict::Same);
            }
            let mut planned = self.plan(None);
            if self.keep_proxy(&planned) {
                continue;
            }
            if self.refuse_faulty(&planned.problems)? {
                continue;
            }
            let (Some(mut snapshot), Some(process)) =
                (planned.snapshot.take(), planned.process.clone())
            else {
                return Err(self.unknown(planned.problems));
            };
            if self.rehearse(&planned, &snapshot, &process)? {
                continue;
            }
            if self.live.generation == 0 {
                self.nothing_unguarded()?;
                self.nothing_unread()?;
            }
            snapshot.generation = self.live.generation + 1;
            let live = self.live_with(&snapshot, &planned);
            if let Err(refusal) = self.plane.publish(snapshot, &process) {
                self.blame(&planned, &refusal)?;
                continue;
            }
            self.note(&live.blemishes);
            return Ok(Verdict::Published { live, planned: Box::new(planned) });
        }
    }

    /// At the first start there is no last good version of a filter to stand in for a refused one: traffic that it was
    /// to judge would pass unjudged. So nothing starts, unless the document says that it may be skipped.
    fn nothing_unguarded(&self) -> Result<(), Vec<Problem>> {
        let missing = |seat: &&Seat| seat.standing.is_none() && seat.offered.guards();
        let Some(missing) = self.seats.iter().find(missing) else { return Ok(()) };
        let name = missing.offered.name();
        let title = format!("the filter of {name} is missing, and traffic would pass without it");
        let problem = Problem::new(Code::P0209, title);
        Err(vec![problem.hint("mend its document, or give it failStrategy: FAIL_OPEN")])
    }

    /// At the first start, what waits for a Secret is left out by nobody: the API server's answer is a moment away, and a
    /// proxy that is ready without a route answers 404.
    fn nothing_unread(&self) -> Result<(), Vec<Problem>> {
        let left_out = self.seats.iter().filter(|seat| seat.standing.is_none());
        let mut problems = left_out.flat_map(|seat| &seat.problems);
        match problems.find(|problem| problem.code == Code::P0427) {
            Some(problem) => Err(vec![problem.clone()]),
            None => Ok(()),
        }
    }

    /// True when nothing on offer says where to listen, and the document that said so has a seat again.
    fn keep_proxy(&mut self, planned: &Planned) -> bool {
        let is_seated = |name: &Arc<str>| self.seats.iter().any(|seat| seat.offered.name() == name);
        let Some(name) = self.live.proxy.as_ref().filter(|name| !is_seated(name)) else {
            return false;
        };
        let last_good = self.live.candidates.iter().find(|candidate| candidate.name() == name);
        if planned.objects.iter().any(|object| object.kind == "Proxy") || last_good.is_none() {
            return false;
        }
        let problem = Problem::new(Code::P0114, "the Proxy document is gone")
            .because("nothing else says where to listen, so that its last version stays live")
            .hint("put it back, or add another one");
        self.seats.extend(last_good.map(|last_good| Seat {
            offered: last_good.clone(),
            last_good: Some(last_good.clone()),
            standing: Some(last_good.clone()),
            problems: vec![problem],
        }));
        true
    }

    fn problem(&self, planned: &Planned, refusal: &Refusal) -> Problem {
        let problem = refusal_problem(planned, refusal);
        let seat = problem.source.and_then(|index| self.seats.get(index));
        let standing = seat.and_then(|seat| seat.standing.as_ref());
        match standing.and_then(|version| version.place(&problem)) {
            Some(place) => problem.at(place),
            None => problem,
        }
    }

    /// Refuses the version that the data plane stumbled over.
    fn blame(&mut self, planned: &Planned, refusal: &Refusal) -> Result<(), Vec<Problem>> {
        let problem = self.problem(planned, refusal);
        if problem.source.is_some() && self.refuse_faulty(std::slice::from_ref(&problem))? {
            return Ok(());
        }
        // Nobody knows which change it was; what is live was taken before.
        let changed: Vec<_> = (0..self.seats.len())
            .filter(|index| self.seats.get(*index).is_some_and(Seat::is_new))
            .map(|index| (index, problem.clone()))
            .collect();
        let contradicts = self.live.generation > 0 && matches!(refusal, Refusal::Snapshot(_));
        if contradicts && self.refuse_all(changed) {
            return Ok(());
        }
        Err(vec![problem])
    }

    fn live_with(&self, snapshot: &Snapshot, planned: &Planned) -> Live {
        let name = |problem: &Problem| {
            let seat = self.seats.get(problem.source?)?;
            Some((seat.offered.name().clone(), problem.clone()))
        };
        let key = planned.process.as_ref().map_or("", |process| process.proxy.as_str());
        let proxy = planned.objects.iter().find(|object| {
            object.kind == "Proxy" && format!("{}/{}", object.namespace, object.name) == key
        });
        let seat = proxy.and_then(|proxy| self.seats.get(proxy.source));
        Live {
            proxy: seat.map(|seat| seat.offered.name().clone()),
            generation: snapshot.generation,
            candidates: self.seats.iter().filter_map(|seat| seat.standing.clone()).collect(),
            filters: snapshot.filters.clone(),
            listeners: snapshot.listeners.clone(),
            blemishes: planned.problems.iter().filter_map(name).collect(),
        }
    }

    /// Whether what stands is exactly what is live.
    fn nothing_new(&self) -> bool {
        let standing = self.seats.iter().filter(|seat| seat.standing.is_some()).count();
        standing == self.live.candidates.len()
            && self.live.generation > 0
            && self.seats.iter().all(|seat| seat.standing.is_none() || !seat.is_new())
    }

    /// Plans what stands; `instead` puts that seat's last good version in its place. Problems come back with the index
    /// of their seat.
    fn plan(&self, instead: Option<usize>) -> Planned {
        let mut order: Vec<usize> = (0..self.seats.len()).collect();
        order.sort_by_key(|index| self.seats.get(*index).map(Seat::rank));
        let standing = |index: &usize| {
            let seat = self.seats.get(*index)?;
            let version = if instead == Some(*index) { &seat.last_good } else { &seat.standing };
            Some((*index, version.clone()?))
        };
        let (indexes, candidates): (Vec<usize>, Vec<Arc<Candidate>>) =
            order.iter().filter_map(standing).unzip();
        let mut planned = plan_all(&candidates, self.proxy);
        for problem in &mut planned.problems {
            problem.source = problem.source.and_then(|source| indexes.get(source).copied());
        }
        for object in &mut planned.objects {
            object.source = indexes.get(object.source).copied().unwrap_or(usize::MAX);
        }
        planned
    }

    /// True when something was refused. Objects that are wrong in themselves go first: what dangles may dangle because
    /// of them.
    fn refuse_faulty(&mut self, problems: &[Problem]) -> Result<bool, Vec<Problem>> {
        let errors: Vec<&Problem> = problems.iter().filter(|problem| problem.is_error()).collect();
        let own: Vec<&Problem> =
            errors.iter().copied().filter(|problem| problem.kind == Kind::Object).collect();
        if !own.is_empty() {
            let culprits = self.culprits(&own);
            if culprits.is_empty() {
                return Err(self.unknown(own.into_iter().cloned().collect()));
            }
            return Ok(self.refuse_all(culprits));
        }
        let culprits = self.culprits(&errors);
        Ok(self.refuse_all(culprits))
    }

    fn refuse_all(&mut self, culprits: Vec<(usize, Problem)>) -> bool {
        let refused = !culprits.is_empty();
        for (index, problem) in culprits {
            self.refuse(index, problem);
        }
        refused
    }

    fn culprits(&self, problems: &[&Problem]) -> Vec<(usize, Problem)> {
        let mut trials = BTreeMap::new();
        let mut blamed =
            |problem: &&Problem| Some((self.culprit(problem, &mut trials)?, (*problem).clone()));
        problems.iter().filter_map(&mut blamed).collect()
    }

    /// The new version that a problem is to be blamed on: the one it lies in, or else one without which it would not be
    /// there. `None`: nobody can be refused for it. `trials`: plans without a new version, by its seat.
    fn culprit(&self, problem: &Problem, trials: &mut BTreeMap<usize, Planned>) -> Option<usize> {
        let is_new = |index: &usize| self.seats.get(*index).is_some_and(Seat::is_new);
        if let Some(index) = problem.source.filter(is_new) {
            return (!self.is_tolerable(index, problem)).then_some(index);
        }
        let was_there = self.live.blemishes.iter().any(|(_, old)| same_problem(old, problem));
        if self.live.generation == 0 || was_there {
            return None;
        }
        (0..self.seats.len()).filter(is_new).find(|index| {
            let without = trials.entry(*index).or_insert_with(|| self.plan(Some(*index)));
            !without.problems.iter().any(|other| same_problem(other, problem))
        })
    }

    /// A newcomer that refers to something missing goes live, and answers 500 for that share, rather than vanish and
    /// let other routes have its traffic. An edit is refused: its last good version serves better.
    fn is_tolerable(&self, index: usize, problem: &Problem) -> bool {
        problem.kind == Kind::Reference
            && self.seats.get(index).is_some_and(|seat| seat.last_good.is_none())
    }

    fn refuse(&mut self, index: usize, problem: Problem) {
        if let Some(seat) = self.seats.get_mut(index) {
            seat.standing = seat.last_good.clone();
            seat.problems.push(problem);
        }
    }

    /// True when a filter was refused.
    fn rehearse(
        &mut self,
        planned: &Planned,
        snapshot: &Snapshot,
        process: &ProcessSettings,
    ) -> Result<bool, Vec<Problem>> {
        let runs = |filter: &Filter, filters: &[Arc<Filter>]| {
            filters.iter().any(|other| other.same_plugin(filter))
        };
        let mut refused = Vec::new();
        for filter in &snapshot.filters {
            if runs(filter, &self.live.filters) || runs(filter, &self.rehearsed) {
                continue;
            }
            match self.plane.rehearse(filter, process) {
                Ok(()) => self.rehearsed.push(filter.clone()),
                Err(refusal) => refused.push(self.problem(planned, &refusal)),
            }
        }
        self.refuse_faulty(&refused)
    }

    /// Problems that go live with their object.
    fn note(&mut self, blemishes: &[(Arc<str>, Problem)]) {
        for (name, problem) in blemishes {
            let seat = self.seats.iter_mut().find(|seat| seat.offered.name() == name);
            if let Some(seat) = seat.filter(|seat| !seat.problems.contains(problem)) {
                seat.problems.push(problem.clone());
            }
        }
    }

    /// Errors that are not shown with an object already. When a first start leaves objects out, what is missing then
    /// is missing because of them.
    fn unknown(&self, problems: Vec<Problem>) -> Vec<Problem> {
        let left_out = self.seats.iter().any(|seat| seat.standing.is_none());
        let follows =
            |problem: &Problem| self.live.generation == 0 && left_out && problem.source.is_none();
        let known =
            |problem: &Problem| self.seats.iter().any(|seat| seat.problems.contains(problem));
        let tells = |problem: &Problem| problem.is_error() && !known(problem) && !follows(problem);
        problems.into_iter().filter(tells).collect()
    }
}
