//! The `minivpc` command: reads what the user typed, asks `minivpc_control`, prints.
//!
//! One thread only: `exec` joins the guest's user namespace, which the kernel allows to single-threaded processes.
//! Exit status: 0 success, 1 refused or failed, 2 bad usage; `exec` returns its command's.

mod arguments;
mod mistake;
mod print;
mod table;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use minivpc_control::{Lab, LabError, Question, exec, run_engine, run_keeper, validate, view};
use serde::de::DeserializeOwned;
use serde_json::Value;

use arguments::{Arguments, Command, Scope};

fn main() -> ExitCode {
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
        Command::Up { file } => up(&file)?,
        Command::Validate { file, json } => {
            let summary = read(&file, validate)?;
            let done = format!("{}: valid: {}", file.display(), print::summary(&summary));
            show(json, &serde_json::to_value(&summary)?, || done)?;
        }
        Command::Down { scope } => {
            let lab = Lab::find(scope.lab.as_deref())?;
            lab.down()?;
            say(&format!("{} is down", lab.name()))?;
        }
        Command::Labs { json } => {
            let names: Vec<_> = Lab::all()?.iter().map(|lab| lab.name().to_owned()).collect();
            show(json, &Value::from(names.clone()), || names.join("\n"))?;
        }
        Command::Exec { scope, instance, command } => return enter(&scope, &instance, &command),
        Command::Shell { scope, instance } => return enter(&scope, &instance, &[shell()]),
        Command::Status { scope, json } => answer(&scope, json, &Question::Status, print::status)?,
        Command::Drops { scope, json } => answer(&scope, json, &Question::Drops, print::drops)?,
        Command::Flows { scope, why, json } => {
            answer(&scope, json, &Question::Flows, |flows| print::flows(flows, why))?;
        }
        Command::Trace { scope, packet, reply, json } => {
            answer(&scope, json, &Question::Trace(packet.into()), |trace| print::trace(trace, reply))?;
        }
        Command::Show { scope, kind, name, json } => {
            let described = Lab::find(scope.lab.as_deref())?.ask(&Question::Describe { kind: kind.into(), name })?;
            show(json, &described, || table::render(kind.action(), kind.part(&described), width()))?;
        }
        Command::Keeper { .. } => run_keeper()?,
        Command::Engine { directory, file_name } => run_engine(&directory, file_name)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn up(file: &Path) -> Result<(), Failure> {
    let started = read(file, |text| Lab::up(file, text))?;
    let mut text = format!("{} is up: {}\n", started.lab.name(), print::summary(&started.summary));
    let status: view::Status = serde_json::from_value(started.lab.ask(&Question::Status)?)?;
    write!(text, "\n{}", print::status(&status))?;
    say(&text)
}

/// Reads a lab file and does something with it; a mistake in it is shown where it stands.
fn read<T>(file: &Path, use_it: impl FnOnce(&str) -> Result<T, LabError>) -> Result<T, Failure> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    use_it(&text).map_err(|error| match error {
        LabError::Mistake(mistake) => Failure::Mistake(mistake::report(file, &text, *mistake)),
        other => other.into(),
    })
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
    let status = exec(&guest, command)?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}
