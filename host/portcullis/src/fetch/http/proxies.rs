//! Forward proxies, as the environment names them: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` (names, domains, addresses,
//! networks as `10.0.0.0/8`), in either case.
//!
//! A forward proxy resolves names itself, so that only addresses written as such can be checked before it is asked: what
//! it may reach is for its own rules to say.

use std::env;
use std::net::IpAddr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use super::Origin;

/// One forward proxy.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Where it is; spoken to without TLS.
    pub origin: Origin,
    /// The value of `proxy-authorization`, where the URL names a user.
    pub pass: Option<HeaderValue>,
}

/// What the environment says.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    secure: Option<Proxy>,
    plain: Option<Proxy>,
    /// Hosts that are reached without.
    except: Vec<String>,
}

impl Proxies {
    /// As set for this process.
    pub fn of_environment() -> Proxies {
        Proxies::of(|name| env::var(name).ok())
    }

    /// As `variables` has them.
    pub fn of(variables: impl Fn(&str) -> Option<String>) -> Proxies {
        let read = |name: &str| {
            let value = variables(name).or_else(|| variables(&name.to_ascii_lowercase()));
            value.filter(|value| !value.is_empty())
        };
        let proxy = |name: &str| {
            let proxy = Proxy::of(&read(name)?);
            if proxy.is_none() {
                tracing::warn!(
                    name,
                    "no http://HOST:PORT or http://USER:PASSWORD@HOST:PORT; not used"
                );
            }
            proxy
        };
        let except = read("NO_PROXY").unwrap_or_default();
        let except = except.split(',').map(|host| host.trim().to_ascii_lowercase());
        Proxies {
            secure: proxy("HTTPS_PROXY"),
            plain: proxy("HTTP_PROXY"),
            except: except.filter(|host| !host.is_empty()).collect(),
        }
    }

    /// The one to ask for `origin`; `None`: it is reached directly, as is always this machine.
    pub fn before(&self, origin: &Origin) -> Option<&Proxy> {
        let proxy = if origin.secure { &self.secure } else { &self.plain };
        let address = origin.host.parse::<IpAddr>();
        let here = origin.host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        proxy.as_ref().filter(|_| !here && !self.excepts(origin))
    }

    fn excepts(&self, origin: &Origin) -> bool {
        let with_port = format!("{}:{}", origin.host, origin.port);
        let address = origin.host.parse::<IpAddr>().ok();
        self.except.iter().any(|host| {
            let domain = host.trim_start_matches("*.").trim_start_matches('.');
            let below = origin.host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
            let within = address.is_some_and(|address| holds(host, address));
            host == "*" || *host == with_port || origin.host == domain || below || within
        })
    }
}

impl Proxy {
    fn of(url: &str) -> Option<Proxy> {
        let rest = url.split_once("://").map_or(Some(url), |(scheme, rest)| {
            scheme.eq_ignore_ascii_case("http").then_some(rest)
        })?;
        let (user, host) = match rest.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, rest),
        };
        let origin = Origin::of(&format!("http://{host}").parse::<Uri>().ok()?).ok()?;
        let pass = match user {
            Some(user) => Some(basic(user)?),
            None => None,
        };
        Some(Proxy { origin, pass })
    }
}

/// `user` is `USER:PASSWORD` as in a URL.
fn basic(user: &str) -> Option<HeaderValue> {
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let plain = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
    let text = [plain(user), b":".to_vec(), plain(password)].concat();
    let mut value =
        HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(text))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Whether `network`, `ADDRESS/BITS`, holds the address.
fn holds(network: &str, address: IpAddr) -> bool {
    let read = |(base, bits): (&str, &str)| {
        Some((base.parse::<IpAddr>().ok()?, bits.parse::<u32>().ok()?))
    };
    let Some((base, bits)) = network.split_once('/').and_then(read) else { return false };
    let (base, address, width): (u128, u128, u32) = match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(own)) => (base.to_bits().into(), own.to_bits().into(), 32),
        (IpAddr::V6(base), IpAddr::V6(own)) => (base.to_bits(), own.to_bits(), 128),
        _ => return false,
    };
    bits <= width && (base ^ address).checked_shr(width - bits).unwrap_or(0) == 0
}
