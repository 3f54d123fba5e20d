//! An API server that holds ConfigMaps and takes events, and does on demand what a real one does when nobody wants it.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::pods::Pod;

/// The server, while it runs.
pub struct ApiServer {
    pub state: Arc<Mutex<State>>,
    pub address: SocketAddr,
    folder: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the next requests for ConfigMaps get instead of an answer.
#[derive(Clone)]
pub enum Fault {
    Refusal(u16, &'static str),
    Status(u16, Value),
    Page,
    Garbage,
    /// A byte, and another one, and no end.
    Drip,
    /// 429, to come again at a moment, which is a date.
    Later(&'static str),
}

struct Watch {
    namespace: String,
    label: (String, String),
    lines: UnboundedSender<Bytes>,
}

fn has(map: &Value, (name, value): &(String, String)) -> bool {
    map["metadata"]["labels"][name] == *value
}

#[derive(Default)]
pub struct State {
    version: u64,
    maps: BTreeMap<(String, String), Value>,
    /// Version, namespace, kind of event and object.
    history: Vec<(u64, String, &'static str, Value)>,
    /// Who asks without it is nobody.
    token: String,
    forgotten: u64,
    /// What a watch from before that gets, if not that it is gone.
    pub nowhere: Option<&'static str>,
    /// What time it is here: as HTTP writes it, and as Kubernetes does.
    pub clock: Option<(&'static str, &'static str)>,
    /// Keys that somebody else's push writes to a ConfigMap as soon as it has been looked for in vain.
    pub rival: Option<Value>,
    watches: Vec<Watch>,
    connections: Vec<AbortHandle>,
    pub down: bool,
    /// Watches get no events any more.
    pub mute: bool,
    pub faults: VecDeque<Fault>,
    pub events: Vec<Value>,
    /// By `NAMESPACE/NAME`; `None`: whoever asks may not.
    pub secrets: BTreeMap<String, Option<Value>>,
    /// In every namespace.
    pub pods: Vec<Pod>,
    /// What whoever lists them gets instead.
    pub pods_refusal: Option<(u16, &'static str)>,
    /// Method and path with query.
    pub requests: Vec<String>,
}

impl ApiServer {
    pub fn start() -> ApiServer {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let (stop, stopped) = oneshot::channel();
        let served = state.clone();
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::spawn(serve(TcpListener::from_std(listener).unwrap(), served));
                drop(stopped.await);
            });
        });
        let folder = tempfile::tempdir().unwrap();
        let server = ApiServer { state, address, folder, stop: Some(stop), thread: Some(thread) };
        server.rotate("secret");
        fs::write(server.kubeconfig(), server.credentials()).unwrap();
        server
    }

    /// Another token from now on; whoever reads the file has it.
    pub fn rotate(&self, token: &str) {
        fs::write(self.token_file(), token).unwrap();
        self.lock().token = format!("Bearer {token}");
    }

    fn token_file(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    fn credentials(&self) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "u", "user": {"tokenFile": self.token_file()}}],
            "contexts": [
                {"name": "test", "context": {"cluster": "c", "user": "u", "namespace": "shop"}},
            ],
        })
        .to_string()
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A ConfigMap with our label; its resourceVersion.
    pub fn put(&self, namespace: &str, name: &str, data: &[(&str, &str)]) -> String {
        let data: BTreeMap<_, _> = data.iter().copied().collect();
        self.put_map(namespace, name, json!({"data": data}))
    }

    pub fn put_map(&self, namespace: &str, name: &str, map: Value) -> String {
        self.lock().put(namespace, name, map)
    }

    pub fn delete(&self, namespace: &str, name: &str) {
        self.lock().delete(namespace, name);
    }

    /// No connection lives, none is answered.
    pub fn go_down(&self) {
        let mut state = self.lock();
        state.down = true;
        state.watches.clear();
        state.connections.drain(..).for_each(|connection| connection.abort());
    }

    pub fn come_back(&self) {
        self.lock().down = false;
    }

    /// Sends this to every watch, and ends it.
    pub fn break_watches(&self, last_words: &str) {
        for watch in self.lock().watches.drain(..) {
            drop(watch.lines.send(Bytes::from(last_words.to_owned())));
        }
    }

    /// Nobody can go on watching from where they are.
    pub fn forget(&self) {
        let mut state = self.lock();
        state.version += 1;
        state.forgotten = state.version;
    }

    pub fn count(&self, word: &str) -> usize {
        self.lock().requests.iter().filter(|request| request.contains(word)).count()
    }

    pub fn watches(&self) -> usize {
        self.lock().watches.iter().filter(|watch| !watch.lines.is_closed()).count()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        drop(self.thread.take().map(JoinHandle::join));
    }
}

impl State {
    fn put(&mut self, namespace: &str, name: &str, mut map: Value) -> String {
        self.version += 1;
        let key = (namespace.to_owned(), name.to_owned());
        let labels = map["metadata"]["labels"].take();
        let labels =
            if labels.is_null() { json!({"portcullis.dev/config": "true"}) } else { labels };
        map["apiVersion"] = json!("v1");
        map["kind"] = json!("ConfigMap");
        map["metadata"] = json!({
            "namespace": namespace, "name": name, "labels": labels,
            "uid": format!("uid-{name}"), "resourceVersion": self.version.to_string(),
            "managedFields": map["metadata"]["managedFields"],
            "ownerReferences": map["metadata"]["ownerReferences"],
        });
        if let Some((_, time)) = self.clock {
            map["metadata"]["creationTimestamp"] = json!(time);
        }
        let kind = if self.maps.contains_key(&key) { "MODIFIED" } else { "ADDED" };
        self.maps.insert(key, map.clone());
        self.happen(namespace, kind, map);
        self.version.to_string()
    }

    fn delete(&mut self, namespace: &str, name: &str) {
        let Some(mut map) = self.maps.remove(&(namespace.to_owned(), name.to_owned())) else {
            return;
        };
        self.version += 1;
        map["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.happen(namespace, "DELETED", map);
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<&Value> {
        self.maps.get(&(namespace.to_owned(), name.to_owned()))
    }

    pub fn names(&self, namespace: &str) -> Vec<String> {
        let own = self.maps.keys().filter(|(other, _)| other == namespace);
        own.map(|(_, name)| name.clone()).collect()
    }

    fn happen(&mut self, namespace: &str, kind: &'static str, map: Value) {
        let line = line(kind, &map);
        let concerns = |watch: &&Watch| watch.namespace == namespace && has(&map, &watch.label);
        if !self.mute {
            for watch in self.watches.iter().filter(concerns) {
                drop(watch.lines.send(line.clone()));
            }
        }
        self.history.push((self.version, namespace.to_owned(), kind, map));
    }

    fn list(&self, namespace: &str, label: &(String, String)) -> Value {
        let own =
            self.maps.iter().filter(|((other, _), map)| other == namespace && has(map, label));
        let items: Vec<&Value> = own.map(|(_, map)| map).collect();
        json!({
            "apiVersion": "v1", "kind": "ConfigMapList",
            "metadata": {"resourceVersion": self.version.to_string()}, "items": items,
        })
    }

    fn watch(&mut self, namespace: &str, label: (String, String), from: u64) -> Answer {
        let (sender, receiver) = unbounded_channel();
        if from < self.forgotten {
            if let Some(words) = self.nowhere {
                drop(sender.send(Bytes::from(words)));
                return stream(receiver);
            }
            let gone = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure",
                "code": 410, "reason": "Expired", "message": "too old resource version"});
            drop(sender.send(line("ERROR", &gone)));
            return stream(receiver);
        }
        for (version, other, kind, map) in &self.history {
            if *version > from && other == namespace && has(map, &label) && !self.mute {
                drop(sender.send(line(kind, map)));
            }
        }
        let version = json!({"resourceVersion": self.version.to_string()});
        let here = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": version});
        if !self.mute {
            drop(sender.send(line("BOOKMARK", &here)));
        }
        self.watches.push(Watch { namespace: namespace.to_owned(), label, lines: sender });
        stream(receiver)
    }
}

pub type Answer = Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>;

fn line(kind: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({"type": kind, "object": object})))
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        if state.lock().unwrap().down {
            continue;
        }
        let served = state.clone();
        let service = service_fn(move |request| answer(request, served.clone()));
        let connection = tokio::spawn(async move {
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
        state.lock().unwrap().connections.push(connection.abort_handle());
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let query: BTreeMap<String, String> = head
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| {
            (name.to_owned(), percent_decode_str(value).decode_utf8_lossy().into_owned())
        })
        .collect();
    let mut state = state.lock().unwrap();
    state.requests.push(format!("{} {}", head.method, head.uri));
    if head.headers.get("authorization").is_none_or(|value| *value != state.token) {
        return Ok(refusal(401, "Unauthorized"));
    }
    let path: Vec<&str> = head.uri.path().trim_start_matches('/').split('/').collect();
    let ["api", "v1", "namespaces", namespace, resource, name @ ..] = path.as_slice() else {
        return Ok(refusal(404, "no such path"));
    };
    let mut answer = match (&head.method, *resource, name) {
        (&Method::POST, "configmaps", []) => state.create(namespace, body),
        (&Method::POST, "events", []) => state.event(body),
        (&Method::GET, "configmaps", []) => state.read(namespace, &query),
        (&Method::GET, "secrets", [name]) => state.secret(namespace, name),
        (&Method::GET, "pods", []) => state.list_pods(&query),
        (&Method::GET, "pods", [pod, "proxy", "status"]) => state.ask_pod(pod),
        (method, "configmaps", [name]) => state.single(method, namespace, name, body),
        _ => refusal(405, "not here"),
    };
    if let Some((date, _)) = state.clock {
        answer.headers_mut().insert("date", date.parse().unwrap());
    }
    Ok(answer)
}

impl State {
    fn event(&mut self, event: Value) -> Answer {
        let name = |event: &Value| event["metadata"]["name"].clone();
        if self.events.iter().any(|known| name(known) == name(&event)) {
            return refusal(409, "already exists");
        }
        self.events.push(event.clone());
        whole(201, "application/json", event.to_string())
    }

    fn secret(&self, namespace: &str, name: &str) -> Answer {
        match self.secrets.get(&format!("{namespace}/{name}")) {
            Some(Some(secret)) => whole(200, "application/json", secret.to_string()),
            Some(None) => {
                let who = "User \"system:serviceaccount:shop:web\" cannot get resource \"secrets\"";
                let place = format!("in API group \"\" in the namespace \"{namespace}\"");
                refusal(403, &format!("secrets \"{name}\" is forbidden: {who} {place}"))
            }
            None => refusal(404, &format!("secrets \"{name}\" not found")),
        }
    }

    fn read(&mut self, namespace: &str, query: &BTreeMap<String, String>) -> Answer {
        match self.faults.pop_front() {
            Some(Fault::Refusal(status, message)) => return refusal(status, message),
            Some(Fault::Status(status, body)) => {
                return whole(status, "application/json", body.to_string());
            }
            Some(Fault::Page) => return whole(200, "text/html", "<html>login</html>".to_owned()),
            Some(Fault::Drip) => return drip(),
            Some(Fault::Later(date)) => {
                let mut answer = refusal(429, "slow down");
                answer.headers_mut().insert("retry-after", date.parse().unwrap());
                return answer;
            }
            Some(Fault::Garbage) => return whole(200, "application/json", "{\"it".to_owned()),
            None => {}
        }
        let (name, value) = query["labelSelector"].split_once('=').unwrap();
        let label = (name.to_owned(), value.to_owned());
        if query.contains_key("watch") {
            return self.watch(namespace, label, query["resourceVersion"].parse().unwrap());
        }
        whole(200, "application/json", self.list(namespace, &label).to_string())
    }

    fn single(&mut self, method: &Method, namespace: &str, name: &str, body: Value) -> Answer {
        let known = self.get(namespace, name).cloned();
        match (method, known) {
            (&Method::GET, Some(map)) => whole(200, "application/json", map.to_string()),
            (&Method::DELETE, Some(map)) => {
                self.delete(namespace, name);
                whole(200, "application/json", map.to_string())
            }
            (&Method::PATCH, known) => self.apply(namespace, name, body, known),
            _ => {
                if let Some(keys) = self.rival.take() {
                    self.apply(namespace, name, json!({"binaryData": keys}), None);
                }
                refusal(404, "not found")
            }
        }
    }

    fn create(&mut self, namespace: &str, body: Value) -> Answer {
        let name = body["metadata"]["name"].as_str().unwrap().to_owned();
        if self.get(namespace, &name).is_some() {
            return refusal(409, "already exists");
        }
        // Nobody sees one without labels.
        self.put(namespace, &name, json!({"metadata": {"labels": {}}, "data": body["data"]}));
        whole(201, "application/json", self.get(namespace, &name).unwrap().to_string())
    }

    /// Server-side apply, as far as one manager goes: what it named before and does not name now is gone.
    fn apply(&mut self, namespace: &str, name: &str, body: Value, known: Option<Value>) -> Answer {
        let wanted = &body["metadata"]["resourceVersion"];
        let found =
            known.as_ref().map_or(Value::Null, |map| map["metadata"]["resourceVersion"].clone());
        if !wanted.is_null() && *wanted != found {
            return refusal(409, "the object has been modified");
        }
        let fields = |part: &str| -> Value {
            let keys = body[part].as_object().into_iter().flatten();
            keys.map(|(key, _)| (format!("f:{key}"), json!({})))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let mut map = json!({"data": body["data"], "binaryData": body["binaryData"]});
        map["metadata"] = json!({
            "labels": body["metadata"]["labels"],
            "ownerReferences": body["metadata"]["ownerReferences"],
            "managedFields": [{"manager": "portcullis", "operation": "Apply",
                "fieldsV1": {"f:data": fields("data"), "f:binaryData": fields("binaryData")}}],
        });
        self.put(namespace, name, map);
        let stored = self.get(namespace, name).unwrap().to_string();
        whole(200, "application/json", stored)
    }
}

pub fn whole(status: u16, content_type: &str, body: String) -> Answer {
    let response = Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header("content-type", content_type);
    response.body(http_body_util::Full::from(body).boxed()).unwrap()
}

/// As the API server says no; to 429 it adds when to come again.
pub fn refusal(status: u16, message: &str) -> Answer {
    let body = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": status,
        "message": message, "metadata": {}});
    let mut answer = whole(status, "application/json", body.to_string());
    if status == 429 {
        answer.headers_mut().insert("retry-after", "1".parse().unwrap());
    }
    answer
}

fn drip() -> Answer {
    let (sender, receiver) = unbounded_channel();
    tokio::spawn(async move {
        while sender.send(Bytes::from_static(b" ")).is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    stream(receiver)
}

struct Lines(UnboundedReceiver<Bytes>);

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

fn stream(receiver: UnboundedReceiver<Bytes>) -> Answer {
    let response = Response::builder().header("content-type", "application/json");
    response.body(Lines(receiver).boxed()).unwrap()
}
