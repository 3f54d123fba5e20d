//! To hyper's kind of header fields and back, for HTTP/2.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::line::{BETWEEN, END, Field};
use super::{Fields, SPARE};

/// Those of hyper's world, which keeps to its own limits; repeated names come one after the other.
impl From<&HeaderMap> for Fields {
    fn from(map: &HeaderMap) -> Fields {
        let bytes: usize = map.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let mut fields = Fields::with_capacity(map.len() + SPARE.0, bytes + SPARE.1);
        for (name, value) in map {
            let (name, value) = (name.as_ref(), value.as_bytes());
            // Checked when the map was made, and its names are in lower case.
            if let Ok(field) = Field::at(fields.text.len(), name, value) {
                let line = [name, BETWEEN, value, END];
                line.iter().for_each(|part| fields.text.extend_from_slice(part));
                fields.add(field, name);
            }
        }
        fields
    }
}

/// Those of hyper's world, which has room for about 24,000.
impl From<&Fields> for HeaderMap {
    fn from(fields: &Fields) -> HeaderMap {
        let mut map = HeaderMap::try_with_capacity(fields.len()).unwrap_or_default();
        for (name, value) in fields.iter() {
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
            {
                // Full only when it came with more than it has room for.
                let _full = map.try_append(name, value);
            }
        }
        map
    }
}
