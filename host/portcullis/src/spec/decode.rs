//! Trees → plain `#[derive(Deserialize)]` types, with every problem and not only the first.
//!
//! A decoder that fails says at which node. That node is poisoned, which makes it decode as a dummy, and the whole is
//! decoded again, until nothing new comes. Fields that nobody knows are written down on the way.

use std::cell::RefCell;
use std::collections::HashSet;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};

use super::access::{Elements, Members, Pairs};
use super::dummy::{Dummy, Fields, Unit};
use super::scalar::{Scalar, describe};
use super::tree::{At, Entry, Node, Value};
use super::values::{self, DURATION, SIZE, TIMESTAMP};
use crate::diagnose::{Code, nearest};

const MAX_FINDINGS: usize = 100;

/// What is wrong with an object, and at which of its nodes.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub code: Code,
    pub at: At,
    /// The node that has the problem, or that has the field `name` which is the problem.
    node: usize,
    name: Option<String>,
    pub title: String,
    pub hint: Option<String>,
}

impl Finding {
    /// Path of the field from `root` on.
    pub fn field(&self, root: &Node) -> String {
        let mut path = String::new();
        find(root, self.node, &mut path);
        match &self.name {
            Some(name) if path.is_empty() => name.clone(),
            Some(name) => format!("{path}.{name}"),
            None => path,
        }
    }
}

/// Decodes `root`, or says all that is wrong.
pub(super) fn decode<T: DeserializeOwned>(root: &Node) -> Result<T, Vec<Finding>> {
    let journal = RefCell::default();
    loop {
        let decoded = T::deserialize(Decoder { node: root, journal: &journal });
        let known = journal.borrow().len();
        match decoded {
            Ok(value) if known == 0 => return Ok(value),
            Err(fault) if known < MAX_FINDINGS => record(root, fault, &journal),
            _ => {
                let mut findings = journal.take();
                findings.sort_by_key(|finding: &Finding| finding.at);
                return Err(findings);
            }
        }
    }
}

fn record(root: &Node, fault: Fault, journal: &RefCell<Vec<Finding>>) {
    let mut path = String::new();
    let node = find(root, fault.node.unwrap_or(root.id), &mut path).unwrap_or(root);
    match fault.missing {
        Some(name) => node.absent.borrow_mut().push(name),
        None => node.poisoned.set(true),
    }
    let Fault { code, title, hint, missing, .. } = fault;
    let name = missing.map(str::to_owned);
    journal.borrow_mut().push(Finding { code, at: node.at, node: node.id, name, title, hint });
}

/// The node with this id, and its path from `node` on.
pub(super) fn find<'n>(node: &'n Node, id: usize, path: &mut String) -> Option<&'n Node> {
    if node.id == id {
        return Some(node);
    }
    let length = path.len();
    for (index, child) in node.children().enumerate() {
        match &node.value {
            Value::Mapping(entries) => {
                let dot = if length == 0 { "" } else { "." };
                let key = entries.get(index).map_or("", |entry| entry.key.as_str());
                *path += &format!("{dot}{key}");
            }
            _ => *path += &format!("[{index}]"),
        }
        if let Some(found) = find(child, id, path) {
            return Some(found);
        }
        path.truncate(length);
    }
    None
}

/// Why decoding stopped.
#[derive(Debug)]
pub(super) struct Fault {
    code: Code,
    title: String,
    hint: Option<String>,
    node: Option<usize>,
    missing: Option<&'static str>,
}

impl Fault {
    fn new(code: Code, node: &Node, title: impl Into<String>) -> Fault {
        let node = Some(node.id);
        Fault { code, title: title.into(), hint: None, node, missing: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into());
        self
    }

    /// Errors that serde makes know no place; the innermost decoder they pass says its own.
    fn inside(mut self, node: &Node) -> Fault {
        self.node = self.node.or(Some(node.id));
        self
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.title)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: std::fmt::Display>(message: T) -> Fault {
        let title = message.to_string();
        Fault { code: Code::P0103, title, hint: None, node: None, missing: None }
    }

    fn missing_field(field: &'static str) -> Fault {
        let title = format!("the field `{field}` is missing");
        let hint = Some(format!("add `{field}:` here"));
        Fault { code: Code::P0108, title, hint, node: None, missing: Some(field) }
    }
}

/// Decodes one node.
#[derive(Clone, Copy)]
pub(super) struct Decoder<'n> {
    pub node: &'n Node,
    pub journal: &'n RefCell<Vec<Finding>>,
}

impl<'n> Decoder<'n> {
    fn scalar(&self) -> Option<Scalar> {
        match &self.node.value {
            Value::Scalar { text, plain } => Some(Scalar::of(text, *plain)),
            _ => None,
        }
    }

    fn wrong(&self, expected: &str) -> Fault {
        let title = format!("expected {expected}, found {}", describe(self.node));
        let fault = Fault::new(Code::P0103, self.node, title);
        match (&self.node.value, expected) {
            (Value::Scalar { text, .. }, "a text") if !text.is_empty() => {
                fault.hint("put it into quotes")
            }
            (_, "a list") => fault.hint("a list has a dash before each element, or [brackets]"),
            (Value::Scalar { plain: false, .. }, "a whole number" | "true or false") => {
                fault.hint("remove the quotes")
            }
            _ => fault.hint(format!("write {expected} here")),
        }
    }

    fn integer<T: TryFrom<i128>>(&self, least: i128, most: i128) -> Result<T, Fault> {
        let value = match self.scalar() {
            Some(Scalar::Unsigned(value)) => i128::from(value),
            Some(Scalar::Signed(value)) => i128::from(value),
            _ => return Err(self.wrong("a whole number")),
        };
        T::try_from(value).map_err(|_| {
            let title = format!("{value} is out of range");
            let hint = format!("use a number from {least} to {most}");
            Fault::new(Code::P0111, self.node, title).hint(hint)
        })
    }

    fn text(&self) -> Result<&'n str, Fault> {
        match &self.node.value {
            Value::Scalar { text, plain } if matches!(Scalar::of(text, *plain), Scalar::Text) => {
                Ok(text)
            }
            _ => Err(self.wrong("a text")),
        }
    }

    fn special<T>(
        &self,
        code: Code,
        what: &str,
        read: impl Fn(&str) -> Option<T>,
        hint: impl Fn(&str) -> String,
    ) -> Result<T, Fault> {
        let Some(text) = self.node.text() else { return Err(self.wrong(what)) };
        read(text).ok_or_else(|| {
            let title = format!("{text:?} is not {what}");
            Fault::new(code, self.node, title).hint(hint(text))
        })
    }

    fn duration(&self) -> Result<u64, Fault> {
        self.special(Code::P0104, "a duration", values::duration, |text| {
            match values::likely_duration(text) {
                Some(likely) => format!("did you mean {likely}?"),
                None => "whole numbers with h, m, s or ms, such as 250ms or 1m30s".to_owned(),
            }
        })
    }

    fn size(&self) -> Result<u64, Fault> {
        self.special(Code::P0109, "a size", values::size, |text| match values::likely_size(text) {
            Some(likely) => format!("did you mean {likely}?"),
            None => "a number with Ki, Mi, Gi, k, M, G or no unit, such as 64Ki".to_owned(),
        })
    }

    fn timestamp(&self) -> Result<i64, Fault> {
        let hint = |_: &str| "such as 2026-01-31T12:00:00Z".to_owned();
        self.special(Code::P0111, "a point in time", values::timestamp, hint)
    }
}

/// A method of [`Deserializer`] that answers poisoned nodes with a dummy.
macro_rules! decode {
    ($($method:ident => |$this:ident, $visitor:ident| $body:expr;)*) => {
        $(fn $method<V: Visitor<'de>>(self, $visitor: V) -> Result<V::Value, Fault> {
            let $this = self;
            if $this.node.poisoned.get() {
                return Dummy.$method($visitor);
            }
            let result: Result<V::Value, Fault> = $body;
            result.map_err(|fault| fault.inside($this.node))
        })*
    };
}

impl<'de> Deserializer<'de> for Decoder<'_> {
    type Error = Fault;

    decode! {
        deserialize_any => |this, visitor| match &this.node.value {
            Value::Sequence(_) => this.deserialize_seq(visitor),
            Value::Mapping(_) => this.deserialize_map(visitor),
            Value::Scalar { text, plain } => match Scalar::of(text, *plain) {
                Scalar::Null => visitor.visit_unit(),
                Scalar::Bool(value) => visitor.visit_bool(value),
                Scalar::Unsigned(value) => visitor.visit_u64(value),
                Scalar::Signed(value) => visitor.visit_i64(value),
                Scalar::Float(value) => visitor.visit_f64(value),
                Scalar::Text => visitor.visit_str(text),
            },
        };
        deserialize_bool => |this, visitor| match this.scalar() {
            Some(Scalar::Bool(value)) => visitor.visit_bool(value),
            _ => Err(this.wrong("true or false")),
        };
        deserialize_u16 => |this, visitor| {
            this.integer(0, u16::MAX.into()).and_then(|value| visitor.visit_u16(value))
        };
        deserialize_u32 => |this, visitor| {
            this.integer(0, u32::MAX.into()).and_then(|value| visitor.visit_u32(value))
        };
        deserialize_u64 => |this, visitor| {
            this.integer(0, u64::MAX.into()).and_then(|value| visitor.visit_u64(value))
        };
        deserialize_i32 => |this, visitor| {
            this.integer(i32::MIN.into(), i32::MAX.into()).and_then(|value| visitor.visit_i32(value))
        };
        deserialize_str => |this, visitor| this.text().and_then(|text| visitor.visit_str(text));
        deserialize_string => |this, visitor| this.text().and_then(|text| visitor.visit_str(text));
        deserialize_option => |this, visitor| match this.scalar() {
            Some(Scalar::Null) => visitor.visit_none(),
            _ => visitor.visit_some(this),
        };
        deserialize_seq => |this, visitor| match &this.node.value {
            Value::Sequence(nodes) => {
                visitor.visit_seq(Elements { nodes: nodes.iter(), journal: this.journal })
            }
            _ => Err(this.wrong("a list")),
        };
        deserialize_map => |this, visitor| match &this.node.value {
            Value::Mapping(entries) => {
                let (entries, journal) = (entries.iter(), this.journal);
                visitor.visit_map(Pairs { entries, value: None, journal })
            }
            _ => Err(this.wrong("a mapping")),
        };
        deserialize_ignored_any => |this, visitor| {
            let _ = this;
            visitor.visit_unit()
        };
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if self.node.poisoned.get() {
            return visitor.visit_newtype_struct(Dummy);
        }
        match name {
            DURATION => visitor.visit_newtype_struct(Unit::Unsigned(self.duration()?)),
            SIZE => visitor.visit_newtype_struct(Unit::Unsigned(self.size()?)),
            TIMESTAMP => visitor.visit_newtype_struct(Unit::Signed(self.timestamp()?)),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let Decoder { node, journal } = self;
        if node.poisoned.get() {
            return Dummy.deserialize_struct(name, fields, visitor);
        }
        let Value::Mapping(entries) = &node.value else { return Err(self.wrong("a mapping")) };
        for entry in entries {
            if !fields.contains(&entry.key.as_str()) && !entry.reported.replace(true) {
                unknown(node, entry, fields, journal);
            }
        }
        let mut seen = HashSet::new();
        let mut present: Vec<&Entry> = entries.iter().collect();
        // Of a key that stands twice, which is a problem already, the first one counts.
        present.retain(|entry| {
            let known = fields.contains(&entry.key.as_str()) && !entry.value.is_null();
            known && seen.insert(entry.key.clone())
        });
        let absent = node.absent.borrow().clone();
        let (entries, absent) = (present.into_iter(), Fields::new(absent));
        visitor
            .visit_map(Members { entries, value: None, absent, journal })
            .map_err(|fault| fault.inside(node))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if self.node.poisoned.get() {
            return Dummy.deserialize_enum(name, variants, visitor);
        }
        let text = self.text()?;
        if !variants.contains(&text) {
            let fault = Fault::new(Code::P0111, self.node, format!("{text:?} is not known here"));
            return Err(fault.hint(match nearest(text, variants.iter().copied()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("use one of {}", variants.join(", ")),
            }));
        }
        visitor.visit_enum(StrDeserializer::<Fault>::new(text))
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i64 i128 u8 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier
    }
}

fn unknown(node: &Node, entry: &Entry, fields: &[&str], journal: &RefCell<Vec<Finding>>) {
    if journal.borrow().len() >= MAX_FINDINGS {
        return;
    }
    let hint = match nearest(&entry.key, fields.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known here: {}", fields.join(", ")),
    };
    journal.borrow_mut().push(Finding {
        code: Code::P0102,
        at: entry.at,
        node: node.id,
        name: Some(entry.key.clone()),
        title: format!("the field `{}` is not known here", entry.key),
        hint: Some(hint),
    });
}
