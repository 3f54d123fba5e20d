//! Expressions that guests have compiled and evaluated: CEL over the attributes of an exchange, bounded in length, depth
//! and cost.
//!
//! An evaluation cannot be interrupted, so it counts what it does ([`meter`]) and gives up. This is the only module that
//! names the CEL library; it knows neither guests nor where attributes come from.

mod meter;
mod rewrite;
mod values;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};
use std::thread;

use bytes::Bytes;
use cel::common::ast::IdedExpr;
use cel::{Context, Env};

use crate::attributes::Attribute;
use meter::Meter;
use rewrite::{Asked, Used};

/// Longest text, in bytes.
pub(crate) const MAX_TEXT: usize = 2 << 10;
/// The parser is recursive: no text of that length needs more, in bytes.
const PARSER_STACK: usize = 32 << 20;

static ENVIRONMENT: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(Env::stdlib().with_optional_support(false)));

/// The text is no expression, or is beyond the bounds; in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(String);

/// What an expression reads.
pub(crate) enum Operand {
    /// Text.
    Text(Bytes),
    /// Anything else.
    Attribute(Attribute),
}

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// An attribute is absent, types do not fit, or it cost too much; in words.
    #[error("{0}")]
    Evaluation(String),
    /// The value is of a type that has no encoding.
    #[error("the value has no encoding")]
    Encoding,
}

/// A compiled expression.
pub(crate) struct Expression {
    program: IdedExpr,
    used: Vec<Used>,
}

impl Expression {
    /// Compiles a text.
    pub(crate) fn compile(text: &str) -> Result<Expression, Malformed> {
        if text.len() > MAX_TEXT {
            return Err(Malformed(format!("the expression is longer than {MAX_TEXT} bytes")));
        }
        let text = text.to_owned();
        let parser = thread::Builder::new().stack_size(PARSER_STACK);
        let parsing = parser.spawn(move || Expression::parse(&text));
        let parsed = parsing.ok().and_then(|parsing| parsing.join().ok());
        parsed.unwrap_or_else(|| Err(Malformed("the expression cannot be parsed".to_owned())))
    }

    fn parse(text: &str) -> Result<Expression, Malformed> {
        let compiled =
            ENVIRONMENT.compile(text).map_err(|problems| Malformed(problems.to_string()))?;
        let mut program = compiled.expression().clone();
        let used = rewrite::rewrite(&mut program).map_err(|why| Malformed(why.to_owned()))?;
        Ok(Expression { program, used })
    }

    /// The value, encoded as `proxy_get_property` encodes. `attribute` knows attributes by their paths.
    pub(crate) fn evaluate(
        &self,
        attribute: impl Fn(&[&str]) -> Option<Operand>,
    ) -> Result<Bytes, Failed> {
        let mut context = Context::with_env(ENVIRONMENT.clone());
        let meter = Meter::install(&mut context);
        for used in &self.used {
            let path: Vec<&str> = used.path.iter().map(String::as_str).collect();
            let value = attribute(&path);
            match (used.asked, value) {
                (Asked::Presence, value) => {
                    context.add_variable_from_value(used.variable.as_str(), value.is_some());
                }
                (Asked::Value, Some(value)) => {
                    context.add_variable_from_value(used.variable.as_str(), values::of(value));
                }
                (Asked::Value, None) => {}
            }
        }
        // Nobody has tried the library on texts that were made to hurt.
        let resolved = catch_unwind(AssertUnwindSafe(|| context.resolve(&self.program)));
        let value = resolved.map_err(|_| Failed::Evaluation("the evaluator gave up".to_owned()))?;
        let value = value.map_err(|problem| Failed::Evaluation(self.explain(&problem)))?;
        meter.within().map_err(|why| Failed::Evaluation(why.to_owned()))?;
        values::encode(&value).ok_or(Failed::Encoding)
    }

    /// The problem in the words of the text, which does not know the names of our variables.
    fn explain(&self, problem: &cel::ExecutionError) -> String {
        let mut text = problem.to_string();
        for used in self.used.iter().rev() {
            text = text.replace(&used.variable, &used.path.join("."));
        }
        text
    }
}
