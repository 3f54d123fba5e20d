//! What a client connection is driven beside: its clock, and the wish to leave.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use super::quiet::{First, beside};
use super::{Reception, Stage};
use crate::clock::{Expiry, Watch};
use crate::snapshot::Limits;

/// How long a client that was told to leave may do nothing.
const LINGER: Duration = Duration::from_secs(5);

/// How a connection was left.
pub enum Left<E> {
    /// It has come to its end.
    Ended(Result<(), E>),
    /// Its time ran out.
    Expired(Expiry),
}

impl Reception {
    /// When a connection is to end: once the listener's stage is `at`, and the client's first request, if it comes soon
    /// enough, has begun. A head that has begun to arrive is waited for.
    pub(super) async fn departure(&self, watch: &Watch, at: Stage) {
        let mut stage = self.stage.clone();
        // A listener that is gone is closed.
        drop(stage.wait_for(|stage| *stage >= at).await);
        tokio::select! {
            () = watch.request_begun() => {}
            () = self.closed() => {}
        }
        watch.head_complete().await;
    }
}

/// Drives a connection until it ends or its clock runs out; when its departure has come, or nothing was done for too
/// long, the client is told, and gets some time to go.
pub async fn attend<C, E>(
    watch: &Watch,
    limits: &Limits,
    departure: impl Future<Output = ()>,
    connection: &mut C,
    shutdown: impl Fn(Pin<&mut C>),
) -> Left<E>
where
    C: Future<Output = Result<(), E>> + Unpin,
{
    let leave = pin!(async {
        tokio::select! {
            biased;
            () = departure => Ok(()),
            expiry = watch.expired(limits) => match expiry {
                Expiry::Idle => Ok(()),
                Expiry::Head => Err(Expiry::Head),
            },
        }
    });
    // What has arrived is looked at before the client is told to go.
    match beside(connection, leave).await {
        First::Driven(result) => return Left::Ended(result),
        First::Quiet(Err(expiry)) => return Left::Expired(expiry),
        First::Quiet(Ok(())) => {}
    }
    watch.restart();
    shutdown(Pin::new(connection));
    let limits = Limits { idle_timeout: LINGER, ..limits.clone() };
    match beside(connection, pin!(watch.expired(&limits))).await {
        First::Driven(result) => Left::Ended(result),
        First::Quiet(expiry) => Left::Expired(expiry),
    }
}
