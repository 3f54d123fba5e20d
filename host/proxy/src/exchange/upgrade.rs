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
    let upstream = response.body_mut().take_tunnel();
    spawn_local(async move {
        let _guest = guest;
        let (client, mut upstream) = match (client.await, upstream) {
            (Ok(client), Some(upstream)) => (client, upstream),
            (Err(error), _) => return tracing::debug!("an upgrade was not completed: {error}"),
            (_, None) => return tracing::debug!("an upgrade has no connection to switch"),
        };
        let mut client = TokioIo::new(client);
        if let Err(error) = copy_bidirectional(&mut client, &mut upstream).await {
            tracing::debug!("a tunnel broke: {error}");
        }
    });
    response.map(|_| Inlet::Ended)
}
