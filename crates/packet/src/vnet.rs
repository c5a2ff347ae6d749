//! The virtio-net header that stands before each frame on a TAP with `IFF_VNET_HDR`.

use crate::parse::Malformed;

/// How a super-segment is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segmentation {
    /// Not at all: an ordinary frame.
    None,
    /// As TCP over IPv4.
    TcpV4,
    /// As UDP datagrams.
    Udp,
}

/// The header's ten bytes, native order, as Linux hands them to a TAP's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VnetHeader {
    /// The L4 checksum field holds only the pseudo header's sum.
    pub needs_csum: bool,
    /// What kind of super-segment.
    pub segmentation: Segmentation,
    /// The bits that go through unchanged: flags but `NEEDS_CSUM`, ECN bit of the kind.
    ecn: u8,
    /// Length of all headers, bytes.
    pub(crate) header_length: u16,
    /// Payload of each segment, bytes.
    pub segment_size: u16,
    /// Where summing starts, from the Ethernet header on.
    pub csum_start: u16,
    /// Where the sum goes, from `csum_start` on.
    pub csum_offset: u16,
}

const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

impl VnetHeader {
    /// Its length in bytes.
    pub const LEN: usize = 10;

    /// An ordinary frame with complete checksums.
    pub const PLAIN: Self = Self {
        needs_csum: false,
        segmentation: Segmentation::None,
        ecn: 0,
        header_length: 0,
        segment_size: 0,
        csum_start: 0,
        csum_offset: 0,
    };

    /// Reads the header. What it says of the frame behind it is checked by [`parse`](crate::parse).
    ///
    /// # Errors
    /// When it is of a kind that was never offered to the guest.
    pub fn read(bytes: &[u8; Self::LEN]) -> Result<Self, Malformed> {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let ecn = bytes[1] & GSO_ECN;
        let segmentation = match bytes[1] & !GSO_ECN {
            GSO_NONE => Segmentation::None,
            GSO_TCPV4 => Segmentation::TcpV4,
            GSO_UDP_L4 => Segmentation::Udp,
            _ => return Err(Malformed::Segmentation),
        };
        Ok(Self {
            needs_csum: bytes[0] & NEEDS_CSUM != 0,
            segmentation,
            ecn,
            header_length: word(2),
            segment_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        })
    }

    /// Writes the header.
    #[must_use]
    pub fn write(&self) -> [u8; Self::LEN] {
        let kind = match self.segmentation {
            Segmentation::None => GSO_NONE,
            Segmentation::TcpV4 => GSO_TCPV4 | self.ecn,
            Segmentation::Udp => GSO_UDP_L4,
        };
        let mut bytes = [0; Self::LEN];
        bytes[0] = if self.needs_csum { NEEDS_CSUM } else { 0 };
        bytes[1] = kind;
        for (at, value) in
            [(2, self.header_length), (4, self.segment_size), (6, self.csum_start), (8, self.csum_offset)]
        {
            bytes[at..at + 2].copy_from_slice(&value.to_ne_bytes());
        }
        bytes
    }
}
