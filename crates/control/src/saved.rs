//! What a lab keeps on disk for its next engine: what should run, written before each change is published, and the flows,
//! written about once a second.
//!
//! Both are replaced at once by renaming, so that whoever reads them finds one whole version, whatever was killed when.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use minivpc_config::Lab;
use minivpc_dataplane::state::{Checkpoint, NatKey};
use minivpc_host::{Clock, GuestSpec, Moving};
use minivpc_model::GuestId;
use minivpc_services::Authority;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::guest::Start;
use crate::protocol::{LabFile, VERSION};

/// What an engine has from its lab for as long as it lives.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Base {
    pub key: NatKey,
    pub clock: Clock,
    pub moving: Moving,
    /// Engines that have died before.
    pub deaths: u32,
}

/// What should run.
#[derive(Serialize, Deserialize)]
pub(crate) struct Saved {
    pub base: Base,
    pub lab: Lab,
    /// Signs the certificates of its hosts.
    pub authority: Authority,
    /// What it was made of last.
    pub file: LabFile,
    /// Guests, each with the commands of its start.
    pub guests: BTreeMap<GuestId, (GuestSpec, Vec<String>, Start)>,
    /// Guests started so far.
    pub starts: u64,
}

impl Saved {
    /// What an earlier engine has left; none if this is the first.
    pub fn read(directory: &Path) -> io::Result<Option<Self>> {
        read(&directory.join("state"))
    }

    pub fn write(&self, directory: &Path) -> io::Result<()> {
        write(&directory.join("state"), self)
    }
}

/// The flows of an earlier engine.
pub(crate) fn read_flows(directory: &Path) -> io::Result<Option<Checkpoint>> {
    read(&directory.join("flows"))
}

pub(crate) fn write_flows(directory: &Path, flows: &Checkpoint) -> io::Result<()> {
    write(&directory.join("flows"), flows)
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result?,
    };
    let (version, value): (String, T) = postcard::from_bytes(&bytes).map_err(|_| other_version(path))?;
    if version == VERSION { Ok(Some(value)) } else { Err(other_version(path)) }
}

fn other_version(path: &Path) -> io::Error {
    io::Error::other(format!("{} isn't of this minivpc, {VERSION}", path.display()))
}

fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let bytes = postcard::to_stdvec(&(VERSION, value)).map_err(io::Error::other)?;
    let new = path.with_extension("new");
    let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, path));
    written.map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}
