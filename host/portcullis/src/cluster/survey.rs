//! What runs in a namespace: pods by label, what they answer through the API server, and which versions ConfigMaps have now.
//! For people's accounts; a proxy asks for none of this.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod as Wire;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::core::ObjectMeta;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::api::{Api, Failure, JSON, bounded};

/// Objects in one piece of a list.
const PAGE: usize = 250;
/// One piece of a list.
const PAGE_BYTES: usize = 64 << 20;
/// What a pod may answer.
const ANSWER_BYTES: usize = 16 << 20;
/// Objects without what they hold.
const NAMES: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, application/json";

/// A pod that runs or is about to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Where it is asked; `None`: it has no port of the wanted name.
    pub port: Option<u16>,
}

#[derive(Deserialize)]
struct Page<T> {
    #[serde(default)]
    metadata: ListMeta,
    items: Option<Vec<T>>,
}

#[derive(Deserialize)]
struct Named {
    metadata: ObjectMeta,
}

impl Api {
    /// The pods with these labels, without those that have ended or are about to. `port`: a name or a number.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn pods(
        &self,
        namespace: &str,
        selector: &str,
        port: &str,
    ) -> Result<Vec<Pod>, Failure> {
        let pods: Vec<Wire> =
            self.all(&format!("/api/v1/namespaces/{namespace}/pods"), selector, JSON).await?;
        let pods = pods.into_iter().filter(is_alive);
        let pod = |pod: Wire| Some(Pod { port: find(&pod, port), name: pod.metadata.name? });
        Ok(pods.filter_map(pod).collect())
    }

    /// What a pod answers to a GET, which the API server passes on.
    ///
    /// # Errors
    /// No answer, a refusal by either of them, or no JSON.
    pub async fn ask_pod(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
        path: &str,
    ) -> Result<Value, Failure> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}");
        self.get_bounded(&path, JSON, ANSWER_BYTES).await
    }

    /// `resourceVersion` of each ConfigMap with these labels, by `NAMESPACE/NAME`.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn revisions(
        &self,
        namespace: &str,
        selector: &str,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps");
        let maps: Vec<Named> = self.all(&path, selector, NAMES).await?;
        let revision = |map: Named| {
            let name = format!("{namespace}/{}", map.metadata.name?);
            Some((name, map.metadata.resource_version?))
        };
        Ok(maps.into_iter().filter_map(revision).collect())
    }

    async fn all<T: DeserializeOwned>(
        &self,
        collection: &str,
        selector: &str,
        form: &str,
    ) -> Result<Vec<T>, Failure> {
        let label = utf8_percent_encode(selector, NON_ALPHANUMERIC);
        let (mut all, mut from, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            bounded(pages)?;
            pages += 1;
            let path = format!("{collection}?labelSelector={label}&limit={PAGE}{from}");
            let page: Page<T> = self.get_bounded(&path, form, PAGE_BYTES).await?;
            all.extend(page.items.into_iter().flatten());
            let Some(token) = page.metadata.continue_.filter(|token| !token.is_empty()) else {
                return Ok(all);
            };
            from = format!("&continue={}", utf8_percent_encode(&token, NON_ALPHANUMERIC));
        }
    }
}

fn is_alive(pod: &Wire) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let ended = matches!(phase, Some("Succeeded" | "Failed"));
    !ended && pod.metadata.deletion_timestamp.is_none()
}

/// The API server knows pods' ports by number only.
fn find(pod: &Wire, port: &str) -> Option<u16> {
    if let Ok(number) = port.parse() {
        return Some(number);
    }
    let spec = pod.spec.as_ref()?;
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let found = ports.find(|declared| declared.name.as_deref() == Some(port))?;
    u16::try_from(found.container_port).ok()
}
