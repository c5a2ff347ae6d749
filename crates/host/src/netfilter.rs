//! One rule in each guest: the kernel completes the checksums of what the guest sends.
//!
//! A TAP that takes super-segments must take unfinished checksums too, and the guest's own `tcpdump -v` would call
//! those of every packet that it sends bad. The rule is that of
//! `iptables -t mangle -A POSTROUTING -j CHECKSUM --checksum-fill`, which leaves super-segments alone.

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NLMSG_ERROR};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use crate::error::{Context, HostError};

/// linux/netfilter/nfnetlink.h: batches, and the subsystem of nftables.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NFTABLES: u16 = 10;
/// linux/netfilter/nf_tables.h: messages.
const NEW_TABLE: u16 = NFTABLES << 8;
const NEW_CHAIN: u16 = NFTABLES << 8 | 3;
const NEW_RULE: u16 = NFTABLES << 8 | 6;
/// linux/netfilter.h: families, and the hook that everything leaving passes.
const UNSPECIFIED: u8 = 0;
const IPV4: u8 = 2;
const POSTROUTING: u32 = 4;
/// linux/netfilter_ipv4.h: `NF_IP_PRI_MANGLE`.
const MANGLE: i32 = -150;
/// linux/netfilter/xt_CHECKSUM.h: `XT_CHECKSUM_OP_FILL`.
const FILL: u8 = 1;
const NESTED: u16 = 0x8000;
/// iptables' names: the target admits no other table.
const TABLE: &[u8] = b"mangle\0";
const CHAIN: &[u8] = b"POSTROUTING\0";

/// Adds the rule to the network namespace of this thread.
///
/// # Errors
/// When the kernel has no nftables or no CHECKSUM target.
pub(crate) fn complete_checksums() -> Result<(), HostError> {
    const WHAT: &str = "the checksum rule";
    let hook = [attribute(1, &POSTROUTING.to_be_bytes()), attribute(2, &MANGLE.to_be_bytes())].concat();
    let chain = [attribute(1, TABLE), attribute(3, CHAIN), attribute(4 | NESTED, &hook), attribute(7, b"filter\0")];
    let target = [attribute(1, b"CHECKSUM\0"), attribute(2, &0_u32.to_be_bytes()), attribute(3, &[FILL])].concat();
    let expression = [attribute(1, b"target\0"), attribute(2 | NESTED, &target)].concat();
    let expressions = attribute(1 | NESTED, &expression);
    let rule = [attribute(1, TABLE), attribute(2, CHAIN), attribute(4 | NESTED, &expressions)];
    let batch = [
        message(BATCH_BEGIN, 0, UNSPECIFIED, &[]),
        message(NEW_TABLE, NLM_F_CREATE, IPV4, &attribute(1, TABLE)),
        message(NEW_CHAIN, NLM_F_CREATE, IPV4, &chain.concat()),
        message(NEW_RULE, NLM_F_CREATE | NLM_F_ACK, IPV4, &rule.concat()),
        message(BATCH_END, 0, UNSPECIFIED, &[]),
    ];
    let mut socket = Socket::new(NETLINK_NETFILTER).context(WHAT)?;
    socket.bind_auto().context(WHAT)?;
    socket.connect(&SocketAddr::new(0, 0)).context(WHAT)?;
    socket.send(&batch.concat(), 0).context(WHAT)?;
    let (answer, _) = socket.recv_from_full().context(WHAT)?;
    // Header, then the error code of the first message that failed, or 0 of the last.
    match (answer.get(4..6), answer.get(HEADER..HEADER + 4)) {
        (Some(kind), Some(&[a, b, c, d])) if kind == NLMSG_ERROR.to_ne_bytes() => {
            match i32::from_ne_bytes([a, b, c, d]) {
                0 => Ok(()),
                code => Err(std::io::Error::from_raw_os_error(code.wrapping_abs())).context(WHAT),
            }
        }
        _ => Err(std::io::Error::other("an unexpected answer")).context(WHAT),
    }
}

/// Length of a netlink header, bytes.
const HEADER: usize = 16;

fn message(kind: u16, flags: u16, family: u8, attributes: &[u8]) -> Vec<u8> {
    let resource = if family == UNSPECIFIED { NFTABLES } else { 0 }.to_be_bytes();
    let payload = [&[family, 0], resource.as_slice(), attributes].concat();
    let length = (HEADER + payload.len()) as u32;
    let (kind, flags) = (kind.to_ne_bytes(), (NLM_F_REQUEST | flags).to_ne_bytes());
    // Sequence number and port stay 0: there is one request and one answer.
    [length.to_ne_bytes().as_slice(), &kind, &flags, &[0; 8], &payload].concat()
}

/// Length, kind, value, and padding to four bytes; host order.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = (4 + value.len()) as u16;
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
