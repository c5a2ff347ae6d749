//! The internet, as far as a lab has one: a router that all hosts are behind.

use std::net::{IpAddr, Ipv4Addr};

use super::outside::{self, Router};
use crate::drop::DropReason;
use crate::explain::{Recorder, Step};
use crate::walk::{At, Next, Walk};

/// Its address is what a traceroute shows between a gateway and a host (IGW-12).
const ROUTER: Router = Router { address: IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1)), at: At::Internet };

/// To a host, or to whom a gateway has given a public address.
pub fn route<R: Recorder>(walk: &mut Walk<'_, R>) -> Next {
    let step = |act| Step::Internet { act };
    let destination = walk.packet.flow.dst;
    let next = match (walk.snapshot.host_at(None, destination), walk.snapshot.public(destination)) {
        (Some(host), _) => At::HostArrived { host },
        (None, Some(_)) => At::IntoVpc,
        (None, None) => return outside::drop(walk, step, DropReason::NoSuchHost),
    };
    outside::forward(walk, &ROUTER, step, next)
}
