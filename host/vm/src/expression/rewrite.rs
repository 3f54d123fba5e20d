//! Makes a parsed expression fit to be evaluated for a guest: attributes become variables, so that only those which it
//! names are looked up, and whatever can produce or read much is wrapped in a call that counts it.
//!
//! The shapes that macros expand to (`all`, `exists`, `map`, …) are kept: the evaluator recognises them.

use std::collections::BTreeSet;

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators,
};

use super::meter::{MATCHES, SPEND};

/// Deepest tree: the evaluator is recursive, on the stack of a worker.
const MAX_DEPTH: usize = 32;
/// Literals up to this length cost nothing to read.
const SMALL: usize = 64;

/// What is wanted of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Value,
    /// `has(...)`
    Presence,
}

/// An attribute that an expression names.
#[derive(Debug)]
pub(super) struct Used {
    /// Stands for it in the rewritten expression.
    pub(super) variable: String,
    pub(super) path: Vec<String>,
    pub(super) asked: Asked,
}

/// Names that CEL itself defines.
const TYPES: &[&str] = &[
    "bool",
    "bytes",
    "double",
    "dyn",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
];

/// Functions and methods, but for operators, that CEL defines and the library has.
const FUNCTIONS: &[&str] = &[
    "bool",
    "bytes",
    "contains",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "timestamp",
    "type",
    "uint",
];

/// Calls whose results are small, or whose arguments have been counted as their results.
const CHEAP: &[&str] = &[
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::LESS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::GREATER_EQUALS,
    operators::IN,
    operators::NEGATE,
    "size",
    "type",
    "startsWith",
    "endsWith",
    "contains",
    MATCHES,
];

/// Rewrites in place; gives the attributes that were named.
pub(super) fn rewrite(program: &mut IdedExpr) -> Result<Vec<Used>, &'static str> {
    let mut rewriting = Rewriting { used: Vec::new(), bound: BTreeSet::new() };
    rewriting.node(program, MAX_DEPTH)?;
    Ok(rewriting.used)
}

struct Rewriting {
    used: Vec<Used>,
    /// Variables of the macros around.
    bound: BTreeSet<String>,
}

type Rewritten = Result<(), &'static str>;

impl Rewriting {
    fn node(&mut self, node: &mut IdedExpr, depth: usize) -> Rewritten {
        let deeper = depth.checked_sub(1).ok_or("the expression is nested too deeply")?;
        if let Some(path) = self.path(node) {
            node.expr = self.variable(path, Asked::Value);
            wrap(node);
            return Ok(());
        }
        match &mut node.expr {
            Expr::Literal(literal) if is_small(literal) => return Ok(()),
            Expr::Literal(_) => {}
            Expr::Ident(name) if TYPES.contains(&name.as_str()) => return Ok(()),
            Expr::Ident(_) => {}
            Expr::Select(select) => {
                if select.test
                    && let Some(mut path) = self.path(&select.operand)
                {
                    path.push(select.field.clone());
                    node.expr = self.variable(path, Asked::Presence);
                    return Ok(());
                }
                self.node(&mut select.operand, deeper)?;
                if select.test {
                    return Ok(());
                }
            }
            Expr::Call(call) => {
                self.call(call, deeper)?;
                if CHEAP.contains(&call.func_name.as_str()) {
                    return Ok(());
                }
            }
            Expr::List(list) => {
                list.elements.iter_mut().try_for_each(|element| self.node(element, deeper))?;
            }
            Expr::Map(map) => {
                for entry in &mut map.entries {
                    let EntryExpr::MapEntry(entry) = &mut entry.expr else { return UNKNOWN };
                    self.node(&mut entry.key, deeper)?;
                    self.node(&mut entry.value, deeper)?;
                }
            }
            Expr::Comprehension(fold) => self.fold(fold, deeper)?,
            Expr::Struct(_) | Expr::Unspecified => return UNKNOWN,
        }
        wrap(node);
        Ok(())
    }

    fn call(&mut self, call: &mut CallExpr, depth: usize) -> Rewritten {
        let name = call.func_name.as_str();
        let operator = !name.starts_with(|first: char| first.is_ascii_alphabetic());
        if !operator && !FUNCTIONS.contains(&name) {
            return Err("the expression calls a function that nobody knows");
        }
        if let Some(target) = &mut call.target {
            self.node(target, depth)?;
        }
        call.args.iter_mut().try_for_each(|argument| self.node(argument, depth))?;
        if call.func_name == "matches" {
            call.func_name = MATCHES.to_owned();
            if let Some(target) = call.target.take() {
                call.args.insert(0, *target);
            }
        }
        Ok(())
    }

    fn fold(&mut self, fold: &mut ComprehensionExpr, depth: usize) -> Rewritten {
        self.node(&mut fold.iter_range, depth)?;
        let variables = [Some(fold.iter_var.clone()), fold.iter_var2.clone()];
        let added: Vec<String> = variables
            .into_iter()
            .flatten()
            .filter(|name| self.bound.insert(name.clone()))
            .collect();
        let accumulator = fold.accu_var.clone();
        self.step(&mut fold.loop_step, &accumulator, depth)?;
        added.iter().for_each(|name| {
            self.bound.remove(name);
        });
        Ok(())
    }

    /// The step of a macro: what the text says is rewritten, what the macro put around it is not.
    fn step(&mut self, node: &mut IdedExpr, accumulator: &str, depth: usize) -> Rewritten {
        let is_own =
            |node: &IdedExpr| matches!(&node.expr, Expr::Ident(name) if name == accumulator);
        if is_own(node) {
            return Ok(());
        }
        match &mut node.expr {
            Expr::Call(call) if call.target.is_none() && call.args.iter().any(is_own) => {
                for argument in &mut call.args {
                    match &mut argument.expr {
                        Expr::List(appended) if call.func_name == operators::ADD => appended
                            .elements
                            .iter_mut()
                            .try_for_each(|element| self.node(element, depth))?,
                        _ => self.step(argument, accumulator, depth)?,
                    }
                }
                Ok(())
            }
            _ => self.node(node, depth),
        }
    }

    /// The attribute that a node names: `a.b.c`, where `a["b"]` is the same as `a.b`.
    fn path(&self, node: &IdedExpr) -> Option<Vec<String>> {
        match &node.expr {
            Expr::Ident(name) => {
                let other = name.starts_with('@')
                    || TYPES.contains(&name.as_str())
                    || self.bound.contains(name);
                (!other).then(|| vec![name.clone()])
            }
            Expr::Select(select) if !select.test => {
                let mut path = self.path(&select.operand)?;
                path.push(select.field.clone());
                Some(path)
            }
            Expr::Call(call) if call.func_name == operators::INDEX => {
                let [operand, key] = call.args.as_slice() else { return None };
                let Expr::Literal(LiteralValue::String(key)) = &key.expr else { return None };
                let mut path = self.path(operand)?;
                path.push(key.inner().to_owned());
                Some(path)
            }
            _ => None,
        }
    }

    fn variable(&mut self, path: Vec<String>, asked: Asked) -> Expr {
        let known = self.used.iter().find(|used| used.path == path && used.asked == asked);
        let variable = match known {
            Some(used) => used.variable.clone(),
            None => {
                let variable = format!("@attribute{}", self.used.len());
                self.used.push(Used { variable: variable.clone(), path, asked });
                variable
            }
        };
        Expr::Ident(variable)
    }
}

const UNKNOWN: Rewritten = Err("the expression makes messages, which have no meaning here");

fn wrap(node: &mut IdedExpr) {
    let inner = std::mem::take(node);
    let call = CallExpr { func_name: SPEND.to_owned(), target: None, args: vec![inner] };
    node.expr = Expr::Call(call);
}

fn is_small(literal: &LiteralValue) -> bool {
    match literal {
        LiteralValue::String(text) => text.inner().len() <= SMALL,
        LiteralValue::Bytes(bytes) => bytes.inner().len() <= SMALL,
        _ => true,
    }
}
