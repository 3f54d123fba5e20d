//! `WasmFilter` (ours) and Istio's `WasmPlugin`, whose field names and meanings it has.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::own::VerificationSpec;
use super::route::ParentRef;
use super::values::{Duration, Size};

/// `WasmFilter.spec`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the contract of the document describes them")]
pub struct WasmFilterSpec {
    pub url: String,
    pub sha256: Option<String>,
    pub image_pull_policy: Option<PullPolicy>,
    pub image_pull_secret: Option<String>,
    pub verification: Option<VerificationSpec>,
    pub r#type: Option<PluginType>,
    #[serde(default)]
    pub attach: Attach,
    #[serde(default)]
    pub phase: Phase,
    #[serde(default)]
    pub priority: i32,
    #[serde(default)]
    pub fail_strategy: FailStrategy,
    pub plugin_name: Option<String>,
    pub plugin_config: Option<Value>,
    #[serde(default)]
    pub vm_config: VmConfig,
    #[serde(default)]
    pub r#match: Vec<TrafficSelector>,
    pub selector: Option<Selector>,
    pub target_refs: Option<Vec<ParentRef>>,
    #[serde(default)]
    pub limits: FilterLimits,
    #[serde(default)]
    pub isolation: Isolation,
    #[serde(default)]
    pub allow_on_headers_stop_iteration: bool,
    #[serde(default)]
    pub allow: Allow,
    #[serde(default)]
    pub log_level: LogLevel,
}

/// `WasmPlugin.spec`, without what is only ours.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "Istio's reference describes them")]
pub struct WasmPluginSpec {
    pub selector: Option<Selector>,
    pub target_refs: Option<Vec<ParentRef>>,
    pub target_ref: Option<ParentRef>,
    pub url: String,
    pub sha256: Option<String>,
    pub image_pull_policy: Option<PullPolicy>,
    pub image_pull_secret: Option<String>,
    pub verification_key: Option<String>,
    pub plugin_config: Option<Value>,
    pub plugin_name: Option<String>,
    #[serde(default)]
    pub phase: Phase,
    #[serde(default)]
    pub priority: i32,
    #[serde(default)]
    pub fail_strategy: FailStrategy,
    #[serde(default)]
    pub vm_config: IstioVmConfig,
    #[serde(default)]
    pub r#match: Vec<TrafficSelector>,
    pub r#type: Option<PluginType>,
}

impl From<WasmPluginSpec> for WasmFilterSpec {
    fn from(plugin: WasmPluginSpec) -> WasmFilterSpec {
        let one = plugin.target_ref.map(|one| vec![one]);
        WasmFilterSpec {
            url: plugin.url,
            sha256: plugin.sha256,
            image_pull_policy: plugin.image_pull_policy,
            image_pull_secret: plugin.image_pull_secret,
            verification: None,
            r#type: plugin.r#type,
            attach: Attach::Listener,
            phase: plugin.phase,
            priority: plugin.priority,
            fail_strategy: plugin.fail_strategy,
            plugin_name: plugin.plugin_name,
            plugin_config: plugin.plugin_config,
            vm_config: VmConfig { vm_id: None, env: plugin.vm_config.env },
            r#match: plugin.r#match,
            selector: plugin.selector,
            target_refs: plugin.target_refs.or(one),
            limits: FilterLimits::default(),
            isolation: Isolation::Shared,
            allow_on_headers_stop_iteration: false,
            allow: Allow::default(),
            log_level: LogLevel::Info,
        }
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$attribute:meta])* $word:ident $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the words of the document")]
        pub enum $name { $($(#[$attribute])* #[serde(rename = $text)] $word,)* }
    };
}

words!(
    /// Meaningful for registries only.
    PullPolicy {
        #[default] Unspecified "UNSPECIFIED_POLICY",
        IfNotPresent "IfNotPresent",
        Always "Always",
    }
);
words!(
    /// `type`
    PluginType {
        #[default] Http "HTTP",
        Network "NETWORK",
        Unspecified "UNSPECIFIED_PLUGIN_TYPE",
    }
);
words!(
    /// Who calls the filter.
    Attach {
        #[default] Listener "LISTENER",
        Route "ROUTE",
    }
);
words!(
    /// In the order in which a request passes; unspecified ones stand just before the router.
    Phase {
        Authn "AUTHN",
        Authz "AUTHZ",
        Stats "STATS",
        #[default] Unspecified "UNSPECIFIED_PHASE",
    }
);
words!(
    /// When the filter cannot run.
    FailStrategy {
        #[default] Close "FAIL_CLOSE",
        Open "FAIL_OPEN",
        Reload "FAIL_RELOAD",
    }
);
words!(
    /// Who shares an instance.
    Isolation {
        #[default] Shared "SHARED",
        Exclusive "EXCLUSIVE",
    }
);
words!(
    /// `logLevel`
    LogLevel {
        Trace "trace",
        Debug "debug",
        #[default] Info "info",
        Warn "warn",
        Error "error",
        Critical "critical",
    }
);
words!(
    /// `mode` of a match
    Mode {
        #[default] Undefined "UNDEFINED",
        Client "CLIENT",
        Server "SERVER",
        ClientAndServer "CLIENT_AND_SERVER",
    }
);
words!(
    /// Where the value of a variable comes from.
    ValueFrom {
        #[default] Inline "INLINE",
        Host "HOST",
    }
);

/// `vmConfig`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VmConfig {
    /// Scope of shared data. Default: the filter's namespace/name.
    pub vm_id: Option<String>,
    /// WASI environment.
    #[serde(default)]
    pub env: Vec<Variable>,
}

/// `vmConfig` as Istio has it
#[derive(Clone, Debug, Default, Deserialize)]
pub struct IstioVmConfig {
    /// WASI environment.
    #[serde(default)]
    pub env: Vec<Variable>,
}

/// A variable of the environment.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Whether `value` is it, or the environment of this process has it.
    #[serde(default)]
    pub value_from: ValueFrom,
    /// For INLINE.
    pub value: Option<String>,
}

/// An element of `match`: all that is given must hold.
#[derive(Clone, Debug, Deserialize)]
pub struct TrafficSelector {
    /// Undefined: both.
    #[serde(default)]
    pub mode: Mode,
    /// Empty: every port.
    #[serde(default)]
    pub ports: Vec<Port>,
}

/// An element of `ports`.
#[derive(Clone, Debug, Deserialize)]
pub struct Port {
    /// Of the listener.
    pub number: u16,
}

/// `selector`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// All of them must be on the Proxy.
    #[serde(default)]
    pub match_labels: BTreeMap<String, String>,
}

/// `limits` of a filter
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(
    missing_docs,
    reason = "documented where they end up: vm's Limits, proxy's InstanceLimits"
)]
pub struct FilterLimits {
    pub callback: Option<Duration>,
    pub start: Option<Duration>,
    pub memory: Option<Size>,
    pub body: Option<Size>,
    pub instances: Option<u32>,
    pub wait: Option<Duration>,
}

/// `allow`
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Allow {
    /// Absent: every upstream.
    pub calls: Option<Vec<String>>,
}
