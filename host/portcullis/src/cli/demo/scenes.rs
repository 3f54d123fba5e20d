//! The demo's acts: what each filter does, and what a change of the configuration does to running traffic.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::config::Config;
use super::http::{Connection, Message};
use super::story::Story;
use super::traffic::{Tally, Traffic, user, version};
use crate::app::App;
use crate::diagnose::Problem;

const USERS: u64 = 1000;
const CHAOS_REQUESTS: u64 = 600;
const DELAY: Duration = Duration::from_millis(20);
const KEEPING_CLIENTS: u64 = 4;
const REOPENING_CLIENTS: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(20);
const GLANCE: Duration = Duration::from_millis(2);
const WATCHED: Duration = Duration::from_secs(1);

/// Everything that the acts play with.
pub struct Stage<'a, 'b> {
    /// Where it is told.
    pub story: &'a mut Story<'b>,
    /// The running program.
    pub app: &'a App,
    /// What it runs with.
    pub config: &'a Config,
    /// Where its listener is.
    pub proxy: SocketAddr,
}

impl Stage<'_, '_> {
    /// All acts; what the steady traffic of the last one has seen comes back.
    ///
    /// # Errors
    /// A socket or file failed outside the steady traffic.
    pub fn play(&mut self) -> io::Result<Arc<Tally>> {
        self.policy()?;
        self.routing()?;
        self.fault_injection()?;
        self.changes_under_traffic()
    }

    fn policy(&mut self) -> io::Result<()> {
        self.story.act("Policy: only the role admin may use /admin (filters/authz)");
        let mut client = Connection::open(self.proxy)?;
        for (path, role, expected) in
            [("/reviews/1", "none", 200), ("/admin", "none", 403), ("/admin", "admin", 200)]
        {
            let answer = client.get(path, &[("x-role", role)])?;
            let status = answer.status();
            let by = version(&answer).map_or_else(
                |_| answer.body.trim().to_owned(),
                |version| format!("reviews {version}"),
            );
            let seen = format!("GET {path:<10} with role {role:<6} {status}  {by}");
            self.story.expect((status == expected).into(), &seen);
        }
        Ok(())
    }

    fn routing(&mut self) -> io::Result<()> {
        self.story
            .act("Routing: 10 % of the users get version 2, always the same ones (filters/canary)");
        let first = self.versions_of_users()?;
        let again = self.versions_of_users()?;
        let on_v2 = first.iter().filter(|version| *version == "v2").count() as u64;
        let same = first.iter().zip(&again).filter(|(one, other)| one == other).count() as u64;
        let near = (USERS * 7 / 100..=USERS * 13 / 100).contains(&on_v2);
        let seen = format!("{USERS} users: {} got v1, {on_v2} got v2", USERS - on_v2);
        self.story.expect(near.into(), &seen);
        let seen = format!("asked again: {same} of {USERS} got the version they had before");
        self.story.expect((same == USERS).into(), &seen);
        let mut client = Connection::open(self.proxy)?;
        let mut forced = 0;
        for number in 0..100 {
            let answer =
                client.get("/reviews/1", &[("x-user", &user(number)), ("x-beta", "yes")])?;
            forced += u64::from(version(&answer).is_ok_and(|version| version == "v2"));
        }
        let seen = format!("with x-beta, {forced} of 100 users got v2");
        self.story.expect((forced == 100).into(), &seen);
        Ok(())
    }

    fn versions_of_users(&self) -> io::Result<Vec<String>> {
        let mut client = Connection::open(self.proxy)?;
        let mut ask = |number| {
            let answer = client.get("/reviews/1", &[("x-user", &user(number))])?;
            version(&answer).map_err(io::Error::other)
        };
        (0..USERS).map(&mut ask).collect()
    }

    fn fault_injection(&mut self) -> io::Result<()> {
        self.story
            .act("Fault injection: 10 % refused, 10 % delayed, only with x-chaos (filters/fault)");
        for (label, headers) in [("without", &[][..]), ("with", &[("x-chaos", "yes")][..])] {
            let (aborted, delayed) = self.chaos(headers)?;
            let near =
                |count| (CHAOS_REQUESTS * 4 / 100..=CHAOS_REQUESTS * 16 / 100).contains(&count);
            let met = match label {
                "with" => near(aborted) && delayed >= CHAOS_REQUESTS * 3 / 100,
                _ => aborted == 0,
            };
            let seen = format!(
                "{CHAOS_REQUESTS} requests {label:<7} x-chaos: {aborted} answered 503, {delayed} took {} ms or more",
                DELAY.as_millis()
            );
            self.story.expect(met.into(), &seen);
        }
        Ok(())
    }

    fn chaos(&self, headers: &[(&str, &str)]) -> io::Result<(u64, u64)> {
        let mut client = Connection::open(self.proxy)?;
        let (mut aborted, mut delayed) = (0, 0);
        for _ in 0..CHAOS_REQUESTS {
            let started = Instant::now();
            let answer: Message = client.get("/reviews/1", headers)?;
            aborted += u64::from(answer.status() == 503);
            delayed += u64::from(started.elapsed() >= DELAY);
        }
        Ok((aborted, delayed))
    }

    fn changes_under_traffic(&mut self) -> io::Result<Arc<Tally>> {
        let title = format!(
            "The configuration changes while {} clients send ({KEEPING_CLIENTS} keep their connection)",
            KEEPING_CLIENTS + REOPENING_CLIENTS
        );
        self.story.act(&title);
        let traffic = Traffic::start(self.proxy, KEEPING_CLIENTS, REOPENING_CLIENTS)?;
        let before = share_of_v2(&traffic);
        self.change(&traffic, 50, before)?;
        self.break_it()?;
        let still = share_of_v2(&traffic);
        self.story.expect(
            (40..=60).contains(&still).into(),
            &format!("traffic goes on as before: v2 has {still} %"),
        );
        self.change(&traffic, 10, still)?;
        let tally = traffic.stop();
        for failure in tally.failures() {
            self.story.tell(&format!("failed: {failure}"));
        }
        let seen = format!("{} requests meanwhile, {} failed", tally.sent(), tally.failed());
        self.story.expect((tally.failed() == 0 && tally.sent() > 0).into(), &seen);
        Ok(tally)
    }

    fn change(&mut self, traffic: &Traffic, percent: u32, before: u64) -> io::Result<()> {
        let generation = self.app.board().generation();
        let started = Instant::now();
        self.config.set_percent(percent)?;
        let live = wait(|| (self.app.board().generation() > generation).then_some(()));
        let took = started.elapsed().as_millis();
        traffic.tally().take_versions();
        let after = share_of_v2(traffic);
        let near = after.abs_diff(u64::from(percent)) <= 8;
        let seen = format!(
            "canary.yaml: percent: {percent} → generation {} after {took} ms; v2 had {before} %, has {after} %",
            self.app.board().generation()
        );
        self.story.expect((live.is_some() && near).into(), &seen);
        Ok(())
    }

    fn break_it(&mut self) -> io::Result<()> {
        let generation = self.app.board().generation();
        self.config.set_percent(500)?;
        let problem = wait(|| self.app.board().problems().into_iter().find(Problem::is_error));
        let Some(problem) = problem else {
            self.story.expect(false.into(), "canary.yaml: percent: 500 was not refused");
            return Ok(());
        };
        let kept = self.app.board().generation() == generation;
        let seen = format!("canary.yaml: percent: 500 → refused, generation {generation} stays");
        self.story.expect(kept.into(), &seen);
        let place = problem.place.as_ref().map(ToString::to_string).unwrap_or_default();
        let cause = problem.cause.as_deref().unwrap_or_default();
        self.story.tell(&format!("{} {place}", problem.code));
        self.story.tell(cause);
        Ok(())
    }
}

/// Per cent of the next requests that version 2 answers.
fn share_of_v2(traffic: &Traffic) -> u64 {
    traffic.tally().take_versions();
    thread::sleep(WATCHED);
    let versions = traffic.tally().take_versions();
    let all: u64 = versions.values().sum();
    let v2 = versions.get("v2").copied().unwrap_or_default();
    (v2 * 100 + all / 2).checked_div(all).unwrap_or_default()
}

fn wait<T>(ready: impl Fn() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(found) = ready() {
            return Some(found);
        }
        thread::sleep(GLANCE);
    }
    None
}
