//! A guest's network namespace: loopback, one TAP per interface, addresses, the settings that packets can tell.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};

use netlink_packet_route::link::LinkAttribute;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::{GuestSpec, InterfaceSpec, LinkStats, Setup};
use crate::error::{Context, HostError};
use crate::netfilter;
use crate::netlink::{Change, Netlink};
use crate::tap::{self, Backend};

/// Packets that wait in a TAP before the link drops: enough for a burst of 64 KiB super-segments, short enough that
/// a ping beside a bulk transfer stays quick.
const TX_QUEUE: u32 = 500;
const LOOPBACK: u32 = 1;
/// Amazon Linux numbers the routing table of `eth1` 10001; the same number is the metric of its default route.
const FIRST_TABLE: u32 = 10_000;

/// The network of a guest. The namespace lives as long as this.
pub(crate) struct GuestNetwork {
    name_space: OwnedFd,
    netlink: Netlink,
    backend: Backend,
    setup: Setup,
    /// Name and value.
    sysctls: Vec<(String, String)>,
    links: Vec<Link>,
}

/// An interface as it is set up.
struct Link {
    index: u32,
    /// Its secondary addresses are those that it has.
    spec: InterfaceSpec,
    /// For an engine that comes later, too.
    tap: OwnedFd,
    /// Not yet configured: another link has its name.
    waits: bool,
}

/// Leaves this thread in the new namespace.
pub(crate) fn create(spec: &GuestSpec) -> Result<GuestNetwork, HostError> {
    // SAFETY: NEWNET leaves the descriptor table alone.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.context("making a network namespace")?;
    let name_space = File::open("/proc/thread-self/ns/net").context("/proc/thread-self/ns/net")?.into();
    let netlink = Netlink::open()?;
    settings(spec)?;
    netlink.link_up(LOOPBACK, Vec::new())?;
    if let Err(error) = netfilter::complete_checksums() {
        // Only what the guest's own captures say of checksums is wrong without it; the packets are right.
        tracing::warn!(guest = spec.name, %error, "tcpdump -v will call checksums of sent packets incorrect");
    }
    let (backend, setup) = (spec.backend, spec.setup);
    let sysctls = spec.sysctls.clone();
    let mut network = GuestNetwork { name_space, netlink, backend, setup, sysctls, links: Vec::new() };
    for (name, value) in network.sysctls.iter().filter(|(name, _)| link_of(name).is_none()) {
        set(name, value)?;
    }
    network.assign(&spec.interfaces)?;
    if let Some(block) = spec.block {
        network.netlink.add_local_route(LOOPBACK, block)?;
    }
    Ok(network)
}

impl GuestNetwork {
    /// The TAPs of all interfaces, in their order.
    pub(crate) fn taps(&self) -> Result<Vec<OwnedFd>, HostError> {
        self.links.iter().map(Link::copy_of_tap).collect()
    }

    /// The guest has these interfaces from now on, with these addresses; the TAPs of those that it has not had. An
    /// interface that has another one's name gets it, and works, once the list is without the other. This thread is in
    /// the namespace.
    pub(crate) fn assign(&mut self, wanted: &[InterfaceSpec]) -> Result<Vec<OwnedFd>, HostError> {
        while let Some(at) = self.links.iter().position(|link| !wanted.iter().any(|spec| spec.is_link(&link.spec))) {
            self.remove(at)?;
        }
        let mut added = Vec::new();
        for spec in wanted {
            let had = self.links.iter().position(|link| link.spec.is_link(spec));
            let at = had.map_or_else(|| self.add(spec), Ok)?;
            let name_is_free = !self.links.iter().any(|other| !other.waits && other.spec.name == spec.name);
            if self.links[at].waits && name_is_free {
                self.configure(at)?;
            }
            if !self.links[at].waits && self.setup == Setup::All {
                self.assign_addresses(at, &spec.secondary)?;
            }
            if had.is_none() {
                added.push(self.links[at].copy_of_tap()?);
            }
        }
        self.links.sort_by_key(|link| wanted.iter().position(|spec| spec.is_link(&link.spec)));
        Ok(added)
    }

    /// Behind all others.
    fn add(&mut self, spec: &InterfaceSpec) -> Result<usize, HostError> {
        let holder = self.links.iter().find(|link| link.spec.name == spec.name).map(|link| link.index);
        let any = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None);
        let any = any.context("socket")?;
        let index_of = |name: &str| rustix::net::netdevice::name_to_index(&any, name);
        if index_of(&spec.name).is_ok_and(|index| Some(index) != holder) {
            let message = format!("in the guest, another link is called {}; rename it there", spec.name);
            return Err(HostError::Keeper(message));
        }
        let name = if holder.is_some() { format!("{}-next", spec.name) } else { spec.name.clone() };
        let tap = tap::create(&name, self.backend)?;
        let index = index_of(&name).context("index of a TAP")?;
        let spec = InterfaceSpec { secondary: Vec::new(), ..spec.clone() };
        self.links.push(Link { index, spec, tap, waits: true });
        Ok(self.links.len() - 1)
    }

    fn configure(&mut self, at: usize) -> Result<(), HostError> {
        let Link { index, spec, .. } = &self.links[at];
        let (netlink, index) = (&self.netlink, *index);
        let attributes = vec![
            LinkAttribute::IfName(spec.name.clone()),
            LinkAttribute::Address(spec.mac.to_vec()),
            LinkAttribute::Mtu(spec.mtu),
            LinkAttribute::TxQueueLen(TX_QUEUE),
        ];
        netlink.link_up(index, attributes)?;
        if number(spec) == 0 && self.setup != Setup::Links {
            netlink.add_address(index, spec.address, spec.prefix)?;
            if spec.prefix == 32 {
                netlink.add_link_route(index, (spec.gateway, 32), spec.address, None)?;
            }
            netlink.add_default_route(index, spec.gateway, None, None)?;
        } else if self.setup == Setup::All {
            let table = FIRST_TABLE + number(spec);
            netlink.add_address(index, spec.address, spec.prefix)?;
            netlink.add_default_route(index, spec.gateway, None, Some(table))?;
            netlink.add_link_route(index, (spec.address, spec.prefix), spec.address, Some(table))?;
            netlink.add_default_route(index, spec.gateway, Some(table), None)?;
            netlink.rule(Change::Add, spec.address, table)?;
        }
        let is_its = |name: &str| link_of(name) == Some(&spec.name);
        self.sysctls.iter().filter(|(name, _)| is_its(name)).try_for_each(|(name, value)| set(name, value))?;
        self.links[at].waits = false;
        Ok(())
    }

    /// Its addresses and routes go with it, but not what leads to its table.
    fn remove(&mut self, at: usize) -> Result<(), HostError> {
        // The guest's owner may have deleted it.
        match self.netlink.delete_link(self.links[at].index) {
            Err(HostError::System { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => {}
            result => result?,
        }
        let link = self.links.remove(at);
        if !link.waits
            && let Some(table) = self.table(&link.spec)
        {
            for address in std::iter::once(link.spec.address).chain(link.spec.secondary) {
                // And so may he these.
                let _ = self.netlink.rule(Change::Delete, address, table);
            }
        }
        Ok(())
    }

    /// The routing table of an interface, for all but the first.
    fn table(&self, spec: &InterfaceSpec) -> Option<u32> {
        (number(spec) > 0 && self.setup == Setup::All).then(|| FIRST_TABLE + number(spec))
    }

    fn assign_addresses(&mut self, at: usize, wanted: &[Ipv4Addr]) -> Result<(), HostError> {
        let table = self.table(&self.links[at].spec);
        let (netlink, link) = (&self.netlink, &mut self.links[at]);
        let prefix = link.spec.prefix;
        let has = &mut link.spec.secondary;
        let new = wanted.iter().filter(|address| !has.contains(address));
        let old = has.iter().filter(|address| !wanted.contains(address));
        let changes: Vec<_> = old.map(|a| (Change::Delete, *a)).chain(new.map(|a| (Change::Add, *a))).collect();
        for (change, address) in changes {
            // Kept one by one: when a later one fails, those that are done can be taken back.
            match change {
                Change::Add => {
                    netlink.add_address(link.index, address, prefix)?;
                    has.push(address);
                }
                Change::Delete => {
                    netlink.delete_address(link.index, address, prefix)?;
                    has.retain(|other| *other != address);
                }
            }
            if let Some(table) = table {
                netlink.rule(change, address, table)?;
            }
        }
        Ok(())
    }

    /// Sockets that listen on all its addresses, one for each port. This thread is in the namespace.
    pub(crate) fn listen(ports: &[u16]) -> Result<Vec<OwnedFd>, HostError> {
        let listen = |port: &u16| Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).context("listening")?.into());
        ports.iter().map(listen).collect()
    }

    /// Moves this thread into the namespace.
    pub(crate) fn enter(&self) -> Result<(), HostError> {
        move_into_link_name_space(self.name_space.as_fd(), Some(LinkNameSpaceType::Network))
            .context("entering a guest's network")
    }

    pub(crate) fn stats(&self, guest: &str) -> Result<Vec<LinkStats>, HostError> {
        let all = self.links.iter().map(|link| {
            let stats = self.netlink.stats(link.index)?;
            Ok(LinkStats {
                guest: guest.to_owned(),
                interface: link.spec.name.clone(),
                rx_packets: stats.rx_packets,
                rx_bytes: stats.rx_bytes,
                tx_packets: stats.tx_packets,
                tx_bytes: stats.tx_bytes,
                engine_too_slow: stats.tx_dropped,
            })
        });
        all.collect()
    }
}

impl Link {
    fn copy_of_tap(&self) -> Result<OwnedFd, HostError> {
        self.tap.try_clone().context("duplicating a TAP")
    }
}

/// The interface that a setting is of, as `net.ipv4.conf.eth1.proxy_arp`; it is set whenever that comes.
fn link_of(sysctl: &str) -> Option<&str> {
    let mut parts = sysctl.split('.').skip(2);
    parts.next().filter(|kind| ["conf", "neigh"].contains(kind))?;
    parts.next().filter(|link| link.starts_with("eth"))
}

fn set(sysctl: &str, value: &str) -> Result<(), HostError> {
    fs::write(format!("/proc/sys/{}", sysctl.replace('.', "/")), value).context(format!("sysctl {sysctl}={value}"))
}

/// 1 of `eth1`.
fn number(spec: &InterfaceSpec) -> u32 {
    spec.name.strip_prefix("eth").and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// Set, never inherited: a namespace takes some of these from the host.
fn settings(spec: &GuestSpec) -> Result<(), HostError> {
    let ttl = spec.default_ttl.to_string();
    let settings: &[(&str, &str)] = &[
        // First, so that no link ever sends router solicitations.
        ("ipv6/conf/all/disable_ipv6", "1"),
        ("ipv6/conf/default/disable_ipv6", "1"),
        ("ipv4/ip_default_ttl", &ttl),
        ("ipv4/ip_forward", "0"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv4/conf/all/accept_redirects", "0"),
        ("ipv4/conf/default/accept_redirects", "0"),
        ("ipv4/icmp_echo_ignore_all", "0"),
        // SEED-5: six errors to one peer at once, then one a second.
        ("ipv4/icmp_ratelimit", "1000"),
        ("ipv4/icmp_ratemask", "6168"),
        ("ipv4/ip_local_port_range", "32768\t60999"),
        ("ipv4/ip_unprivileged_port_start", "0"),
        ("ipv4/ping_group_range", "0\t2147483647"),
        // As Linux does where nobody has chosen another one.
        ("ipv4/tcp_congestion_control", "cubic"),
        ("ipv4/tcp_ecn", "2"),
        ("ipv4/tcp_timestamps", "1"),
    ];
    for (name, value) in settings {
        let written = match fs::write(format!("/proc/sys/net/{name}"), value) {
            // Of an ordinary user's groups only one may exist here.
            Err(error) if *name == "ipv4/ping_group_range" && error.kind() == std::io::ErrorKind::InvalidInput => {
                fs::write(format!("/proc/sys/net/{name}"), "0\t0")
            }
            result => result,
        };
        match written {
            // A kernel without IPv6 has nothing to switch off, and one may have no or not allow this congestion control.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error)
                if *name == "ipv4/tcp_congestion_control" && error.kind() == std::io::ErrorKind::PermissionDenied => {}
            result => result.context(format!("sysctl net/{name}"))?,
        }
    }
    Ok(())
}
