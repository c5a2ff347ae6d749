//! Single values of a lab file, each with words for what it should have been.

use std::fmt;
use std::marker::PhantomData;
use std::net::Ipv4Addr;

use ipnet::IpNet;
use minivpc_model::{DomainNameServer, PortRange};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// A value that is written as one word.
pub trait Scalar: Sized {
    /// What it should be, for messages.
    const EXPECTED: &'static str;

    /// Reads it.
    fn read(text: &str) -> Option<Self>;
}

/// Reads a [`Scalar`] whatever YAML takes it for: `443` is a number to YAML, `1024-65535` a text.
#[derive(Debug, Clone, Copy)]
pub struct Value<T>(pub T);

impl<'de, T: Scalar> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word<T>(PhantomData<T>);
        impl<T: Scalar> Visitor<'_> for Word<T> {
            type Value = Value<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                let read = T::read(text).map(Value);
                read.ok_or_else(|| E::custom(format_args!("'{text}' isn't {}", T::EXPECTED)))
            }
        }
        deserializer.deserialize_str(Word(PhantomData))
    }
}

/// Those that the standard library reads.
macro_rules! scalars {
    ($($word:ty: $expected:literal;)*) => {$(
        impl Scalar for $word {
            const EXPECTED: &'static str = $expected;

            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )*};
}

scalars! {
    Ipv4Addr: "an IPv4 address such as 10.0.0.10";
    IpNet: "a block of addresses such as 10.0.0.0/16";
    u8: "a number such as 3";
    u16: "a number such as 3";
    u32: "a number such as 300";
}

impl Scalar for DomainNameServer {
    const EXPECTED: &'static str = "AmazonProvidedDNS or an IPv4 address such as 10.0.0.53";

    fn read(text: &str) -> Option<Self> {
        match text {
            "AmazonProvidedDNS" => Some(Self::AmazonProvided),
            address => address.parse().ok().map(Self::Address),
        }
    }
}

/// A block of addresses.
pub type Cidr = Value<IpNet>;

/// A port or a range of ports.
pub type Ports = Value<PortRange>;

impl Scalar for PortRange {
    const EXPECTED: &'static str = "a port such as 443 or a range such as 1024-65535";

    fn read(text: &str) -> Option<Self> {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        (from <= to).then_some(Self { from, to })
    }
}

/// An IP protocol.
pub type Protocol = Value<IpProtocol>;

/// An IP protocol; none is all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpProtocol(pub Option<u8>);

impl Scalar for IpProtocol {
    const EXPECTED: &'static str = "a protocol: all, tcp, udp, icmp or a number";

    fn read(text: &str) -> Option<Self> {
        Some(Self(match text {
            "all" | "-1" => None,
            "icmp" => Some(1),
            "tcp" => Some(6),
            "udp" => Some(17),
            number => Some(number.parse().ok()?),
        }))
    }
}
