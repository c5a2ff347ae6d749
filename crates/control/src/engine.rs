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
use minivpc_host::{Clock, End, HostError, Keeper, Moving, give_back, wait_like_others, workers};
use minivpc_services::Authority;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use crate::capture;
use crate::lab::LAB_FILE;
use crate::protocol::{Change, Failure, LabFile, Request, answer_line, understand};
use crate::running::Running;
use crate::saved::{self, Base, Saved};
use crate::subnet_services;

/// How often flows that have ended are forgotten, and the others written down.
const INTERVAL: Duration = Duration::from_secs(1);
/// So many flows leave memory behind that is worth to be given back.
const MANY: u64 = 1 << 16;
/// Longest request, bytes: a lab file has at most 4 MiB, and each of its characters may be escaped.
const LONGEST: u64 = 32 << 20;

fn log_to_stderr() {
    tracing_subscriber::fmt().with_ansi(false).with_writer(io::stderr).init();
}

/// Runs the keeper of the lab in `directory`, whose standard input is its listening socket; see
/// [`minivpc_host::run_keeper`].
///
/// # Errors
/// What the machine refuses.
pub fn run_keeper(directory: &Path) -> Result<(), HostError> {
    minivpc_host::detach();
    log_to_stderr();
    let listener = io::stdin().as_fd().try_clone_to_owned();
    let listener = listener.map_err(|source| HostError::System { what: "standard input".to_owned(), source })?;
    if minivpc_host::run_keeper(listener)? == End::Abandoned {
        // Whoever is told of it is gone.
        let _ = fs::remove_dir_all(directory);
    }
    Ok(())
}

/// Runs the engine of the lab in `directory`; it dies with the keeper. Closes standard output when the lab is up; what
/// stands there before is why it isn't. `file` is where the lab file was read; `moving` is for a lab's first engine.
///
/// # Errors
/// When the lab can't come up.
pub fn run_engine(directory: &Path, file: PathBuf, moving: Moving) -> Result<(), Box<dyn std::error::Error>> {
    minivpc_host::detach();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The commands of guests are the runtime's children.
    let started = runtime.block_on(async { start(directory, file, moving) });
    match started {
        Ok((running, moving)) => Ok(runtime.block_on(serve(running, moving, &directory.join("control.sock")))?),
        Err(failure) => {
            let words = match failure {
                Failure::Refused(words) => words,
                Failure::Mistake(mistake) => mistake.to_string(),
            };
            // `up` waits for it.
            println!("{words}");
            Err(words.into())
        }
    }
}

fn start(directory: &Path, path: PathBuf, moving: Moving) -> Result<(Running, Arc<Notify>), Failure> {
    rustix::process::setsid().map_err(io::Error::from)?;
    log_to_stderr();
    let keeper = Keeper::connect(&directory.join("keeper.sock"))?;
    let saved = Saved::read(directory)?;
    let (base, authority) = match &saved {
        Some(Saved { base, authority, .. }) => (Base { deaths: base.deaths + 1, ..*base }, authority.clone()),
        None => {
            let lab = directory.file_name().unwrap_or_default().to_string_lossy();
            let authority = Authority::new(&lab).map_err(|error| error.to_string())?;
            (Base { key: random_key(), clock: Clock::start(), moving, deaths: 0 }, authority)
        }
    };
    let engine = Arc::new(Engine::new(base.key).began(base.clock.began()));
    let moving = Arc::new(Notify::new());
    let tell = Arc::clone(&moving);
    let (workers, publisher) = workers(base.moving.workers, &engine, base.clock, move || tell.notify_one())?;
    for (number, worker) in workers.into_iter().enumerate() {
        std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            // However it ends, a lab whose packets nobody moves must not look as if it were up.
            let _end = EndProcess;
            let failed = worker.run();
            tracing::error!(?failed, "a worker ended");
        })?;
    }
    // Only the workers go first; this thread starts the guests' commands.
    wait_like_others();
    let running = Running::new(directory.to_owned(), engine, publisher, keeper, base, authority)?;
    match saved {
        Some(saved) => running.take_over(saved)?,
        None => first_up(&running, path)?,
    }
    tracing::info!(deaths = running.base.deaths, "up");
    Ok((running, moving))
}

fn first_up(running: &Running, path: PathBuf) -> Result<(), Failure> {
    // An engine that died on its way here may have left some.
    for guest in running.keeper.guests()?.iter().filter(|guest| guest.name != subnet_services::GUEST) {
        running.keeper.remove_guest(&guest.name)?;
    }
    let text = fs::read_to_string(running.directory.join(LAB_FILE))?;
    running.change(Change::Apply(LabFile { path, text })).map(drop)
}

/// Two `up`s have different keys, so a NAT gateway's ports differ too.
fn random_key() -> NatKey {
    let random = RandomState::new();
    NatKey((u128::from(random.hash_one(1)) << 64 | u128::from(random.hash_one(2))).to_ne_bytes())
}

/// Ends the process when it is dropped, also by a panic.
struct EndProcess;

impl Drop for EndProcess {
    fn drop(&mut self) {
        std::process::exit(1);
    }
}

/// Forgets flows that have ended or that no worker uses, and writes down those that live, about once a second while
/// there are any.
async fn keep_flows(running: Arc<Running>, moving: Arc<Notify>) {
    let state = running.engine.state();
    let mut written = 0;
    // Most flows since memory was given back.
    let mut peak = 0;
    loop {
        let cached = running.publisher.tidy();
        if state.is_empty() && written == 0 && !cached {
            running.publisher.wake_me();
            if state.is_empty() {
                moving.notified().await;
            }
        }
        let begin = Instant::now();
        let keeping = Arc::clone(&running);
        let kept = tokio::task::spawn_blocking(move || {
            let state = keeping.engine.state();
            state.sweep(keeping.now().tick());
            let flows = state.checkpoint(keeping.now().tick());
            saved::write_flows(&keeping.directory, &flows).map(|()| flows.flows())
        });
        let kept = kept.await;
        let counts = state.counts();
        let flows = counts.connections + counts.sessions;
        peak = peak.max(flows);
        // What is left would keep most pages of the others.
        if peak >= MANY && flows < peak / 8 {
            peak = flows;
            tokio::task::spawn_blocking(give_back);
        }
        match kept {
            Ok(Ok(count)) => written = count,
            Ok(Err(error)) => tracing::warn!(%error, "writing down the flows"),
            Err(error) => tracing::error!(%error, "writing down the flows"),
        }
        // A million flows take longer than it is worth to have them each second.
        tokio::time::sleep(INTERVAL.max(10 * begin.elapsed())).await;
    }
}

async fn serve(running: Running, moving: Arc<Notify>, socket: &Path) -> io::Result<()> {
    // An engine that was killed leaves its socket.
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    running.keeper.serving().map_err(io::Error::other)?;
    let running = Arc::new(running);
    subnet_services::serve(&running).map_err(io::Error::other)?;
    tokio::spawn(keep_flows(Arc::clone(&running), moving));
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
    let mut lines = BufReader::new(tokio::io::AsyncReadExt::take(reader, LONGEST));
    lines.read_line(&mut line).await?;
    if line.is_empty() {
        return Ok(());
    }
    let answer = match understand(&line) {
        Ok(Request::Capture(wanted)) => {
            return capture::stream(running, wanted, lines.into_inner().into_inner(), writer).await;
        }
        Ok(Request::Ask(question)) => running.answer(question),
        Ok(Request::Change(change)) => running.change(change),
        Err(failure) => Err(failure),
    };
    writer.write_all(&answer_line(&answer)?).await
}
