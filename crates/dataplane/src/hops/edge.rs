//! The route table of a gateway: for what enters a VPC by it.

use std::net::IpAddr;

use crate::drop::DropReason;
use crate::explain::{Recorder, Step};
use crate::snapshot::Target;
use crate::walk::{At, Next, Verdict, Walk};

/// to the owner of the private address, or to a middlebox that the gateway `admits`.
pub fn route<R: Recorder>(
    walk: &mut Walk<'_, R>,
    index: u16,
    destination: IpAddr,
    owner: u16,
    admits: impl Fn(&Walk<'_, R>, u16) -> bool,
) -> Next {
    let table = walk.snapshot.route_table(index);
    let route = table.lookup(destination);
    walk.pass(Step::Route { table: index, route });
    match route.map(|route| table.routes[usize::from(route)].target) {
        None => Next::End(Verdict::Drop(DropReason::NoRoute)),
        Some(Target::Local) => Next::Go(At::Enter { eni: owner }),
        Some(Target::Eni(eni)) if admits(walk, eni) => Next::Go(At::Enter { eni }),
        //
        Some(Target::Eni(_)) => Next::End(Verdict::Drop(DropReason::MiddleboxWithoutPublicAddress)),
        Some(Target::InternetGateway(_) | Target::VpnGateway(_) | Target::Blackhole) => {
            Next::End(Verdict::Drop(DropReason::Blackhole))
        }
    }
}
