//! What is said to a keeper: one JSON message per packet of a SEQPACKET socket, descriptors beside it.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::guest::{GuestSpec, GuestState, InterfaceSpec, LinkStats, Outside};

/// Longest message, bytes.
const LONGEST: usize = 128 * 1024;
/// Most descriptors beside a message: a guest has at most 15 interfaces on AWS.
const MOST_DESCRIPTORS: usize = 16;

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Is somebody there?
    Hello,
    /// The lab is up: from now on it outlives whoever made it.
    Commit,
    /// Starts the lab's engine, which is this program with these arguments; beside it its standard output and error.
    StartEngine {
        arguments: Vec<OsString>,
    },
    /// Said by the engine: it works, and shall be started again when it dies.
    Serving,
    /// What guests know of the internet whose first command comes from now on.
    Outside(Outside),
    /// Answered with the descriptors of its TAPs, one per interface.
    CreateGuest(GuestSpec),
    /// Answered with all guests.
    Guests,
    /// Answered with the descriptors of a guest's TAPs, once more.
    Taps {
        guest: String,
    },
    /// All of its processes and its network go.
    RemoveGuest {
        guest: String,
    },
    /// Its interfaces and their secondary addresses are these from now on; answered with the descriptors of the TAPs
    /// of those that it has not had.
    Assign {
        guest: String,
        interfaces: Vec<InterfaceSpec>,
    },
    /// Answered with sockets that listen on all of its addresses, one for each TCP port.
    Listen {
        guest: String,
        ports: Vec<u16>,
    },
    /// Answered with a pidfd of the guest's PID 1.
    Enter {
        guest: String,
    },
    LinkStats {
        guest: String,
    },
    Shutdown,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Done,
    LinkStats(Vec<LinkStats>),
    Guests(Vec<GuestState>),
    Failed(String),
}

pub(super) fn send(socket: impl AsFd, message: &impl Serialize, descriptors: &[OwnedFd]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut beside, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// None when the other side has closed.
pub(super) fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let rights = beside.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptors = rights.flatten().collect();
    Ok(Some((serde_json::from_slice(&bytes[..received.bytes])?, descriptors)))
}
