//! What `scripts/bench` holds the packet path against: guests with the links that a lab's have, all in one network, and
//! one thread that copies each frame with its virtio-net header from one TAP to that of its MAC address.
//!
//! ```text
//! tap_loop up DIRECTORY                     makes the guests, prints a line when they are there, and copies until its
//!                                           standard input ends
//! tap_loop exec DIRECTORY GUEST COMMAND…    runs a command in one of them
//! ```
//!
//! It reads and writes as the packet loop does: as many frames of a TAP in a turn, one system call to read a frame and
//! one to write it. So what a lab is slower is what it does to a packet.

use std::error::Error;
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, ExitCode};

use minivpc_host::guest::exec::{Directory, exec};
use minivpc_host::{Backend, GuestSpec, InterfaceSpec, Keeper, run_keeper};
use minivpc_packet::VnetHeader;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;

/// As in the packet loop: headers and the longest packet, and frames per TAP and turn.
const LONGEST: usize = VnetHeader::LEN + 14 + 65_535;
const BURST: usize = 64;
/// What epoll says when nobody needs the loop any more.
const END: u64 = u64::MAX;
/// The guests by the last bytes of their addresses; the last byte of a MAC address is the place here.
const GUESTS: [(&str, [u8; 2]); 10] = [
    ("source", [0, 11]),
    ("destination", [1, 55]),
    ("flooder-1", [0, 21]),
    ("flooder-2", [0, 22]),
    ("flooder-3", [0, 23]),
    ("flooder-4", [0, 24]),
    ("sink-1", [1, 61]),
    ("sink-2", [1, 62]),
    ("sink-3", [1, 63]),
    ("sink-4", [1, 64]),
];
const SOCKET: &str = "keeper.sock";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    match words.as_slice() {
        ["up", directory] => up(Path::new(directory))?,
        ["keeper"] => {
            run_keeper(std::io::stdin().as_fd().try_clone_to_owned()?)?;
        }
        ["exec", directory, guest, _, ..] => {
            let guest = Keeper::connect(&Path::new(directory).join(SOCKET))?.enter(guest)?;
            return Ok(ExitCode::from(u8::try_from(exec(&guest, &arguments[3..], Directory::Writable)?)?));
        }
        _ => return Err("usage: tap_loop up DIRECTORY | tap_loop exec DIRECTORY GUEST COMMAND…".into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn up(directory: &Path) -> Result<(), Box<dyn Error>> {
    let mut keeper = Command::new(std::env::current_exe()?);
    keeper.arg("keeper");
    // Never committed: should this process be killed, the keeper and the guests go with it.
    let keeper = Keeper::spawn(keeper, &directory.join(SOCKET))?;
    let mut taps = Vec::new();
    for ((name, [subnet, host]), number) in GUESTS.into_iter().zip(0..) {
        taps.extend(keeper.create_guest(&guest(name, number, Ipv4Addr::new(10, 0, subnet, host)))?);
    }
    println!("the guests are there");
    copy(&taps)?;
    Ok(keeper.shutdown()?)
}

/// As an instance of a lab, but for the prefix: the guests find each other by ARP, without a router.
fn guest(name: &str, mac: u8, address: Ipv4Addr) -> GuestSpec {
    GuestSpec {
        name: name.to_owned(),
        hostname: name.to_owned(),
        default_ttl: 255,
        sysctls: Vec::new(),
        interfaces: vec![InterfaceSpec {
            name: "eth0".to_owned(),
            mac: [6, 0, 0, 0, 0, mac],
            address,
            secondary: Vec::new(),
            prefix: 16,
            gateway: Ipv4Addr::new(10, 0, 0, 1),
            mtu: 9001,
        }],
        block: None,
        backend: Backend::VirtioNet,
        resolver: None,
        setup: minivpc_host::Setup::All,
        control: None,
    }
}

fn copy(taps: &[OwnedFd]) -> Result<(), Errno> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, std::io::stdin(), EventData::new_u64(END), EventFlags::IN)?;
    for (tap, number) in taps.iter().zip(0..) {
        epoll::add(&epoll, tap, EventData::new_u64(number), EventFlags::IN)?;
    }
    let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 64];
    let mut buffer = vec![0; LONGEST];
    loop {
        let ready = match epoll::wait(&epoll, &mut events[..], None) {
            Err(Errno::INTR) => continue,
            result => result?,
        };
        for event in &events[..ready] {
            let number = event.data.u64();
            if number == END {
                return Ok(());
            }
            let from = &taps[number as usize];
            for _ in 0..BURST {
                let length = match rustix::io::read(from, &mut buffer) {
                    Ok(length) => length,
                    Err(Errno::AGAIN | Errno::INTR) => break,
                    Err(error) => return Err(error),
                };
                let frame = &buffer[..length];
                let Some([first, .., last]) = frame.get(VnetHeader::LEN..VnetHeader::LEN + 6) else { continue };
                let everybody = first & 1 != 0;
                let to = match taps.get(usize::from(*last)) {
                    _ if everybody => taps,
                    Some(to) => std::slice::from_ref(to),
                    None => &[],
                };
                for to in to.iter().filter(|to| to.as_raw_fd() != from.as_raw_fd()) {
                    // A guest that is too slow loses frames, as in a lab.
                    let _ = rustix::io::write(to, frame);
                }
            }
        }
    }
}
