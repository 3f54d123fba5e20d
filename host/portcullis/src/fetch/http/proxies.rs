//! Forward proxies, as the environment names them: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` (names, domains, addresses,
//! networks as `10.0.0.0/8`), in either case.
//!
//! A forward proxy resolves names itself, so that only addresses written as such can be checked before it is asked: what
//! it may reach is for its own rules to say.

use std::env;
use std::net::IpAddr;

use http::Uri;

use super::Origin;

/// What the environment says.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    secure: Option<Origin>,
    plain: Option<Origin>,
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
        let origin = |name: &str| {
            let value = read(name)?;
            let value = if value.contains("://") { value } else { format!("http://{value}") };
            let origin = value.parse::<Uri>().ok().and_then(|uri| Origin::of(&uri).ok());
            if origin.as_ref().is_none_or(|origin| origin.secure) {
                tracing::warn!(name, "no http://HOST:PORT without a user; not used");
                return None;
            }
            origin
        };
        let except = read("NO_PROXY").unwrap_or_default();
        let except = except.split(',').map(|host| host.trim().to_ascii_lowercase());
        Proxies {
            secure: origin("HTTPS_PROXY"),
            plain: origin("HTTP_PROXY"),
            except: except.filter(|host| !host.is_empty()).collect(),
        }
    }

    /// The one to ask for `origin`; `None`: it is reached directly, as is always this machine.
    pub fn before(&self, origin: &Origin) -> Option<&Origin> {
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
