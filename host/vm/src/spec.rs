//! What turns a module into a plugin: names, configurations, budgets.

use std::sync::Arc;

use bytes::Bytes;

use crate::limits::Limits;

/// What an instance is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginSpec {
    /// `namespace/name` of the filter; `plugin_name`.
    pub name: Arc<str>,
    /// `plugin_root_id`; Envoy's root_id, Istio's pluginName.
    pub root_id: String,
    /// Scope of shared data and queues; `plugin_vm_id`.
    pub vm_id: String,
    /// What `proxy_on_vm_start` reads.
    pub vm_configuration: Bytes,
    /// What `proxy_on_configure` reads.
    pub configuration: Bytes,
    /// WASI environment.
    pub environment: Vec<(String, String)>,
    /// Budgets.
    pub limits: Limits,
    /// Envoy's `allow_on_headers_stop_iteration`: true makes Pause in a headers callback hold the headers only.
    pub allow_on_headers_stop_iteration: bool,
}
