//! The engine process: its threads, its beginning and its end, and its control socket.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use minivpc_dataplane::Engine;
use minivpc_dataplane::state::NatKey;
use minivpc_host::guest::exec::{Directory, exec};
use minivpc_host::{HostError, Keeper, Worker};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::guest;
use crate::protocol::{Change, Failure, LabFile, Request};
use crate::running::{Running, SAVED};

/// Longest request, bytes: a lab file has at most 4 MiB, and each of its characters may be escaped.
const LONGEST: u64 = 32 << 20;

/// Why an engine can't run.
#[derive(Debug, thiserror::Error)]
enum EngineError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn log_to_stderr() {
    tracing_subscriber::fmt().with_ansi(false).with_writer(io::stderr).init();
}

/// Runs a keeper whose standard input is its listening socket; see [`minivpc_host::run_keeper`].
///
/// # Errors
/// What the machine refuses.
pub fn run_keeper() -> Result<(), HostError> {
    minivpc_host::detach();
    log_to_stderr();
    let listener = io::stdin().as_fd().try_clone_to_owned();
    minivpc_host::run_keeper(
        listener.map_err(|source| HostError::System { what: "standard input".to_owned(), source })?,
    )
}

/// Runs the engine of the lab in `directory` until its keeper ends. Closes standard output when the lab is up; what
/// stands there before is why it isn't. `file` is where the lab file was read.
///
/// # Errors
/// When the lab can't come up.
pub fn run_engine(directory: &Path, file: PathBuf) -> Result<(), Box<dyn std::error::Error>> {
    minivpc_host::detach();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The commands of guests are the runtime's children.
    let started = runtime.block_on(async { start(directory, file) });
    match started {
        Ok(running) => {
            end_with_keeper(directory)?;
            runtime.block_on(serve(running, directory.join("control.sock")))?;
            Ok(())
        }
        Err(error) => {
            // `up` waits for it.
            println!("{error}");
            Err(error.into())
        }
    }
}

/// Runs commands in a guest, one after the other in one shell, and prints what they print.
///
/// # Errors
/// When the guest can't be entered.
pub fn run_commands(directory: &Path, guest: &str, commands: &[String]) -> Result<i32, HostError> {
    // `cd`, variables and background jobs are for those that follow, too.
    const SCRIPT: &str = r#"for command; do
  printf '$ %s\n' "$command"
  eval "$command" || printf '(exit status %s)\n' "$?"
done"#;
    let init = Keeper::connect(&directory.join("keeper.sock"))?.enter(guest)?;
    let shell = ["sh", "-c", SCRIPT, "sh"].into_iter().map(str::to_owned);
    let command: Vec<_> = shell.chain(commands.iter().cloned()).map(Into::into).collect();
    exec(&init, &command, Directory::ReadOnly)
}

fn start(directory: &Path, path: PathBuf) -> Result<Running, EngineError> {
    rustix::process::setsid().map_err(io::Error::from)?;
    log_to_stderr();
    let text = fs::read_to_string(directory.join(SAVED))?;
    let keeper = Keeper::connect(&directory.join("keeper.sock"))?;
    // Two `up`s have different keys, so a NAT gateway's ports differ too.
    let random = RandomState::new();
    let key = (u128::from(random.hash_one(1)) << 64 | u128::from(random.hash_one(2))).to_ne_bytes();
    let engine = Arc::new(Engine::new(NatKey(key)));
    let clock = Instant::now();
    let (worker, publisher) = Worker::new(Arc::clone(&engine), clock)?;
    std::thread::Builder::new().name("worker".to_owned()).spawn(move || {
        // However it ends, a lab whose packets nobody moves must not look as if it were up.
        let _end = EndProcess;
        let failed = worker.run();
        tracing::error!(?failed, "the worker ended");
    })?;
    let running = Running::new(directory.to_owned(), engine, publisher, keeper, clock);
    let up = running.answer(Request::Change(Change::Apply(LabFile { path, text })));
    up.map_err(|failure| match failure {
        Failure::Refused(words) => EngineError::Refused(words),
        Failure::Mistake(mistake) => EngineError::Refused(mistake.to_string()),
    })?;
    tracing::info!("up");
    Ok(running)
}

/// Ends the process when it is dropped, also by a panic.
struct EndProcess;

impl Drop for EndProcess {
    fn drop(&mut self) {
        std::process::exit(1);
    }
}

/// Guests die with their keeper; an engine without guests has nothing to do.
fn end_with_keeper(directory: &Path) -> Result<(), EngineError> {
    let keeper = Keeper::connect(&directory.join("keeper.sock"))?;
    std::thread::Builder::new().name("keeper".to_owned()).spawn(move || {
        keeper.wait_for_end();
        std::process::exit(0);
    })?;
    Ok(())
}

async fn serve(running: Running, socket: PathBuf) -> io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    let running = Arc::new(running);
    let swept = Arc::clone(&running);
    tokio::spawn(async move {
        let mut every = tokio::time::interval(Duration::from_secs(1));
        loop {
            every.tick().await;
            swept.engine.state().sweep(swept.now());
            guest::shorten_logs(&swept.directory);
        }
    });
    // `up` reads our standard output to its end.
    rustix::stdio::dup2_stdout(fs::File::options().write(true).open("/dev/null")?)?;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many descriptors, or a client that has gone: the lab goes on.
                tracing::warn!(%error, "control socket");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let running = Arc::clone(&running);
        tokio::spawn(async move {
            if let Err(error) = converse(&running, stream).await {
                tracing::warn!(%error, "control socket");
            }
        });
    }
}

async fn converse(running: &Running, stream: UnixStream) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    BufReader::new(tokio::io::AsyncReadExt::take(reader, LONGEST)).read_line(&mut line).await?;
    if line.is_empty() {
        return Ok(());
    }
    let answer = match serde_json::from_str(&line) {
        Ok(request) => running.answer(request),
        Err(error) => Err(format!("not understood: {error}").into()),
    };
    let mut answer = serde_json::to_vec(&answer)?;
    answer.push(b'\n');
    writer.write_all(&answer).await
}
