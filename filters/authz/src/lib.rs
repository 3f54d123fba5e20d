//! Who may do what: Istio's AuthorizationPolicy grammar for HTTP, judged inside the proxy.
//!
//! It never guesses. A field, key or pattern that it does not know is refused when it is
//! configured, and where a request shows several values (a repeated header, a path that can be
//! read in two ways) an ALLOW needs all of them to match and a DENY only one.

use portcullis_sdk::prelude::*;

use facts::{Attribute, Facts, Judge};
use pattern::{Cidr, Host, List, Path, Port, Text};

mod facts;
mod pattern;
#[cfg(test)]
mod tests;

static ALLOWED: Counter = Counter::new("authz_allowed");
static DENIED: Counter = Counter::new("authz_denied");
static AUDITED: Counter = Counter::new("authz_audited");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Authz {
    policies: Vec<Policy>,
}

/// A name, and the `spec` of an AuthorizationPolicy.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    name: String,
    #[serde(default)]
    action: Action,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Action {
    #[default]
    Allow,
    Deny,
    Audit,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    from: List<Origin>,
    #[serde(default)]
    to: List<Target>,
    #[serde(default)]
    when: Vec<Condition>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Origin {
    source: Source,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    operation: Operation,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Source {
    principals: List<Text>,
    not_principals: List<Text>,
    namespaces: List<Text>,
    not_namespaces: List<Text>,
    ip_blocks: List<Cidr>,
    not_ip_blocks: List<Cidr>,
    remote_ip_blocks: List<Cidr>,
    not_remote_ip_blocks: List<Cidr>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Operation {
    methods: List<Text>,
    not_methods: List<Text>,
    paths: List<Path>,
    not_paths: List<Path>,
    hosts: List<Host>,
    not_hosts: List<Host>,
    ports: List<Port>,
    not_ports: List<Port>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Condition {
    key: Attribute,
    #[serde(default)]
    values: List<Text>,
    #[serde(default)]
    not_values: List<Text>,
}

impl Filter for Authz {
    fn check(&self) -> Result<(), ConfigError> {
        for (p, policy) in self.policies.iter().enumerate() {
            for (r, rule) in policy.rules.iter().enumerate() {
                let bare = |when: &Condition| when.values.is_unset() && when.not_values.is_unset();
                if let Some(w) = rule.when.iter().position(bare) {
                    let path = format!("policies[{p}].rules[{r}].when[{w}]");
                    return Err(ConfigError::new(path, "needs values or notValues"));
                }
            }
        }
        Ok(())
    }

    async fn request(&self, req: &mut Request) -> Flow {
        let facts = Facts::of(req);
        for policy in self.matching(Action::Audit, &facts) {
            AUDITED.increment();
            log::info!("policy {} matches {} {}", policy.name, req.method(), req.path());
        }
        if let Some(policy) = self.matching(Action::Deny, &facts).next() {
            return refuse(&policy.name);
        }
        let guarded = self.policies.iter().any(|policy| policy.action == Action::Allow);
        if guarded && self.matching(Action::Allow, &facts).next().is_none() {
            return refuse("none that allows");
        }
        ALLOWED.increment();
        CONTINUE
    }
}

fn refuse(policy: &str) -> Flow {
    DENIED.increment();
    log::debug!("denied: policy {policy}");
    Err(Reply::forbidden("RBAC: access denied"))
}

impl Authz {
    fn matching(&self, action: Action, facts: &Facts) -> impl Iterator<Item = &Policy> {
        let of_action = self.policies.iter().filter(move |policy| policy.action == action);
        of_action.filter(move |policy| {
            policy.rules.iter().any(|rule| rule.holds(facts, action.judgement()))
        })
    }
}

impl Action {
    fn judgement(self) -> Judge {
        match self {
            Action::Allow => Judge::All,
            Action::Deny | Action::Audit => Judge::Any,
        }
    }
}

impl Rule {
    fn holds(&self, facts: &Facts, judge: Judge) -> bool {
        self.from.unset_or_any(|from| from.source.holds(facts, judge))
            && self.to.unset_or_any(|to| to.operation.holds(facts, judge))
            && self.when.iter().all(|when| when.holds(facts, judge))
    }
}

impl Source {
    fn holds(&self, facts: &Facts, judge: Judge) -> bool {
        use Attribute::{Address, Namespace, Principal};
        facts.accepted(Principal, &self.principals, &self.not_principals, judge)
            && facts.accepted(Namespace, &self.namespaces, &self.not_namespaces, judge)
            && facts.accepted(Address, &self.ip_blocks, &self.not_ip_blocks, judge)
            && facts.accepted(Address, &self.remote_ip_blocks, &self.not_remote_ip_blocks, judge)
    }
}

impl Operation {
    fn holds(&self, facts: &Facts, judge: Judge) -> bool {
        use Attribute::{Host, Method, Path, Port};
        facts.accepted(Method, &self.methods, &self.not_methods, judge)
            && facts.accepted(Path, &self.paths, &self.not_paths, judge)
            && facts.accepted(Host, &self.hosts, &self.not_hosts, judge)
            && facts.accepted(Port, &self.ports, &self.not_ports, judge)
    }
}

impl Condition {
    fn holds(&self, facts: &Facts, judge: Judge) -> bool {
        facts.accepted(self.key.clone(), &self.values, &self.not_values, judge)
    }
}

portcullis_sdk::filter!(Authz: request);
