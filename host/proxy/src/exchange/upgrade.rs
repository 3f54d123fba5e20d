//! Upgraded connections (WebSocket): once both sides have switched, bytes go back and forth past the filters, and
//! nothing of the exchange is held any more.

use std::any::Any;
use std::rc::Rc;

use http::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::task::spawn_local;

use super::body::Inlet;
use crate::upstream::ResponseBody;

/// Passes the upstream's 101 on and joins the two connections as soon as both have switched. `guest` counts the client's.
pub fn establish(
    mut response: Response<ResponseBody>,
    client: OnUpgrade,
    guest: Rc<dyn Any>,
) -> Response<Inlet> {
    let upstream = hyper::upgrade::on(&mut response);
    spawn_local(async move {
        let _guest = guest;
        let (client, upstream) = match tokio::try_join!(client, upstream) {
            Ok(both) => both,
            Err(error) => return tracing::debug!("an upgrade was not completed: {error}"),
        };
        let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        if let Err(error) = copy_bidirectional(&mut client, &mut upstream).await {
            tracing::debug!("a tunnel broke: {error}");
        }
    });
    response.map(|_| Inlet::Ended)
}
