//! Tokens: until when, and for whom, with a code that only the lab can make. Nothing needs to be remembered.

use std::hash::Hash;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minivpc_model::InstanceId;
use siphasher::sip128::{Hasher128, SipHasher24};

/// A token of an instance, valid until so many milliseconds after Unix's epoch.
pub fn new(key: &[u8; 16], instance: InstanceId, until: u64) -> String {
    STANDARD.encode([&until.to_be_bytes()[..], &code(key, instance, until)].concat())
}

/// Until when a token is valid; none if the lab hasn't given it to this instance.
pub fn valid_until(key: &[u8; 16], instance: InstanceId, token: &str) -> Option<u64> {
    let bytes = STANDARD.decode(token).ok()?;
    let (until, given) = bytes.split_first_chunk()?;
    let until = u64::from_be_bytes(*until);
    (given == code(key, instance, until)).then_some(until)
}

fn code(key: &[u8; 16], instance: InstanceId, until: u64) -> [u8; 16] {
    let mut hasher = SipHasher24::new_with_key(key);
    ("metadata token", instance, until).hash(&mut hasher);
    let code = hasher.finish128();
    (u128::from(code.h1) << 64 | u128::from(code.h2)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// IMDS-2.
    #[test]
    fn only_what_the_lab_has_given_to_an_instance_is_its_token() {
        let (key, instance) = ([7; 16], InstanceId::from_seed(1));
        let token = new(&key, instance, 1000);
        assert_eq!(valid_until(&key, instance, &token), Some(1000));
        assert_eq!(valid_until(&[8; 16], instance, &token), None, "another lab's");
        assert_eq!(valid_until(&key, InstanceId::from_seed(2), &token), None, "another instance's");
        let later = STANDARD.encode([&1001_u64.to_be_bytes()[..], &STANDARD.decode(&token).unwrap()[8..]].concat());
        assert_eq!(valid_until(&key, instance, &later), None, "one that somebody has made longer");
        for nonsense in ["", "x", &token[1..], &format!("{token}AAAA")] {
            assert_eq!(valid_until(&key, instance, nonsense), None, "{nonsense}");
        }
    }
}
