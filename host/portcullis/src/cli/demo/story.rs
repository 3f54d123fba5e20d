//! How the demo speaks: numbered acts, and lines that say whether what was expected came true.

use crate::term::{Format, Paint, Term};

/// What is told, and how often it did not come true.
pub struct Story<'a> {
    term: &'a Term,
    acts: usize,
    disappointments: usize,
}

impl<'a> Story<'a> {
    /// Nothing told yet.
    pub fn new(term: &'a Term) -> Story<'a> {
        Story { term, acts: 0, disappointments: 0 }
    }

    /// A heading.
    pub fn act(&mut self, title: &str) {
        self.acts += 1;
        let heading = format!("{}  {title}", self.acts);
        self.line(&format!("\n{}", self.term.out.paint(Paint::Strong, &heading)));
    }

    /// Something worth knowing.
    pub fn tell(&self, text: &str) {
        self.line(&format!("   {text}"));
    }

    /// Something that was seen, beside what had to be seen.
    pub fn expect(&mut self, came_true: Expectation, seen: &str) {
        let mark = match came_true {
            Expectation::Met => self.term.out.paint(Paint::Good, "ok"),
            Expectation::Missed => {
                self.disappointments += 1;
                self.term.out.paint(Paint::Error, "NO")
            }
        };
        self.line(&format!("{mark} {seen}"));
    }

    /// The story is the result, unless the result is for a program.
    fn line(&self, text: &str) {
        match self.term.format {
            Format::Text => self.term.result(text),
            Format::Json => self.term.say(text),
        }
    }

    /// How many expectations were not met.
    pub fn disappointments(&self) -> usize {
        self.disappointments
    }
}

/// Whether something came out as it had to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// It did.
    Met,
    /// It did not.
    Missed,
}

impl From<bool> for Expectation {
    fn from(met: bool) -> Expectation {
        if met { Expectation::Met } else { Expectation::Missed }
    }
}
