//! The Internet checksum: whole sums and corrections (RFC 1071, RFC 1624).

use std::net::{IpAddr, Ipv4Addr};

/// One's-complement sum of `bytes` on top of `sum`, not yet folded.
pub fn add(mut sum: u64, bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        sum += u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    }
    let rest = words.remainder();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum + u64::from(u32::from_be_bytes(last))
}

/// Folds a sum to 16 bits.
pub fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The sum of the IPv4 pseudo header, not yet folded.
pub fn pseudo_header(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, length: usize) -> u64 {
    add(add(0, &src.octets()), &dst.octets()) + u64::from(protocol) + length as u64
}

/// What a change of fields does to a complete checksum.
#[derive(Debug, Clone, Copy, Default)]
pub struct Delta(u64);

impl Delta {
    pub fn word(self, old: u16, new: u16) -> Self {
        Self(self.0 + u64::from(!old) + u64::from(new))
    }

    pub fn address(self, old: IpAddr, new: IpAddr) -> Self {
        match (old, new) {
            (IpAddr::V4(old), IpAddr::V4(new)) => {
                let words = |a: Ipv4Addr| {
                    let [p, q, r, s] = a.octets();
                    (u16::from_be_bytes([p, q]), u16::from_be_bytes([r, s]))
                };
                let ((old_high, old_low), (new_high, new_low)) = (words(old), words(new));
                self.word(old_high, new_high).word(old_low, new_low)
            }
            // No hop translates an address of another family.
            _ => self,
        }
    }

    /// Corrects the checksum at `at`: HC' = ~(~HC + ~m + m') (RFC 1624).
    pub fn correct(self, bytes: &mut [u8], at: usize) {
        let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let new = !fold(u64::from(!old) + self.0);
        bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
    }
}
