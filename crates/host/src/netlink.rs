//! The few rtnetlink messages that a guest's network needs. A socket stays in the namespace that it was made in.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroI32;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, Stats64};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::error::{Context, HostError};

const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;
/// Where the kernel looks first.
const RT_TABLE_LOCAL: u8 = libc::RT_TABLE_LOCAL;

pub(crate) struct Netlink(Socket);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Add,
    Delete,
}

impl Netlink {
    /// For the network namespace of this thread.
    pub(crate) fn open() -> Result<Self, HostError> {
        let mut socket = Socket::new(NETLINK_ROUTE).context("netlink socket")?;
        socket.bind_auto().context("netlink bind")?;
        socket.connect(&SocketAddr::new(0, 0)).context("netlink connect")?;
        Ok(Self(socket))
    }

    pub(crate) fn link_up(&self, index: u32, attributes: Vec<LinkAttribute>) -> Result<(), HostError> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        link.attributes = attributes;
        self.change(RouteNetlinkMessage::SetLink(link), 0, "setting up a link")
    }

    pub(crate) fn delete_link(&self, index: u32) -> Result<(), HostError> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        self.change(RouteNetlinkMessage::DelLink(link), 0, "deleting a link")
    }

    pub(crate) fn add_address(&self, index: u32, address: Ipv4Addr, prefix: u8) -> Result<(), HostError> {
        let message = address_message(index, address, prefix);
        self.change(RouteNetlinkMessage::NewAddress(message), NEW, "adding an address")
    }

    pub(crate) fn delete_address(&self, index: u32, address: Ipv4Addr, prefix: u8) -> Result<(), HostError> {
        let message = address_message(index, address, prefix);
        self.change(RouteNetlinkMessage::DelAddress(message), 0, "deleting an address")
    }

    /// In the main table, or another one.
    pub(crate) fn add_default_route(
        &self,
        index: u32,
        gateway: Ipv4Addr,
        table: Option<u32>,
        metric: Option<u32>,
    ) -> Result<(), HostError> {
        let mut message = route_message(index, table);
        message.header.scope = RouteScope::Universe;
        message.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
        message.attributes.extend(metric.map(RouteAttribute::Priority));
        self.change(RouteNetlinkMessage::NewRoute(message), NEW, "adding a default route")
    }

    /// The block of this length that an address is in, on the link, for packets from `source`; in the main table, or
    /// another one.
    pub(crate) fn add_link_route(
        &self,
        index: u32,
        (address, prefix): (Ipv4Addr, u8),
        source: Ipv4Addr,
        table: Option<u32>,
    ) -> Result<(), HostError> {
        let mut message = route_message(index, table);
        message.header.scope = RouteScope::Link;
        message.header.destination_prefix_length = prefix;
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        let block = Ipv4Addr::from(u32::from(address) & mask);
        message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(block)));
        message.attributes.push(RouteAttribute::PrefSource(RouteAddress::Inet(source)));
        self.change(RouteNetlinkMessage::NewRoute(message), NEW, "adding a route")
    }

    /// All addresses of a block, address and length of its prefix, are this namespace's own.
    pub(crate) fn add_local_route(&self, index: u32, (address, prefix): (Ipv4Addr, u8)) -> Result<(), HostError> {
        let mut message = route_message(index, Some(RT_TABLE_LOCAL.into()));
        message.header.kind = RouteType::Local;
        message.header.scope = RouteScope::Host;
        message.header.destination_prefix_length = prefix;
        message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(address)));
        self.change(RouteNetlinkMessage::NewRoute(message), NEW, "adding a local route")
    }

    /// What comes from `address` is routed by `table`, or no more.
    pub(crate) fn rule(&self, change: Change, address: Ipv4Addr, table: u32) -> Result<(), HostError> {
        let mut message = RuleMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.src_len = 32;
        message.header.action = RuleAction::ToTable;
        message.attributes = vec![RuleAttribute::Source(IpAddr::V4(address)), RuleAttribute::Table(table)];
        match change {
            Change::Add => self.change(RouteNetlinkMessage::NewRule(message), NEW, "adding a routing rule"),
            Change::Delete => self.change(RouteNetlinkMessage::DelRule(message), 0, "deleting a routing rule"),
        }
    }

    pub(crate) fn stats(&self, index: u32) -> Result<Stats64, HostError> {
        let what = "asking for a link's statistics";
        let mut link = LinkMessage::default();
        link.header.index = index;
        self.send(RouteNetlinkMessage::GetLink(link), 0, what)?;
        let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) = self.receive(what)?.payload else {
            return Err(HostError::Keeper(format!("{what}: no answer")));
        };
        let stats = link.attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(stats),
            _ => None,
        });
        stats.ok_or_else(|| HostError::Keeper(format!("{what}: the answer has none")))
    }

    fn change(&self, message: RouteNetlinkMessage, flags: u16, what: &str) -> Result<(), HostError> {
        self.send(message, flags | NLM_F_ACK, what)?;
        self.receive(what).map(drop)
    }

    fn send(&self, message: RouteNetlinkMessage, flags: u16, what: &str) -> Result<(), HostError> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.0.send(&bytes, 0).context(what).map(drop)
    }

    fn receive(&self, what: &str) -> Result<NetlinkMessage<RouteNetlinkMessage>, HostError> {
        let (bytes, _) = self.0.recv_from_full().context(what)?;
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes)
            .map_err(|error| HostError::Keeper(format!("{what}: {error}")))?;
        match &answer.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => {
                let code = error.code.map_or(0, NonZeroI32::get);
                Err(std::io::Error::from_raw_os_error(code.wrapping_abs())).context(what)
            }
            _ => Ok(answer),
        }
    }
}

fn address_message(index: u32, address: Ipv4Addr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.index = index;
    message.header.prefix_len = prefix;
    let broadcast = Ipv4Addr::from(u32::from(address) | u32::MAX.checked_shr(prefix.into()).unwrap_or(0));
    message.attributes =
        vec![AddressAttribute::Local(IpAddr::V4(address)), AddressAttribute::Address(IpAddr::V4(address))];
    // A block of two has none (RFC 3021).
    message.attributes.extend((prefix < 31).then_some(AddressAttribute::Broadcast(broadcast)));
    message
}

fn route_message(index: u32, table: Option<u32>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.protocol = RouteProtocol::Boot;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![RouteAttribute::Oif(index)];
    match table {
        // The header has eight bits for it.
        Some(table) => message.attributes.push(RouteAttribute::Table(table)),
        None => message.header.table = RouteHeader::RT_TABLE_MAIN,
    }
    message
}
