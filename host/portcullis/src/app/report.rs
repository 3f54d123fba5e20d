//! What the admin server tells of the whole program.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use portcullis_proxy::Proxy;
use serde_json::{Value, json};

use crate::admin::Report;
use crate::control::Board;
use crate::fetch::Store;
use crate::plan::CONFIG_MAP;
use crate::source::View;
use crate::spec::{self, Document, Home};

/// Control's board and the data plane's own account, in one.
pub(super) struct Everything {
    /// Empty until something is live.
    pub proxy: Arc<OnceLock<Proxy>>,
    pub board: Arc<Board>,
    pub store: Arc<Store>,
    /// False: the process is about to end.
    pub ready: Arc<AtomicBool>,
    pub cluster: Option<Arc<View>>,
}

impl Report for Everything {
    fn live(&self) -> bool {
        true
    }

    fn ready(&self) -> Result<(), String> {
        if !self.ready.load(Ordering::Acquire) {
            return Err("draining".to_owned());
        }
        if self.board.generation() > 0 {
            return Ok(());
        }
        let problem = self.board.problems().first().map(ToString::to_string);
        Err(format!("no configuration yet: {}", problem.unwrap_or_default()))
    }

    fn metrics(&self) -> String {
        let mut metrics = self.proxy.get().map(Proxy::metrics).unwrap_or_default();
        metrics.push_str(&self.board.metrics());
        metrics.push_str(&self.store.metrics());
        if let Some(cluster) = &self.cluster {
            metrics.push_str(&cluster.metrics());
        }
        metrics
    }

    fn status(&self) -> Value {
        // First: what is shown of a source is never older than the version that was judged.
        let judged = self.cluster.as_ref().map(|cluster| cluster.judged()).unwrap_or_default();
        let mut status = self.board.status();
        status["schema"] = json!("portcullis.status/1");
        status["modules"] = self.store.status();
        status["ready"] = json!(self.ready().is_ok());
        status["proxy"] = self
            .proxy
            .get()
            .map_or(Value::Null, |proxy| serde_json::to_value(proxy.status()).unwrap_or_default());
        if let Some(cluster) = &self.cluster {
            status["kubernetes"] = cluster.status(&judged);
            for source in status["sources"].as_array_mut().into_iter().flatten() {
                let name = source["name"].as_str().and_then(|name| name.strip_prefix(CONFIG_MAP));
                let version = name.and_then(|name| judged.get(name));
                source["resource_version"] = json!(version);
            }
        }
        status
    }

    fn config(&self) -> Value {
        let source = |(name, text): &(Arc<str>, Arc<str>)| {
            let contents = spec::read(0, name, text, &Home::default());
            let documents: Vec<Value> = contents.documents.iter().map(Document::json).collect();
            json!({"name": name.to_string(), "documents": documents})
        };
        let sources: Vec<Value> = self.board.documents().iter().map(source).collect();
        json!({
            "schema": "portcullis.config/1",
            "generation": self.board.generation(),
            "sources": sources,
        })
    }
}
