//! The `minivpc` command: reads what the user typed, asks `minivpc_control`, prints.
//!
//! One thread only: `exec` joins the guest's user namespace, which the kernel allows to single-threaded processes. Only
//! `capture`, which joins nothing, has more.
//! Exit status: 0 success, 1 refused or failed, 2 bad usage; `exec` returns its command's.

mod arguments;
mod capture;
mod follow;
mod mistake;
mod print;
mod progress;
mod table;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use minivpc_control::{
    Change, Directory, Finding, Health, LONGEST, Lab, LabError, LabFile, Question, TUN, examine, exec, keep_log,
    run_commands, run_engine, run_keeper, runtime, serve, validate, view,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use arguments::{Arguments, Command, PacketPath, Scope};
use progress::Progress;

fn main() -> ExitCode {
    clap_complete::CompleteEnv::with_factory(Arguments::command).complete();
    mistake::set_up_reports();
    let arguments = Arguments::parse();
    match run(arguments.command) {
        Ok(code) => code,
        Err(failure) => {
            // Not `eprintln!`, which panics when nobody reads any more.
            let _ = match failure {
                Failure::Mistake(report) => writeln!(std::io::stderr(), "{report:?}"),
                Failure::Other(error) => writeln!(std::io::stderr(), "minivpc: {error}"),
            };
            ExitCode::FAILURE
        }
    }
}

/// Why a command failed, as it will be printed.
enum Failure {
    Mistake(miette::Report),
    Other(Box<dyn std::error::Error>),
}

impl<E: Into<Box<dyn std::error::Error>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Up { file, tun, path } => up(&file, tun.as_deref(), path)?,
        Command::Validate { file, json } => {
            let summary = read(&file, |file| validate(&file.text))?;
            let done = format!("{}: valid: {}", file.display(), print::summary(&summary));
            show(json, &serde_json::to_value(&summary)?, || done)?;
        }
        Command::Plan { file, json } => {
            let question = |file: &LabFile| Lab::of_file(&file.text)?.ask(&Question::Plan(file.clone()));
            let value = read(&file, question)?;
            let plan = serde_json::from_value(value.clone())?;
            show(json, &value, || print::plan(&plan))?;
        }
        Command::Apply { file } => {
            let progress = Progress::of(format!("applying {}", file.display()));
            let (plan, lab) = read(&file, |file| {
                let lab = Lab::of_file(&file.text)?;
                Ok((lab.change(Change::Apply(file.clone()))?, lab))
            })?;
            drop(progress);
            say(&print::applied(lab.name(), &serde_json::from_value(plan)?))?;
        }
        Command::Stop { scope, instance } => change(&scope, Change::Stop(instance.clone()), &instance, "stopped")?,
        Command::Start { scope, instance } => change(&scope, Change::Start(instance.clone()), &instance, "running")?,
        Command::Restart { scope, instance } => {
            change(&scope, Change::Restart(instance.clone()), &instance, "running again")?;
        }
        Command::Set { scope, what } => {
            let lab = Lab::find(scope.lab.as_deref())?;
            let plan = lab.change(Change::Set(what.into()))?;
            say(&print::actions(&serde_json::from_value(plan)?))?;
        }
        Command::Reset { scope } => {
            let lab = Lab::find(scope.lab.as_deref())?;
            lab.change(Change::Reset)?;
            say(&format!("{} is as its file says, without flows", lab.name()))?;
        }
        Command::Logs { scope, instance } => {
            let logs = Lab::find(scope.lab.as_deref())?.ask(&Question::Logs { instance })?;
            say(logs.as_str().unwrap_or_default())?;
        }
        Command::Down { scope } => {
            let lab = Lab::find(scope.lab.as_deref())?;
            lab.down()?;
            say(&format!("{} is down", lab.name()))?;
        }
        Command::Doctor { tun, json } => return doctor(tun.as_deref(), json),
        Command::Man { directory } => clap_mangen::generate_to(Arguments::command(), directory)?,
        Command::Examine => say(&serde_json::to_string(&examine(&runtime()))?)?,
        Command::Labs { json } => {
            let labs = Lab::all()?;
            let names: Vec<_> = labs.iter().map(Lab::name).collect();
            let line = |lab: &Lab| match lab.is_up() {
                Ok(true) => lab.name().to_owned(),
                _ => format!("{0}  (dead: `minivpc down --lab {0}` removes what it has left)", lab.name()),
            };
            show(json, &Value::from(names), || labs.iter().map(line).collect::<Vec<_>>().join("\n"))?;
        }
        Command::Exec { scope, instance, command } => return enter(&scope, &instance, &command),
        Command::Shell { scope, instance } => return enter(&scope, &instance, &[shell()]),
        Command::Status { scope, json } => answer(&scope, json, &Question::Status, print::status)?,
        Command::Drops { scope, json } => answer(&scope, json, &Question::Drops, print::drops)?,
        Command::Flows { scope, why, follow: true, json } => {
            follow::flows(&Lab::find(scope.lab.as_deref())?, why, json)?;
        }
        Command::Flows { scope, why, follow: false, json } => {
            answer(&scope, json, &Question::Flows { why }, |flows| print::flows(flows, why))?;
        }
        Command::Trace { scope, packet, reply, json } => {
            answer(&scope, json, &Question::Trace(packet.into()), |trace| print::trace(trace, reply))?;
        }
        Command::Capture { scope, points, write, count, filter } => {
            let lab = Lab::find(scope.lab.as_deref())?;
            capture::capture(&lab, points, count, &filter.join(" "), write.as_deref())?;
        }
        Command::Show { scope, kind, name, metrics: true, json } => {
            let counted = Lab::find(scope.lab.as_deref())?.ask(&Question::Metrics { kind: kind.into(), name })?;
            show(json, &counted, || table::render("Metrics", &counted, width()))?;
        }
        Command::Show { scope, kind, name, json, .. } => {
            let described = Lab::find(scope.lab.as_deref())?.ask(&Question::Describe { kind: kind.into(), name })?;
            show(json, &described, || table::render(kind.action(), kind.part(&described), width()))?;
        }
        Command::Keeper { directory } => run_keeper(&directory)?,
        Command::Engine { directory, file, path } => run_engine(&directory, file, path.into())?,
        Command::Commands { directory, guest, log, serve, commands } => {
            run_commands(&directory, &guest, &log, serve, &commands)?;
        }
        Command::KeepLog { log } => keep_log(&log)?,
        Command::Serve => serve()?,
    }
    Ok(ExitCode::SUCCESS)
}

fn up(file: &Path, tun: Option<&Path>, path: PacketPath) -> Result<(), Failure> {
    let progress = Progress::of(format!("building {}", file.display()));
    let started = read(file, |file| Lab::up(file, tun, path.into()))?;
    drop(progress);
    let mut text = format!("{} is up: {}\n", started.lab.name(), print::summary(&started.summary));
    let status: view::Status = serde_json::from_value(started.lab.ask(&Question::Status)?)?;
    write!(text, "\n{}", print::status(&status))?;
    say(&text)
}

/// The examination ends up in other namespaces than this process's.
fn doctor(tun: Option<&Path>, json: bool) -> Result<ExitCode, Failure> {
    let mut examine = std::process::Command::new("/proc/self/exe");
    if let Some(tun) = tun {
        examine.env(TUN, std::path::absolute(tun)?);
    }
    let output = examine.arg("examine").output()?;
    let findings: Vec<Finding> = serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("the examination ended early: {}", String::from_utf8_lossy(&output.stderr)))?;
    show(json, &serde_json::to_value(&findings)?, || print::findings(&findings))?;
    let broken = findings.iter().any(|finding| finding.state == Health::Broken);
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Reads a lab file and does something with it; a mistake in it is shown where it stands.
fn read<T>(path: &Path, use_it: impl FnOnce(&LabFile) -> Result<T, LabError>) -> Result<T, Failure> {
    let unreadable = |error| format!("{}: {error}", path.display());
    let mut text = String::new();
    // One more than a lab file may have: what is longer is refused for its length, also if it never ends.
    fs::File::open(path).and_then(|opened| opened.take(LONGEST as u64 + 1).read_to_string(&mut text)).map_err(
        |error| match error.kind() {
            std::io::ErrorKind::InvalidData => format!("{}: not a lab file: it isn't text", path.display()),
            _ => unreadable(error),
        },
    )?;
    let file = LabFile { path: std::path::absolute(path).map_err(unreadable)?, text };
    use_it(&file).map_err(|error| match error {
        LabError::Mistake(mistake) => Failure::Mistake(mistake::report(path, &file.text, *mistake)),
        other => other.into(),
    })
}

fn change(scope: &Scope, change: Change, instance: &str, state: &str) -> Result<(), Failure> {
    Lab::find(scope.lab.as_deref())?.change(change)?;
    say(&format!("{instance} is {state}"))
}

fn answer<T: DeserializeOwned>(
    scope: &Scope,
    json: bool,
    question: &Question,
    print: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    let value = Lab::find(scope.lab.as_deref())?.ask(question)?;
    let typed = serde_json::from_value(value.clone())?;
    show(json, &value, || print(&typed))
}

fn show(json: bool, value: &Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
    if json { say(&serde_json::to_string_pretty(value)?) } else { say(&text()) }
}

/// Prints; a reader that has gone (`| head`) is no failure.
fn say(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{}", text.trim_end_matches('\n')) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

fn shell() -> std::ffi::OsString {
    std::env::var_os("SHELL").filter(|shell| Path::new(shell).exists()).unwrap_or_else(|| "/bin/sh".into())
}

fn enter(scope: &Scope, instance: &str, command: &[std::ffi::OsString]) -> Result<ExitCode, Failure> {
    let guest = Lab::find(scope.lab.as_deref())?.enter(instance)?;
    let status = exec(&guest, command, Directory::Writable)?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}
