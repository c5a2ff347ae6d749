//! What does a lab file say, and where does it say it?
//!
//! ```text
//!   text ─ serde-saphyr → LabFile ─ build → Op, Op, Op … → Lab { World, places }
//! ```
//!
//! - `file.rs`: the shape of a lab file, as its author writes it: names and texts with their places.
//! - `scalar.rs`: single values; `mistake.rs`: what is wrong, where, and what to do.
//! - `build.rs`: names to ids, and the operations in an order in which each finds what it needs.
//!
//! A lab file knows no rule of AWS's: whether blocks overlap or a route may be so is `minivpc_model`'s to say, and a
//! [`Mistake`] shows its refusal at the place that caused it. What a file doesn't say is as AWS defaults it. Ids that
//! it doesn't say are derived from names, so they stay the same from run to run.
//!
//! The model carries an opaque `Origin` for each resource and rule; [`Lab::place`] knows which line that is.
//!
//! This crate does no I/O and reads no clock: text and time are arguments.

mod build;
mod file;
mod mistake;
mod scalar;

use std::collections::BTreeMap;

use ipnet::IpNet;
use minivpc_model::{GuestId, KeptRoutes, Op, Origin, Refusal, RouteTableId, World, plan};
use serde::{Deserialize, Serialize};
use serde_saphyr::{Location, Spanned};

pub use file::GuestNetwork;
pub use mistake::{Mistake, Place, printable};

/// Longest lab file, bytes.
pub const LONGEST: usize = 4 << 20;

/// A lab that could run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Lab {
    /// Its name.
    pub name: String,
    /// What it consists of.
    pub world: World,
    /// What instances and hosts have that isn't AWS's.
    pub guests: BTreeMap<GuestId, Guest>,
    /// Routes whose target isn't in the file any more, but was in the lab that ran before.
    pub kept_routes: BTreeMap<(RouteTableId, IpNet), KeptRoute>,
    /// Place of origin 1, 2, …
    places: Vec<Place>,
}

/// A route that stays although its target is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRoute {
    /// Where it is written.
    pub origin: Origin,
    /// What its target was called: something else of another name isn't meant.
    pub target: String,
}

/// The part of an instance or host that its owner sets inside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// Network settings, name and value: `net.ipv4.ip_forward`, `1`.
    pub sysctls: Vec<(String, String)>,
    /// Shell commands at each start.
    pub run: Vec<String>,
    /// Who configures its network.
    pub network: GuestNetwork,
    /// May its commands ask about the lab and change it?
    pub control: bool,
}

impl Lab {
    /// Where a resource or rule stands; none for what AWS makes by itself.
    #[must_use]
    pub fn place(&self, origin: Origin) -> Option<Place> {
        let index = usize::try_from(origin.0).ok()?.checked_sub(1)?;
        self.places.get(index).copied()
    }

    /// The operations that make this lab of the one that runs, and the lab that it is then.
    ///
    /// # Errors
    /// What AWS refuses on the way.
    pub fn succeed(self, running: &Self) -> Result<(Vec<Op>, Self), Refusal> {
        let kept: KeptRoutes = self.kept_routes.iter().map(|(route, kept)| (*route, kept.origin)).collect();
        let change = plan(&running.world, &self.world, &kept)?;
        Ok((change.ops, Self { world: change.world, ..self }))
    }
}

/// Reads a lab file. `now` is the creation time of what has none, in RFC 3339. With the lab that runs, what the file
/// leaves open stays as it is there: addresses that nobody asked for, and routes whose target the file has no more.
///
/// # Errors
/// The first mistake in it.
pub fn load(text: &str, now: &str, running: Option<&Lab>) -> Result<Lab, Mistake> {
    build::build(read(text)?, now, running)
}

/// The name of the lab that a file describes.
///
/// # Errors
/// When it isn't a lab file.
pub fn name_of(text: &str) -> Result<String, Mistake> {
    build::lab_name(read(text)?.lab.as_ref())
}

fn read(text: &str) -> Result<file::LabFile, Mistake> {
    if text.len() > LONGEST {
        let message = format!("the file is longer than {LONGEST} bytes, the most that a lab file may have");
        return Err(Mistake::new(Location::UNKNOWN, message));
    }
    // A top-level span makes an empty file an error with a place.
    let file: Spanned<file::LabFile> = serde_saphyr::from_str(text).map_err(|error| Mistake::yaml(&error, text))?;
    Ok(file.value)
}
