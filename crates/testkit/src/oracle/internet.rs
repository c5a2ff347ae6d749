//! Internet gateways and the internet behind them.

use std::net::Ipv4Addr;

use minivpc_model::*;

use super::{Datum, Fate, Oracle, Party, Place, Trip, What};

/// The router of the lab's internet (IGW-12).
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// RFC 6598.
fn is_shared(address: Ipv4Addr) -> bool {
    (Ipv4Addr::new(100, 64, 0, 0)..=Ipv4Addr::new(100, 127, 255, 255)).contains(&address)
}

impl Oracle<'_> {
    /// What a public address stands for, if its VPC is on the internet.
    fn standing_for(&self, address: Ipv4Addr) -> Option<(InternetGatewayId, NetworkInterfaceId, Ipv4Addr)> {
        let held = self.world.public_addresses().find(|public| public.public_ip == address)?;
        let vpc = self.vpc_of(self.eni(held.network_interface).subnet);
        Some((self.world.vpc(vpc).unwrap().internet_gateway?, held.network_interface, held.private_ip))
    }

    fn public_of(&self, vpc: VpcId, private: Ipv4Addr) -> Option<Ipv4Addr> {
        let is_it = |public: &PublicAddress| {
            public.private_ip == private && self.vpc_of(self.eni(public.network_interface).subnet) == vpc
        };
        self.world.public_addresses().find(is_it).map(|public| public.public_ip)
    }

    pub(super) fn out_of_vpc(&self, igw: InternetGatewayId, from: &Subnet, packet: Datum, trip: &mut Trip<'_>) -> Fate {
        let vpc = from.vpc;
        if packet.dst.is_private() || is_shared(packet.dst) {
            return Fate::Dropped(Place::PrivateDestination(igw)); // IGW-15, IGW-18
        }
        let Some(src) = self.public_of(vpc, packet.src) else {
            return Fate::Dropped(Place::NoPublicAddress(igw)); // IGW-3
        };
        let gateway = self.world.internet_gateway(igw).unwrap();
        let sends_itself = self.owner(vpc, packet.src).is_some_and(|sender| sender.subnet == from.id);
        let route = self.edge_route(gateway, packet.src);
        if route.is_some_and(|route| route.target != RouteTarget::Local) && sends_itself {
            if !gateway.passes_asymmetric_return {
                return Fate::Dropped(Place::Redirected(igw));
            }
            trip.kinds.insert("asymmetric return");
        }
        trip.kinds.insert("out of the VPC");
        let what = match packet.what {
            What::Error { kind, code, quoted: (from, to, flow) } => {
                let to = self.public_of(vpc, to).unwrap_or(to); // IGW-17
                What::Error { kind, code, quoted: (from, to, flow) }
            }
            what => what,
        };
        let packet = Datum { src, what, ..packet };
        if self.standing_for(packet.dst).is_some() {
            trip.kinds.insert("hairpin by public addresses"); // IGW-10
            return self.enter_vpc(packet, false, trip);
        }
        self.internet(packet, false, trip)
    }

    /// What the gateway's own table, if it has one, says of a private address.
    fn edge_route(&self, gateway: &InternetGateway, private: Ipv4Addr) -> Option<Route> {
        self.longest(gateway.route_table?, private)
    }

    pub(super) fn host_sent(&self, sender: HostId, packet: Datum, trip: &mut Trip<'_>) -> Fate {
        if super::is_nobodys(packet.src) || super::is_nobodys(packet.dst) {
            return Fate::Dropped(Place::HostSends(sender));
        }
        match self.world.host(sender).unwrap().site {
            Some(site) => self.customer_router(self.world.vpn_connection(site).unwrap(), packet, trip),
            None => self.internet(packet, true, trip),
        }
    }

    fn internet(&self, packet: Datum, by_a_host: bool, trip: &mut Trip<'_>) -> Fate {
        let host = self.world.hosts().find(|host| host.site.is_none() && host.address == packet.dst);
        if host.is_none() && self.standing_for(packet.dst).is_none() {
            return Fate::Dropped(Place::Internet);
        }
        if packet.ttl <= 1 {
            let What::Error { .. } = packet.what else {
                let quoted = (packet.src, packet.dst, super::flowing(packet.what));
                let what = What::Error { kind: 11, code: 0, quoted };
                let answer = Datum { src: ROUTER, dst: packet.src, what, ttl: 255 };
                return self.answered(trip, |known, back| known.internet(answer, false, back));
            };
            return Fate::Dropped(Place::Internet);
        }
        let packet = Datum { ttl: packet.ttl - 1, ..packet };
        match host {
            Some(host) => Fate::Delivered(Party::Host(host.id), packet),
            None => self.enter_vpc(packet, by_a_host, trip),
        }
    }

    fn enter_vpc(&self, packet: Datum, by_a_host: bool, trip: &mut Trip<'_>) -> Fate {
        let (igw, eni, private) = self.standing_for(packet.dst).unwrap();
        if packet.src.is_private() || is_shared(packet.src) {
            return Fate::Dropped(Place::PrivateSource(igw)); // IGW-15
        }
        if by_a_host && self.standing_for(packet.src).is_some() {
            return Fate::Dropped(Place::Spoofed(igw)); // IGW-15
        }
        if self.eni(eni).attachment.is_none() {
            return Fate::Dropped(Place::NobodysPublicAddress(igw)); // R-40a
        }
        trip.kinds.insert("into the VPC");
        trip.middlebox = true; // SG-9
        let what = match packet.what {
            What::Error { kind, code, quoted: (from, to, flow) } => {
                let from = self.standing_for(from).map_or(from, |(.., private)| private); // IGW-17
                What::Error { kind, code, quoted: (from, to, flow) }
            }
            what => what,
        };
        let packet = Datum { dst: private, what, ..packet };
        let gateway = self.world.internet_gateway(igw).unwrap();
        let eni = match (gateway.route_table, self.edge_route(gateway, private).map(|route| route.target)) {
            (None, _) | (Some(_), Some(RouteTarget::Local)) => self.eni(eni),
            (Some(table), Some(RouteTarget::NetworkInterface(middlebox))) => {
                let middlebox = self.eni(middlebox);
                if middlebox.attachment.is_none() {
                    return Fate::Dropped(Place::Blackhole(table));
                }
                if self.world.public_address_of(middlebox.id, middlebox.private_ip).is_none() {
                    return Fate::Dropped(Place::NoPublicMiddlebox(table));
                }
                trip.kinds.insert("led to a middlebox");
                middlebox
            }
            (Some(table), None) => return Fate::Dropped(Place::NoRoute(table)),
            (Some(_), Some(other)) => panic!("{other:?} in a gateway's table (R-32)"),
        };
        self.enter(eni, packet, trip)
    }
}
