//! The implicit router: the source subnet's route table decides; TTL stays (SEED-1).

use std::net::IpAddr;

use minivpc_packet::Kind;

use crate::drop::DropReason;
use crate::explain::{Recorder, Step};
use crate::snapshot::{EniKind, Target};
use crate::walk::{Answer, At, Next, To, Verdict, Walk};

/// 169.254.168.0/22.
pub fn is_link_local_service(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.octets()[..2] == [169, 254] && v4.octets()[2] & 0xfc == 168)
}

/// R-15, SG-25: the router answers an echo request of its own subnet, whatever groups and lists say, and nothing else.
pub fn itself<R: Recorder>(walk: &mut Walk<'_, R>, sender: u16) -> Next {
    let subnet = walk.snapshot.eni(sender).subnet;
    let answers = walk.packet.kind == Kind::EchoRequest && walk.packet.fragment.is_none();
    walk.pass(Step::Router { subnet, answers });
    Next::End(if answers {
        Verdict::Answer { answer: Answer::Echo, from: At::Deliver { eni: sender } }
    } else {
        Verdict::Drop(DropReason::RouterAddress)
    })
}

pub fn route<R: Recorder>(walk: &mut Walk<'_, R>, index: u16) -> Next {
    let subnet = walk.snapshot.subnet(index);
    let table = walk.snapshot.route_table(subnet.route_table);
    let destination = walk.packet.flow.dst;
    // no route leads to AWS's own services, also not a wider one.
    let route = table.lookup(destination).filter(|_| !is_link_local_service(destination));
    walk.pass(Step::Route { table: subnet.route_table, route });
    let Some(route) = route else { return Next::End(Verdict::Drop(DropReason::NoRoute)) };
    let eni = match table.routes[usize::from(route)].target {
        Target::Blackhole => return Next::End(Verdict::Drop(DropReason::Blackhole)),
        Target::InternetGateway(igw) => {
            return Next::Go(At::Leave { subnet: index, to: To::InternetGateway(igw) });
        }
        Target::VpnGateway(vgw) => return Next::Go(At::Leave { subnet: index, to: To::VpnGateway(vgw) }),
        Target::Local => match walk.snapshot.owner(subnet.vpc, destination) {
            Some(eni) => eni,
            None if walk.snapshot.is_router(subnet.vpc, destination) => {
                return Next::End(Verdict::Drop(DropReason::RouterAddress));
            }
            None => return Next::End(Verdict::Drop(DropReason::NoSuchAddress)),
        },
        Target::Eni(eni) => eni,
    };
    let arrives_at = walk.snapshot.eni(eni);
    // NAT-24: what a gateway has sent must not come back to it.
    if let EniKind::Nat(_) = arrives_at.kind
        && arrives_at.has(walk.packet.flow.src)
    {
        return Next::Go(At::Arrived { eni });
    }
    // NACL-5: within one subnet no network ACL is asked.
    if arrives_at.subnet == index {
        Next::Go(At::Arrived { eni })
    } else {
        Next::Go(At::Leave { subnet: index, to: To::Eni(eni) })
    }
}
