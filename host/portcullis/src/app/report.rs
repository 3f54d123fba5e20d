//! What the admin server tells of the whole program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use portcullis_proxy::Proxy;
use serde_json::{Value, json};

use crate::admin::Report;
use crate::control::Board;
use crate::fetch::Store;
use crate::spec::{self, Document};

/// Control's board and the data plane's own account, in one.
pub(super) struct Everything {
    proxy: Proxy,
    board: Arc<Board>,
    store: Arc<Store>,
    ready: Arc<AtomicBool>,
}

impl Everything {
    pub(super) fn new(
        proxy: Proxy,
        board: Arc<Board>,
        store: Arc<Store>,
        ready: Arc<AtomicBool>,
    ) -> Everything {
        Everything { proxy, board, store, ready }
    }
}

impl Report for Everything {
    fn live(&self) -> bool {
        true
    }

    fn ready(&self) -> Result<(), String> {
        match self.ready.load(Ordering::Acquire) {
            true => Ok(()),
            false => Err("draining".to_owned()),
        }
    }

    fn metrics(&self) -> String {
        self.proxy.metrics() + &self.board.metrics() + &self.store.metrics()
    }

    fn status(&self) -> Value {
        let mut status = self.board.status();
        status["schema"] = json!("portcullis.status/1");
        status["modules"] = self.store.status();
        status["ready"] = json!(self.ready().is_ok());
        status["proxy"] = serde_json::to_value(self.proxy.status()).unwrap_or_default();
        status
    }

    fn config(&self) -> Value {
        let source = |(name, text): &(Arc<str>, String)| {
            let contents = spec::read(0, name, text);
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
