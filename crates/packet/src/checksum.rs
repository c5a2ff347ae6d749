//! The Internet checksum: whole sums and corrections (RFC 1071, RFC 1624).

use std::net::{IpAddr, Ipv4Addr};

/// One's-complement sum of `bytes` on top of `sum`, not yet folded. Eight sums at a time and bytes in the machine's order,
/// which a compiler makes vectors of: the sum of swapped words is the swapped sum (RFC 1071 §2B).
pub fn add(sum: u64, bytes: &[u8]) -> u64 {
    let mut sums = [0_u64; 8];
    let mut blocks = bytes.chunks_exact(32);
    for block in &mut blocks {
        for (sum, word) in sums.iter_mut().zip(block.chunks_exact(4)) {
            *sum += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        }
    }
    let mut native: u64 = sums.iter().sum();
    let mut words = blocks.remainder().chunks_exact(4);
    for word in &mut words {
        native += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    }
    let mut last = [0; 4];
    last.iter_mut().zip(words.remainder()).for_each(|(to, from)| *to = *from);
    native += u64::from(u32::from_ne_bytes(last));
    sum + u64::from(u16::from_be_bytes(fold(native).to_ne_bytes()))
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delta(u32);

impl Delta {
    pub fn word(self, old: u16, new: u16) -> Self {
        Self(self.0 + u32::from(!old) + u32::from(new))
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

    /// The same in 16 bits; nothing, if it comes to nothing.
    pub fn folded(self) -> Self {
        Self(u32::from(fold(self.0.into())) % 0xffff)
    }

    /// Corrects the checksum at `at`: HC' = ~(~HC + ~m + m') (RFC 1624).
    pub fn correct(self, bytes: &mut [u8], at: usize) {
        let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let new = !fold(u64::from(!old) + u64::from(self.0));
        bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
    }
}
