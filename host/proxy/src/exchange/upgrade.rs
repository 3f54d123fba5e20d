//! Upgraded connections (WebSocket): once both sides have switched, bytes go back and forth past the filters, and
//! nothing of the exchange is held any more.

use std::any::Any;
use std::rc::Rc;

use tokio::io::copy_bidirectional;
use tokio::task::spawn_local;

use super::Switch;
use super::body::Inlet;
use crate::message::Response;
use crate::upstream::ResponseBody;

/// Passes the upstream's 101 on and joins the two connections as soon as both have switched. `guest` counts the client's.
pub fn establish(
    mut response: Response<ResponseBody>,
    client: Option<Switch>,
    guest: Rc<dyn Any>,
) -> Response<Inlet> {
    let upstream = response.body.take_tunnel();
    spawn_local(async move {
        let _guest = guest;
        let client = match client {
            Some(client) => client.await.ok(),
            None => None,
        };
        let Some((mut client, mut upstream)) = client.zip(upstream) else {
            return tracing::debug!("an upgrade was not completed");
        };
        if let Err(error) = copy_bidirectional(&mut client, &mut upstream).await {
            tracing::debug!("a tunnel broke: {error}");
        }
    });
    response.map(|_| Inlet::Ended)
}
