//! DHCP, as a subnet offers it: the address that the interface has anyway, and what the VPC's set of options says
//! (DHCP-1 to DHCP-6, RFC 2131).

use std::net::{IpAddr, Ipv4Addr};

use dhcproto::v4::{DhcpOption, HType, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable};
use minivpc_model::host_name;

use super::Said;
use crate::drop::DropReason;
use crate::snapshot::{Eni, INTERFACE_MTU, Snapshot};

/// Seconds.
const LEASE: u32 = 3600;
/// Where clients and servers listen.
pub const CLIENT: u16 = 68;
pub const SERVER: u16 = 67;

/// The answer to whom is behind an interface; none where a server says nothing (RFC 2131 §4.3.2).
pub fn answer(snapshot: &Snapshot, eni: &Eni, question: &[u8]) -> Result<Option<Said>, DropReason> {
    let nonsense = DropReason::ServiceNonsense;
    let question = Message::decode(&mut Decoder::new(question)).map_err(|_| nonsense)?;
    let IpAddr::V4(address) = eni.ip else { return Err(nonsense) };
    let subnet = snapshot.subnet(eni.subnet);
    if question.opcode() != Opcode::BootRequest || question.htype() != HType::Eth || question.chaddr() != eni.mac.0 {
        return Err(nonsense);
    }
    let for_another = match question.opts().get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(server)) => *server != subnet.router,
        _ => false,
    };
    let asked = question.opts().msg_type().ok_or(nonsense)?;
    let kind = match asked {
        MessageType::Discover => MessageType::Offer,
        MessageType::Request if for_another => return Ok(None),
        MessageType::Request if wanted(&question) == Some(address) => MessageType::Ack,
        MessageType::Request => MessageType::Nak,
        MessageType::Inform => MessageType::Ack,
        MessageType::Decline | MessageType::Release => return Ok(None),
        _ => return Err(nonsense),
    };
    let mut said = Message::new_with_id(
        question.xid(),
        question.ciaddr(),
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::UNSPECIFIED,
        question.giaddr(),
        question.chaddr(),
    );
    said.set_opcode(Opcode::BootReply).set_flags(question.flags());
    let mut option = |option| _ = said.opts_mut().insert(option);
    option(DhcpOption::MessageType(kind));
    option(DhcpOption::ServerIdentifier(subnet.router));
    if kind != MessageType::Nak {
        option(DhcpOption::SubnetMask(subnet.cidr.netmask()));
        option(DhcpOption::BroadcastAddr(subnet.cidr.broadcast()));
        option(DhcpOption::Router(vec![subnet.router]));
        let dhcp = &snapshot.vpc(subnet.vpc).dhcp;
        let names = dhcp.domain_name_servers.iter().map(|server| server.address(subnet.resolver)).collect();
        type Tells = fn(Vec<Ipv4Addr>) -> DhcpOption;
        let servers: [(Vec<_>, Tells); 3] = [
            (names, DhcpOption::DomainNameServer),
            (dhcp.ntp_servers.clone(), DhcpOption::NtpServers),
            (dhcp.netbios_name_servers.clone(), DhcpOption::NetBiosNameServers),
        ];
        for (addresses, tells) in servers.into_iter().filter(|(addresses, _)| !addresses.is_empty()) {
            option(tells(addresses));
        }
        if let Some(domain) = &dhcp.domain_name {
            option(DhcpOption::DomainName(domain.clone()));
        }
        if let Some(kind) = dhcp.netbios_node_type {
            option(DhcpOption::NetBiosNodeType(kind.into()));
        }
        option(DhcpOption::Hostname(host_name(address)));
        option(DhcpOption::InterfaceMtu(INTERFACE_MTU));
        if asked != MessageType::Inform {
            option(DhcpOption::AddressLeaseTime(LEASE));
            said.set_yiaddr(address);
        }
    }
    // RFC 2131 §4.1.
    let to = match question.ciaddr() {
        _ if kind == MessageType::Nak => Ipv4Addr::BROADCAST,
        Ipv4Addr::UNSPECIFIED if question.flags().broadcast() => Ipv4Addr::BROADCAST,
        Ipv4Addr::UNSPECIFIED => address,
        has => has,
    };
    let payload = said.to_vec().map_err(|_| nonsense)?;
    Ok(Some(Said { from: (subnet.router, SERVER), to: (to, CLIENT), payload }))
}

/// The address that a client asks for, or asks to keep.
fn wanted(question: &Message) -> Option<Ipv4Addr> {
    match question.opts().get(OptionCode::RequestedIpAddress) {
        Some(DhcpOption::RequestedIpAddress(address)) => Some(*address),
        _ => Some(question.ciaddr()).filter(|address| !address.is_unspecified()),
    }
}
