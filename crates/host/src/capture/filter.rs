//! Filters in tcpdump's language, compiled by tcpdump: one language, one set of messages, also in its next version.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use super::bpf::{Instruction, Program};
use super::pcapng::LONGEST_FRAME;
use crate::error::{Context, HostError};

/// Why a filter can't be had.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// It compiles them.
    #[error("a filter needs tcpdump, which compiles it; as root: apt-get install tcpdump")]
    NoTcpdump,
    /// In tcpdump's words.
    #[error("{0}")]
    Refused(String),
    /// What it printed is no program.
    #[error("tcpdump made no filter of '{0}'")]
    NotUnderstood(String),
    /// The machine refused.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// The program of a filter for Ethernet frames.
///
/// # Errors
/// tcpdump's message when it isn't one.
pub fn compile(expression: &str) -> Result<Program, FilterError> {
    // An empty file, since a device could be opened by root only.
    let mut command = Command::new("tcpdump");
    command.args(["-ddd", "-r", "-", "--"]).arg(expression);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut tcpdump = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => FilterError::NoTcpdump,
        _ => HostError::System { what: "tcpdump".to_owned(), source: error }.into(),
    })?;
    if let Some(mut input) = tcpdump.stdin.take() {
        // If it ends before it reads, it says why.
        let _ = input.write_all(&empty_file());
    }
    let output = tcpdump.wait_with_output().context("tcpdump")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let words = said.lines().filter(|line| !line.starts_with("reading from ")).collect::<Vec<_>>().join("\n");
        return Err(FilterError::Refused(words));
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    // The first line counts the others.
    let instructions: Option<Vec<_>> = printed.lines().skip(1).map(instruction).collect();
    let program = instructions.and_then(|instructions| Program::try_from(instructions).ok());
    program.ok_or_else(|| FilterError::NotUnderstood(expression.to_owned()))
}

fn instruction(line: &str) -> Option<Instruction> {
    let mut numbers = line.split(' ').map(|number| number.parse::<u32>().ok());
    let mut next = || numbers.next().flatten();
    let (code, jt, jf, k) = (next()?, next()?, next()?, next()?);
    Some(Instruction { code: code.try_into().ok()?, jt: jt.try_into().ok()?, jf: jf.try_into().ok()?, k })
}

/// A capture file of the older kind, which every tcpdump reads, with Ethernet frames, and none.
fn empty_file() -> Vec<u8> {
    const MAGIC: u32 = 0xa1b2_c3d4;
    const ETHERNET: u32 = 1;
    let version = [2_u16, 4].map(u16::to_ne_bytes).concat();
    let rest = [0, 0, LONGEST_FRAME, ETHERNET].map(u32::to_ne_bytes).concat();
    [&MAGIC.to_ne_bytes()[..], &version, &rest].concat()
}
