//! The API server of a Kubernetes cluster: ConfigMaps by list and watch, Secrets one by one, events, server-side apply, and
//! pods by what they answer. The only module that names kube.
//!
//! It keeps a local copy ([`Mirror`]) at what the server says, and keeps that copy when the server goes away. It knows
//! nothing of documents or of acceptance.
//!
//! Rights that a proxy needs, in its own namespace and in the mesh-wide one: `list` and `watch` on `configmaps`, `create`
//! on `events`; `get` on the `secrets` that documents name. `portcullis push configmap://…` needs `get`,
//! `create`, `patch` and `delete` on `configmaps`, with the account of whoever pushes; `portcullis status -n …` needs `list` on
//! `pods` and `get` on `pods/proxy`, and with `--wait` `list` on `configmaps`, with that of whoever asks.

mod api;
mod apply;
mod backoff;
mod config_map;
mod denial;
mod events;
mod follow;
mod mirror;
mod secret;
mod survey;

use std::path::PathBuf;
use std::time::Duration;

pub use api::{Api, Failure};
pub use apply::{FIELD_MANAGER, Found, Written};
pub use backoff::Backoff;
pub use config_map::{ConfigMap, Value};
pub use denial::denial;
pub use events::{Herald, Notice};
pub use follow::follow;
pub use mirror::{Mirror, Standing};
pub use secret::{Secrets, Unusable};
pub use survey::Pod;

/// The label that ConfigMaps for us have, unless somebody says otherwise.
pub const SELECTOR: &str = "portcullis.dev/config=true";
/// The label that pods with a proxy have, unless somebody says otherwise.
pub const PROXY_SELECTOR: &str = "portcullis.dev/proxy=true";
/// The namespace of what concerns every proxy, unless somebody says otherwise.
pub const ROOT_NAMESPACE: &str = "portcullis-system";

/// Where credentials come from.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// `None`: what `KUBECONFIG` names or `~/.kube/config`; where there is neither, the pod's own account.
    pub kubeconfig: Option<PathBuf>,
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For an answer, and for each next 64 KiB of it.
    pub answer: Duration,
    /// For the next word of a watch. The API server says something every minute.
    pub silence: Duration,
    /// After the first failure; twice that after each further one, up to `longest_pause`.
    pub first_pause: Duration,
    /// The longest wait after a failure.
    pub longest_pause: Duration,
    /// Until a Secret that is in use is read again, at most.
    pub reread: Duration,
}

impl Patience {
    /// That of a proxy.
    pub const USUAL: Patience = Patience {
        answer: Duration::from_secs(15),
        silence: Duration::from_secs(150),
        first_pause: Duration::from_millis(200),
        longest_pause: Duration::from_secs(20),
        reread: Duration::from_secs(30),
    };
}

impl Default for Patience {
    fn default() -> Patience {
        Patience::USUAL
    }
}
