//! `/status` of the proxies in the pods of a namespace, through the API server and with the rights of whoever asks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Cluster;
use super::account::Proxy;
use crate::cli::Exit;
use crate::cluster::{Access, Api, Failure, Patience, Pod, denial};
use crate::diagnose::{Code, Problem};

/// Pods that are asked at the same time.
const AT_ONCE: usize = 16;

/// Why nothing can be said of any proxy.
pub type Refusal = (Exit, Box<Problem>);

/// The proxies by name.
///
/// # Errors
/// Pods cannot be listed, or there are none.
pub async fn ask(namespace: &str, args: &Cluster) -> Result<Vec<Proxy>, Refusal> {
    let api = api(args, Patience::default().answer).await?;
    let proxies = read(&api, namespace, args).await;
    let proxies = proxies.map_err(|failure| unlisted(&failure, "pods", namespace))?;
    if proxies.is_empty() {
        return Err(nobody(namespace, args));
    }
    Ok(proxies)
}

/// A way to the API server.
///
/// # Errors
/// Nobody says where it is.
pub async fn api(args: &Cluster, answer: Duration) -> Result<Arc<Api>, Refusal> {
    let access = Access { kubeconfig: args.kubeconfig.clone() };
    let patience = Patience { answer, ..Patience::default() };
    Api::new(&access, patience).await.map(Arc::new).map_err(|failure| {
        let problem = Problem::new(Code::P0421, "the cluster cannot be asked");
        let hint = "--kubeconfig or KUBECONFIG names the cluster";
        (Exit::Unavailable, Box::new(problem.because(failure.to_string()).hint(hint)))
    })
}

/// Asks every pod; what goes wrong with one of them is its own problem.
pub async fn read(api: &Arc<Api>, namespace: &str, args: &Cluster) -> Result<Vec<Proxy>, Failure> {
    let pods = api.pods(namespace, &args.selector, &args.port).await?;
    let gate = Arc::new(Semaphore::new(AT_ONCE));
    let mut asked = JoinSet::new();
    for pod in pods {
        let (api, gate, namespace) = (api.clone(), gate.clone(), namespace.to_owned());
        let port = args.port.clone();
        asked.spawn(async move {
            // It is never closed.
            let _turn = gate.acquire().await;
            read_pod(&api, &namespace, pod, &port).await
        });
    }
    let mut proxies = asked.join_all().await;
    proxies.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(proxies)
}

async fn read_pod(api: &Api, namespace: &str, pod: Pod, wanted: &str) -> Proxy {
    let Some(port) = pod.port else {
        let problem = Problem::new(Code::P0425, format!("pod {} has no port {wanted}", pod.name));
        let hint = "name a port of the container, or give its number, with --port";
        return Proxy::new(pod.name, Err(Box::new(problem.hint(hint))));
    };
    let answer = api.ask_pod(namespace, &pod.name, port, "/status").await;
    let unknown = |failure: Failure| {
        Box::new(missing(&failure, "get pods/proxy", namespace).unwrap_or_else(|| {
            let problem =
                Problem::new(Code::P0425, format!("nothing is known of pod {}", pod.name));
            problem.because(failure.to_string())
        }))
    };
    Proxy::new(pod.name.clone(), answer.map_err(unknown))
}

/// Why objects of a namespace cannot be listed.
pub fn unlisted(failure: &Failure, resource: &str, namespace: &str) -> Refusal {
    if let Some(problem) = missing(failure, &format!("list {resource}"), namespace) {
        return (Exit::Failed, Box::new(problem));
    }
    let title = format!("the {resource} of namespace {namespace} cannot be listed");
    let problem = Problem::new(Code::P0421, title).because(failure.to_string());
    let exit = if failure.status().is_some() { Exit::Failed } else { Exit::Unavailable };
    (exit, Box::new(problem))
}

/// That there is no pod.
pub fn nobody(namespace: &str, args: &Cluster) -> Refusal {
    let title = format!("no pod in namespace {namespace} has the label {}", args.selector);
    let hint = "label the pods of proxies so, or say which they are with --selector";
    (Exit::Unavailable, Box::new(Problem::new(Code::P0425, title).hint(hint)))
}

fn missing(failure: &Failure, right: &str, namespace: &str) -> Option<Problem> {
    let grant =
        "status needs list on pods and get on pods/proxy, and with --wait list on configmaps";
    denial(failure, &format!("{right} in namespace {namespace}"), grant)
}
