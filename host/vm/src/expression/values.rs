//! Attributes as CEL values, and CEL values in the encoding of `proxy_get_property`.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use cel::Value;
use cel::objects::{Key, Map};

use crate::abi::pairs;
use crate::attributes::Attribute;
use crate::expression::Operand;

/// What an expression reads, as CEL has it.
pub(super) fn of(operand: Operand) -> Value {
    let attribute = match operand {
        Operand::Text(bytes) => return text(&bytes),
        Operand::Attribute(attribute) => attribute,
    };
    match attribute {
        Attribute::Bytes(bytes) => Value::Bytes(Arc::new(bytes)),
        Attribute::Int(number) => Value::Int(number),
        Attribute::Uint(number) => Value::UInt(number),
        Attribute::Bool(truth) => Value::Bool(truth),
        Attribute::Timestamp(time) => {
            let time: chrono::DateTime<chrono::Utc> = time.into();
            Value::Timestamp(time.fixed_offset())
        }
        Attribute::Duration(duration) => {
            Value::Duration(chrono::Duration::from_std(duration).unwrap_or(chrono::Duration::MAX))
        }
        Attribute::Map(entries) => {
            let key =
                |key: Vec<u8>| Key::String(Arc::new(String::from_utf8_lossy(&key).into_owned()));
            let map: HashMap<Key, Value> =
                entries.into_iter().map(|(name, value)| (key(name), text(&value))).collect();
            Value::Map(Map { map: Arc::new(map) })
        }
    }
}

/// CEL's strings are Unicode; headers may hold other bytes.
fn text(bytes: &[u8]) -> Value {
    Value::String(Arc::new(String::from_utf8_lossy(bytes).into_owned()))
}

/// `None` for values that have no encoding.
pub(super) fn encode(value: &Value) -> Option<Bytes> {
    let eight = |bytes: [u8; 8]| Some(Bytes::copy_from_slice(&bytes));
    match value {
        Value::String(text) => Some(Bytes::copy_from_slice(text.as_bytes())),
        Value::Bytes(bytes) => Some(Bytes::copy_from_slice(bytes)),
        Value::Int(number) => eight(number.to_le_bytes()),
        Value::UInt(number) => eight(number.to_le_bytes()),
        Value::Float(number) => eight(number.to_le_bytes()),
        Value::Bool(truth) => Some(Bytes::copy_from_slice(&[u8::from(*truth)])),
        Value::Timestamp(time) => eight(time.timestamp_nanos_opt()?.to_le_bytes()),
        Value::Duration(duration) => eight(duration.num_nanoseconds()?.to_le_bytes()),
        Value::List(list) => {
            let elements: Option<Vec<_>> =
                list.iter().map(|element| Some((encode(element)?, Bytes::new()))).collect();
            Some(serialize(elements?))
        }
        Value::Map(map) => {
            let entry = |(key, value): (&Key, &Value)| {
                Some((encode(&Value::from(key.clone()))?, encode(value)?))
            };
            let entries: Option<Vec<_>> = map.map.iter().map(entry).collect();
            let mut entries = entries?;
            entries.sort();
            Some(serialize(entries))
        }
        _ => None,
    }
}

fn serialize(entries: Vec<(Bytes, Bytes)>) -> Bytes {
    let entries = Entries(entries);
    let mut bytes = vec![0; pairs::measure(&entries).1];
    pairs::encode(&entries, &mut bytes);
    bytes.into()
}

struct Entries(Vec<(Bytes, Bytes)>);

impl pairs::Pairs for Entries {
    fn each(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.0.iter().for_each(|(key, value)| visit(key, value));
    }
}
