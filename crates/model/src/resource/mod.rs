//! The resources, as plain data under AWS's names.

mod gateway;
mod host;
mod instance;
mod names;
mod network_interface;
mod route_table;
mod rules;
mod vpc;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use gateway::*;
pub use host::*;
pub use instance::*;
pub use names::*;
pub use network_interface::*;
pub use route_table::*;
pub use rules::*;
pub use vpc::*;

/// Where a resource or a rule came from; opaque here. 0 is nowhere (made by AWS itself, as a local route).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Origin(pub u32);

/// A number that names a network interface for the whole life of a lab and is never given out twice.
/// Flow state is keyed by it, so it survives every change of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Serial(pub u32);

/// Tags by key; `Name` is the one that people read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tags(pub BTreeMap<String, String>);

impl Tags {
    /// Only a name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(BTreeMap::from([("Name".to_owned(), name.to_owned())]))
    }

    /// The `Name` tag.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.get("Name").map(String::as_str)
    }
}

/// A MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// A locally administered unicast address made of `seed`.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let b = seed.to_be_bytes();
        Self([0x06, b[3], b[4], b[5], b[6], b[7]])
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
