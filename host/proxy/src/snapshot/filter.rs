//! What filters are: a module, what it is told, and what it may do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use portcullis_vm::{LogLevel, Module, Node, PluginSpec};

/// A WasmFilter.
#[derive(Clone, Debug)]
pub struct Filter {
    /// `namespace/name`
    pub name: Arc<str>,
    /// As the document names it.
    pub url: String,
    /// The compiled module.
    pub module: Arc<Module>,
    /// What an instance is started with.
    pub plugin: Arc<PluginSpec>,
    /// What happens when the filter cannot run.
    pub fail: FailStrategy,
    /// Who shares an instance.
    pub isolation: Isolation,
    /// Upstream names it may call.
    pub allow_calls: AllowCalls,
    /// The lowest level of its log records that is kept.
    pub log_level: LogLevel,
    /// The proxy that it runs in, as it sees it.
    pub node: Arc<Node>,
}

/// What happens to an exchange whose filter cannot run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailStrategy {
    /// 503.
    Close,
    /// The filter is skipped for the rest of the exchange.
    Open,
}

/// Who shares an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// One instance for each worker.
    Shared,
    /// One instance for each exchange in flight.
    Exclusive(InstanceLimits),
}

/// How many exchanges have an instance of their own, and what becomes of the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceLimits {
    /// The most instances that a worker has, at least 1.
    pub instances: usize,
    /// How long an exchange waits for one to come free; then the `failStrategy` answers.
    pub wait: Duration,
}

impl Default for InstanceLimits {
    fn default() -> InstanceLimits {
        InstanceLimits { instances: 64, wait: Duration::from_secs(1) }
    }
}

/// Upstream names a filter may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowCalls {
    /// All that exist.
    Everything,
    /// These.
    Only(BTreeSet<String>),
}

impl Filter {
    /// Whether a running plugin of `other` can serve as one of this filter.
    pub fn same_plugin(&self, other: &Filter) -> bool {
        self.name == other.name
            && self.module.digest() == other.module.digest()
            && self.plugin == other.plugin
            && self.fail == other.fail
            && self.isolation == other.isolation
            && self.allow_calls == other.allow_calls
            && self.log_level == other.log_level
            && self.node == other.node
    }
}
