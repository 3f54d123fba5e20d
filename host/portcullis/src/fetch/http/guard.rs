//! Which addresses may be dialled: whoever may name a URL must not reach what only this machine can reach.
//!
//! The decision is made on the address that is dialled, after names were resolved, and for every dial: redirects and
//! token services included.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who named the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The operator: in the Proxy's `registries`, or on the command line.
    Named,
    /// Whoever wrote the filter, or a server that sent us there.
    Stranger,
}

/// Services that tell a machine its own secrets, where they are not link-local.
const METADATA: [IpAddr; 8] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
];

/// Whether `address` may be dialled.
///
/// # Errors
/// What it is that must not be.
pub fn permit(address: IpAddr, standing: Standing) -> Result<(), &'static str> {
    let address = inner(address);
    if METADATA.contains(&address) {
        return Err("the address of a metadata service");
    }
    let nowhere = match address {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_unspecified(),
    };
    if nowhere || address.is_multicast() {
        return Err("an address of no single machine");
    }
    if is_link_local(address) {
        return Err("a link-local address");
    }
    match standing {
        Standing::Named => Ok(()),
        Standing::Stranger if address.is_loopback() => Err("an address of this machine"),
        Standing::Stranger if is_private(address) => Err("a private address"),
        Standing::Stranger => Ok(()),
    }
}

/// The address that an IPv6 address stands for: mapped, compatible, NAT64, 6to4.
fn inner(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let four = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] => four(high, low),
        [0, 0, 0, 0, 0xffff, 0, high, low] => four(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => four(high, low),
        [0x2002, high, low, ..] => four(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => four(high, low),
        _ => address,
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let benchmarks = a == 198 && (18..20).contains(&b);
            let protocols = (a, b, c) == (192, 0, 0);
            // Class E: clouds number pods with it.
            v4.is_private() || shared || benchmarks || protocols || a >= 240
        }
        IpAddr::V6(v6) => {
            let site = v6.segments()[0] & 0xffc0 == 0xfec0;
            // A network's own NAT64 and Teredo: IPv4 addresses behind them, wherever those stand.
            let translated = matches!(v6.segments(), [0x64, 0xff9b, 1, ..] | [0x2001, 0, ..]);
            v6.is_unique_local() || site || translated
        }
    }
}
