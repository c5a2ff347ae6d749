//! Cutting a packet that is too large for a link whose sender allows it (RFC 791 §3.2).

use crate::checksum;
use crate::parse::{ETHERNET, IPV4_CHECKSUM, Parsed};

const LENGTH: usize = ETHERNET + 2;
const FLAGS_AND_OFFSET: usize = ETHERNET + 6;
const MORE_FRAGMENTS: u16 = 0x2000;

/// Emits the frames that `frame`, read as `packet`, becomes where IP packets have at most `mtu` bytes. Its checksums
/// must be complete. Options are repeated in each fragment.
pub fn fragments(packet: &Parsed, frame: &[u8], mtu: u16, mut emit: impl FnMut(&[u8])) {
    let header = packet.l4 - ETHERNET;
    let payload = &frame[packet.l4..packet.end];
    let most = usize::from(mtu).saturating_sub(header) / 8 * 8;
    if most == 0 {
        return;
    }
    let field = u16::from_be_bytes([frame[FLAGS_AND_OFFSET], frame[FLAGS_AND_OFFSET + 1]]);
    let last = payload.len().div_ceil(most).saturating_sub(1);
    for (number, piece) in payload.chunks(most).enumerate() {
        let mut part = [&frame[..packet.l4], piece].concat();
        let more = if number < last { MORE_FRAGMENTS } else { 0 };
        // A fragment of a fragment begins where that one did; both counts are of eight bytes.
        let field = (field | more) + (number * most / 8) as u16;
        let length = (header + piece.len()) as u16;
        part[LENGTH..LENGTH + 2].copy_from_slice(&length.to_be_bytes());
        part[FLAGS_AND_OFFSET..FLAGS_AND_OFFSET + 2].copy_from_slice(&field.to_be_bytes());
        let at = ETHERNET + IPV4_CHECKSUM;
        part[at..at + 2].fill(0);
        let sum = !checksum::fold(checksum::add(0, &part[ETHERNET..packet.l4]));
        part[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        emit(&part);
    }
}
