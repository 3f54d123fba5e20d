//! HTTP/1 on one client connection: requests one after the other, and its end.

use std::cell::{Cell, RefCell};
use std::future::{poll_fn, ready};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::StatusCode;
use http::header::UPGRADE;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::attend::{Left, attend};
use super::{Accepted, Exchanges, Reception, Stage};
use crate::body::Body;
use crate::clock::{Alarm, Expiry, Watch};
use crate::exchange::{Inlet, Reset, Switch};
use crate::http1::{Failed, Fault, Refused, RequestBody, Served};
use crate::message::{Request, Response};
use crate::reply::{self, Dialect, Failure};

/// What a client is told that has not sent its request's head in time. Nothing else writes to the connection then.
pub const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain\r\n\
    content-length: 48\r\nx-portcullis-code: P0711\r\nconnection: close\r\n\r\n\
    P0711 the request's head did not arrive in time\n";

/// A client that is still sending its request, which was answered, may pause for so long (Envoy's
/// `delayed_close_timeout`), and go on for so long altogether (nginx's `lingering_time`).
const SILENCE: Duration = Duration::from_secs(1);
const DELAYED_CLOSE: Duration = Duration::from_secs(30);

/// Why a connection ends before its time.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Refused(Fault),
    #[error("the client has gone: {0}")]
    Incomplete(String),
    #[error("the exchange was reset: {0}")]
    Reset(String),
    #[error("{0}")]
    Wire(std::io::Error),
}

impl Broken {
    /// Label value for metrics.
    fn kind(&self) -> &'static str {
        match self {
            Broken::Refused(Fault::Malformed(_)) => "400",
            Broken::Refused(Fault::TooLarge) => "431",
            Broken::Refused(Fault::TargetTooLong) => "414",
            Broken::Incomplete(_) => "incomplete",
            Broken::Reset(_) => "reset",
            Broken::Wire(_) => "broken",
        }
    }
}

impl From<Refused> for Broken {
    fn from(refused: Refused) -> Broken {
        match refused {
            Refused::Fault(fault) => Broken::Refused(fault),
            Refused::Broken(reason) => Broken::Incomplete(reason),
        }
    }
}

impl From<Failed> for Broken {
    fn from(failed: Failed) -> Broken {
        match failed {
            Failed::Wire(error) => Broken::Wire(error),
            Failed::Body(reason) => Broken::Reset(reason),
        }
    }
}

impl From<Reset> for Broken {
    fn from(reset: Reset) -> Broken {
        Broken::Reset(reset.to_string())
    }
}

/// What a request is answered by. It takes much more room than a connection that waits for one, so it has its own.
type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Reset>>>>;

/// A connection, and what is known of it by all of its requests.
struct Session<'a> {
    reception: &'a Reception,
    exchanges: Exchanges,
    watch: &'a Arc<Watch>,
    alarm: Rc<RefCell<Alarm>>,
    /// Bytes of a head.
    limit: usize,
    /// It has been told to go as soon as nothing is under way.
    leaving: &'a Cell<bool>,
}

impl Reception {
    /// Serves HTTP/1 to the end.
    pub(super) async fn http1(self: &Rc<Self>, accepted: Accepted) {
        let Accepted { wire, read, attributes, limits, guest } = accepted;
        let watch = Arc::new(Watch::default());
        let leaving = Cell::new(false);
        let mut served = Some(Served::new(wire, read));
        let session = Session {
            reception: self,
            exchanges: self.exchanges(attributes, &watch, guest),
            watch: &watch,
            alarm: Rc::default(),
            limit: limits.request_header_bytes,
            leaving: &leaving,
        };
        let left = {
            let mut serving = pin!(session.serve(&mut served));
            // Until the listener closes, responses say that the connection ends; the client closes it.
            let departure = self.departure(&watch, Stage::Closing);
            attend(&watch, &limits, departure, &mut serving, |_| leaving.set(true)).await
        };
        match left {
            Left::Ended(Ok(())) | Left::Expired(Expiry::Idle) => {}
            Left::Ended(Err(error)) => self.note_error(error.kind(), &error),
            Left::Expired(Expiry::Head) => {
                self.count_error("408");
                if let Some(served) = &mut served {
                    drop(timeout(SILENCE, served.close(REQUEST_TIMEOUT)).await);
                }
            }
        }
    }
}

impl Session<'_> {
    /// Requests and answers, until the connection ends. It is gone when it has become a tunnel.
    async fn serve(&self, connection: &mut Option<Served>) -> Result<(), Broken> {
        loop {
            let Some(served) = connection else { return Ok(()) };
            let (request, body) = match self.next(served).await {
                Ok(Some(request)) => request,
                Ok(None) => break,
                Err(refused) => {
                    // Its head is over, whatever it was.
                    self.watch.head_over();
                    return Box::pin(self.refuse(served, refused)).await;
                }
            };
            let (tunnel, switch) = match request.head.headers.contains(UPGRADE) {
                true => Some(oneshot::channel()).unzip(),
                false => (None, None),
            };
            let answer = self.begin(request, body, switch)?;
            let response = answered(served, answer).await?;
            let switches = response.head.status == StatusCode::SWITCHING_PROTOCOLS;
            served.answer(response, self.leaving.get()).map_err(Broken::Reset)?;
            written(served).await?;
            if switches {
                let tunnel = tunnel.zip(connection.take().and_then(Served::into_tunnel));
                let sent = tunnel.map(|(sender, tunnel)| sender.send(tunnel).is_ok());
                return match sent {
                    Some(true) => Ok(()),
                    _ => Err(Broken::Reset("the upgrade was not completed".to_owned())),
                };
            }
            if !served.goes_on().await {
                break;
            }
        }
        if let Some(served) = connection {
            Box::pin(end(served)).await;
        }
        Ok(())
    }

    /// The next request; nothing when the client has gone, or is to go.
    async fn next(&self, served: &mut Served) -> Result<Option<(Request, RequestBody)>, Refused> {
        poll_fn(|context| {
            let polled = served.poll_request(context, self.limit);
            if polled.is_pending() && served.has_begun() {
                self.watch.bytes_arrived();
            } else if polled.is_pending() && self.leaving.get() {
                return Poll::Ready(Ok(None));
            }
            polled
        })
        .await
    }

    fn begin(
        &self,
        request: Request,
        body: RequestBody,
        switch: Option<Switch>,
    ) -> Result<Answer, Reset> {
        Ok(match self.exchanges.begin(request, Inlet::Http1(body), switch, &self.alarm)? {
            Ok(begun) => {
                // It is large, and so made where it stays.
                let room = Box::new_uninit();
                let answer = Box::write(room, begun.answer());
                Box::into_pin(answer)
            }
            Err(refused) => Box::pin(ready(Ok(*refused))),
        })
    }

    /// Tells the client that what it has sent is no request.
    async fn refuse(&self, served: &mut Served, refused: Refused) -> Result<(), Broken> {
        let failure = match &refused {
            Refused::Fault(Fault::Malformed(reason)) => Failure::BadRequest(reason.clone()),
            Refused::Fault(Fault::TooLarge) => Failure::HeadersTooLarge,
            Refused::Fault(Fault::TargetTooLong) => Failure::TargetTooLong,
            Refused::Broken(_) => return Err(refused.into()),
        };
        let refused = Broken::from(refused);
        self.reception.note_error(refused.kind(), &refused);
        let response = reply::respond(&failure, Dialect::Http);
        served.refuse(response).map_err(Broken::Reset)?;
        poll_fn(|context| served.poll_answer(context)).await?;
        end(served).await;
        Ok(())
    }
}

/// Waits for the answer, or for the client to go.
async fn answered(served: &mut Served, mut answer: Answer) -> Result<Response<Body>, Broken> {
    poll_fn(|context| match answer.as_mut().poll(context) {
        Poll::Ready(answered) => Poll::Ready(answered.map_err(Broken::from)),
        Poll::Pending => served.poll_gone(context).map(|()| Err(gone())),
    })
    .await
}

/// Writes the answer, unless the client goes.
async fn written(served: &mut Served) -> Result<(), Broken> {
    poll_fn(|context| match served.poll_answer(context) {
        Poll::Ready(written) => Poll::Ready(written.map_err(Broken::from)),
        Poll::Pending => served.poll_gone(context).map(|()| Err(gone())),
    })
    .await
}

fn gone() -> Broken {
    Broken::Incomplete("it closed the connection within an exchange".to_owned())
}

/// Says that nothing follows, and lets the client read that.
async fn end(served: &mut Served) {
    if served.close(&[]).await.is_ok() && served.is_unread() {
        let silence = async {
            while let Ok(true) =
                timeout(SILENCE, poll_fn(|context| served.poll_over(context))).await
            {}
        };
        drop(timeout(DELAYED_CLOSE, silence).await);
    }
}
