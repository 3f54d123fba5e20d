//! The pods that the API server knows, and what they answer when it passes a request on.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::api::{Answer, State, refusal, whole};
use crate::program::fetch;

/// A pod with a proxy, unless its labels say otherwise.
#[derive(Clone)]
pub struct Pod {
    pub name: String,
    pub labels: Value,
    pub phase: &'static str,
    pub answers: Answers,
}

/// What is passed on when a pod is asked for `/status`.
#[derive(Clone)]
pub enum Answers {
    /// What this server says.
    From(SocketAddr),
    Said(Value),
    /// Nobody listens.
    Nothing,
    Refusal(u16, &'static str),
}

impl Pod {
    pub fn new(name: &str, answers: Answers) -> Pod {
        let labels = json!({"portcullis.dev/proxy": "true"});
        Pod { name: name.to_owned(), labels, phase: "Running", answers }
    }

    /// A sidecar, whose port has a name.
    fn object(&self) -> Value {
        let ports = json!([{"name": "health", "containerPort": 19001}]);
        json!({
            "metadata": {"name": self.name, "labels": self.labels},
            "spec": {
                "containers": [{"name": "app"}],
                "initContainers": [{"name": "proxy", "ports": ports}],
            },
            "status": {"phase": self.phase},
        })
    }
}

impl State {
    pub fn list_pods(&self, query: &BTreeMap<String, String>) -> Answer {
        if let Some((status, message)) = self.pods_refusal {
            return refusal(status, message);
        }
        let (name, value) = query["labelSelector"].split_once('=').unwrap();
        let fits = |pod: &&Pod| pod.labels[name] == *value;
        let items: Vec<Value> = self.pods.iter().filter(fits).map(Pod::object).collect();
        let list = json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items});
        whole(200, "application/json", list.to_string())
    }

    /// `NAME:PORT`, with a number: the API server knows no other.
    pub fn ask_pod(&self, place: &str) -> Answer {
        let (name, port) = place.split_once(':').unwrap();
        port.parse::<u16>().unwrap();
        let Some(pod) = self.pods.iter().find(|pod| pod.name == name) else {
            return refusal(404, "pods not found");
        };
        match &pod.answers {
            Answers::From(address) => whole(200, "application/json", fetch(*address, "/status").1),
            Answers::Said(status) => whole(200, "application/json", status.to_string()),
            Answers::Nothing => refusal(503, "error trying to reach service: connection refused"),
            Answers::Refusal(status, message) => refusal(*status, message),
        }
    }
}
