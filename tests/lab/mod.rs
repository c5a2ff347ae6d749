//! A lab of its own for each test, by the built binary, and the tools in it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The binary: the one that was built with the tests, or a copy that another user may run.
pub fn minivpc() -> PathBuf {
    std::env::var_os("MINIVPC_TEST_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_minivpc").into(), PathBuf::from)
}

/// The ordinary user whose labs they are, by id; none if they are those of who runs the tests.
fn user() -> Option<u32> {
    std::env::var("MINIVPC_TEST_USER").ok().map(|id| id.parse().unwrap())
}

/// A command of that user.
pub fn as_user(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    if let Some(user) = user() {
        command.uid(user).gid(user).env_remove("XDG_RUNTIME_DIR").env("HOME", "/tmp");
    }
    command
}

/// Where the labs of that user live.
pub fn runtime() -> PathBuf {
    let me = || fs::metadata("/proc/self").unwrap().uid();
    match (user().unwrap_or_else(me), std::env::var_os("XDG_RUNTIME_DIR")) {
        (0, _) => "/run/minivpc".into(),
        (_, Some(own)) if user().is_none() => PathBuf::from(own).join("minivpc"),
        (id, _) => format!("/tmp/minivpc-{id}").into(),
    }
}

/// Long enough for any machine; nothing waits so long unless it waits in vain.
pub const PATIENCE: Duration = Duration::from_secs(60);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A running lab; down when dropped, also by a panic.
pub struct Lab {
    pub name: String,
    pub file: PathBuf,
    directory: tempfile::TempDir,
}

/// Why the tests of this file can't run here.
pub fn cannot_run() -> Option<&'static str> {
    let tun = std::env::var_os("MINIVPC_TUN").unwrap_or_else(|| "/dev/net/tun".into());
    let opened = fs::File::options().read(true).write(true).open(&tun);
    opened.is_err().then_some("labs need the tun driver: /dev/net/tun, or a node that MINIVPC_TUN names")
}

/// Brings a lab up, or says why it is skipped.
macro_rules! lab_or_skip {
    ($text:expr) => {{
        crate::lab::can_run_or_skip!();
        crate::lab::Lab::up($text)
    }};
}
pub(crate) use lab_or_skip;

/// Ends the test, and says why, where there can't be labs.
macro_rules! can_run_or_skip {
    () => {
        if let Some(why) = crate::lab::cannot_run() {
            println!("skipped: {why}");
            return;
        }
    };
}
pub(crate) use can_run_or_skip;

impl Lab {
    /// Brings up what `text` says, under a name that nobody else has.
    pub fn up(text: &str) -> Self {
        let lab = Self::write(text);
        let up = lab.minivpc(&["up", lab.file.to_str().unwrap()]);
        assert!(up.status.success(), "up: {}{}", said(&up), String::from_utf8_lossy(&up.stderr));
        lab
    }

    /// Writes the lab file only.
    pub fn write(text: &str) -> Self {
        let name = format!("test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("lab.yaml");
        let lab = Self { name, file, directory };
        lab.rewrite(text);
        if let Some(user) = user() {
            for path in [lab.directory.path(), &lab.file] {
                std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
            }
        }
        lab
    }

    /// Writes another text into the lab file.
    pub fn rewrite(&self, text: &str) {
        let rest = text.lines().filter(|line| !line.starts_with("lab:")).collect::<Vec<_>>().join("\n");
        fs::write(&self.file, format!("lab: {}\n{rest}\n", self.name)).unwrap();
    }

    /// Changes the running lab to what `text` says; what is printed.
    pub fn apply(&self, text: &str) -> String {
        self.rewrite(text);
        let apply = self.minivpc(&["apply"]);
        assert!(apply.status.success(), "apply: {}", String::from_utf8_lossy(&apply.stderr));
        said(&apply)
    }

    /// `minivpc` with these arguments, the lab not named.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = as_user(minivpc());
        command.args(arguments).current_dir(self.directory.path());
        command
    }

    /// Runs it.
    pub fn minivpc(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Asks about the lab; what is printed.
    pub fn ask(&self, arguments: &[&str]) -> String {
        let (command, rest) = arguments.split_first().unwrap();
        let mut named = vec![*command, "--lab", &self.name];
        named.extend(rest);
        let output = self.minivpc(&named);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        said(&output)
    }

    /// Asks about the lab with `--json`.
    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ask(&[arguments, &["--json"]].concat())).unwrap()
    }

    fn in_guest(&self, instance: &str, command: &[&str]) -> Command {
        let mut exec = as_user(minivpc());
        exec.args(["exec", "--lab", &self.name, instance, "--"]).args(command).current_dir(self.directory.path());
        exec.stdin(Stdio::null());
        exec
    }

    /// Runs a command in an instance to its end.
    pub fn run(&self, instance: &str, command: &[&str]) -> Output {
        self.in_guest(instance, command).output().unwrap()
    }

    /// What a command in an instance prints; it must succeed.
    pub fn exec(&self, instance: &str, command: &[&str]) -> String {
        let output = self.run(instance, command);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {} {error}", said(&output));
        said(&output)
    }

    /// Starts a command in an instance; it is ended when dropped.
    pub fn start(&self, instance: &str, command: &[&str]) -> Running {
        Running::new(self.in_guest(instance, command))
    }

    /// Starts a command in an instance that reads what [`Running::say`] says to it.
    pub fn converse(&self, instance: &str, command: &[&str]) -> Running {
        let mut command = self.in_guest(instance, command);
        command.stdin(Stdio::piped());
        Running::new(command)
    }

    /// Starts `tcpdump`, and returns when it listens.
    pub fn tcpdump(&self, instance: &str, arguments: &[&str]) -> Running {
        let mut capture =
            self.start(instance, &[&["tcpdump", "-l", "--immediate-mode", "-i", "eth0"], arguments].concat());
        capture.until("listening on", |line| line.contains("listening on"));
        capture
    }

    /// Starts `minivpc capture`, and returns when packets are looked at.
    pub fn capture(&self, arguments: &[&str]) -> Running {
        let mut capture = Running::new(self.command(&[&["capture", "--lab", &self.name], arguments].concat()));
        capture.until("listening on", |line| line.contains("listening on"));
        capture
    }

    /// The same in a pipe to another command.
    pub fn capture_into(&self, arguments: &str, command: &str) -> Running {
        let script = format!("{} capture --lab {} {arguments} | {command}", minivpc().display(), self.name);
        let mut shell = as_user("sh");
        shell.args(["-c", &script]).current_dir(self.directory.path());
        let mut pipe = Running::new(shell);
        pipe.until("listening on", |line| line.contains("minivpc: listening on"));
        pipe
    }

    /// Waits until somebody listens on a TCP port of the instance.
    pub fn until_listening(&self, instance: &str, port: u16) {
        let wanted = format!(":{port:04X} 00000000:0000 0A");
        let start = Instant::now();
        while !self
            .exec(instance, &["cat", "/proc/net/tcp", "/proc/net/tcp6"])
            .replace("000000000000000000000000", "")
            .contains(&wanted)
        {
            assert!(start.elapsed() < PATIENCE, "nobody listens on {port}");
        }
    }

    /// Two pings from a guest get no answer.
    pub fn loses_all(&self, from: &str, to: &str) {
        let ping = said(&self.run(from, &["ping", "-c", "2", "-i", "0.2", "-W", "1", to]));
        assert!(ping.contains("2 packets transmitted, 0 received"), "{from} → {to}: {ping}");
    }

    /// The hops that a traceroute shows, by address.
    pub fn hops(&self, from: &str, to: &str) -> Vec<String> {
        let printed = self.exec(from, &["traceroute", "-n", "-q", "1", to]);
        let hops = printed.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap_or_default().to_owned());
        hops.collect()
    }

    /// Why packets were dropped, and how many of each reason.
    pub fn drops(&self) -> BTreeMap<String, u64> {
        let mut reasons = BTreeMap::new();
        for drop in self.json(&["drops"])["drops"].as_array().unwrap() {
            let reason = drop["reason"].as_str().unwrap().to_owned();
            *reasons.entry(reason).or_default() += drop["count"].as_u64().unwrap();
        }
        reasons
    }

    /// Packets dropped for this reason so far.
    pub fn dropped(&self, reason: &str) -> u64 {
        self.drops().get(reason).copied().unwrap_or_default()
    }

    /// Packets were dropped, and all of them for this reason.
    pub fn drops_only_for(&self, reason: &str) {
        let drops = self.drops();
        assert_eq!(drops.keys().collect::<Vec<_>>(), [reason]);
    }

    /// Takes the lab down.
    pub fn down(&self) -> Output {
        self.minivpc(&["down", "--lab", &self.name])
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.down();
    }
}

/// Waits for a condition; how long doesn't matter unless it never comes.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
    }
}

/// Standard output of a command.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A command that runs in an instance.
pub struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    /// What it has printed so far, on both outputs.
    pub printed: Vec<String>,
}

impl Running {
    fn new(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Self { child, lines, printed: Vec::new() }
    }

    /// Writes a line to it.
    pub fn say(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
        input.flush().unwrap();
    }

    /// Takes what it has printed until now.
    pub fn arrived(&mut self) {
        self.printed.extend(self.lines.try_iter());
    }

    /// Waits until it prints a line like this.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !self.printed.iter().any(|line| wanted(line)) {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.printed.push(line),
                Err(_) => panic!("waited in vain for {what}; printed: {:#?}", self.printed),
            }
        }
    }

    /// Waits until so many lines like this were printed.
    pub fn until_count(&mut self, count: usize, wanted: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while self.printed.iter().filter(|line| wanted(line)).count() < count {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.printed.push(line),
                Err(_) => panic!("waited in vain for {count} lines; printed: {:#?}", self.printed),
            }
        }
    }

    /// Interrupts it as Ctrl-C does, and returns all that it printed.
    pub fn interrupt(mut self) -> Vec<String> {
        signal(&self.child, "INT");
        self.child.wait().unwrap();
        self.printed.extend(self.lines.iter());
        std::mem::take(&mut self.printed)
    }

    /// Waits for its end, and returns all that it printed.
    pub fn wait(self) -> Vec<String> {
        let (success, printed) = self.end();
        assert!(success, "{printed:#?}");
        printed
    }

    /// The same, and whether it succeeded.
    pub fn end(mut self) -> (bool, Vec<String>) {
        self.printed.extend(self.lines.iter());
        (self.child.wait().unwrap().success(), std::mem::take(&mut self.printed))
    }

    /// Has it ended?
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }
}

fn signal(child: &Child, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
}

impl Drop for Running {
    fn drop(&mut self) {
        // `minivpc exec` passes it on; a command that has ended already isn't there any more.
        if let Ok(None) = self.child.try_wait() {
            signal(&self.child, "TERM");
            let _ = self.child.wait();
        }
    }
}
