//! Getting in: basic authentication, or a token of the service that the registry names (the distribution
//! specification's token flow, with or without an OAuth refresh token).

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::credentials::secret;
use super::{Ask, Challenge, Intent, Session, request};
use crate::fetch::error::{FetchError, FetchErrorKind};
use crate::fetch::http::{Answer, is_passing, shown};

const TOKEN_BYTES: usize = 256 << 10;

#[derive(Deserialize)]
struct Granted {
    token: Option<String>,
    access_token: Option<String>,
}

/// What to send, now that the registry has answered 401.
pub(super) async fn answer(session: &Session, refused: &Answer) -> Result<HeaderValue, FetchError> {
    let challenges = Challenge::of(&refused.headers);
    let bearer = challenges.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
    match bearer.or(challenges.first()) {
        Some(Challenge::Bearer { realm, service, scope }) => {
            let asked = Asked { service: service.as_deref(), scope: scope.as_deref() };
            token(session, realm, &asked).await
        }
        Some(Challenge::Basic) => {
            let basic = session.credentials.as_ref().and_then(|known| known.basic());
            basic.ok_or_else(|| session.denied("it wants name and password, and none are known"))
        }
        None => Err(session.denied("it answered 401, and nothing that we know how to answer")),
    }
}

struct Asked<'a> {
    service: Option<&'a str>,
    scope: Option<&'a str>,
}

async fn token(
    session: &Session,
    realm: &str,
    asked: &Asked<'_>,
) -> Result<HeaderValue, FetchError> {
    let own_scope = own_scope(session);
    let mut fields = vec![("scope", asked.scope.unwrap_or(&own_scope))];
    fields.extend(asked.service.map(|service| ("service", service)));
    let known = session.credentials.as_ref();
    let ask = match known.and_then(|known| known.identity.as_deref()) {
        Some(identity) => {
            fields.push(("grant_type", "refresh_token"));
            fields.push(("client_id", "portcullis"));
            fields.push(("refresh_token", identity));
            post(session, realm, &fields)?
        }
        None => {
            let joint = if realm.contains('?') { '&' } else { '?' };
            let mut ask = Ask::get(uri(session, &format!("{realm}{joint}{}", form(&fields)))?);
            if let Some(basic) = known.and_then(|known| known.basic()) {
                ask.headers.insert(AUTHORIZATION, basic);
            }
            ask
        }
    };
    let place = shown(&ask.uri);
    let answer = session.client.send(ask).await?;
    if !answer.status.is_success() {
        let cause = format!("the token service {place} answered {}", answer.status);
        let error = session.denied(cause);
        return Err(match is_passing(answer.status) {
            true => passing(error).after(&answer.headers),
            false => error,
        });
    }
    let bytes = answer.whole(TOKEN_BYTES).await?;
    let granted: Option<Granted> = serde_json::from_slice(&bytes).ok();
    granted
        .and_then(|granted| granted.token.or(granted.access_token))
        .and_then(|token| secret(&format!("Bearer {token}")))
        .ok_or_else(|| session.denied(format!("the token service {place} sent no token")))
}

fn passing(error: FetchError) -> FetchError {
    FetchError::new(FetchErrorKind::Unreachable, error.title(), error.cause())
}

fn own_scope(session: &Session) -> String {
    let actions = match session.intent {
        Intent::Pull => "pull",
        Intent::Push => "pull,push",
    };
    format!("repository:{}:{actions}", session.image.repository)
}

fn post(session: &Session, realm: &str, fields: &[(&str, &str)]) -> Result<Ask, FetchError> {
    let mut ask = request(Method::POST, uri(session, realm)?);
    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
    ask.headers.insert(CONTENT_TYPE, kind);
    ask.body = Bytes::from(form(fields));
    Ok(ask)
}

fn uri(session: &Session, text: &str) -> Result<Uri, FetchError> {
    text.parse().map_err(|_| session.denied("the token service that it names is no address"))
}

fn form(fields: &[(&str, &str)]) -> String {
    let field = |(name, value): &(&str, &str)| {
        format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))
    };
    fields.iter().map(field).collect::<Vec<_>>().join("&")
}
