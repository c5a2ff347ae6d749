//! What does the VPC consist of, and which changes to it does AWS allow?
//!
//! A [`World`] holds the resources of one lab as plain data under AWS's names. It changes only through
//! [`World::apply`] with one [`Op`], which is named after the EC2 action it stands for and does all of it or
//! nothing; a refusal carries AWS's error code and text. [`plan`] finds the operations from one world to another.
//!
//! ```text
//!   lab file ─┐                         ┌─ dataplane::compile → Snapshot
//!   EC2 API ──┴─ Op ─→ World::apply ─→ World
//! ```
//!
//! All of it can be written down and read back (serde), ids as the texts that they are.
//!
//! This crate does no I/O, draws no random numbers and reads no clock: ids, MAC addresses and times are part of
//! the operations, so the same operations always give the same world. It never looks at packets.
//!
//! Every resource and every rule carries an opaque [`Origin`]; who made the operation knows what it means (a line
//! of a lab file). Nothing in here reads it.
//!
//! Ownership: the world owns everything in maps keyed by id; resources name each other by id only. A reference is
//! checked when it is made, so inside a world every id resolves, with one exception that AWS has too: a route may
//! outlive its target and is then a blackhole ([`World::route_state`], R-23).

mod find;
mod id;
mod op;
mod plan;
mod refusal;
mod resource;
mod traffic;
mod world;

pub use find::{FindError, ResourceKind, link_number};
pub use id::*;
pub use op::*;
pub use plan::{KeptRoutes, Plan, plan};
pub use refusal::{ErrorCode, Refusal};
pub use resource::*;
pub use traffic::{PortRange, Traffic};
pub use world::{AddressOwner, PublicAddress, RouteState, World};
