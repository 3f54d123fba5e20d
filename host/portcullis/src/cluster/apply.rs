//! ConfigMaps that we write: by server-side apply, as the field manager `portcullis`, so that what others put beside our keys
//! stays theirs.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http::Method;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap as Wire;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::ObjectMeta;
use serde::de::IgnoredAny;
use serde_json::json;

use super::api::{Api, Failure, JSON};

/// Who owns the fields that we write.
pub const FIELD_MANAGER: &str = "portcullis";

/// What we own of a ConfigMap.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// `data`
    pub texts: BTreeMap<String, String>,
    /// `binaryData`
    pub binaries: BTreeMap<String, Bytes>,
    /// Name and uid of the ConfigMap with which this one goes.
    pub part_of: Option<(String, String)>,
}

/// A ConfigMap as it is before we write to it.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// `None`: it is not there.
    pub resource_version: Option<String>,
    /// Of this ConfigMap and no later one of the same name.
    pub uid: Option<String>,
    /// What is ours in it.
    pub ours: Written,
    /// Keys of others, and how many bytes they take.
    pub theirs: BTreeMap<String, usize>,
}

impl Found {
    fn new(meta: ObjectMeta) -> Found {
        let ObjectMeta { resource_version, uid, .. } = meta;
        Found { resource_version, uid, ..Found::default() }
    }
}

impl Written {
    /// Bytes of all values.
    pub fn size(&self) -> usize {
        self.texts.values().map(String::len).sum::<usize>()
            + self.binaries.values().map(Bytes::len).sum::<usize>()
    }
}

impl Api {
    /// Looks a ConfigMap up.
    ///
    /// # Errors
    /// No answer, or a refusal other than that it is not there.
    pub async fn find(&self, namespace: &str, name: &str) -> Result<Found, Failure> {
        let map: Wire = match self.get(&path(namespace, name)).await {
            Ok(map) => map,
            Err(failure) if failure.status() == Some(404) => return Ok(Found::default()),
            Err(failure) => return Err(failure),
        };
        let owned = owned(&map.metadata);
        let mut found = Found::new(map.metadata);
        for (key, text) in map.data.unwrap_or_default() {
            match owned.contains(&key) {
                true => drop(found.ours.texts.insert(key, text)),
                false => drop(found.theirs.insert(key, text.len())),
            }
        }
        for (key, bytes) in map.binary_data.unwrap_or_default() {
            match owned.contains(&key) {
                true => drop(found.ours.binaries.insert(key, bytes.0.into())),
                false => drop(found.theirs.insert(key, bytes.0.len())),
            }
        }
        Ok(found)
    }

    /// Makes an empty ConfigMap: nobody's keys, and no labels by which anybody would find it.
    ///
    /// # Errors
    /// 409: it is there.
    pub async fn create(&self, namespace: &str, name: &str) -> Result<Found, Failure> {
        let path = format!("{}?fieldManager={FIELD_MANAGER}", collection(namespace));
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        let map: Wire = self.ask(Method::POST, &path, JSON, Some(&body)).await?;
        Ok(Found::new(map.metadata))
    }

    /// Makes `written` everything that is ours of a ConfigMap. `resource_version`: the version it must still have.
    ///
    /// # Errors
    /// 409: it has another version by now, or a key belongs to somebody else.
    pub async fn apply(
        &self,
        (namespace, name): (&str, &str),
        labels: &BTreeMap<String, String>,
        written: &Written,
        resource_version: Option<String>,
    ) -> Result<(), Failure> {
        let binaries = written.binaries.iter();
        let map = Wire {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                labels: Some(labels.clone()),
                owner_references: written.part_of.clone().map(owner),
                resource_version,
                ..ObjectMeta::default()
            },
            data: Some(written.texts.clone()),
            binary_data: Some(
                binaries.map(|(key, bytes)| (key.clone(), ByteString(bytes.to_vec()))).collect(),
            ),
            ..Wire::default()
        };
        let body =
            serde_json::to_value(&map).map_err(|error| Failure::Nonsense(error.to_string()))?;
        let path = format!("{}?fieldManager={FIELD_MANAGER}", path(namespace, name));
        let form = "application/apply-patch+yaml";
        self.ask::<IgnoredAny>(Method::PATCH, &path, form, Some(&body)).await.map(drop)
    }

    /// Deletes a ConfigMap; that it is gone already is fine.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn delete(&self, namespace: &str, name: &str) -> Result<(), Failure> {
        let path = path(namespace, name);
        match self.ask::<IgnoredAny>(Method::DELETE, &path, JSON, None).await {
            Err(failure) if failure.status() != Some(404) => Err(failure),
            _ => Ok(()),
        }
    }
}

/// By which the cluster collects what belongs to a ConfigMap that is gone.
fn owner((name, uid): (String, String)) -> Vec<OwnerReference> {
    let (api_version, kind) = ("v1".to_owned(), "ConfigMap".to_owned());
    vec![OwnerReference { api_version, kind, name, uid, ..OwnerReference::default() }]
}

fn collection(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

fn path(namespace: &str, name: &str) -> String {
    format!("{}/{name}", collection(namespace))
}

/// The keys that we applied before.
fn owned(meta: &ObjectMeta) -> BTreeSet<String> {
    let entries = meta.managed_fields.iter().flatten();
    let ours = entries.filter(|entry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER)
            && entry.operation.as_deref() == Some("Apply")
    });
    let fields = ours.filter_map(|entry| Some(&entry.fields_v1.as_ref()?.0));
    let parts = fields.flat_map(|fields| ["f:data", "f:binaryData"].map(|part| &fields[part]));
    let keys = parts.filter_map(|part| part.as_object()).flat_map(|part| part.keys());
    keys.filter_map(|key| Some(key.strip_prefix("f:")?.to_owned())).collect()
}
