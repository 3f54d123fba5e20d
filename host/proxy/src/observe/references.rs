//! What a CEL expression names: the variables it needs, what it reads of that which filters stored, and names that do
//! not exist, also where evaluation never gets to. Knows no attribute itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use cel::Program;
use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

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

/// The names that exist.
pub trait Names {
    /// Whether attributes stand under it.
    fn is_object(&self, name: &str) -> bool;
    /// Whether there is such an attribute; those that stand alone have the object ``.
    fn has(&self, object: &str, field: &str) -> bool;
    /// The whole name of what filters stored, where `object` gives that by names of the user's choice.
    fn stored(&self, object: &str, name: &str) -> Option<Arc<str>>;
}

/// What an expression names.
#[derive(Debug, Default)]
pub struct References {
    /// Variables.
    pub variables: BTreeSet<Box<str>>,
    /// Whole names of stored values.
    pub stored: BTreeSet<Arc<str>>,
    unknown: BTreeSet<String>,
}

/// What `program` names.
///
/// # Errors
/// It names what does not exist; in words.
pub fn of(program: &Program, names: &dyn Names) -> Result<References, String> {
    let mut walk = Walk { names, bound: Vec::new(), found: References::default() };
    walk.visit(program.expression());
    if walk.found.unknown.is_empty() {
        return Ok(walk.found);
    }
    let unknown: Vec<_> = walk.found.unknown.into_iter().collect();
    Err(format!("unknown attribute {}", unknown.join(", ")))
}

struct Walk<'e, 'n> {
    names: &'n dyn Names,
    /// Bound by macros.
    bound: Vec<&'e str>,
    found: References,
}

impl<'e> Walk<'e, '_> {
    fn visit(&mut self, node: &'e IdedExpr) {
        match &node.expr {
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => {
                if !self.field(&select.operand, &select.field) {
                    self.visit(&select.operand);
                }
            }
            Expr::Call(call) => {
                if !self.index(call) {
                    call.target.iter().map(Box::as_ref).chain(&call.args).for_each(|part| {
                        self.visit(part);
                    });
                }
            }
            Expr::Comprehension(fold) => {
                self.visit(&fold.iter_range);
                let before = self.bound.len();
                self.bound.push(&fold.iter_var);
                self.bound.extend(fold.iter_var2.as_deref());
                self.bound.push(&fold.accu_var);
                for part in [&fold.accu_init, &fold.loop_cond, &fold.loop_step, &fold.result] {
                    self.visit(part);
                }
                self.bound.truncate(before);
            }
            Expr::List(list) => list.elements.iter().for_each(|part| self.visit(part)),
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.visit(&entry.key);
                        self.visit(&entry.value);
                    }
                }
            }
            Expr::Struct(_) | Expr::Literal(_) | Expr::Unspecified => {}
        }
    }

    fn variable(&mut self, name: &'e str) {
        if name.starts_with('@') || self.bound.contains(&name) || TYPES.contains(&name) {
            return;
        }
        if self.names.stored(name, "").is_some() {
            self.found.unknown.insert(format!("{name} (a name has to follow: {name}[\"NAME\"])"));
        } else if self.names.is_object(name) || self.names.has("", name) {
            self.found.variables.insert(name.into());
        } else {
            self.found.unknown.insert(name.to_owned());
        }
    }

    /// `operand.field`, if that is an attribute or a stored value.
    fn field(&mut self, operand: &'e IdedExpr, field: &str) -> bool {
        let Expr::Ident(object) = &operand.expr else { return false };
        if self.bound.contains(&object.as_str()) {
            return false;
        }
        if let Some(name) = self.names.stored(object, field) {
            self.found.variables.insert(object.as_str().into());
            self.found.stored.insert(name);
            return true;
        }
        if self.names.is_object(object) && !self.names.has(object, field) {
            self.found.unknown.insert(format!("{object}.{field}"));
        }
        false
    }

    /// `object["name"]`, if that is a stored value.
    fn index(&mut self, call: &'e CallExpr) -> bool {
        match (call.func_name.as_str(), call.args.as_slice()) {
            (
                operators::INDEX,
                [object, IdedExpr { expr: Expr::Literal(LiteralValue::String(name)), .. }],
            ) => {
                matches!(&object.expr, Expr::Ident(root) if self.names.stored(root, "").is_some())
                    && self.field(object, name.inner())
            }
            _ => false,
        }
    }
}
