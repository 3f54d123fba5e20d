//! The backends of a generation by the names that guests call them: `name`, `namespace/name`, and Istio's
//! `outbound|PORT|SUBSET|HOST`.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use portcullis_vm::{CallOutcome, GrpcCall, GrpcEvent, HttpCall};

use crate::body::Body;
use crate::snapshot::Backend;
use crate::upstream::grpc::{self, GrpcStatus};
use crate::upstream::{Cluster, call};

/// Bytes of body that an answer to a guest's call may have.
const MAX_ANSWER: usize = 1 << 20;

/// Whom guests may call, on one worker.
#[derive(Debug, Default)]
pub struct Upstreams {
    clusters: HashMap<String, Rc<Cluster>>,
    names: Arc<BTreeSet<String>>,
}

impl Upstreams {
    /// By the names of their backends. A plain name that several namespaces share means the one in `default`, else the
    /// first.
    pub fn new(clusters: &[Rc<Cluster>]) -> Upstreams {
        let mut by_name = HashMap::new();
        for cluster in clusters {
            let (full, plain, preferred) = spellings(cluster.backend());
            if preferred {
                by_name.insert(plain, cluster.clone());
            } else {
                by_name.entry(plain).or_insert_with(|| cluster.clone());
            }
            by_name.insert(full, cluster.clone());
        }
        let names = Arc::new(by_name.keys().cloned().collect());
        Upstreams { clusters: by_name, names }
    }

    /// All names.
    pub fn names(&self) -> Arc<BTreeSet<String>> {
        self.names.clone()
    }

    /// Makes a guest's call. Cancel safe: dropping it abandons the call.
    pub async fn call(&self, request: HttpCall) -> CallOutcome {
        let Some(cluster) = self.cluster(&request.upstream) else { return CallOutcome::Failed };
        let HttpCall { head, body, trailers, timeout, upstream, .. } = request;
        call(cluster, &head, body, trailers, timeout, MAX_ANSWER).await.unwrap_or_else(|reason| {
            tracing::info!(upstream, "a filter's call failed: {reason}");
            CallOutcome::Failed
        })
    }

    /// Makes a guest's unary gRPC call; what it comes to is a message or a close. Cancel safe, as [`call`](Self::call).
    pub async fn grpc_call(&self, call: &GrpcCall) -> GrpcEvent {
        let message = call.message.as_deref().unwrap_or_default();
        let answer = match self.cluster(&call.upstream) {
            Some(cluster) => grpc::unary(cluster, call, message).await,
            None => Err(missing()),
        };
        answer.map_or_else(|status| close(call, status), GrpcEvent::Message)
    }

    /// Runs a guest's gRPC stream: tells of what comes back, and gives the close. Cancel safe, as [`call`](Self::call).
    pub async fn grpc_stream(
        &self,
        call: &GrpcCall,
        body: Body,
        tell: &mut dyn FnMut(GrpcEvent),
    ) -> GrpcEvent {
        match self.cluster(&call.upstream) {
            Some(cluster) => close(call, grpc::stream(cluster, call, body, tell).await),
            None => close(call, missing()),
        }
    }

    /// The backend of this name.
    pub fn cluster(&self, name: &str) -> Option<&Rc<Cluster>> {
        self.clusters.get(&*backend_name(name))
    }
}

/// The upstream has gone between the guest's call and its being made.
fn missing() -> GrpcStatus {
    GrpcStatus::unavailable("there is no such upstream")
}

fn close(call: &GrpcCall, status: GrpcStatus) -> GrpcEvent {
    let GrpcCall { upstream, path, .. } = call;
    if status.code != 0 {
        tracing::info!(
            upstream,
            path,
            status = status.code,
            "a filter's gRPC call failed: {}",
            status.message
        );
    }
    status.into()
}

/// Every name by which guests can call these backends.
pub fn upstream_names(backends: &[Arc<Backend>]) -> Arc<BTreeSet<String>> {
    let both = |backend: &Arc<Backend>| {
        let (full, plain, _) = spellings(backend);
        [full, plain]
    };
    Arc::new(backends.iter().flat_map(both).collect())
}

/// `namespace/name`, `name`, and whether the plain name means this one before others.
fn spellings(backend: &Backend) -> (String, String, bool) {
    match backend.name.split_once('/') {
        Some((namespace, name)) => {
            (backend.name.to_string(), name.to_owned(), namespace == "default")
        }
        None => (backend.name.to_string(), backend.name.to_string(), true),
    }
}

/// The backend that an upstream name means: the HOST of Istio's `outbound|PORT|SUBSET|HOST` is `NAME.NAMESPACE`, whatever
/// follows, or a plain name.
pub fn backend_name(name: &str) -> Cow<'_, str> {
    let istio = name.strip_prefix("outbound|").and_then(|rest| rest.splitn(3, '|').nth(2));
    let Some(host) = istio else { return Cow::Borrowed(name) };
    let mut labels = host.split('.');
    match (labels.next(), labels.next()) {
        (Some(name), Some(namespace)) => Cow::Owned(format!("{namespace}/{name}")),
        _ => Cow::Borrowed(host),
    }
}
