//! Forward proxies, as the environment names them: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, in either case.
//!
//! A forward proxy resolves names itself, so that only addresses written as such can be checked before it is asked: what
//! it may reach is for its own rules to say.

use std::env;

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
        let read = |name: &str| {
            let value = env::var(name).or_else(|_| env::var(name.to_ascii_lowercase()));
            value.ok().filter(|value| !value.is_empty())
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
        let address = origin.host.parse::<std::net::IpAddr>();
        let here = origin.host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        proxy.as_ref().filter(|_| !here && !self.excepts(origin))
    }

    fn excepts(&self, origin: &Origin) -> bool {
        let with_port = format!("{}:{}", origin.host, origin.port);
        self.except.iter().any(|host| {
            let domain = host.trim_start_matches("*.").trim_start_matches('.');
            let below = origin.host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
            host == "*" || *host == with_port || origin.host == domain || below
        })
    }
}
