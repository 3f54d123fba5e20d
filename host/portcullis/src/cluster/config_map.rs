//! A ConfigMap as we need it: keys with their bytes and digests.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use k8s_openapi::api::core::v1::ConfigMap as Wire;
use portcullis_vm::Digest;

/// One version of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMap {
    /// Where it lies.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Of this ConfigMap and no later one of the same name.
    pub uid: String,
    /// The API server's name for this version.
    pub resource_version: String,
    /// Of `data` and `binaryData`; no key is in both.
    pub values: BTreeMap<String, Value>,
}

/// What stands under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// As they are stored.
    pub bytes: Bytes,
    /// Of `bytes`.
    pub digest: Digest,
}

impl Value {
    /// With its digest.
    pub fn new(bytes: Bytes) -> Value {
        Value { digest: Digest::of(&bytes), bytes }
    }
}

impl ConfigMap {
    /// `None`: it has no name.
    pub(super) fn read(wire: Wire) -> Option<ConfigMap> {
        let meta = wire.metadata;
        let texts = wire.data.unwrap_or_default().into_iter();
        let texts = texts.map(|(key, text)| (key, Value::new(text.into())));
        let binaries = wire.binary_data.unwrap_or_default().into_iter();
        let binaries = binaries.map(|(key, bytes)| (key, Value::new(bytes.0.into())));
        Some(ConfigMap {
            namespace: meta.namespace?.into(),
            name: meta.name?.into(),
            uid: meta.uid.unwrap_or_default(),
            resource_version: meta.resource_version.unwrap_or_default(),
            values: texts.chain(binaries).collect(),
        })
    }
}
