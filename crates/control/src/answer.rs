//! Questions about a lab, answered from what runs.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::{fs, io};

use minivpc_dataplane::state::{CONNECTIONS, Connection, DATAGRAMS, SESSIONS};
use minivpc_dataplane::{Component, Kind, Port, Probe, tcp_flags};
use minivpc_host::LinkStats;
use minivpc_model::{FindError, GuestId, InstanceId, NetworkInterfaceId, World, link_number};

use crate::guest::Guest;
use crate::protocol::{Answer, Described, Failure, LabFile, Question, TracePacket};
use crate::running::{Current, Running};
use crate::view;
use crate::views::Views;
use crate::{change, commands, describe, guest};

/// What a trace takes for a length (that of a `ping`), an echo id and a source port.
const SIZE: u16 = 84;
const ICMP_ID: u16 = 4711;
const SOURCE_PORT: u16 = 49_152;

/// What answers look at: a lab between two changes.
pub(crate) struct Answers<'a> {
    pub running: &'a Running,
    pub current: &'a Current,
    pub views: Views<'a>,
}

impl Answers<'_> {
    pub fn answer(&self, question: Question) -> Answer {
        match question {
            Question::Status => json(&self.status()),
            Question::Drops => json(&self.drops()),
            Question::Flows { why } => json(&self.flows(why)),
            Question::Trace(packet) => json(&self.trace(&packet)?),
            Question::Describe { kind, name } => self.describe(kind, &name),
            Question::Metrics { kind, name } => self.metrics(kind, &name),
            Question::Guest { instance } => json(&self.guest(&instance)?),
            Question::Logs { instance } => json(&self.logs(&instance)?),
            Question::Plan(file) => json(&self.plan(&file)?),
        }
    }

    fn world(&self) -> &World {
        &self.views.lab.world
    }

    fn find(&self, guest: &str) -> Result<GuestId, Failure> {
        Ok(self.world().find_guest(guest).map_err(not_found)?)
    }

    fn guest(&self, name: &str) -> Result<&str, Failure> {
        match self.current.guests.get(&self.find(name)?) {
            Some(guest) => Ok(&guest.spec.name),
            None => Err(format!("instance '{name}' is stopped; `minivpc start {name}` starts it").into()),
        }
    }

    fn logs(&self, instance: &str) -> Result<String, Failure> {
        let path = commands::log(&self.running.directory, self.find(instance)?);
        match fs::read(&path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(format!("{}: {error}", path.display()).into()),
        }
    }

    fn plan(&self, file: &LabFile) -> Result<view::Plan, Failure> {
        let (ops, next) = self.current.next(file)?;
        Ok(change::plan(&ops, self.current, &next, file))
    }

    fn links(&self) -> HashMap<String, Vec<LinkStats>> {
        let stats = |(id, guest): (&GuestId, &Guest)| {
            Some((id.to_string(), self.running.keeper.link_stats(&guest.spec.name).ok()?))
        };
        self.current.guests.iter().filter_map(stats).collect()
    }

    fn status(&self) -> view::Status {
        let (state, now) = (self.running.engine.state(), self.running.now());
        let (links, drops) = (self.links(), self.running.engine.drops().list());
        view::Status {
            lab: self.views.lab.name.clone(),
            up_seconds: self.running.base.clock.elapsed().as_secs(),
            engine_deaths: self.running.base.deaths,
            engine_seconds: self.running.now().since(self.running.took_over).0 / 1_000_000_000,
            instances: self.views.instances(&links, state, &drops),
            network_interfaces: self.views.network_interfaces(state, &drops),
            hosts: self.views.hosts(&links),
            nat_gateways: self.views.nat_gateways(state, now),
            internet_gateways: self.views.internet_gateways(),
            vpn_gateways: self.views.vpn_gateways(),
            customer_sites: self.views.customer_sites(),
            connections: state.connections(now.tick()).len(),
            drops: drops.iter().map(|dropped| dropped.count).sum(),
            tables: {
                let counts = state.counts();
                view::Tables {
                    connections: view::Table { used: counts.connections, limit: CONNECTIONS },
                    sessions: view::Table { used: counts.sessions, limit: SESSIONS },
                    fragmented_datagrams: view::Table { used: counts.datagrams, limit: DATAGRAMS },
                }
            },
            flow_cache: view::FlowCache::sum(self.running.publisher.flows()),
        }
    }

    fn drops(&self) -> view::Drops {
        let mut drops: Vec<_> =
            self.running.engine.drops().list().iter().map(|dropped| self.views.drop(dropped)).collect();
        for (guest, links) in self.links() {
            let slow = links.iter().filter(|link| link.engine_too_slow > 0);
            drops.extend(slow.map(|link| self.too_slow(&guest, link)));
        }
        view::Drops { drops }
    }

    /// What the kernel dropped because nobody read it in time.
    fn too_slow(&self, guest: &str, link: &LinkStats) -> view::Drop {
        let sender = match guest.parse() {
            Ok(GuestId::Instance(id)) => self.interface_of(id, &link.interface).map(Component::NetworkInterface),
            Ok(GuestId::Host(id)) => Some(Component::Host(id)),
            Err(_) => None,
        };
        let sender = sender.map(|sender| self.views.resources(sender)).unwrap_or_default();
        let now = self.running.now().0 as f64 / 1e9;
        view::Drop {
            reason: "MINIVPC_ENGINE_TOO_SLOW".to_owned(),
            text: "the guest sent faster than the engine read; AWS would have forwarded it".to_owned(),
            sender: sender.first().cloned().unwrap_or_default(),
            resources: sender,
            packet: "frames".to_owned(),
            fields: None,
            count: link.engine_too_slow,
            first_seconds: 0.0,
            last_seconds: now,
        }
    }

    /// The interface that an instance calls `eth1`.
    fn interface_of(&self, instance: InstanceId, link: &str) -> Option<NetworkInterfaceId> {
        self.world().interface_at(self.world().instance(instance).ok()?, link_number(link)?)
    }

    fn flows(&self, why: bool) -> view::Flows {
        let now = self.running.now();
        let serials: HashMap<_, _> = self.world().network_interfaces().map(|eni| (eni.serial, eni)).collect();
        let flow = |connection: Arc<Connection>| {
            let key = connection.key;
            let eni = serials.get(&key.eni)?;
            let is_own = |address: IpAddr| eni.addresses().any(|own| address == IpAddr::from(own));
            let flow = if is_own(key.flow.src) { key.flow } else { key.flow.reversed() };
            let end = |address: IpAddr, port: u16| match flow.protocol {
                6 | 17 => format!("{address}:{port}"),
                _ if port != 0 => format!("{address} id {port}"),
                _ => address.to_string(),
            };
            let steps =
                if why { self.running.engine.recall(self.views.snapshot, now, &connection) } else { Vec::new() };
            Some(view::FlowView {
                interface: self.views.interface(eni.id),
                direction: connection.direction.as_str().to_owned(),
                protocol: flow.protocol,
                local: end(flow.src, flow.src_port),
                remote: end(flow.dst, flow.dst_port),
                phase: format!("{:?}", connection.phase()).to_lowercase(),
                age_seconds: now.tick().since(connection.opened),
                idle_seconds: now.tick().since(connection.last_seen()),
                steps: steps.into_iter().map(|line| self.views.step(line)).collect(),
            })
        };
        let mut flows: Vec<_> =
            self.running.engine.state().connections(now.tick()).into_iter().filter_map(flow).collect();
        flows.sort_by(|a, b| (&a.interface.name, &a.remote, &a.local).cmp(&(&b.interface.name, &b.remote, &b.local)));
        view::Flows { flows }
    }

    fn trace(&self, packet: &TracePacket) -> Result<view::Trace, Failure> {
        let port = |name: &str| match self.world().find_network_interface(name) {
            // A guest's name is also that of its primary interface, and of one of several.
            Ok(eni) if self.find(name).is_err() => {
                self.views.snapshot.eni_of(eni).ok_or_else(|| Failure::from("it isn't there any more"))
            }
            _ => self.port(self.find(name)?),
        };
        let from = port(&packet.from)?;
        let to = match packet.to.parse::<IpAddr>() {
            Ok(address) => address,
            Err(_) => self.address_for(from, port(&packet.to)?),
        };
        let (kind, source_port, port) = match (packet.protocol.as_str(), packet.port) {
            ("icmp", None) => (Kind::EchoRequest, packet.source_port.unwrap_or(ICMP_ID), 0),
            ("icmp", Some(_)) => return Err("ICMP has no ports: leave --port out".into()),
            ("tcp", Some(port)) => {
                let flags = if packet.ack { tcp_flags::ACK } else { tcp_flags::SYN };
                (Kind::Tcp(flags), packet.source_port.unwrap_or(SOURCE_PORT), port)
            }
            ("udp", Some(port)) => (Kind::Udp, packet.source_port.unwrap_or(SOURCE_PORT), port),
            ("tcp" | "udp", None) => return Err(format!("--protocol {} needs --port N", packet.protocol).into()),
            (other, _) => return Err(format!("protocol '{other}' can't be traced: icmp, tcp or udp").into()),
        };
        let size = packet.size.unwrap_or(SIZE);
        let probe = Probe { from, to, kind, source_port, port, ttl: packet.ttl, size };
        let (there, back) = self.running.engine.trace(self.views.snapshot, self.running.now(), &probe);
        Ok(view::Trace {
            from: self.name_of(from),
            to: self.name_of_address(from, to),
            there: self.views.journey(&there),
            back: back.as_ref().map(|back| self.views.journey(back)),
        })
    }

    /// The port of a guest, of an instance that of its primary interface.
    fn port(&self, guest: GuestId) -> Result<u16, Failure> {
        let serial = guest::serials(self.world(), guest).into_iter().next();
        let port = serial.and_then(|serial| self.views.snapshot.port_of(serial));
        port.ok_or_else(|| "the instance has no interface".into())
    }

    /// By which address `from` knows `to`: the internet knows an instance by its public one.
    fn address_for(&self, from: u16, to: u16) -> IpAddr {
        let snapshot = self.views.snapshot;
        let ip = snapshot.ip(to);
        match (snapshot.port(from), snapshot.port(to)) {
            (Port::Host(host), Port::Eni(eni)) if snapshot.host(host).site.is_none() => {
                snapshot.public_of(snapshot.subnet(snapshot.eni(eni).subnet).vpc, ip).unwrap_or(ip)
            }
            _ => ip,
        }
    }

    /// An instance or host by its name.
    fn name_of(&self, port: u16) -> String {
        let name = self.views.snapshot.name(port);
        match self.views.snapshot.port(port) {
            Port::Eni(_) => name.split('/').next().unwrap_or(name).to_owned(),
            Port::Host(_) | Port::Services => name.to_owned(),
        }
    }

    /// Whoever has an address, as it is seen at a port.
    fn name_of_address(&self, port: u16, address: IpAddr) -> String {
        let snapshot = self.views.snapshot;
        // With the same address several may be in several sites and VPCs: who is near is meant.
        let (vpc, site) = match snapshot.port(port) {
            Port::Eni(eni) => {
                let vpc = snapshot.subnet(snapshot.eni(eni).subnet).vpc;
                let vgw = snapshot.vgws.iter().find(|vgw| vgw.vpc == vpc);
                (Some(vpc), vgw.and_then(|vgw| vgw.site_of(address)))
            }
            Port::Host(host) => {
                let site = snapshot.host(host).site;
                (site.map(|site| snapshot.vgw(snapshot.site(site).vgw).vpc), site)
            }
            Port::Services => (None, None),
        };
        let near = vpc.and_then(|vpc| snapshot.owner(vpc, address));
        let public = || snapshot.public(address).map(|public| public.eni);
        let at = |site| snapshot.host_at(site, address).map(|host| snapshot.port_of_host(host));
        let found = near.or_else(|| at(Some(site?))).or_else(public).or_else(|| at(None));
        found.map_or_else(|| address.to_string(), |port| self.name_of(port))
    }

    fn metrics(&self, kind: Described, name: &str) -> Answer {
        match kind {
            Described::NatGateway => {
                let id = self.world().find_nat_gateway(None, name).map_err(not_found)?.to_string();
                let all = self.views.nat_gateways(self.running.engine.state(), self.running.now());
                let found = all.into_iter().find(|nat| nat.id == id);
                let nat = found.ok_or_else(|| format!("NAT gateway '{name}' was deleted, and its metrics with it"))?;
                json(&serde_json::json!({ "NatGatewayId": nat.id, "Metrics": nat.metrics }))
            }
            Described::NetworkInterface => {
                let id = self.world().find_network_interface(name).map_err(not_found)?.to_string();
                let view::Status { instances, network_interfaces, .. } = self.status();
                let all = instances.into_iter().flat_map(|instance| instance.interfaces).chain(network_interfaces);
                let eni = all.into_iter().find(|eni| eni.id == id).ok_or_else(|| format!("'{name}' is a gateway's"))?;
                json(&serde_json::json!({ "NetworkInterfaceId": eni.id, "Metrics": eni.metrics, "Link": eni.link }))
            }
            Described::RouteTable
            | Described::NetworkAcl
            | Described::SecurityGroup
            | Described::InternetGateway
            | Described::VpnGateway
            | Described::VpnConnection
            | Described::ElasticIp
            | Described::DhcpOptions
            | Described::HostedZone => Err("only NAT gateways and network interfaces have metrics".into()),
        }
    }

    fn describe(&self, kind: Described, name: &str) -> Answer {
        let world = self.world();
        let described = match kind {
            Described::RouteTable => {
                describe::route_table(world, world.find_route_table(None, name).map_err(not_found)?)
            }
            Described::NetworkAcl => {
                describe::network_acl(world, world.find_network_acl(None, name).map_err(not_found)?)
            }
            Described::SecurityGroup => {
                describe::security_group(world, world.find_security_group(None, name).map_err(not_found)?)
            }
            Described::NatGateway => {
                describe::nat_gateway(world, world.find_nat_gateway(None, name).map_err(not_found)?)
            }
            Described::InternetGateway => {
                describe::internet_gateway(world, world.find_internet_gateway(None, name).map_err(not_found)?)
            }
            Described::VpnGateway => {
                describe::vpn_gateway(world, world.find_vpn_gateway(None, name).map_err(not_found)?)
            }
            Described::VpnConnection => {
                describe::vpn_connection(world, world.find_vpn_connection(None, name).map_err(not_found)?)
            }
            Described::ElasticIp => describe::elastic_ip(world, world.find_elastic_ip(None, name).map_err(not_found)?),
            Described::DhcpOptions => {
                describe::dhcp_options(world, world.find_dhcp_options(None, name).map_err(not_found)?)
            }
            Described::HostedZone => {
                describe::hosted_zone(world, world.find_hosted_zone(None, name).map_err(not_found)?)
            }
            Described::NetworkInterface => {
                describe::network_interface(world, world.find_network_interface(name).map_err(not_found)?)
            }
        };
        described.map_err(|refusal| refusal.to_string().into())
    }
}

/// A name that names nothing, with what there is.
pub(crate) fn not_found(error: FindError) -> String {
    match &error {
        FindError::None { names, .. } if !names.is_empty() => format!("{error}; these are: {}", names.join(", ")),
        FindError::None { .. } | FindError::Several { .. } => error.to_string(),
    }
}

pub(crate) fn json(value: &(impl serde::Serialize + ?Sized)) -> Answer {
    serde_json::to_value(value).map_err(|error| error.to_string().into())
}
