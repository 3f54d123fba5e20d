//! Keeps a [`Mirror`] of one namespace: list once, then watch from there, for ever.
//!
//! A watch that ends or breaks goes on where it was. When the server has forgotten that place (410), takes it for none, or
//! leads from there to something that is no event, everything is listed again. Every failure is followed by a pause, and by
//! a new connection with credentials read anew.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::List;
use k8s_openapi::api::core::v1::ConfigMap as Wire;
use kube::core::WatchEvent;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::{self, Instant};

use super::api::{Api, Failure, bounded, parse, refused};
use super::backoff::Backoff;
use super::config_map::ConfigMap;
use super::mirror::Mirror;
use super::{Access, Patience};

/// ConfigMaps in one piece of a list.
const PAGE: usize = 50;
/// How long the server lets a watch live, at least; half as long again at most, so that proxies do not come together.
const WATCH_SECONDS: u64 = 240;
const GONE: u16 = 410;
/// By which the server says that there is no going on from where we are.
const ASTRAY: [u16; 3] = [400, GONE, 422];

/// Follows the ConfigMaps of `namespace` with the label `selector`, until it is dropped. Cancel safe.
pub async fn follow(
    access: Access,
    patience: Patience,
    namespace: Arc<str>,
    selector: Arc<str>,
    mirror: Arc<Mirror>,
) {
    let label = utf8_percent_encode(&selector, NON_ALPHANUMERIC);
    let path = format!("/api/v1/namespaces/{namespace}/configmaps?labelSelector={label}");
    let backoff = Backoff::new(&patience);
    let mut follower = Follower {
        access,
        patience,
        namespace,
        path,
        mirror,
        backoff,
        version: None,
        gone: false,
        told: None,
    };
    loop {
        let failure = follower.until_failure().await;
        let pause = follower.backoff.pause(failure.retry_after());
        follower.tell(&failure, pause);
        time::sleep(pause).await;
    }
}

struct Follower {
    access: Access,
    patience: Patience,
    namespace: Arc<str>,
    path: String,
    mirror: Arc<Mirror>,
    backoff: Backoff,
    /// Up to where everything is known; `None`: list.
    version: Option<String>,
    /// There is no going on from where we were: what the server has cached may be older than what we know.
    gone: bool,
    /// What the log has said last, until it works again.
    told: Option<Failure>,
}

impl Follower {
    async fn until_failure(&mut self) -> Failure {
        let api = match Api::new(&self.access, self.patience).await {
            Ok(api) => api,
            Err(failure) => return failure,
        };
        loop {
            if let Err(failure) = self.turn(&api).await {
                if failure.status().is_some_and(|status| ASTRAY.contains(&status)) {
                    self.go_astray();
                }
                return failure;
            }
        }
    }

    fn go_astray(&mut self) {
        self.version = None;
        self.gone = true;
    }

    /// Lists if it must, and watches until the server ends the watch.
    async fn turn(&mut self, api: &Api) -> Result<(), Failure> {
        let version = match self.version.take() {
            Some(version) => version,
            None => self.list(api).await?,
        };
        self.version = Some(version.clone());
        let begun = Instant::now();
        let ended = self.watch(api, &version).await;
        // Something in between may end each of them after half a minute; that is no failure to recover from.
        if begun.elapsed() >= self.patience.longest_pause {
            self.backoff.reset();
            return ended;
        }
        ended.and(Err(Failure::Ended))
    }

    /// Everything there is. The first list may come from the server's cache, which is cheaper for it; the watch brings
    /// what that did not have.
    async fn list(&mut self, api: &Api) -> Result<String, Failure> {
        let mut maps = Vec::new();
        let mut from = if self.gone { String::new() } else { "&resourceVersion=0".to_owned() };
        let mut pages = 0;
        let version = loop {
            bounded(pages)?;
            pages += 1;
            let path = format!("{}&limit={PAGE}{from}", self.path);
            let page: List<Wire> = api.get(&path).await?;
            maps.extend(page.items.into_iter().filter_map(ConfigMap::read));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => {
                    let token = utf8_percent_encode(&token, NON_ALPHANUMERIC);
                    from = format!("&continue={token}");
                }
                None => break page.metadata.resource_version,
            }
        };
        let version = version.filter(|version| !version.is_empty());
        let nameless = || Failure::Nonsense("a list without a resourceVersion".to_owned());
        let version = version.ok_or_else(nameless)?;
        self.gone = false;
        self.mirror.replace(&self.namespace, maps, &version);
        Ok(version)
    }

    async fn watch(&mut self, api: &Api, version: &str) -> Result<(), Failure> {
        let seconds = WATCH_SECONDS + fastrand::u64(..=WATCH_SECONDS / 2);
        let path = format!(
            "{}&watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={version}",
            self.path
        );
        let mut lines = api.lines(&path).await?;
        self.mirror.heard(&self.namespace, version);
        if self.told.take().is_some() {
            tracing::info!(namespace = &*self.namespace, "following ConfigMaps again");
        }
        while let Some(line) = lines.next().await? {
            if line.is_empty() {
                continue;
            }
            let event = parse::<WatchEvent<Wire>>(&line).inspect_err(|_| self.go_astray())?;
            match event {
                WatchEvent::Added(map) | WatchEvent::Modified(map) => self.put(map),
                WatchEvent::Deleted(map) => self.remove(map),
                WatchEvent::Bookmark(bookmark) => {
                    let version = bookmark.metadata.resource_version;
                    self.mirror.heard(&self.namespace, &version);
                    self.version = Some(version);
                }
                WatchEvent::Error(status) => {
                    self.go_astray();
                    return Err(refused(&status));
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, map: Wire) {
        let Some(map) = ConfigMap::read(map) else { return };
        self.version = Some(map.resource_version.clone());
        self.mirror.put(&self.namespace, map);
    }

    fn remove(&mut self, map: Wire) {
        let Some(map) = ConfigMap::read(map) else { return };
        self.version = Some(map.resource_version.clone());
        self.mirror.remove(&self.namespace, &map.name, &map.resource_version);
    }

    fn tell(&mut self, failure: &Failure, pause: Duration) {
        let namespace = &*self.namespace.clone();
        self.mirror.lost(namespace, failure);
        let again_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        if self.told.as_ref() == Some(failure) {
            return tracing::debug!(
                namespace,
                again_ms,
                "still cannot follow ConfigMaps: {failure}"
            );
        }
        self.told = Some(failure.clone());
        // That it happens is no trouble; that it goes on is shown.
        if failure.status() == Some(GONE) {
            return tracing::info!(namespace, again_ms, "the watch is too old, listing again");
        }
        tracing::warn!(namespace, again_ms, "cannot follow ConfigMaps: {failure}");
    }
}
