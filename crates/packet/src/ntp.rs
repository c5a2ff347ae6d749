//! Answers of NTP servers (RFC 5905 §7.3, §9.2).

use std::time::Duration;

/// Length of a packet without extensions, bytes.
const LENGTH: usize = 48;
const CLIENT: u8 = 3;
const SERVER: u8 = 4;
/// Seconds from NTP's epoch, 1900, to Unix's.
const EPOCH: u64 = 2_208_988_800;

/// What a server says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    /// 1 has a clock of its own; n asks one of n − 1.
    pub stratum: u8,
    /// Of stratum 1 four letters that name the clock, of others the address of the server that it asks.
    pub reference: [u8; 4],
}

/// The server's answer to a client's question; `now` is since Unix's epoch. None if it isn't a client's question.
#[must_use]
pub fn reply(question: &[u8], server: Server, now: Duration) -> Option<[u8; LENGTH]> {
    let (version, mode) = (question.first()? >> 3 & 7, question.first()? & 7);
    let transmitted: [u8; 8] = question.get(40..LENGTH)?.try_into().ok()?;
    if mode != CLIENT || !(1..=4).contains(&version) {
        return None;
    }
    let now = timestamp(now);
    let mut reply = [0; LENGTH];
    reply[0] = version << 3 | SERVER;
    // The client's own polling interval; a precision of 2^-20 s.
    reply[1..4].copy_from_slice(&[server.stratum, question[2], (-20_i8).to_be_bytes()[0]]);
    // Root dispersion, in units of 2^-16 s.
    reply[8..12].copy_from_slice(&1_u32.to_be_bytes());
    reply[12..16].copy_from_slice(&server.reference);
    reply[16..24].copy_from_slice(&now);
    reply[24..32].copy_from_slice(&transmitted);
    reply[32..40].copy_from_slice(&now);
    reply[40..48].copy_from_slice(&now);
    Some(reply)
}

/// Seconds and their 2^-32ths.
fn timestamp(now: Duration) -> [u8; 8] {
    let seconds = (now.as_secs() + EPOCH) as u32;
    let fraction = ((u64::from(now.subsec_nanos()) << 32) / 1_000_000_000) as u32;
    (u64::from(seconds) << 32 | u64::from(fraction)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: Server = Server { stratum: 1, reference: *b"LOCL" };

    #[test]
    fn a_client_gets_its_own_time_back_with_ours() {
        let mut question = [0; LENGTH];
        question[0] = 4 << 3 | CLIENT;
        question[40..48].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        let reply = reply(&question, CLOCK, Duration::from_millis(1_500)).unwrap();
        assert_eq!(reply[0], 4 << 3 | SERVER);
        assert_eq!((reply[1], &reply[12..16]), (1, &b"LOCL"[..]));
        assert_eq!(reply[24..32], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(reply[40..44], (2_208_988_801_u32).to_be_bytes());
        assert_eq!(reply[44..48], (1_u32 << 31).to_be_bytes(), "half a second");
    }

    #[test]
    fn what_is_no_question_gets_no_answer() {
        for question in [&[][..], &[0x23; 47], &[4 << 3 | SERVER; LENGTH], &[0; LENGTH]] {
            assert_eq!(reply(question, CLOCK, Duration::ZERO), None, "{question:?}");
        }
    }
}
