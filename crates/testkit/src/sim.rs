//! An engine with simulated hosts on virtual time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use etherparse::{ArpEthIpv4Packet, ArpOperation, ArpPacket, PacketBuilder};
use minivpc_dataplane::services::port;
use minivpc_dataplane::state::NatKey;
use minivpc_dataplane::{
    Cache, DropReason, Dropped, Engine, EniKind, HOST_TTL, Journey, Kind, Now, Port, Probe, Sent, Snapshot, compile,
};
use minivpc_model::{Serial, World};
use minivpc_packet::{Mac, VnetHeader};

use crate::frame::{Packet, Seen, cut, sum};
use crate::host::Host;

/// More frames than this in one exchange are an endless loop.
const MOST_FRAMES: usize = 10_000;

/// As many flows as any test has.
const FLOWS: usize = 1 << 16;

/// A lab in which time passes only when a test says so.
pub struct Sim {
    /// The engine.
    pub engine: Engine,
    /// What it forwards by.
    pub snapshot: Snapshot,
    /// The virtual time.
    pub now: Now,
    /// The flows of its only worker.
    pub cache: Cache,
    hosts: BTreeMap<Serial, Host>,
    received: BTreeMap<Serial, Vec<Seen>>,
    queue: VecDeque<(u16, VnetHeader, Vec<u8>)>,
    silent: bool,
}

impl Sim {
    /// A lab of this world. All start with the same NAT key; [`Sim::with_key`] takes another.
    #[must_use]
    pub fn new(world: &World) -> Self {
        Self::with_key(world, [7; 16])
    }

    /// A lab with this NAT key.
    #[must_use]
    pub fn with_key(world: &World, key: [u8; 16]) -> Self {
        let snapshot = compile(world, 1).unwrap();
        let engine = Engine::new(NatKey(key));
        let now = Now::seconds(1);
        let (hosts, received, queue) = (BTreeMap::new(), BTreeMap::new(), VecDeque::new());
        let cache = Cache::new(FLOWS);
        let mut sim = Self { engine, snapshot, now, cache, hosts, received, queue, silent: false };
        sim.add_hosts();
        sim
    }

    /// The world changes; flows live on, and so do the hosts that stay.
    pub fn publish(&mut self, world: &World) {
        self.snapshot = compile(world, self.snapshot.generation + 1).unwrap();
        let stay: BTreeSet<_> = self.snapshot.serials().collect();
        self.hosts.retain(|serial, _| stay.contains(serial));
        self.add_hosts();
    }

    fn add_hosts(&mut self) {
        for eni in &self.snapshot.enis {
            let EniKind::Guest { default_ttl, .. } = eni.kind else { continue };
            let host = || Host { mac: eni.mac.0, ttl: default_ttl, ..Host::default() };
            let ips = eni.addresses().filter_map(|ip| if let IpAddr::V4(v4) = ip { Some(v4) } else { None });
            self.hosts.entry(eni.serial).or_insert_with(host).ips = ips.collect();
        }
        for outside in &self.snapshot.hosts {
            let IpAddr::V4(ip) = outside.ip else { continue };
            let host = Host { ips: vec![ip], mac: outside.mac.0, ttl: HOST_TTL, ..Host::default() };
            self.hosts.entry(outside.serial).or_insert(host);
        }
        let open = [53, 80].into();
        let services = Host { everybody: true, mac: port::MACS.0.0, ttl: HOST_TTL, open, ..Host::default() };
        self.hosts.entry(port::SERIAL).or_insert(services);
    }

    fn host(&self, port: u16) -> &Host {
        &self.hosts[&self.snapshot.serial(port)]
    }

    /// The port of an interface by its name, of an instance's first interface, of a host, or of the subnets' `services`.
    #[must_use]
    pub fn port(&self, name: &str) -> u16 {
        let primary = format!("{name}/eth0");
        let instance =
            self.snapshot.enis.iter().position(|eni| [name, &primary].contains(&&*eni.name)).map(|index| index as u16);
        let host = || self.snapshot.hosts.iter().position(|host| host.name == name);
        let host = || host().map(|index| self.snapshot.port_of_host(index as u16));
        let services = || (name == "services").then(|| self.snapshot.port_of_services());
        instance.or_else(host).or_else(services).unwrap_or_else(|| panic!("no instance or host '{name}'"))
    }

    /// Somebody listens on this port of the instance.
    pub fn open(&mut self, instance: &str, port: u16) {
        let at = self.snapshot.serial(self.port(instance));
        self.hosts.get_mut(&at).unwrap().open.insert(port);
    }

    /// Lets time pass.
    pub fn wait(&mut self, seconds: u64) {
        self.now = Now(self.now.0 + Now::seconds(seconds).0);
        self.engine.state().sweep(self.now.tick());
    }

    /// The instance sends a packet to its router, or to a neighbour that ARP finds, and everybody answers until
    /// nobody has anything left to say.
    pub fn send(&mut self, from: &str, packet: &Packet) {
        let port = self.port(from);
        let next_hop = match self.snapshot.port(port) {
            Port::Eni(eni) => {
                let subnet = self.snapshot.subnet(self.snapshot.eni(eni).subnet);
                if subnet.cidr.contains(&packet.dst) { packet.dst } else { subnet.router }
            }
            // Whoever it asks for, its router answers.
            Port::Host(_) | Port::Services => packet.dst,
        };
        if let Some(mac) = self.arp(from, next_hop) {
            self.send_to_mac(from, packet, mac);
        }
    }

    /// The same to a MAC address that the instance knows from somewhere.
    pub fn send_to_mac(&mut self, from: &str, packet: &Packet, to: Mac) {
        let port = self.port(from);
        let host = self.host(port);
        let frame = packet.frame(host.ips[0], host.mac, to);
        self.send_frame(from, VnetHeader::PLAIN, frame);
    }

    /// The same with an identification, cut into fragments for a link of `mtu` bytes; `order` says which are sent.
    pub fn send_fragments(&mut self, from: &str, packet: &Packet, id: u16, mtu: u16, order: &[usize]) {
        let port = self.port(from);
        let router = self.snapshot.macs(port).1.0;
        let host = self.host(port);
        let mut frame = packet.frame(host.ips[0], host.mac, router);
        // Without the DF bit, and with an identification.
        frame[20] = 0;
        frame[18..20].copy_from_slice(&id.to_be_bytes());
        frame[24..26].fill(0);
        let checksum = !sum(&frame[14..34]);
        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
        let pieces = cut(&frame, mtu);
        for number in order {
            self.send_frame(from, VnetHeader::PLAIN, pieces[*number].clone());
        }
    }

    /// Any bytes at all, behind any virtio-net header.
    pub fn send_frame(&mut self, from: &str, vnet: VnetHeader, frame: Vec<u8>) {
        self.queue.push_back((self.port(from), vnet, frame));
        for _ in 0..MOST_FRAMES {
            let Some((port, vnet, mut frame)) = self.queue.pop_front() else { return };
            let mut emitted = Vec::new();
            let sent = &mut [Sent { port, vnet, frame: &mut frame }];
            self.engine.process(&mut self.cache, &self.snapshot, self.now, sent, &mut |to, vnet, frame| {
                emitted.push((to, *vnet, frame.to_vec()));
            });
            for (to, vnet, frame) in emitted {
                let Some(seen) = Seen::read(&vnet, &frame) else { continue };
                let answer = if self.silent { None } else { self.host(to).answer(&seen) };
                self.queue.extend(answer.map(|frame| (to, VnetHeader::PLAIN, frame)));
                self.received.entry(self.snapshot.serial(to)).or_default().push(seen);
            }
        }
        panic!("an exchange without end");
    }

    /// Who has `target`? The MAC address that the instance is told.
    pub fn arp(&mut self, from: &str, target: Ipv4Addr) -> Option<Mac> {
        let port = self.port(from);
        let host = self.host(port);
        self.arp_as(from, host.mac, host.ips[0], target)
    }

    /// The same by an asker that may not be who it says.
    pub fn arp_as(&mut self, from: &str, mac: Mac, ip: Ipv4Addr, target: Ipv4Addr) -> Option<Mac> {
        let port = self.port(from);
        let packet = ArpPacket::from(ArpEthIpv4Packet {
            operation: ArpOperation::REQUEST,
            sender_mac: mac,
            sender_ipv4: ip.octets(),
            target_mac: [0; 6],
            target_ipv4: target.octets(),
        });
        let builder = PacketBuilder::ethernet2(mac, [0xff; 6]).arp(packet);
        let mut frame = Vec::new();
        builder.write(&mut frame).unwrap();
        let mut answer = None;
        let sent = &mut [Sent { port, vnet: VnetHeader::PLAIN, frame: &mut frame }];
        self.engine.process(&mut self.cache, &self.snapshot, self.now, sent, &mut |to, _, f| {
            assert_eq!(to, port, "R-6: an ARP question reaches nobody but the network");
            answer = Some(f[22..28].try_into().unwrap());
        });
        answer
    }

    /// What the instance has received since it was asked last.
    pub fn received(&mut self, instance: &str) -> Vec<Seen> {
        let at = self.snapshot.serial(self.port(instance));
        self.received.remove(&at).unwrap_or_default()
    }

    /// What was dropped since the beginning: reason and how often, by reason.
    #[must_use]
    pub fn drops(&self) -> Vec<(DropReason, u64)> {
        let mut counts = BTreeMap::new();
        for dropped in self.engine.drops().list() {
            *counts.entry(dropped.reason).or_default() += dropped.count;
        }
        counts.into_iter().collect()
    }

    /// The same with all that is known of them.
    #[must_use]
    pub fn drops_in_full(&self) -> Vec<Dropped> {
        self.engine.drops().list()
    }

    /// From now on no host answers.
    pub fn silence(&mut self) {
        self.silent = true;
    }

    /// The journey of a packet that isn't sent, and of the answer to it.
    #[must_use]
    pub fn trace(&self, from: &str, to: Ipv4Addr, kind: Kind, ports: (u16, u16)) -> (Journey, Option<Journey>) {
        let from = self.port(from);
        let probe = Probe { from, to: to.into(), kind, source_port: ports.0, port: ports.1, ttl: None, size: 84 };
        self.engine.trace(&self.snapshot, self.now, &probe)
    }
}
