//! What this machine lacks, found out by doing it: a small lab of one guest, step by step, in a process of its own.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, geteuid, getrlimit};
use serde::{Deserialize, Serialize};

use crate::error::HostError;
use crate::guest::{GuestSpec, InterfaceSpec, Outside, init, network};
use crate::keeper::{Home, user_namespace};
use crate::tap::Backend;
use crate::{netfilter, tap};

/// Tools that labs' pages use, and their packages on Debian and Ubuntu where those are called otherwise.
const TOOLS: &[&str] = &[
    "curl",
    "ip:iproute2",
    "iperf3",
    "nc:netcat-openbsd",
    "ping:iputils-ping",
    "tcpdump",
    "tracepath:iputils-tracepath",
    "traceroute",
];
/// Descriptors of the keeper for each instance: namespace, netlink, TAP, and its first process.
const PER_INSTANCE: u64 = 4;
/// Those that a process has anyway.
const OTHERS: u64 = 32;

/// One thing that a lab needs, or is better with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was tried.
    pub what: String,
    /// How it went.
    pub state: Health,
    /// In words, with what to type if something is missing.
    pub words: String,
}

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// As it should be.
    Good,
    /// Labs work, but miss something.
    Lacking,
    /// No lab works.
    Broken,
}

/// Can the tun driver be opened, at the usual node or this one? What `up` asks before it makes anything.
///
/// # Errors
/// When it can't, with what to do.
pub fn check_tun(path: Option<&Path>) -> Result<(), HostError> {
    let path = path.map_or_else(tap::device, Path::to_owned);
    match File::options().read(true).write(true).open(&path) {
        Ok(_) => Ok(()),
        Err(source) => Err(HostError::NoTun { path, source }),
    }
}

/// Tries everything. Leaves this process, which must have one thread, in namespaces of its own.
#[must_use]
pub fn examine(runtime: &Path) -> Vec<Finding> {
    let mut findings = vec![tools(), descriptors(), room(runtime), ids()];
    let device = tap::device();
    findings.push(finding("tun driver", check_tun(None), || device.display().to_string()));
    findings.push(finding("user namespace", user_namespace::enter(), || "granted".to_owned()));
    if findings.iter().all(|finding| finding.what != "user namespace" || finding.state == Health::Good) {
        findings.push(finding("rights in it", Home::new(), || "granted".to_owned()));
    }
    if findings.iter().all(|finding| finding.state != Health::Broken) {
        try_guest(&mut findings);
    }
    findings
}

fn good(what: &str, words: impl Into<String>) -> Finding {
    Finding { what: what.to_owned(), state: Health::Good, words: words.into() }
}

fn lacking(what: &str, words: impl Into<String>) -> Finding {
    Finding { what: what.to_owned(), state: Health::Lacking, words: words.into() }
}

fn finding<T>(what: &str, result: Result<T, HostError>, words: impl FnOnce() -> String) -> Finding {
    match result {
        Ok(_) => good(what, words()),
        Err(error) => Finding { what: what.to_owned(), state: Health::Broken, words: error.to_string() },
    }
}

fn tools() -> Finding {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<_> = std::env::split_paths(&path).collect();
    // An ordinary user's PATH often lacks them, a guest's doesn't.
    places.extend(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    let missing = TOOLS.iter().filter_map(|tool| {
        let (command, package) = tool.split_once(':').unwrap_or((tool, tool));
        (!places.iter().any(|place| place.join(command).is_file())).then_some(package)
    });
    match missing.collect::<Vec<_>>().as_slice() {
        [] => good("tools", "all there"),
        missing => lacking("tools", format!("missing: {0}; sudo apt-get install {0}", missing.join(" "))),
    }
}

fn descriptors() -> Finding {
    match getrlimit(Resource::Nofile).maximum {
        None => good("open files", "no limit"),
        Some(limit) => {
            let instances = limit.saturating_sub(OTHERS) / PER_INSTANCE;
            let words = format!("at most {limit}, enough for {instances} instances");
            if instances >= 250 {
                good("open files", words)
            } else {
                lacking("open files", format!("{words}; as root: ulimit -Hn 1048576, in the shell that starts the lab"))
            }
        }
    }
}

fn room(runtime: &Path) -> Finding {
    const ENOUGH: u64 = 64 << 20;
    let there = runtime.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(there) {
        Ok(stat) if stat.f_bavail * stat.f_frsize < ENOUGH => {
            let free = (stat.f_bavail * stat.f_frsize) >> 20;
            lacking("disk space", format!("{free} MiB free in {}; labs write some megabytes there", there.display()))
        }
        Ok(_) => good("disk space", format!("enough in {}", there.display())),
        Err(error) => lacking("disk space", format!("{}: {error}", there.display())),
    }
}

fn ids() -> Finding {
    if geteuid().is_root() {
        return good("user ids", "all, as this is root");
    }
    let range = user_namespace::subordinate("/etc/subuid", geteuid().as_raw());
    let program = ["/usr/bin/newuidmap", "/bin/newuidmap"].iter().any(|path| Path::new(path).exists());
    match (range, program) {
        (Ok((first, count)), true) => good("user ids", format!("{count} subordinate ones from {first} on")),
        (Ok(_), false) => good("user ids", "one; for more: sudo apt-get install uidmap"),
        (Err(_), _) => good(
            "user ids",
            "one; for more: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER",
        ),
    }
}

fn try_guest(findings: &mut Vec<Finding>) {
    let mut spec = GuestSpec {
        name: "doctor".to_owned(),
        hostname: "doctor".to_owned(),
        default_ttl: 64,
        sysctls: Vec::new(),
        interfaces: vec![InterfaceSpec {
            name: "eth0".to_owned(),
            mac: [6, 0, 0, 0, 0, 1],
            address: Ipv4Addr::new(10, 0, 0, 10),
            secondary: Vec::new(),
            prefix: 24,
            gateway: Ipv4Addr::new(10, 0, 0, 1),
            mtu: 9001,
        }],
        block: None,
        backend: Backend::VirtioNet,
        resolver: None,
        setup: crate::guest::Setup::All,
        control: None,
    };
    let what = "a guest's network";
    match network::create(&spec) {
        Ok(_) => findings.push(good(what, "with a TAP that takes super-segments")),
        Err(error) => {
            spec.backend = Backend::TunTap;
            if network::create(&spec).is_err() {
                return findings.push(finding::<()>(what, Err(error), String::new));
            }
            let words =
                format!("{error}; without super-segments it works, several times slower: minivpc up --backend tun-tap");
            findings.push(lacking(what, words));
        }
    }
    findings.push(match netfilter::complete_checksums() {
        Ok(()) => good("checksums", "completed for tcpdump"),
        Err(error) => lacking(
            "checksums",
            format!("{error}; tcpdump -v will call those of sent packets incorrect: modprobe xt_CHECKSUM nft_compat"),
        ),
    });
    findings.push(match tap::cuts_udp() {
        true => good("UDP segmentation", "by the TAPs"),
        false => lacking("UDP segmentation", "not by this kernel's TAPs, which need Linux 6.2; bulk UDP is slower"),
    });
    findings.push(finding("a guest's files", init::start(&spec, &Outside::default()), || {
        "private layers over the host's".to_owned()
    }));
}
