//! Who we are, as `node` and `xds.node` show it: `envoy.config.core.v3.Node` with Istio's names in its metadata.
//!
//! Source of field numbers: `envoy/config/core/v3/base.proto`, `google/protobuf/struct.proto`.

use std::collections::BTreeMap;

use super::Attribute;

/// The proxy that a filter runs in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `node.metadata.NAME`
    pub name: String,
    /// `node.metadata.NAMESPACE`
    pub namespace: String,
    /// `node.metadata.LABELS`
    pub labels: BTreeMap<String, String>,
}

const AGENT: &str = "portcullis";

impl Node {
    /// `namespace/name`
    pub fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The application: its label `app.kubernetes.io/name` or `app`, else the proxy's name.
    pub fn cluster(&self) -> &str {
        let label = ["app.kubernetes.io/name", "app"].iter().find_map(|key| self.labels.get(*key));
        label.map_or(&self.name, String::as_str)
    }

    /// What stands under `node`, by the rest of the path.
    pub fn attribute(&self, path: &[&str]) -> Option<Attribute> {
        let text = |text: &str| Some(Attribute::Bytes(text.as_bytes().to_vec()));
        match path {
            [] => Some(Attribute::Bytes(self.message())),
            ["id"] => text(&self.id()),
            ["cluster"] => text(self.cluster()),
            ["user_agent_name"] => text(AGENT),
            ["user_agent_version"] => text(env!("CARGO_PKG_VERSION")),
            ["locality"] => text(""),
            ["metadata"] => Some(Attribute::Map(vec![
                (b"LABELS".to_vec(), self.labels().encode()),
                (b"NAME".to_vec(), self.name.clone().into_bytes()),
                (b"NAMESPACE".to_vec(), self.namespace.clone().into_bytes()),
            ])),
            ["metadata", "NAME"] => text(&self.name),
            ["metadata", "NAMESPACE"] => text(&self.namespace),
            ["metadata", "LABELS"] => Some(self.labels()),
            ["metadata", "LABELS", name] => text(self.labels.get(*name)?),
            _ => None,
        }
    }

    fn labels(&self) -> Attribute {
        let bytes = |text: &String| text.clone().into_bytes();
        Attribute::Map(self.labels.iter().map(|(key, value)| (bytes(key), bytes(value))).collect())
    }

    fn message(&self) -> Vec<u8> {
        let text = |text: &str| field(3, text.as_bytes());
        let labels: Vec<u8> =
            self.labels.iter().flat_map(|(key, value)| member(key, &text(value))).collect();
        let metadata = [
            member("LABELS", &field(5, &labels)),
            member("NAME", &text(&self.name)),
            member("NAMESPACE", &text(&self.namespace)),
        ];
        [
            field(1, self.id().as_bytes()),
            field(2, self.cluster().as_bytes()),
            field(3, &metadata.concat()),
            field(6, AGENT.as_bytes()),
            field(7, env!("CARGO_PKG_VERSION").as_bytes()),
        ]
        .concat()
    }
}

/// One entry of a `google.protobuf.Struct`.
fn member(key: &str, value: &[u8]) -> Vec<u8> {
    field(1, &[field(1, key.as_bytes()), field(2, value)].concat())
}

/// A field with a length; numbers below 16 take one byte.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut encoded = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 0x7f {
        encoded.push(length as u8 | 0x80);
        length >>= 7;
    }
    encoded.push(length as u8);
    encoded.extend_from_slice(bytes);
    encoded
}
