//! What is in this frame, and how does it change without breaking its checksums?
//!
//! A frame is bytes from the Ethernet header on, with a [`VnetHeader`] beside it. It is read once, by
//! [`parse`], into a [`Parsed`]: offsets that later code may trust, and [`Headers`]: the fields that a hop can
//! see. Hops work on `Headers` alone; what they changed is the difference of two `Headers`, an [`Edit`], and
//! [`Edit::apply`] is the only place where a packet's bytes change.
//!
//! ```text
//!   bytes ─ parse → Parsed { headers, offsets } ─ hops → Headers' ─ Edit::between → Edit ─ apply → bytes
//! ```
//!
//! This crate knows no VPC, keeps no state and does no I/O. It allocates only where it builds an answer of its own
//! ([`reply`], [`ntp`]).
//!
//! Byte order: numbers in the types of this crate are in host order; addresses are octets as on the wire.
//!
//! Decisions
//! - An ICMP echo is a flow like any other: its id stands where a source port stands, and 0 where a destination port
//!   stands (NAT-13), the other way round in the reply. So one rule turns a flow around, and one translates it.
//! - With `NEEDS_CSUM` the L4 field holds the uncomplemented sum of the pseudo header. It is written anew from the
//!   final addresses rather than corrected: twelve bytes, and a guest's wrong sum goes no further.

mod checksum;
mod edit;
mod flow;
mod fragment;
pub mod ntp;
mod parse;
pub mod reply;
mod vnet;

pub use edit::{Edit, FlowEdit};
pub use flow::{Flow, Fragment, Headers, Kind, Mac, tcp_flags};
pub use fragment::fragments;
pub use parse::{Arp, ETHERNET, Frame, Malformed, Parsed, parse};
pub use vnet::{Segmentation, VnetHeader};
