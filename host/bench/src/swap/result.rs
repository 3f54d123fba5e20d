//! What came out: times with what was wanted, memory after so many changes, and what failed.

use std::fmt::Write as _;

use crate::figures::{percentile, short};
use crate::report::{Machine, align};
use crate::traffic::Tally;

/// At most so many milliseconds are wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mark(pub f64);

/// What memory may differ by and is still called flat.
const FLAT_PERCENT: f64 = 5.0;

/// How long one thing took, each time.
#[derive(Clone, Debug, PartialEq)]
pub struct Times {
    /// From what to what.
    pub what: String,
    /// The target, if there is one.
    pub mark: Option<Mark>,
    /// One number each time.
    pub millis: Vec<f64>,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was typed.
    pub command: String,
    /// Where and with what.
    pub machine: Machine,
    /// Size of the module with which starts are measured.
    pub small_kib: u64,
    /// Size of the module that is replaced.
    pub release_kib: u64,
    /// Starts and changes.
    pub times: Vec<Times>,
    /// Resident memory in MiB after so many changes.
    pub memory: Vec<(u32, f64)>,
    /// Of the load meanwhile.
    pub tally: Tally,
}

impl Times {
    /// Made, and told in one line.
    pub(super) fn tell(
        what: &str,
        mark: Option<Mark>,
        millis: Vec<f64>,
        say: &mut dyn FnMut(&str),
    ) -> Times {
        let times = Times { what: what.to_owned(), mark, millis };
        say(&format!("{what}: {} ms, p99 {} ms", short(times.median()), short(times.p99())));
        times
    }

    fn median(&self) -> f64 {
        percentile(&self.millis, 50).unwrap_or_default()
    }

    fn p99(&self) -> f64 {
        percentile(&self.millis, 99).unwrap_or_default()
    }

    fn cells(&self) -> Vec<String> {
        let goal = self.mark.map_or_else(String::new, |Mark(goal)| short(goal));
        let verdict = self.mark.map_or("", |Mark(goal)| match self.median() {
            median if median <= goal => "met",
            _ => "MISSED",
        });
        let [median, p99] = [self.median(), self.p99()].map(short);
        let count = self.millis.len().to_string();
        vec![self.what.clone(), count, median, p99, goal, verdict.to_owned()]
    }
}

impl Report {
    /// What made the figures.
    #[must_use]
    pub fn origin(&self) -> String {
        let machine = &self.machine;
        format!(
            "`{}`, {}. {}, {} cores, Linux {}. {}.",
            self.command,
            machine.date,
            machine.cpu,
            machine.cores,
            machine.kernel,
            machine.versions.join("; "),
        )
    }

    /// Tables and what to know about them, in Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let head = ["milliseconds", "n", "median", "p99", "goal", ""].map(str::to_owned).to_vec();
        let mut cells = vec![head];
        cells.extend(self.times.iter().map(Times::cells));
        let mut text = format!("{}\n\n{}", self.origin(), align(&cells));
        let Tally { answers, failures, .. } = self.tally;
        let _infallible = write!(
            text,
            "\nStarts: one worker, a module of {} KiB. Changes: a document that names another module of {} KiB and another \
             configuration, two workers, {} requests answered meanwhile, **{failures} failed**.\n\n",
            self.small_kib,
            self.release_kib,
            short(answers as f64),
        );
        let numbers = |name: &str, cell: &dyn Fn(&(u32, f64)) -> String| {
            let mut row = vec![name.to_owned()];
            row.extend(self.memory.iter().map(cell));
            row
        };
        let memory = [
            numbers("changes", &|(changes, _)| changes.to_string()),
            numbers("resident MiB", &|(_, mib)| format!("{mib:.1}")),
        ];
        text.push_str(&align(&memory));
        let _infallible = writeln!(text, "\nMemory over these changes: {}.", self.growth());
        text
    }

    /// The most of the second half beside the most of the first, in words; the reading before the first change is none of them.
    fn growth(&self) -> String {
        let after_first: Vec<f64> = self.memory.iter().skip(1).map(|(_, mib)| *mib).collect();
        let (first, second) = after_first.split_at(after_first.len() / 2);
        let most = percentile(first, 100).zip(percentile(second, 100));
        let Some((first, second)) = most else { return "not measured".to_owned() };
        let percent = (second / first - 1.0) * 100.0;
        if percent <= FLAT_PERCENT {
            format!(
                "flat (the most of the second half differs by {percent:+.1} % from the first's)"
            )
        } else {
            format!("GROWS, {percent:+.1} % from the most of the first half to that of the second")
        }
    }
}
