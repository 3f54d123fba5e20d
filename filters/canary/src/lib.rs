//! Marks a stable share of users for the canary; routes match on the mark.
//!
//! Clients cannot set the mark: whatever they send in that header is removed first. The filter
//! never picks an upstream itself, so that the routes stay the one place that does.

use portcullis_sdk::prelude::*;

#[cfg(test)]
mod tests;

static MARKED: Counter = Counter::new("canary_requests");
static OTHERS: Counter = Counter::new("canary_stable_requests");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Canary {
    /// The share of users.
    percent: Percent,
    /// The header that says who is the same user.
    sticky_header: Option<String>,
    /// The cookie that says so, where the header is absent.
    sticky_cookie: Option<String>,
    /// Whoever sends this header gets the canary.
    force_header: Option<String>,
    /// The header that routes match on; its value is `1`.
    #[serde(default = "mark")]
    mark: String,
}

fn mark() -> String {
    "x-canary".to_owned()
}

impl Filter for Canary {
    fn check(&self) -> Result<(), ConfigError> {
        let names = [
            ("stickyHeader", self.sticky_header.as_deref()),
            ("forceHeader", self.force_header.as_deref()),
            ("mark", Some(&self.mark)),
        ];
        for (field, name) in names {
            if let Some(name) = name.filter(|name| !is_header(name)) {
                return Err(ConfigError::new(field, format!("`{name}` is not a header's name")));
            }
        }
        match &self.force_header {
            Some(force) if force.eq_ignore_ascii_case(&self.mark) => {
                Err(ConfigError::new("forceHeader", "is the mark, which clients cannot set"))
            }
            _ => Ok(()),
        }
    }

    async fn request(&self, req: &mut Request) -> Flow {
        req.remove_header(&self.mark);
        let forced = self.force_header.as_ref().is_some_and(|name| req.header(name).is_some());
        if forced || self.drawn(req) {
            req.set_header(&self.mark, "1");
            MARKED.increment();
        } else {
            OTHERS.increment();
        }
        CONTINUE
    }
}

impl Canary {
    /// The same user gets the same answer; whoever cannot be told apart draws lots each time.
    fn drawn(&self, req: &Request) -> bool {
        let header = self.sticky_header.as_ref().and_then(|name| req.header(name));
        let user = header.or_else(|| req.cookie(self.sticky_cookie.as_ref()?));
        match user.filter(|user| !user.is_empty()) {
            Some(user) => self.percent.covers(&user),
            None => self.percent.draw(),
        }
    }
}

/// A token of RFC 9110, 5.6.2.
fn is_header(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(token)
}

portcullis_sdk::filter!(Canary: request);
