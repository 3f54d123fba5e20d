//! What a scalar is by YAML's core schema: plain texts may be numbers, truth values or nothing, quoted ones are texts.

use super::tree::{Node, Value, is_null};

/// What a node holds, in words.
pub(super) fn describe(node: &Node) -> &'static str {
    match &node.value {
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a mapping",
        Value::Scalar { text, plain } => match Scalar::of(text, *plain) {
            Scalar::Null => "nothing",
            Scalar::Bool(_) => "a truth value",
            Scalar::Signed(_) | Scalar::Unsigned(_) | Scalar::Float(_) => "a number",
            Scalar::Text => "a text",
        },
    }
}

/// What a scalar is by YAML's core schema.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text,
}

impl Scalar {
    pub fn of(text: &str, plain: bool) -> Scalar {
        match text {
            _ if !plain => Scalar::Text,
            _ if is_null(text) => Scalar::Null,
            "true" | "True" | "TRUE" => Scalar::Bool(true),
            "false" | "False" | "FALSE" => Scalar::Bool(false),
            _ => Scalar::number(text).unwrap_or(Scalar::Text),
        }
    }

    fn number(text: &str) -> Option<Scalar> {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if let Some(hex) = text.strip_prefix("0x") {
            return u64::from_str_radix(hex, 16).ok().map(Scalar::Unsigned);
        }
        if let Some(octal) = text.strip_prefix("0o") {
            return u64::from_str_radix(octal, 8).ok().map(Scalar::Unsigned);
        }
        if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            || !digits.contains(|c: char| c.is_ascii_digit())
        {
            return None;
        }
        let unsigned = || text.parse().ok().map(Scalar::Unsigned);
        let signed = || text.parse().ok().map(Scalar::Signed);
        let float = || text.parse().ok().filter(|value: &f64| value.is_finite()).map(Scalar::Float);
        unsigned().or_else(signed).or_else(float)
    }
}
