//! A guest's network namespace: loopback, one TAP per interface, addresses, the settings that packets can tell.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

use netlink_packet_route::link::LinkAttribute;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::{GuestSpec, InterfaceSpec, LinkStats};
use crate::error::{Context, HostError};
use crate::netfilter;
use crate::netlink::{Change, Netlink};
use crate::tap;

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
    links: Vec<Link>,
}

/// An interface as it is set up.
struct Link {
    index: u32,
    name: String,
    /// Its routing table, for all interfaces but the first.
    table: Option<u32>,
    /// Secondary addresses.
    secondary: Vec<Ipv4Addr>,
}

/// Leaves this thread in the new namespace.
pub(crate) fn create(spec: &GuestSpec) -> Result<(GuestNetwork, Vec<OwnedFd>), HostError> {
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
    let mut network = GuestNetwork { name_space, netlink, links: Vec::new() };
    let add = |interface| network.add(interface, spec);
    let taps = spec.interfaces.iter().map(add).collect::<Result<_, _>>()?;
    // Last: some are settings of an interface.
    for (name, value) in &spec.sysctls {
        fs::write(format!("/proc/sys/{}", name.replace('.', "/")), value).context(format!("sysctl {name}={value}"))?;
    }
    Ok((network, taps))
}

impl GuestNetwork {
    fn add(&mut self, interface: &InterfaceSpec, spec: &GuestSpec) -> Result<OwnedFd, HostError> {
        let tap = tap::create(&interface.name, spec.backend)?;
        let path = format!("/proc/sys/net/ipv4/conf/{}", interface.name);
        // Amazon Linux drops what comes back by another interface no more than this does: routes decide.
        fs::write(format!("{path}/rp_filter"), "0").context("rp_filter")?;
        let index = rustix::net::netdevice::name_to_index(
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)
                .context("socket")?,
            &interface.name,
        )
        .context("index of a TAP")?;
        let attributes = vec![
            LinkAttribute::Address(interface.mac.to_vec()),
            LinkAttribute::Mtu(interface.mtu),
            LinkAttribute::TxQueueLen(TX_QUEUE),
        ];
        self.netlink.link_up(index, attributes)?;
        let number: u32 = interface.name.strip_prefix("eth").and_then(|number| number.parse().ok()).unwrap_or_default();
        let link = |table| Link { index, name: interface.name.clone(), table, secondary: Vec::new() };
        if number == 0 {
            self.netlink.add_address(index, interface.address, interface.prefix)?;
            self.netlink.add_default_route(index, interface.gateway, None, None)?;
            self.links.push(link(None));
        } else if spec.plain_network {
            self.links.push(link(None));
        } else {
            let table = FIRST_TABLE + number;
            self.links.push(link(Some(table)));
            self.netlink.add_address(index, interface.address, interface.prefix)?;
            self.netlink.add_default_route(index, interface.gateway, None, Some(table))?;
            self.netlink.add_link_route(index, interface.address, interface.prefix, table)?;
            self.netlink.add_default_route(index, interface.gateway, Some(table), None)?;
            self.netlink.rule(Change::Add, interface.address, table)?;
        }
        if !spec.plain_network {
            self.assign(interface)?;
        }
        Ok(tap)
    }

    /// Sets the secondary addresses of an interface to those of `spec`.
    pub(crate) fn assign(&mut self, spec: &InterfaceSpec) -> Result<(), HostError> {
        let Some(link) = self.links.iter_mut().find(|link| link.name == spec.name) else { return Ok(()) };
        let new = spec.secondary.iter().filter(|address| !link.secondary.contains(address));
        let old = link.secondary.iter().filter(|address| !spec.secondary.contains(address));
        let changes: Vec<_> = old.map(|a| (Change::Delete, *a)).chain(new.map(|a| (Change::Add, *a))).collect();
        for (change, address) in changes {
            // Kept one by one: when a later one fails, those that are done can be taken back.
            match change {
                Change::Add => {
                    self.netlink.add_address(link.index, address, spec.prefix)?;
                    link.secondary.push(address);
                }
                Change::Delete => {
                    self.netlink.delete_address(link.index, address, spec.prefix)?;
                    link.secondary.retain(|other| *other != address);
                }
            }
            if let Some(table) = link.table {
                self.netlink.rule(change, address, table)?;
            }
        }
        Ok(())
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
                interface: link.name.clone(),
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
