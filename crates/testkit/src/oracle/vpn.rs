//! Virtual private gateways and the sites behind them.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use minivpc_model::*;

use super::{Datum, Fate, Oracle, Party, Place, Trip, What};

impl Oracle<'_> {
    /// The routes of a table with those that are propagated into it, without those that can't win.
    pub(super) fn routes(&self, table: &RouteTable) -> Vec<Route> {
        let vpc = IpNet::V4(self.world.vpc(table.vpc).unwrap().cidr);
        let mut all = table.routes.clone();
        for connection in self.world.vpn_connections() {
            for block in connection.static_routes.iter().map(|block| IpNet::V4(*block)) {
                let loses = vpc.contains(&block) || table.routes.iter().any(|own| own.destination == block);
                if table.propagating_vgws.contains(&connection.vpn_gateway) && !loses {
                    all.push(Route {
                        destination: block,
                        target: RouteTarget::VpnGateway(connection.vpn_gateway),
                        route_origin: RouteOrigin::EnableVgwRoutePropagation,
                        origin: Origin::default(),
                    });
                }
            }
        }
        all
    }

    fn attached(&self, vpc: VpcId, address: Ipv4Addr) -> Option<&NetworkInterface> {
        self.owner(vpc, address).filter(|eni| eni.attachment.is_some())
    }

    pub(super) fn out_by_vpn(&self, id: VpnGatewayId, packet: Datum, trip: &mut Trip<'_>) -> Fate {
        let gateway = self.world.vpn_gateway(id).unwrap();
        if self.attached(gateway.vpc, packet.src).is_none() {
            return Fate::Dropped(Place::VpnSource(id)); // VPN-1
        }
        let connections = self.world.vpn_connections().filter(|connection| connection.vpn_gateway == id);
        let matching = connections.flat_map(|c| c.static_routes.iter().map(move |block| (block, c)));
        let best =
            matching.filter(|(block, _)| block.contains(&packet.dst)).max_by_key(|(block, _)| block.prefix_len());
        match best {
            None => Fate::Dropped(Place::VpnNoRoute(id)), // VPN-1
            Some((_, connection)) => {
                trip.kinds.insert("to a site");
                self.customer_router(connection, packet, trip)
            }
        }
    }

    pub(super) fn customer_router(&self, site: &VpnConnection, packet: Datum, trip: &mut Trip<'_>) -> Fate {
        let gateway = self.world.vpn_gateway(site.vpn_gateway).unwrap();
        if packet.dst == site.router {
            let What::Echo(id) = packet.what else { return Fate::Dropped(Place::Site(site.id)) };
            let answer = Datum { src: site.router, dst: packet.src, what: What::EchoReply(id), ttl: 255 };
            return self.answered(trip, |known, back| known.customer_router(site, answer, back));
        }
        let host = self.world.hosts().find(|host| host.site == Some(site.id) && host.address == packet.dst);
        if host.is_none() && !self.world.vpc(gateway.vpc).unwrap().cidr.contains(&packet.dst) {
            return Fate::Dropped(Place::Site(site.id));
        }
        if packet.ttl <= 1 {
            let What::Error { .. } = packet.what else {
                let quoted = (packet.src, packet.dst, super::flowing(packet.what));
                let what = What::Error { kind: 11, code: 0, quoted };
                let answer = Datum { src: site.router, dst: packet.src, what, ttl: 255 };
                return self.answered(trip, |known, back| known.customer_router(site, answer, back));
            };
            return Fate::Dropped(Place::Site(site.id));
        }
        let packet = Datum { ttl: packet.ttl - 1, ..packet };
        match host {
            Some(host) => Fate::Delivered(Party::Host(host.id), packet),
            None => self.enter_by_vpn(gateway, packet, trip),
        }
    }

    fn enter_by_vpn(&self, gateway: &VpnGateway, packet: Datum, trip: &mut Trip<'_>) -> Fate {
        if self.world.vpc(gateway.vpc).unwrap().cidr.contains(&packet.src) {
            return Fate::Dropped(Place::VpnSpoofed(gateway.id));
        }
        let Some(owner) = self.attached(gateway.vpc, packet.dst) else {
            return Fate::Dropped(Place::VpnDestination(gateway.id)); // VPN-1
        };
        trip.kinds.insert("from a site");
        trip.middlebox = true; // SG-9
        let Some(table) = gateway.route_table else { return self.enter(owner, packet, trip) };
        match self.longest(table, packet.dst).map(|route| route.target) {
            None => Fate::Dropped(Place::NoRoute(table)),
            Some(RouteTarget::Local) => self.enter(owner, packet, trip),
            Some(RouteTarget::NetworkInterface(middlebox)) if self.eni(middlebox).attachment.is_none() => {
                Fate::Dropped(Place::Blackhole(table))
            }
            Some(RouteTarget::NetworkInterface(middlebox)) => {
                trip.kinds.insert("led to a middlebox from a site"); // VPN-6
                self.enter(self.eni(middlebox), packet, trip)
            }
            Some(other) => panic!("{other:?} in a gateway's table (R-32)"),
        }
    }
}
