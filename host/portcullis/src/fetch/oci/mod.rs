//! Registries: references, who we are, and the distribution protocol (OCI distribution specification 1.1).
//!
//! A [`Session`] speaks to one repository: it finds out what the registry wants to see, asks again what failed in
//! passing, and hands out nothing that does not hash to what was asked for. What an image means is for `layout` to say.
//!
//! For whoever pushes: `Session::new(client, reference, credentials, Intent::Push)`, then [`Session::push_blob`] for
//! each blob and [`Session::push_manifest`] for manifests and, last, the index. Whoever reads uses
//! [`Session::content`] and [`Session::blob`] (small, in memory) or [`Session::blob_into`] (a file, resumed).

mod challenge;
mod credentials;
mod login;
mod manifest;
mod pull;
mod push;
mod reference;
mod signatures;

use std::sync::Mutex;

use http::header::AUTHORIZATION;
use http::uri::Scheme;
use http::{HeaderValue, Method, StatusCode, Uri};

pub use challenge::Challenge;
pub use credentials::Credentials;
pub use manifest::{Content, Descriptor, Manifest, Platform, choose, media};
pub use pull::Found;
pub use push::Stored;
pub use reference::{Reference, sha256};

use super::error::{FetchError, FetchErrorKind};
use super::http::{Answer, Ask, Client, Origin, again, is_passing, shown};
use super::lock;

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Reading.
    Pull,
    /// Reading and writing.
    Push,
}

/// Speaks to the repository of one image.
pub struct Session {
    client: Client,
    image: Reference,
    credentials: Option<Credentials>,
    intent: Intent,
    /// What the registry has accepted.
    pass: Mutex<Option<HeaderValue>>,
}

impl Session {
    /// Nothing is sent yet.
    pub fn new(
        client: Client,
        image: Reference,
        credentials: Option<Credentials>,
        intent: Intent,
    ) -> Session {
        Session { client, image, credentials, intent, pass: Mutex::default() }
    }

    /// Whose repository it is.
    pub fn image(&self) -> &Reference {
        &self.image
    }

    /// The URL of a resource of the repository.
    fn url(&self, resource: &str) -> Result<Uri, FetchError> {
        let secure = self.image.url(&Scheme::HTTPS, resource)?;
        let plain = |origin: Origin| {
            let plain = Origin { secure: false, ..origin.clone() };
            [origin, plain]
                .iter()
                .any(|origin| self.client.named(origin).is_some_and(|registry| registry.plain_http))
        };
        match plain(Origin::of(&secure)?) {
            true => self.image.url(&Scheme::HTTP, resource),
            false => Ok(secure),
        }
    }

    /// One request, with what the registry wants to see; any answer but 401 and 403.
    async fn send(&self, ask: Ask) -> Result<Answer, FetchError> {
        let answer = self.client.send(self.authorized(&ask)?).await?;
        // Whoever we were sent on to gets no answer: credentials are for the registry alone.
        if answer.status != StatusCode::UNAUTHORIZED || !self.is_own(&answer.uri)? {
            return self.admitted(answer);
        }
        let pass = login::answer(self, &answer).await?;
        *lock(&self.pass) = Some(pass);
        let answer = self.client.send(self.authorized(&ask)?).await?;
        self.admitted(answer)
    }

    fn is_own(&self, uri: &Uri) -> Result<bool, FetchError> {
        Ok(Origin::of(&self.url("")?)? == Origin::of(uri)?)
    }

    fn authorized(&self, ask: &Ask) -> Result<Ask, FetchError> {
        let mut ask = ask.clone();
        let own = self.is_own(&ask.uri)?;
        if let Some(pass) = lock(&self.pass).clone().filter(|_| own) {
            ask.headers.insert(AUTHORIZATION, pass);
        }
        Ok(ask)
    }

    fn admitted(&self, answer: Answer) -> Result<Answer, FetchError> {
        match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let who = match &self.credentials {
                    Some(known) if !known.user.is_empty() => format!("for user {}", known.user),
                    Some(_) => "for the given token".to_owned(),
                    None => "without credentials".to_owned(),
                };
                Err(self.denied(format!("it answered {} {who}", answer.status)))
            }
            _ => Ok(answer),
        }
    }

    fn denied(&self, cause: impl Into<String>) -> FetchError {
        let title = format!("{} does not let us in", self.image.registry);
        FetchError::new(FetchErrorKind::Denied, title, cause)
    }

    /// A request that may be made twice, made again after what passes, each time after a longer pause.
    async fn ask(&self, ask: &Ask) -> Result<Answer, FetchError> {
        let mut attempt = 0;
        loop {
            let tried = self.send(ask.clone()).await.and_then(|answer| match answer.status {
                status if is_passing(status) => Err(unexpected(&answer)),
                _ => Ok(answer),
            });
            attempt += 1;
            match &tried {
                Err(error) if again(attempt, error).await => {}
                _ => return tried,
            }
        }
    }

    /// The answer to a GET or HEAD, if it is a good one.
    async fn get(&self, ask: &Ask) -> Result<Answer, FetchError> {
        let answer = self.ask(ask).await?;
        match answer.status {
            status if status.is_success() => Ok(answer),
            StatusCode::NOT_FOUND => {
                let title = format!("{} has no {}", self.image.registry, self.image);
                let cause = format!("{} {} found nothing", ask.method, ask.uri.path());
                Err(FetchError::new(FetchErrorKind::Missing, title, cause))
            }
            _ => Err(unexpected(&answer)),
        }
    }
}

fn unexpected(answer: &Answer) -> FetchError {
    let title = format!("{} cannot be had", shown(&answer.uri));
    let error = FetchError::new(
        FetchErrorKind::Unreachable,
        title,
        format!("it answered {}", answer.status),
    );
    if is_passing(answer.status) { error.after(&answer.headers) } else { error.lasting() }
}

fn request(method: Method, uri: Uri) -> Ask {
    Ask { method, ..Ask::get(uri) }
}
