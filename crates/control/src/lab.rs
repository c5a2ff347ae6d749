//! A lab on this machine: its directory, its beginning and its end.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use minivpc_config::Mistake;
use minivpc_dataplane::compile;
use minivpc_host::doctor::check_tun;
use minivpc_host::{Backend, HostError, Keeper, Moving, Process, TUN};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use crate::protocol::{CaptureRequest, Change, Failure, LabFile, Question, Request, SayError, say};
use crate::view::Summary;

/// Where a user's labs live: root's in /run/minivpc, others' in their own runtime directory, or in /tmp where there is
/// none.
#[must_use]
pub fn runtime() -> PathBuf {
    let user = rustix::process::geteuid();
    if user.is_root() {
        return PathBuf::from("/run/minivpc");
    }
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
    own.map_or_else(|| PathBuf::from(format!("/tmp/minivpc-{user}")), |own| own.join("minivpc"))
}

/// A lab that runs, or ran until something killed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lab {
    name: String,
    directory: PathBuf,
}

/// Why a lab can't be had.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The lab file is wrong.
    #[error("{0}")]
    Mistake(Box<Mistake>),
    /// The machine refuses.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A file can't be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It runs.
    #[error("lab '{0}' is up already; `minivpc down --lab {0}` ends it")]
    IsUp(String),
    /// No lab runs.
    #[error("no lab is up; `minivpc up LAB.yaml` starts one")]
    NoLab,
    /// Not this one.
    #[error("lab '{name}' isn't up; {}", if others.is_empty() { "no lab is".to_owned() } else { format!("these are: {}", others.join(", ")) })]
    NotUp {
        /// The one asked for.
        name: String,
        /// Those that are.
        others: Vec<String>,
    },
    /// Which one?
    #[error("several labs are up: {}; say which with --lab NAME", .0.join(", "))]
    Several(Vec<String>),
    /// The engine refused a question.
    #[error("{0}")]
    Refused(String),
    /// Its keeper has ended, and with it all that it had.
    #[error(
        "lab '{0}' is dead: its keeper was killed, or its engine died again and again; `minivpc down --lab {0}` removes what it has left"
    )]
    Dead(String),
    /// The engine died between order and answer.
    #[error(
        "the engine of lab '{0}' died meanwhile; another one has taken over: see what it has with `minivpc status`"
    )]
    Interrupted(String),
    /// The engine died during a capture, or the lab was taken down.
    #[error("the engine of lab '{0}' has ended, and the capture with it; what was captured before is whole")]
    CaptureBroken(String),
    /// The engine is gone.
    #[error("the engine of lab '{name}' doesn't answer ({source}); its output is in {}; `minivpc down` removes the lab", log.display())]
    NoEngine {
        /// The lab.
        name: String,
        /// Where the engine wrote.
        log: PathBuf,
        /// What the socket said.
        source: io::Error,
    },
}

/// What the first engine makes the lab of, in the lab's directory.
pub(crate) const LAB_FILE: &str = "lab.yaml";
/// How long an engine may take to take over from one that has died.
const PATIENCE: Duration = Duration::from_secs(10);

/// A lab that has come up.
pub struct Started {
    /// The lab.
    pub lab: Lab,
    /// What came up.
    pub summary: Summary,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> LabError + '_ {
    move |source| LabError::File { path: path.to_owned(), source }
}

/// One `up` or `down` at a time: they look at what is there before they change it. Held until it is dropped; it is the
/// directory of all labs itself that is locked, which exists while there is one.
fn take_turn() -> Result<File, LabError> {
    let runtime = runtime();
    let runtime = runtime.as_path();
    loop {
        DirBuilder::new().mode(0o700).recursive(true).create(runtime).map_err(at(runtime))?;
        // In /tmp anybody could have made it.
        let meta = fs::symlink_metadata(runtime).map_err(at(runtime))?;
        if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(LabError::Refused(format!("{} is somebody else's; remove it", runtime.display())));
        }
        let turn = match File::open(runtime) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            result => result.map_err(at(runtime))?,
        };
        flock(&turn, FlockOperation::LockExclusive).map_err(io::Error::from).map_err(at(runtime))?;
        // Whoever had the turn before may have removed the directory.
        let ours = turn.metadata().map_err(at(runtime))?.ino();
        if fs::metadata(runtime).is_ok_and(|current| current.ino() == ours) {
            return Ok(turn);
        }
    }
}

/// Reads a lab file and says whether it could come up.
///
/// # Errors
/// The first mistake in it.
pub fn validate(text: &str) -> Result<Summary, LabError> {
    let now = now();
    let lab = minivpc_config::load(text, &now, None).map_err(|mistake| LabError::Mistake(Box::new(mistake)))?;
    compile(&lab.world, 1).map_err(|error| LabError::Refused(error.to_string()))?;
    Ok(Summary::of(&lab))
}

/// RFC 3339, seconds, UTC.
pub(crate) fn now() -> String {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    rfc3339(seconds)
}

/// Seconds since 1970 as a date, by the days-from-civil rule turned around.
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}Z")
}

impl Lab {
    /// Brings a lab up, whose frames are moved so. `tun` is a node of the tun driver, if it isn't the usual one.
    ///
    /// # Errors
    /// A mistake in the file, before anything is made; or what the machine refuses, and then nothing is left.
    pub fn up(file: &LabFile, tun: Option<&Path>, moving: Moving) -> Result<Started, LabError> {
        let summary = validate(&file.text)?;
        check_tun(tun)?;
        let lab = Self::named(&summary.lab);
        let _turn = take_turn()?;
        lab.make_directory()?;
        let started = lab.start(file, tun, moving);
        if started.is_err() {
            // What failed is told; what cleaning up says would hide it.
            let _ = lab.remove();
        }
        started.map(|()| Started { lab, summary })
    }

    fn named(name: &str) -> Self {
        Self { name: name.to_owned(), directory: runtime().join(name) }
    }

    /// All labs that have a directory.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn all() -> Result<Vec<Self>, LabError> {
        let runtime = runtime();
        let entries = match fs::read_dir(&runtime) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result.map_err(at(&runtime))?,
        };
        let mut names: Vec<_> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names.iter().map(|name| Self::named(name)).collect())
    }

    /// The lab of this name, or the only one.
    ///
    /// # Errors
    /// When there is none, or several and no name.
    pub fn find(name: Option<&str>) -> Result<Self, LabError> {
        let mut all = Self::all()?;
        match name {
            Some(name) => match all.iter().find(|lab| lab.name == name) {
                Some(lab) => Ok(lab.clone()),
                None => {
                    let others = all.into_iter().map(|lab| lab.name).collect();
                    Err(LabError::NotUp { name: name.to_owned(), others })
                }
            },
            None if all.is_empty() => Err(LabError::NoLab),
            None if all.len() > 1 => Err(LabError::Several(all.into_iter().map(|lab| lab.name).collect())),
            None => Ok(all.remove(0)),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks its engine.
    ///
    /// # Errors
    /// When the engine is gone, or refuses.
    pub fn ask(&self, question: &Question) -> Result<Value, LabError> {
        self.say(&Request::Ask(question.clone())).map(|(answer, _)| answer)
    }

    /// Changes it. Answered by [`view::Plan`](crate::view::Plan) of what was done if it was a file that was applied.
    ///
    /// # Errors
    /// When the engine is gone, or refuses; the lab is then as it was.
    pub fn change(&self, change: Change) -> Result<Value, LabError> {
        self.say(&Request::Change(change)).map(|(answer, _)| answer)
    }

    /// Captures packets: the points' names, in the order of the interfaces of the pcapng file that can be read then. It
    /// ends with the statistics of each point when enough was captured, or the writing side was shut down; without them
    /// when the engine ends.
    ///
    /// # Errors
    /// When the engine is gone, or refuses.
    pub fn capture(&self, wanted: CaptureRequest) -> Result<(Vec<String>, BufReader<UnixStream>), LabError> {
        let (names, file) = self.say(&Request::Capture(wanted))?;
        let names = serde_json::from_value(names).map_err(|_| LabError::CaptureBroken(self.name.clone()))?;
        Ok((names, file))
    }

    fn say(&self, request: &Request) -> Result<(Value, BufReader<UnixStream>), LabError> {
        let no_engine = |source| LabError::NoEngine { name: self.name.clone(), log: self.file("engine.log"), source };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match say(&self.file("control.sock"), request) {
                Ok((answer, rest)) => {
                    let answer = answer.map_err(|failure| match failure {
                        Failure::Refused(words) => LabError::Refused(words),
                        Failure::Mistake(mistake) => LabError::Mistake(mistake),
                    });
                    return answer.map(|answer| (answer, rest));
                }
                Err(SayError::Unheard(_)) if !self.is_up()? => return Err(LabError::Dead(self.name.clone())),
                // The keeper starts another one.
                Err(SayError::Unheard(_)) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                // A question may be asked twice, but what was to be changed may have been.
                Err(SayError::Unanswered) if !matches!(request, Request::Change(_)) && Instant::now() < deadline => {}
                Err(SayError::Unanswered) => return Err(LabError::Interrupted(self.name.clone())),
                Err(SayError::Unheard(source)) => return Err(no_engine(source)),
            }
        }
    }

    /// The running lab that a lab file describes.
    ///
    /// # Errors
    /// A mistake in the file, or that no such lab runs.
    pub fn of_file(text: &str) -> Result<Self, LabError> {
        let name = minivpc_config::name_of(text).map_err(|mistake| LabError::Mistake(Box::new(mistake)))?;
        Self::find(Some(&name))
    }

    /// A pidfd of an instance's first process, to run commands in it.
    ///
    /// # Errors
    /// When there is no such instance, or what the machine refuses.
    pub fn enter(&self, instance: &str) -> Result<OwnedFd, LabError> {
        let guest = self.ask(&Question::Guest { instance: instance.to_owned() })?;
        Ok(self.keeper()?.enter(guest.as_str().unwrap_or_default())?)
    }

    /// Ends it and removes all that it had.
    ///
    /// # Errors
    /// When its directory can't be removed.
    pub fn down(&self) -> Result<(), LabError> {
        let _turn = take_turn()?;
        self.remove()
    }

    fn remove(&self) -> Result<(), LabError> {
        let engine = UnixStream::connect(self.file("control.sock")).ok().and_then(Process::behind);
        if let Ok(keeper) = self.keeper() {
            keeper.shutdown()?;
        }
        // It ends by itself when the keeper does.
        if let Some(engine) = engine {
            engine.wait_for_end();
        }
        fs::remove_dir_all(&self.directory).map_err(at(&self.directory))?;
        // Only when no other lab is there.
        let _ = fs::remove_dir(runtime());
        Ok(())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn keeper(&self) -> Result<Keeper, HostError> {
        Keeper::connect(&self.file("keeper.sock"))
    }

    /// Is there a keeper? One that was killed leaves its socket.
    ///
    /// # Errors
    /// When it can't be told.
    pub fn is_up(&self) -> Result<bool, LabError> {
        let socket = self.file("keeper.sock");
        match self.keeper() {
            Ok(_) => Ok(true),
            Err(HostError::System { source, .. })
                if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                Ok(false)
            }
            Err(HostError::System { source, .. }) => Err(at(&socket)(source)),
            Err(other) => Err(other.into()),
        }
    }

    fn make_directory(&self) -> Result<(), LabError> {
        let mut private = DirBuilder::new();
        private.mode(0o700);
        match private.create(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if self.is_up()? {
                    return Err(LabError::IsUp(self.name.clone()));
                }
                // Left behind by a keeper that was killed: nothing of it lives.
                fs::remove_dir_all(&self.directory).map_err(at(&self.directory))?;
                private.create(&self.directory).map_err(at(&self.directory))
            }
            result => result.map_err(at(&self.directory)),
        }
    }

    fn start(&self, file: &LabFile, tun: Option<&Path>, moving: Moving) -> Result<(), LabError> {
        let copy = self.file(LAB_FILE);
        fs::write(&copy, &file.text).map_err(at(&copy))?;
        let mut keeper = self.process("keeper")?;
        if let Some(tun) = tun {
            keeper.env(TUN, std::path::absolute(tun).map_err(at(tun))?);
        }
        let keeper = Keeper::spawn(keeper, &self.file("keeper.sock"));
        let keeper = keeper
            .map_err(|error| LabError::Refused(format!("{error}\n{}", self.last_words()).trim_end().to_owned()))?;

        let word = OsStr::new;
        let (directory, path) = (self.directory.as_os_str(), file.path.as_os_str());
        let workers = OsString::from(moving.workers.to_string());
        let mut arguments = vec![word("engine"), directory, word("--file"), path, word("--workers"), &workers];
        if moving.backend == Backend::TunTap {
            arguments.extend([word("--backend"), word("tun-tap")]);
        }
        let arguments = arguments.into_iter().map(OsStr::to_owned).collect();
        let (output, theirs) = rustix::pipe::pipe().map_err(io::Error::from).map_err(at(&self.directory))?;
        let log = self.log("engine")?.into();
        keeper.start_engine(arguments, theirs, log)?;
        // It says what went wrong, or nothing when it is ready.
        let mut said = String::new();
        File::from(output).read_to_string(&mut said).map_err(at(&self.directory))?;
        if !self.file("control.sock").exists() || !said.is_empty() {
            let said = if said.is_empty() { self.last_words() } else { said };
            return Err(LabError::Refused(said.trim_end().to_owned()));
        }
        Ok(keeper.commit()?)
    }

    fn last_words(&self) -> String {
        let words = |name| fs::read_to_string(self.file(name)).unwrap_or_default();
        format!("the lab didn't come up: {}{}", words("keeper.log"), words("engine.log"))
    }

    fn log(&self, role: &str) -> Result<File, LabError> {
        let path = self.file(&format!("{role}.log"));
        File::options().create(true).append(true).open(&path).map_err(at(&path))
    }

    /// This program again, as the lab's keeper.
    fn process(&self, role: &str) -> Result<Command, LabError> {
        let log = self.log(role)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("minivpc");
        let copy = log.try_clone().map_err(at(&self.directory))?;
        command.arg(role).arg(&self.directory).stdout(copy).stderr(log).current_dir("/");
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(951_868_800), "2000-03-01T00:00:00Z");
        assert_eq!(rfc3339(1_632_567_053), "2021-09-25T10:50:53Z");
    }
}
