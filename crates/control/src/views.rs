//! From the dataplane's and the model's words to those of the views.

use std::collections::HashMap;

use minivpc_config::Lab;
use minivpc_dataplane::state::State;
use minivpc_dataplane::{Component, Dropped, Journey, Line, Now, Snapshot, Subject, Verdict};
use minivpc_host::LinkStats;
use minivpc_model::{Attachment, Connectivity, NetworkInterface, Origin, Serial, World};

use crate::view::*;

/// Turns the dataplane's answers into views.
pub(crate) struct Views<'a> {
    pub lab: &'a Lab,
    pub file: &'a str,
    pub snapshot: &'a Snapshot,
}

impl Views<'_> {
    fn place(&self, origin: Option<Origin>) -> Option<String> {
        let place = self.lab.place(origin?)?;
        Some(format!("{}:{}", self.file, place.line))
    }

    pub fn step(&self, line: Line) -> StepView {
        let place = self.place(line.origin);
        let Line { hop, name, id, subnet, subject, decision, note, .. } = line;
        StepView { hop: hop.to_owned(), name, id, subnet, subject, decision, note, place }
    }

    pub fn journey(&self, journey: &Journey) -> JourneyView {
        let handed_to = journey.handed_to(self.snapshot).map(|port| self.snapshot.name(port).to_owned());
        let verdict = match journey.verdict {
            Verdict::Deliver { .. } if handed_to.is_some() => "handed over",
            Verdict::Deliver { .. } => "delivered",
            Verdict::Answer { .. } => "answered",
            Verdict::Drop(_) => "dropped",
        };
        let lines = journey.lines(self.snapshot);
        let through = lines.iter().filter(|line| line.hop == "nat").map(|line| line.name.clone()).collect();
        JourneyView {
            packet: journey.sent.to_string(),
            sent: (&journey.sent).into(),
            last: (&journey.last).into(),
            steps: lines.into_iter().map(|line| self.step(line)).collect(),
            verdict: verdict.to_owned(),
            handed_to,
            reason: journey.reason().map(|reason| reason.code().to_owned()),
            through,
        }
    }

    pub fn drop(&self, dropped: &Dropped) -> Drop {
        let (packet, fields) = match dropped.subject {
            Subject::Packet(packet) => (packet.to_string(), Some(Fields::from(&packet))),
            Subject::Arp(target) => (format!("arp who-has {target}"), None),
            Subject::EtherType(number) => (format!("ethertype 0x{number:04x}"), None),
            Subject::Frame => ("frame".to_owned(), None),
            Subject::Folded => ("earlier packets".to_owned(), None),
        };
        let seconds = |at: Now| at.0 as f64 / 1e9;
        Drop {
            reason: dropped.reason.code().to_owned(),
            text: dropped.reason.text().to_owned(),
            resources: self.resources(dropped.component),
            sender: self.resources(dropped.sender).into_iter().next().unwrap_or_default(),
            packet,
            fields,
            count: dropped.count,
            first_seconds: seconds(dropped.first),
            last_seconds: seconds(dropped.last),
        }
    }

    pub fn interface(&self, id: minivpc_model::NetworkInterfaceId) -> Resource {
        let name = self.snapshot.eni_of(id).map_or_else(String::new, |index| self.snapshot.eni(index).name.clone());
        Resource { kind: "network-interface".to_owned(), id: id.to_string(), name }
    }

    pub fn resources(&self, component: Component) -> Vec<Resource> {
        let world = &self.lab.world;
        let named = |kind: &str, id: String, tags: Option<&minivpc_model::Tags>| {
            let name = tags.and_then(minivpc_model::Tags::name).unwrap_or_default().to_owned();
            vec![Resource { kind: kind.to_owned(), id, name }]
        };
        match component {
            Component::NetworkInterface(id) => vec![self.interface(id)],
            Component::SecurityGroups(eni) => {
                let groups = world.network_interface(eni).map(|eni| eni.groups.clone()).unwrap_or_default();
                let group = |id: &minivpc_model::SecurityGroupId| {
                    let name = world.security_group(*id).map_or_else(|_| String::new(), |group| group.name.clone());
                    Resource { kind: "security-group".to_owned(), id: id.to_string(), name }
                };
                groups.iter().map(group).collect()
            }
            Component::Subnet(id) => named("subnet", id.to_string(), world.subnet(id).ok().map(|subnet| &subnet.tags)),
            Component::RouteTable(id) => {
                named("route-table", id.to_string(), world.route_table(id).ok().map(|table| &table.tags))
            }
            Component::NetworkAcl(id) => {
                named("network-acl", id.to_string(), world.network_acl(id).ok().map(|acl| &acl.tags))
            }
            Component::NatGateway(id) => {
                named("nat-gateway", id.to_string(), world.nat_gateway(id).ok().map(|nat| &nat.tags))
            }
            Component::InternetGateway(id) => {
                named("internet-gateway", id.to_string(), world.internet_gateway(id).ok().map(|igw| &igw.tags))
            }
            Component::VpnGateway(id) => {
                named("vpn-gateway", id.to_string(), world.vpn_gateway(id).ok().map(|vgw| &vgw.tags))
            }
            Component::VpnConnection(id) => {
                named("customer-site", id.to_string(), world.vpn_connection(id).ok().map(|site| &site.tags))
            }
            Component::Host(id) => {
                let name = world.host(id).map_or_else(|_| String::new(), |host| world.host_name(host));
                vec![Resource { kind: "host".to_owned(), id: id.to_string(), name }]
            }
            Component::Services => named("services", String::new(), None),
            Component::Internet => {
                vec![Resource { kind: "internet".to_owned(), id: String::new(), name: "internet".to_owned() }]
            }
        }
    }

    /// All instances; `links` are the counters by instance.
    pub fn instances(
        &self,
        links: &HashMap<String, Vec<LinkStats>>,
        state: &State,
        drops: &[Dropped],
    ) -> Vec<InstanceStatus> {
        let world = &self.lab.world;
        let instance = |instance: &minivpc_model::Instance| {
            let guest = instance.id.to_string();
            let enis = instance.network_interfaces.iter().filter_map(|id| world.network_interface(*id).ok());
            let subnet = enis.clone().next().and_then(|eni| world.subnet(eni.subnet).ok());
            let vpc = subnet.and_then(|subnet| world.vpc(subnet.vpc).ok());
            let links = links.get(&guest).map(Vec::as_slice).unwrap_or_default();
            let interfaces = enis.map(|eni| {
                let name = eni.device_index().map_or_else(String::new, |index| format!("eth{index}"));
                let link = links.iter().find(|link| link.interface == name);
                interface_status(world, eni, name, link, state, drops)
            });
            InstanceStatus {
                name: instance.tags.name().unwrap_or_default().to_owned(),
                id: instance.id.to_string(),
                vpc: vpc.map_or_else(String::new, |vpc| name(&vpc.tags)),
                subnet: subnet.map_or_else(String::new, |subnet| name(&subnet.tags)),
                availability_zone: subnet.map_or_else(String::new, |subnet| subnet.availability_zone.clone()),
                state: instance.state.as_str().to_owned(),
                interfaces: interfaces.collect(),
            }
        };
        let mut all: Vec<_> = world.instances().filter(|instance| !instance.is_terminated()).map(instance).collect();
        all.sort_by(|a, b| (&a.vpc, &a.name).cmp(&(&b.vpc, &b.name)));
        all
    }

    /// Interfaces that are no instance's and no NAT gateway's.
    pub fn network_interfaces(&self, state: &State, drops: &[Dropped]) -> Vec<InterfaceStatus> {
        let world = &self.lab.world;
        let others =
            world.network_interfaces().filter(|eni| matches!(eni.attachment, None | Some(Attachment::LoadBalancer(_))));
        others.map(|eni| interface_status(world, eni, name(&eni.tags), None, state, drops)).collect()
    }

    pub fn nat_gateways(&self, state: &State, now: Now) -> Vec<NatGatewayStatus> {
        let live = state.sessions(now.tick());
        let sessions = |serial: Serial| live.iter().filter(move |session| session.key.nat == serial);
        let world = &self.lab.world;
        let gateway = |nat: &minivpc_model::NatGateway| {
            let eni = world.network_interface(nat.network_interface).ok();
            let (connectivity_type, public) = match &nat.connectivity {
                Connectivity::Private => ("private", None),
                Connectivity::Public(ids) => ("public", ids.first().and_then(|id| world.address(*id).ok())),
            };
            NatGatewayStatus {
                name: name(&nat.tags),
                id: nat.id.to_string(),
                subnet: world.subnet(nat.subnet).map_or_else(|_| String::new(), |subnet| name(&subnet.tags)),
                state: nat.state.as_str().to_owned(),
                connectivity_type: connectivity_type.to_owned(),
                private_ip: eni.map_or_else(String::new, |eni| eni.private_ip.to_string()),
                secondary_private_ips: eni.map(secondary).unwrap_or_default(),
                public_ip: public.map(|address| address.public_ip.to_string()),
                sessions: eni.map_or(0, |eni| sessions(eni.serial).count()),
                metrics: eni.map_or_else(NatGatewayMetrics::default, |eni| {
                    // NAT-35: only TCP counts as a connection.
                    let active = sessions(eni.serial).filter(|session| session.is_established()).count();
                    NatGatewayMetrics::new(&state.metrics(eni.serial), active as u64)
                }),
            }
        };
        world.nat_gateways().filter(|nat| nat.is_available()).map(gateway).collect()
    }

    /// All hosts outside the VPCs; `links` are the counters by guest.
    pub fn hosts(&self, links: &HashMap<String, Vec<LinkStats>>) -> Vec<HostStatus> {
        let world = &self.lab.world;
        let site = |id| world.vpn_connection(id).map_or_else(|_| String::new(), |site| name(&site.tags));
        let host = |host: &minivpc_model::Host| HostStatus {
            name: world.host_name(host),
            id: host.id.to_string(),
            site: host.site.map(site),
            address: host.address.to_string(),
            link: links.get(&host.id.to_string()).and_then(|links| links.first()).cloned(),
        };
        let mut all: Vec<_> = world.hosts().map(host).collect();
        all.sort_by(|a, b| (&a.site, &a.name).cmp(&(&b.site, &b.name)));
        all
    }

    pub fn internet_gateways(&self) -> Vec<GatewayStatus> {
        let all = self.lab.world.internet_gateways();
        all.map(|igw| self.gateway(&igw.tags, igw.id.to_string(), igw.vpc)).collect()
    }

    pub fn vpn_gateways(&self) -> Vec<GatewayStatus> {
        let all = self.lab.world.vpn_gateways();
        all.map(|vgw| self.gateway(&vgw.tags, vgw.id.to_string(), vgw.vpc)).collect()
    }

    fn gateway(&self, tags: &minivpc_model::Tags, id: String, vpc: minivpc_model::VpcId) -> GatewayStatus {
        let vpc = self.lab.world.vpc(vpc).map_or_else(|_| String::new(), |vpc| name(&vpc.tags));
        GatewayStatus { name: name(tags), id, vpc }
    }

    pub fn customer_sites(&self) -> Vec<SiteStatus> {
        let world = &self.lab.world;
        let site = |connection: &minivpc_model::VpnConnection| SiteStatus {
            name: name(&connection.tags),
            id: connection.id.to_string(),
            vpn_gateway: world
                .vpn_gateway(connection.vpn_gateway)
                .map_or_else(|_| String::new(), |vgw| name(&vgw.tags)),
            static_routes: connection.static_routes.iter().map(ToString::to_string).collect(),
            router: connection.router.to_string(),
        };
        world.vpn_connections().map(site).collect()
    }
}

fn interface_status(
    world: &World,
    eni: &NetworkInterface,
    name: String,
    link: Option<&LinkStats>,
    state: &State,
    drops: &[Dropped],
) -> InterfaceStatus {
    let its = drops.iter().filter(|drop| drop.sender == Component::NetworkInterface(eni.id));
    let subnet = world.subnet(eni.subnet).ok();
    let vpc = subnet.and_then(|subnet| world.vpc(subnet.vpc).ok());
    InterfaceStatus {
        name: if name.is_empty() { eni.id.to_string() } else { name },
        id: eni.id.to_string(),
        status: eni.status().to_owned(),
        mac: eni.mac.to_string(),
        vpc: vpc.map_or_else(String::new, |vpc| self::name(&vpc.tags)),
        subnet: subnet.map_or_else(String::new, |subnet| self::name(&subnet.tags)),
        private_ip: eni.private_ip.to_string(),
        secondary_private_ips: secondary(eni),
        public_ips: publics(world, eni),
        link: link.cloned(),
        metrics: InterfaceMetrics::new(&state.tracking(eni.serial), its.map(|drop| drop.count).sum()),
    }
}

fn name(tags: &minivpc_model::Tags) -> String {
    tags.name().unwrap_or_default().to_owned()
}

fn publics(world: &World, eni: &NetworkInterface) -> Vec<String> {
    eni.addresses().filter_map(|private| Some(world.public_address_of(eni.id, private)?.to_string())).collect()
}

fn secondary(eni: &NetworkInterface) -> Vec<String> {
    eni.secondary_private_ips.iter().map(ToString::to_string).collect()
}
