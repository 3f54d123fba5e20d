//! Delays or aborts a share of requests, on purpose, in the terms of Istio's HTTPFaultInjection.
//!
//! Delay and abort are drawn independently: a request may get both, the delay first. A delayed
//! request holds no thread. Without a percentage nothing is injected, as in Istio.

use std::time::Duration;

use portcullis_sdk::prelude::*;

#[cfg(test)]
mod tests;

static DELAYS: Counter = Counter::new("fault_delays_injected");
static ABORTS: Counter = Counter::new("fault_aborts_injected");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    /// Only requests that match one of these; left out: all.
    r#match: Option<Vec<Match>>,
    delay: Option<Delay>,
    abort: Option<Abort>,
}

/// Every header must match.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Match {
    headers: std::collections::BTreeMap<String, Value>,
}

/// One of `exact` and `prefix`; neither: any value that is there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Value {
    exact: Option<String>,
    prefix: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Delay {
    #[serde(default)]
    percentage: Percentage,
    fixed_delay: DurationText,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Abort {
    #[serde(default)]
    percentage: Percentage,
    http_status: Option<Status>,
    grpc_status: Option<Grpc>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Percentage {
    #[serde(default)]
    value: Percent,
}

/// A gRPC status by its name, in the order of its numbers.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Grpc {
    Ok,
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

impl Filter for Fault {
    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |path: &str, problem: &str| Err(ConfigError::new(path, problem));
        if self.r#match.as_ref().is_some_and(Vec::is_empty) {
            return refuse("match", "is empty: leave it out to match every request");
        }
        for (index, one) in self.r#match.iter().flatten().enumerate() {
            let both = |value: &Value| value.exact.is_some() && value.prefix.is_some();
            if let Some((name, _)) = one.headers.iter().find(|(_, value)| both(value)) {
                return refuse(
                    &format!("match[{index}].headers.{name}"),
                    "has both exact and prefix",
                );
            }
        }
        if self.delay.as_ref().is_some_and(|delay| Duration::from(delay.fixed_delay).is_zero()) {
            return refuse("delay.fixedDelay", "is below 1ms");
        }
        match self.abort.as_ref().map(|abort| (abort.http_status, abort.grpc_status)) {
            Some((None, None)) => refuse("abort", "needs httpStatus or grpcStatus"),
            Some((Some(_), Some(_))) => refuse("abort", "has both httpStatus and grpcStatus"),
            _ => Ok(()),
        }
    }

    async fn request(&self, req: &mut Request) -> Flow {
        if !self.concerns(req) {
            return CONTINUE;
        }
        if let Some(delay) = self.delay.as_ref().filter(|delay| delay.percentage.value.draw()) {
            DELAYS.increment();
            sleep(delay.fixed_delay.into()).await;
        }
        if let Some(abort) = self.abort.as_ref().filter(|abort| abort.percentage.value.draw()) {
            ABORTS.increment();
            return Err(abort.reply());
        }
        CONTINUE
    }
}

impl Fault {
    fn concerns(&self, req: &Request) -> bool {
        let Some(alternatives) = &self.r#match else { return true };
        alternatives.iter().any(|one| {
            one.headers
                .iter()
                .all(|(name, value)| req.headers(name).iter().any(|text| value.matches(text)))
        })
    }
}

impl Value {
    fn matches(&self, text: &str) -> bool {
        self.exact.as_ref().is_none_or(|exact| text == exact)
            && self.prefix.as_ref().is_none_or(|prefix| text.starts_with(prefix))
    }
}

impl Abort {
    fn reply(&self) -> Reply {
        const TEXT: &str = "fault filter abort";
        match (self.grpc_status, self.http_status) {
            (Some(status), _) => Reply::grpc(status as u8, TEXT),
            (None, status) => Reply::new(status.map_or(503, u16::from)).body(TEXT),
        }
    }
}

portcullis_sdk::filter!(Fault: request);
