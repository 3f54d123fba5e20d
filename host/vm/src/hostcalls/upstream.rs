//! What Higress adds about the way to the upstream and back: `proxy_get_upstream_hosts`,
//! `proxy_set_upstream_override_host`, `proxy_inject_encoded_data_to_filter_chain`.
//!
//! The route decides which hosts there are; a guest chooses among them and can name no other.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::Linker;

use super::{Call, Done, Span, hostcall, slice};
use crate::abi::pairs::{self, Pairs};
use crate::attributes::UpstreamHost;
use crate::effects::Effect;
use crate::guest::{Guest, Moment};

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    hostcall!(linker, "proxy_get_upstream_hosts", |call, data, size| {
        let hosts = call.guest().http().map(|stream| stream.attributes.upstream_hosts.clone());
        let Some(hosts) = hosts else {
            call.give(data, size, &[])?;
            return call.ignored("there is no exchange");
        };
        let hosts = Hosts(&hosts);
        call.give_with(data, size, pairs::measure(&hosts).1, |out, _| pairs::encode(&hosts, out))
    });
    hostcall!(linker, "proxy_set_upstream_override_host", |call, host, size| {
        choose(call, Span(host, size))
    });
    hostcall!(
        linker,
        "proxy_inject_encoded_data_to_filter_chain",
        |call, data, size, end_of_stream| inject(call, Span(data, size), end_of_stream)
    );
    Ok(())
}

/// Addresses, and what there is to know of each as JSON. Who is in the list may be sent requests.
struct Hosts<'a>(&'a [Arc<[UpstreamHost]>]);

impl Pairs for Hosts<'_> {
    fn each(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        for host in self.0.iter().flat_map(|backend| backend.iter()) {
            let about = format!(r#"{{"health_status":"Healthy","weight":{}}}"#, host.weight);
            visit(host.address.as_bytes(), about.as_bytes());
        }
    }
}

fn choose(call: &mut Call<'_>, host: Span) -> Done {
    let name = call.name;
    let (memory, guest) = call.split();
    let host = slice(memory, host)?;
    let over = guest.moment == Moment::Finish;
    let Some(stream) = guest.http_mut().filter(|stream| !over && !stream.request_sent) else {
        guest.violation(name, "there is no request that has yet to be sent");
        return Ok(());
    };
    let mut hosts = stream.attributes.upstream_hosts.iter().flat_map(|backend| backend.iter());
    match hosts.find(|known| known.address.as_bytes() == host) {
        Some(known) => stream.upstream_override = Some(known.address.clone()),
        None => guest.violation(name, "the route leads to no such host"),
    }
    Ok(())
}

fn inject(call: &mut Call<'_>, data: Span, end_of_stream: u32) -> Done {
    let guest = call.guest();
    let over = guest.moment == Moment::Finish;
    let (Some(key), Some(stream)) = (guest.stream_key(), guest.http().filter(|_| !over)) else {
        return call.ignored("there is no exchange");
    };
    if stream.response.is_none() {
        return call.ignored("there is no response yet");
    }
    call.read(data)?;
    call.hold(data.1)?;
    let data = Bytes::copy_from_slice(call.read(data)?);
    call.record(Effect::Inject(key, data, end_of_stream != 0))
}
