//! What an evaluation may cost: every value that it reads or makes is counted by its size, and past the bound each
//! further one is an error, so that nothing goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cel::{Context, ExecutionError, Value};
use regex::bytes::RegexBuilder;
use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{self, Ast, Flag, Visitor};

/// Gives its argument back, counted.
pub(super) const SPEND: &str = "@spend";
/// As CEL's `matches`, with bounded patterns.
pub(super) const MATCHES: &str = "@matches";

/// About as many steps as the evaluator makes in a few milliseconds.
const BUDGET: usize = 32 << 10;
/// Bytes that cost as much as a step.
const STEP: usize = 64;
/// Steps that compiling a pattern costs.
const PATTERN: usize = 512;
/// Longest pattern, in bytes.
const MAX_PATTERN: usize = 256;
/// Bytes of a compiled pattern.
const MAX_COMPILED: usize = 32 << 10;

const SPENT: &str = "the evaluation costs too much";

/// What is left of an evaluation's budget.
#[derive(Clone)]
pub(super) struct Meter(Arc<AtomicUsize>);

impl Meter {
    /// A full budget, and the functions that draw on it.
    pub(super) fn install(context: &mut Context<'_, '_>) -> Meter {
        let meter = Meter(Arc::new(AtomicUsize::new(BUDGET)));
        let (spending, matching) = (meter.clone(), meter.clone());
        let spend = move |value: Value| spending.spend(1 + size(&value) / STEP).map(|()| value);
        let matches = move |text: Arc<String>, pattern: Arc<String>| {
            matching.spend(PATTERN + text.len())?;
            matches(&text, &pattern)
        };
        // The standard library has no such names, so this cannot fail.
        let added = context.add_function(SPEND, spend);
        drop(added.and_then(|()| context.add_function(MATCHES, matches)));
        meter
    }

    /// Whether the budget has sufficed: operators such as `||` swallow errors of one side.
    pub(super) fn within(&self) -> Result<(), &'static str> {
        if self.0.load(Ordering::Relaxed) == 0 { Err(SPENT) } else { Ok(()) }
    }

    fn spend(&self, steps: usize) -> Result<(), ExecutionError> {
        let left = self.0.load(Ordering::Relaxed).saturating_sub(steps);
        self.0.store(left, Ordering::Relaxed);
        self.within().map_err(|why| ExecutionError::function_error("expression", why))
    }
}

/// ASCII classes, as in RE2, which keeps patterns small and quick to compile.
fn matches(text: &str, pattern: &str) -> Result<bool, ExecutionError> {
    if pattern.len() > MAX_PATTERN {
        let why = format!("the pattern is longer than {MAX_PATTERN} bytes");
        return Err(ExecutionError::function_error("matches", why));
    }
    let parsed = Parser::new()
        .parse(pattern)
        .map_err(|problem| ExecutionError::function_error("matches", problem))?;
    ast::visit(&parsed, AsciiOnly).map_err(|why| ExecutionError::function_error("matches", why))?;
    let compiled = RegexBuilder::new(pattern)
        .unicode(false)
        .size_limit(MAX_COMPILED)
        .build()
        .map_err(|problem| ExecutionError::function_error("matches", problem))?;
    Ok(compiled.is_match(text.as_bytes()))
}

/// Refuses patterns that switch Unicode on, as `(?u)` does: each class of such a pattern is made of all code points,
/// which takes milliseconds and is not bounded by the size of what comes out.
struct AsciiOnly;

impl Visitor for AsciiOnly {
    type Output = ();
    type Err = &'static str;

    fn finish(self) -> Result<(), Self::Err> {
        Ok(())
    }

    fn visit_pre(&mut self, node: &Ast) -> Result<(), Self::Err> {
        let flags = match node {
            Ast::Flags(set) => Some(&set.flags),
            Ast::Group(group) => group.flags(),
            _ => None,
        };
        match flags.and_then(|flags| flags.flag_state(Flag::Unicode)) {
            Some(true) => Err("the pattern switches Unicode on"),
            _ => Ok(()),
        }
    }
}

/// Bytes that a value takes, about; an element of a list or map takes a step at least.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(list) => list.iter().map(|element| STEP + size(element)).sum(),
        Value::Map(map) => {
            let entry = |(key, value): (&cel::objects::Key, &Value)| {
                let key = match key {
                    cel::objects::Key::String(key) => key.len(),
                    _ => 0,
                };
                STEP + key + size(value)
            };
            map.map.iter().map(entry).sum()
        }
        _ => 0,
    }
}
