//! The commands of an instance's start, and what they print: a process of its own runs them in the guest, another one
//! keeps the end of their output. Both outlive the engine that started them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::Shutdown;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use minivpc_host::guest::exec::{Directory, exec};
use minivpc_host::{HostError, Keeper};
use minivpc_model::{GuestId, Service};
use minivpc_services::Identity;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::stdio::{dup2_stderr, dup2_stdout};
use serde::{Deserialize, Serialize};

use crate::guest::Guest;

/// Most that is kept of what the commands of an instance print, bytes; when it is more, the older half goes.
const LONGEST: u64 = 1 << 20;
const CUT: &[u8] = b"[what was printed before is cut]\n";

/// Where the output of a guest's commands is.
pub(crate) fn log(directory: &Path, id: GuestId) -> PathBuf {
    directory.join(format!("{id}.log"))
}

/// What a host answers by itself, and how it shows who it is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Server {
    pub host: String,
    pub serve: Vec<Service>,
    pub identity: Identity,
}

/// How long a server may take until it listens.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server that was started, and says when it listens.
pub(crate) struct Starting(UnixStream);

impl Starting {
    /// Returns when it listens, or can't, which its log tells.
    pub fn wait(mut self) {
        let listens = self.0.set_read_timeout(Some(PATIENCE)).and_then(|()| self.0.read_exact(&mut [0]));
        if let Err(error) = listens {
            tracing::error!(%error, "a host's server says nothing");
        }
    }
}

/// The variable with the script that is a guest's user data, for the shell of [`run_commands`].
const USER_DATA: &str = "MINIVPC_USER_DATA";

/// Starts the commands of a guest in the directory of the lab file, and before them its server and its user data.
pub(crate) fn start(
    lab: &Path,
    file: &Path,
    id: GuestId,
    guest: &Guest,
    server: Option<Server>,
    user_data: Option<&str>,
) -> io::Result<Option<Starting>> {
    // What is no script is only to be read.
    let script = user_data.filter(|data| data.starts_with("#!"));
    if guest.run.is_empty() && server.is_none() && script.is_none() {
        return Ok(None);
    }
    let mut command = std::process::Command::new("/proc/self/exe");
    command.arg0("minivpc").arg("commands").arg(lab).arg(&guest.spec.name).arg(log(lab, id));
    command.args(server.as_ref().map(|_| "--serve"));
    // Arguments can be read by everybody on this machine.
    command.env_remove(USER_DATA).envs(script.map(|script| (USER_DATA, script)));
    command.arg("--").args(&guest.run).current_dir(file.parent().unwrap_or(Path::new("/")));
    let (ours, theirs) = server.is_some().then(UnixStream::pair).transpose()?.unzip();
    if let (Some(ours), Some(server)) = (&ours, &server) {
        // In one piece, which is less than a socket holds, and before the process is there: this one may die in between.
        (&*ours).write_all(&serde_json::to_vec(server)?)?;
        ours.shutdown(Shutdown::Write)?;
    }
    command.stdin(theirs.map_or_else(Stdio::null, |theirs| OwnedFd::from(theirs).into()));
    // `up` reads the engine's output to its end, which must not wait for theirs.
    command.stdout(Stdio::null());
    // It ends with its guest; the runtime reaps it.
    tokio::process::Command::from(command).spawn()?;
    Ok(ours.map(Starting))
}

/// Runs commands in a guest, one after the other in one shell as `cloud-init` does, and before them its own server if it
/// is to `serve` what standard input says, and the script that the environment has for its first start.
///
/// # Errors
/// When the guest can't be entered.
pub fn run_commands(
    directory: &Path,
    guest: &str,
    log: &Path,
    serve: bool,
    commands: &[String],
) -> Result<(), HostError> {
    // `cd`, variables and background jobs are for those that follow, too.
    const SCRIPT: &str = r#"exec 9<&0 </dev/null
user_data=$MINIVPC_USER_DATA
unset MINIVPC_USER_DATA
[ -z "$1" ] || ( "$1" serve <&9 9<&- & )
exec 9<&-
if [ -n "$user_data" ]; then
  script=/var/lib/cloud/instance/scripts/part-001
  mkdir -p "${script%/*}" && printf '%s' "$user_data" >"$script" && chmod 0700 "$script"
  printf '$ user data\n'
  ( cd / && exec env -i PATH="$PATH" "$script" ) || printf '(exit status %s)\n' "$?"
fi
shift
for command; do
  printf '$ %s\n' "$command"
  eval "$command" || printf '(exit status %s)\n' "$?"
done"#;
    keep_what_is_printed(log).map_err(|source| HostError::System { what: log.display().to_string(), source })?;
    let program = if serve { this_program() } else { Ok(String::new()) };
    let program = program.map_err(|source| HostError::System { what: "this program".to_owned(), source })?;
    let init = Keeper::connect(&directory.join("keeper.sock"))?.enter(guest)?;
    let shell = ["sh", "-c", SCRIPT, "sh"].into_iter().map(str::to_owned);
    let command: Vec<_> = shell.chain([program]).chain(commands.iter().cloned()).map(Into::into).collect();
    exec(&init, &command, Directory::ReadOnly).map(drop)
}

/// Where it can be run from inside a guest too, whose files may not show it: it stays open here.
fn this_program() -> io::Result<String> {
    let program = File::open("/proc/self/exe")?;
    fcntl_setfd(&program, FdFlags::empty())?;
    Ok(format!("/proc/self/fd/{}", program.into_raw_fd()))
}

/// Answers for a host, inside of it, as standard input says.
///
/// # Errors
/// When a port is taken.
pub fn serve() -> io::Result<()> {
    let Server { host, serve, identity } = serde_json::from_reader(io::stdin())?;
    let say = |word: &[u8]| _ = rustix::io::write(rustix::stdio::stdin(), word);
    minivpc_services::serve(&host, &serve, &identity, || say(b"r")).inspect_err(|_| say(b"e"))
}

/// Another process reads what this one, and all that it starts, prints from now on. A thread couldn't: who has joined
/// another PID namespace can't make any. It ends with the last of them.
fn keep_what_is_printed(log: &Path) -> io::Result<()> {
    let mut reader = std::process::Command::new("/proc/self/exe");
    reader.arg0("minivpc").arg("keep-log").arg(log).stdin(Stdio::piped()).stdout(Stdio::null());
    let output = reader.spawn()?.stdin.ok_or(io::ErrorKind::BrokenPipe)?;
    dup2_stdout(&output)?;
    Ok(dup2_stderr(&output)?)
}

/// Keeps the end of what is read from standard input.
///
/// # Errors
/// When the log can't be written.
pub fn keep_log(path: &Path) -> io::Result<()> {
    Log::create(path)?.take(io::stdin().lock())
}

/// A file that keeps the end of what is written to it.
struct Log {
    file: File,
    length: u64,
}

impl Log {
    fn create(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Self { file, length: 0 })
    }

    /// All that comes, to its end.
    fn take(&mut self, mut output: impl Read) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match output.read(&mut buffer)? {
                0 => return Ok(()),
                count => self.append(&buffer[..count])?,
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.length + bytes.len() as u64 > LONGEST {
            self.halve()?;
        }
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Whole lines, and a word that something is missing.
    fn halve(&mut self) -> io::Result<()> {
        let mut rest = Vec::new();
        self.file.seek(SeekFrom::Start(self.length.saturating_sub(LONGEST / 2)))?;
        self.file.read_to_end(&mut rest)?;
        let line = rest.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(CUT)?;
        self.file.write_all(&rest[line..])?;
        self.length = self.file.stream_position()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_its_last_lines_and_says_that_something_is_cut() {
        let directory = std::env::temp_dir().join(format!("minivpc-log-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("log");
        let mut log = Log::create(&path).unwrap();
        let all: String = (0..1_000_000).map(|number| format!("{number}\n")).collect();
        log.take(all.as_bytes()).unwrap();
        let kept = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(kept.len() as u64 <= LONGEST);
        let lines: Vec<_> = kept.lines().collect();
        assert_eq!(lines[0], "[what was printed before is cut]");
        assert_eq!(lines[lines.len() - 1], "999999");
        let numbers: Vec<u32> = lines[1..].iter().map(|line| line.parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "whole lines, none missing");
    }
}
