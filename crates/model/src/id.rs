//! Typed resource ids: a prefix and 8 or 17 hexadecimal digits, as AWS writes them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The part of an id behind its prefix.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Hex {
    value: u128,
    digits: u8,
}

/// Why a text isn't the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' isn't an id of this kind: expected {expected}")]
pub struct IdError {
    text: String,
    expected: &'static str,
}

impl Hex {
    fn parse(text: &str, prefix: &str) -> Option<Self> {
        let digits = text.strip_prefix(prefix)?.strip_prefix('-')?;
        let fits = matches!(digits.len(), 8 | 17) && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let value = u128::from_str_radix(digits, 16).ok().filter(|_| fits)?;
        Some(Self { value, digits: digits.len() as u8 })
    }
}

/// Stored and sent as it is written.
macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! ids {
    ($($(#[doc = $doc:literal])* $name:ident = $prefix:literal;)*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Hex);

        impl $name {
            /// What stands before the dash.
            pub const PREFIX: &'static str = $prefix;

            /// The id made of `seed`: 17 digits, the first a zero as on AWS.
            #[must_use]
            pub fn from_seed(seed: u64) -> Self {
                Self(Hex { value: u128::from(seed), digits: 17 })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "-{:0width$x}"), self.0.value, width = usize::from(self.0.digits))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        as_text!($name);

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let expected = concat!("'", $prefix, "-' and 8 or 17 hexadecimal digits");
                Hex::parse(text, $prefix).map(Self).ok_or_else(|| IdError { text: text.to_owned(), expected })
            }
        }
    )*};
}

ids! {
    /// A VPC.
    VpcId = "vpc";
    /// A subnet.
    SubnetId = "subnet";
    /// A route table.
    RouteTableId = "rtb";
    /// A security group.
    SecurityGroupId = "sg";
    /// A network ACL.
    NetworkAclId = "acl";
    /// An internet gateway.
    InternetGatewayId = "igw";
    /// A NAT gateway.
    NatGatewayId = "nat";
    /// A network interface.
    NetworkInterfaceId = "eni";
    /// An instance.
    InstanceId = "i";
    /// An Elastic IP address.
    AllocationId = "eipalloc";
    /// A set of DHCP options.
    DhcpOptionsId = "dopt";
    /// A virtual private gateway.
    VpnGatewayId = "vgw";
    /// A VPN connection.
    VpnConnectionId = "vpn";
    /// A host outside all VPCs; AWS has no such resource.
    HostId = "host";
}

/// A hosted zone: Route 53's ids are a Z and up to 24 digits and capital letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostedZoneId {
    /// To base 36.
    value: u128,
    digits: u8,
}

impl HostedZoneId {
    /// The id made of `seed`.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self { value: seed.into(), digits: 20 }
    }
}

impl fmt::Display for HostedZoneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |place: u8| {
            let digit = self.value / 36_u128.pow(place.into()) % 36;
            char::from_digit(digit as u32, 36).unwrap_or_default().to_ascii_uppercase()
        };
        f.write_str("Z")?;
        (0..self.digits).rev().try_for_each(|place| write!(f, "{}", digit(place)))
    }
}

impl fmt::Debug for HostedZoneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

as_text!(HostedZoneId);

impl FromStr for HostedZoneId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let expected = "'Z' and up to 24 digits and capital letters";
        let digits = text.strip_prefix('Z').filter(|digits| (1..=24).contains(&digits.len()));
        let digits = digits.filter(|d| d.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()));
        digits
            .and_then(|d| Some(Self { value: u128::from_str_radix(d, 36).ok()?, digits: d.len() as u8 }))
            .ok_or_else(|| IdError { text: text.to_owned(), expected })
    }
}

/// Who has a guest: network namespaces of its own with commands in them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GuestId {
    /// An instance.
    Instance(InstanceId),
    /// A host outside all VPCs.
    Host(HostId),
}

impl fmt::Display for GuestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance(id) => id.fmt(f),
            Self::Host(id) => id.fmt(f),
        }
    }
}

impl fmt::Debug for GuestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for GuestId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.parse().map(Self::Host).or_else(|_| text.parse().map(Self::Instance))
    }
}

as_text!(GuestId);

/// What a VPC has on its edge, with a route table of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GatewayId {
    /// An internet gateway.
    Internet(InternetGatewayId),
    /// A virtual private gateway.
    Vpn(VpnGatewayId),
}

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet(id) => id.fmt(f),
            Self::Vpn(id) => id.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_as_they_are_written() {
        for text in ["nat-0efd1351c899a1d4b", "nat-0123abcd"] {
            assert_eq!(text.parse::<NatGatewayId>().unwrap().to_string(), text);
        }
        for text in ["Z1D633PJN98FT9", "Z00000000000000000000", "ZZZZZZZZZZZZZZZZZZZZZZZZZ"] {
            assert_eq!(text.parse::<HostedZoneId>().unwrap().to_string(), text);
        }
        assert_eq!(HostedZoneId::from_seed(u64::MAX).to_string(), "Z00000003W5E11264SGSF");
        assert_eq!(VpcId::from_seed(0xab).to_string(), "vpc-000000000000000ab");
    }

    #[test]
    fn another_kinds_id_is_refused() {
        for text in
            ["vpc-0efd1351c899a1d4b", "nat-", "nat-XYZ", "nat-0efd", "nat0efd1351c899a1d4b", "nat-0EFD1351C899A1D4B"]
        {
            assert!(text.parse::<NatGatewayId>().is_err(), "{text}");
        }
        for text in ["Z", "Y1", "Z1d633", "Z1D-633", "Z0000000000000000000000000"] {
            assert!(text.parse::<HostedZoneId>().is_err(), "{text}");
        }
    }
}
