//! Real namespaces, a real keeper, real TAPs. Not under the usual harness: the keeper and `exec` want a process with
//! one thread, so this program plays every part itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use minivpc_host::{
    GuestSpec, InterfaceSpec, Keeper,
    guest::exec::{Directory, exec},
    run_keeper,
};

const VNET_HEADER: usize = 10;

fn main() {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match arguments.first().and_then(|argument| argument.to_str()) {
        Some("keeper") => {
            run_keeper(std::io::stdin().as_fd().try_clone_to_owned().unwrap()).unwrap();
        }
        Some("enter") => {
            let init = Keeper::connect(Path::new(&arguments[1])).unwrap().enter("one").unwrap();
            std::process::exit(exec(&init, &arguments[2..], Directory::Writable).unwrap());
        }
        _ => run_tests(),
    }
}

fn run_tests() {
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/net/tun").exists() {
        println!("skipped: guests need root and /dev/net/tun");
        return;
    }
    type Test = (&'static str, fn(&Lab));
    let tests: &[Test] = &[
        ("a_guest_asks_for_its_router_on_its_tap", a_guest_asks_for_its_router_on_its_tap),
        ("a_command_runs_as_on_the_instance", a_command_runs_as_on_the_instance),
        ("exec_returns_the_commands_status", exec_returns_the_commands_status),
        ("the_hosts_files_are_safe", the_hosts_files_are_safe),
        ("names_fail_at_once", names_fail_at_once),
        ("signals_reach_the_command", signals_reach_the_command),
        ("interfaces_come_and_go_under_one_name", interfaces_come_and_go_under_one_name),
        ("refusals_leave_the_keeper_alive", refusals_leave_the_keeper_alive),
        ("a_stopped_command_holds_up_nobody", a_stopped_command_holds_up_nobody),
        ("a_killed_keeper_leaves_nothing", a_killed_keeper_leaves_nothing),
        ("shutdown_leaves_nothing", shutdown_leaves_nothing),
    ];
    for (name, test) in tests {
        let lab = Lab::new(name);
        test(&lab);
        println!("test {name} ... ok");
    }
}

/// A keeper with one guest; ended when dropped, also by a panic.
struct Lab {
    directory: PathBuf,
    keeper: Option<Keeper>,
    taps: Vec<OwnedFd>,
}

impl Lab {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("minivpc-host-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        // Its drop clears away what was made before something here fails.
        let mut lab = Self { directory, keeper: None, taps: Vec::new() };
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("keeper").arg(&lab.directory);
        lab.keeper = Some(Keeper::spawn(command, &lab.directory.join("keeper.sock")).unwrap());
        lab.taps = lab.keeper().create_guest(&guest("one")).unwrap();
        lab
    }

    fn keeper(&self) -> &Keeper {
        self.keeper.as_ref().unwrap()
    }

    fn command(&self, command: &[&str]) -> Command {
        let mut enter = Command::new(std::env::current_exe().unwrap());
        enter.arg("enter").arg(self.directory.join("keeper.sock")).args(command).stdin(Stdio::null());
        enter
    }

    fn run(&self, command: &[&str]) -> Output {
        self.command(command).output().unwrap()
    }

    fn says(&self, command: &[&str]) -> String {
        let output = self.run(command);
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Processes of this keeper and its guests: all have its directory in their command line, as a copy of it.
    fn processes(&self) -> Vec<String> {
        let directory = self.directory.to_str().unwrap();
        let all = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
            fs::read_to_string(entry.path().join("cmdline")).is_ok_and(|line| line.contains(directory))
        });
        all.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.shutdown();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn guest(name: &str) -> GuestSpec {
    GuestSpec {
        name: name.to_owned(),
        hostname: "ip-10-0-0-11.ap-northeast-3.compute.internal".to_owned(),
        default_ttl: 255,
        sysctls: vec![("net.ipv4.ip_forward".to_owned(), "1".to_owned())],
        block: None,
        backend: minivpc_host::Backend::VirtioNet,
        resolver: None,
        setup: minivpc_host::Setup::All,
        control: None,
        interfaces: vec![InterfaceSpec {
            name: "eth0".to_owned(),
            mac: [6, 0, 0, 0, 0, 1],
            address: Ipv4Addr::new(10, 0, 0, 11),
            secondary: Vec::new(),
            prefix: 24,
            gateway: Ipv4Addr::new(10, 0, 0, 1),
            mtu: 9001,
        }],
    }
}

/// Waits for a condition; how long doesn't matter unless it never comes.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}: waited in vain");
        std::thread::yield_now();
    }
}

fn a_guest_asks_for_its_router_on_its_tap(lab: &Lab) {
    let mut ping = lab.command(&["ping", "-c", "1", "-W", "1", "10.0.1.55"]).stdout(Stdio::null()).spawn().unwrap();
    let mut frame = [0; 2048];
    until("an ARP request", || match rustix::io::read(&lab.taps[0], &mut frame) {
        // Ethernet broadcast, ARP, request, for 10.0.0.1.
        Ok(length) => {
            let frame = &frame[VNET_HEADER..length];
            frame[..6] == [0xff; 6] && frame[12..14] == [8, 6] && frame[21] == 1 && frame[38..42] == [10, 0, 0, 1]
        }
        Err(_) => false,
    });
    assert!(lab.keeper().link_stats("one").unwrap()[0].tx_packets >= 1);
    ping.kill().unwrap();
    ping.wait().unwrap();
}

fn a_command_runs_as_on_the_instance(lab: &Lab) {
    assert_eq!(lab.says(&["hostname"]).trim(), "ip-10-0-0-11.ap-northeast-3.compute.internal");
    assert_eq!(lab.says(&["sysctl", "-n", "net.ipv4.ip_default_ttl"]).trim(), "255", "SEED-6");
    assert_eq!(lab.says(&["sysctl", "-n", "net.ipv4.ip_forward"]).trim(), "1");
    assert!(lab.says(&["ip", "-br", "address"]).contains("10.0.0.11/24"));
    assert!(lab.says(&["ip", "link", "show", "eth0"]).contains("mtu 9001"));
    assert!(lab.says(&["ip", "route"]).contains("default via 10.0.0.1 dev eth0"));
    assert_eq!(lab.says(&["sudo", "-n", "-u", "root", "id", "-u"]).trim(), "0");
    assert_eq!(lab.says(&["sh", "-c", "ls /sys/class/net | tr '\n' ' '"]).trim(), "eth0 lo");
    let others = lab.says(&["sh", "-c", "ls -d /proc/[0-9]* | wc -l"]);
    assert!(others.trim().parse::<u32>().unwrap() < 8, "only the guest's own processes: {others}");
}

fn exec_returns_the_commands_status(lab: &Lab) {
    assert_eq!(lab.run(&["true"]).status.code(), Some(0));
    assert_eq!(lab.run(&["sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(lab.run(&["sh", "-c", "kill -9 $$"]).status.code(), Some(128 + 9));
    assert_eq!(lab.run(&["no-such-command"]).status.code(), Some(127));
    assert_eq!(lab.run(&["/etc/hostname"]).status.code(), Some(126));
}

fn the_hosts_files_are_safe(lab: &Lab) {
    let hosts = fs::read_to_string("/etc/hosts").unwrap();
    lab.says(&["sh", "-c", "echo 1.2.3.4 other >> /etc/hosts; touch /var/tmp/guest /root/guest /tmp/guest"]);
    assert_eq!(fs::read_to_string("/etc/hosts").unwrap(), hosts);
    for path in ["/var/tmp/guest", "/root/guest", "/tmp/guest"] {
        assert!(!Path::new(path).exists(), "{path} is the guest's own");
    }
    assert!(lab.says(&["cat", "/etc/hosts"]).contains("other"), "and stays the guest's");
    assert!(!lab.run(&["touch", "/usr/guest"]).status.success(), "/usr is read-only");
    let change = lab.run(&["sh", "-c", "cat /proc/sys/kernel/panic > /proc/sys/kernel/panic"]);
    assert!(!change.status.success(), "what belongs to the whole machine can't be set");
    // Nor by a guest's root that undoes its mounts, or reads the host's disks.
    for undo in [
        "mount -o remount,bind,rw /usr",
        "mount -o remount,bind,rw /proc/sys",
        "mount -t proc proc /mnt",
        "umount /run",
        "umount -l /proc/sys",
        "mknod /dev/sda b 8 0",
    ] {
        assert!(!lab.run(&["sh", "-c", undo]).status.success(), "{undo}");
    }
    let devices = lab.says(&["sh", "-c", "find /dev -type b; ls /dev"]);
    assert_eq!(
        devices.split_whitespace().collect::<Vec<_>>().join(" "),
        "console fd full net null ptmx pts random shm stderr stdin stdout tty urandom zero"
    );
    for (directory, file) in [("/root", "/root/made"), ("/usr", "/usr/made"), ("/tmp", "/tmp/made-in-a-guest")] {
        let _ = lab.command(&["touch", file]).current_dir(directory).status().unwrap();
        assert!(!Path::new(file).exists(), "{file} from {directory}");
    }
    // The caller's working directory is the host's.
    let here = lab.directory.join("here");
    fs::create_dir(&here).unwrap();
    assert!(lab.command(&["touch", "made"]).current_dir(&here).status().unwrap().success());
    assert!(here.join("made").exists());
    assert!(!lab.run(&["ls", "/run/minivpc"]).status.success(), "control sockets aren't visible");
}

fn names_fail_at_once(lab: &Lab) {
    // SEED-11. Nobody answers on the TAP here: a question that left the guest would time out after seconds.
    let start = Instant::now();
    assert!(!lab.run(&["getent", "hosts", "10.0.2.149"]).status.success());
    assert!(start.elapsed() < Duration::from_secs(4));
    let own = lab.says(&["getent", "hosts", "10.0.0.11"]);
    assert!(own.contains("ip-10-0-0-11.ap-northeast-3.compute.internal"));
}

fn signals_reach_the_command(lab: &Lab) {
    let mut child = lab.command(&["sh", "-c", "trap 'exit 5' TERM; echo ready; sleep 1000 & wait"]);
    let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

/// Beside the old one the new one has another name, and gets it when that is gone.
fn interfaces_come_and_go_under_one_name(lab: &Lab) {
    let keeper = lab.keeper.as_ref().unwrap();
    let primary = guest("one").interfaces.remove(0);
    let eth1 = |last: u8| InterfaceSpec {
        name: "eth1".to_owned(),
        mac: [6, 0, 0, 0, 0, last],
        address: Ipv4Addr::new(10, 0, 0, last),
        ..primary.clone()
    };
    let links = || {
        let printed = String::from_utf8(lab.run(&["ip", "-br", "-4", "addr"]).stdout).unwrap();
        let eth1 = printed.lines().filter(|line| line.starts_with("eth1"));
        eth1.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(keeper.assign("one", &[primary.clone(), eth1(50)]).unwrap().len(), 1);
    assert_eq!(links(), ["eth1 UNKNOWN 10.0.0.50/24"]);
    assert_eq!(keeper.assign("one", &[primary.clone(), eth1(60), eth1(50)]).unwrap().len(), 1);
    assert_eq!(links(), ["eth1 UNKNOWN 10.0.0.50/24"], "the old one goes on");
    assert!(keeper.assign("one", &[primary.clone(), eth1(60)]).unwrap().is_empty());
    assert_eq!(links(), ["eth1 UNKNOWN 10.0.0.60/24"]);
    assert_eq!(keeper.taps("one").unwrap().len(), 2);
    let rules = String::from_utf8(lab.run(&["ip", "rule"]).stdout).unwrap();
    assert!(rules.contains("10.0.0.60") && !rules.contains("10.0.0.50"), "{rules}");
    // Somebody has deleted it in the guest.
    assert!(lab.run(&["ip", "link", "del", "eth1"]).status.success());
    keeper.assign("one", &[primary]).unwrap();
    assert_eq!(keeper.taps("one").unwrap().len(), 1);
}

fn refusals_leave_the_keeper_alive(lab: &Lab) {
    let twice = lab.keeper().create_guest(&guest("one")).unwrap_err().to_string();
    assert!(twice.contains("'one'"), "{twice}");
    assert!(lab.keeper().enter("nobody").unwrap_err().to_string().contains("nobody"));
    let mut wrong = guest("two");
    wrong.interfaces[0].gateway = Ipv4Addr::new(192, 0, 2, 1);
    assert!(lab.keeper().create_guest(&wrong).is_err(), "a gateway that isn't on the link");
    wrong.interfaces[0].gateway = Ipv4Addr::new(10, 0, 0, 1);
    assert_eq!(lab.keeper().create_guest(&wrong).unwrap().len(), 1, "nothing is left of the failed one");
}

fn a_stopped_command_holds_up_nobody(lab: &Lab) {
    let mut sleep = lab.command(&["sleep", "1000"]).spawn().unwrap();
    until("the command runs", || {
        lab.says(&["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]).contains("sleep 1000")
    });
    let pid = rustix::process::Pid::from_child(&sleep);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    Keeper::connect(&lab.directory.join("keeper.sock")).unwrap().shutdown().unwrap();
    sleep.kill().unwrap();
    sleep.wait().unwrap();
}

fn a_killed_keeper_leaves_nothing(lab: &Lab) {
    let mut sleep = lab.command(&["sleep", "1000"]).spawn().unwrap();
    let sleeps = || lab.says(&["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]).contains("sleep 1000");
    until("the command runs", sleeps);
    for pid in lab.processes() {
        let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        if line.contains("\0keeper\0")
            && fs::read_to_string(format!("/proc/{pid}/status")).unwrap().contains("NSpid:\t")
        {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let depth = status.lines().find(|l| l.starts_with("NSpid:")).unwrap().split_whitespace().count();
            // PID 1 of the guest is a copy of the keeper with a second number.
            if depth == own_depth() {
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            }
        }
    }
    until("the guest is gone", || lab.processes().iter().all(|pid| is_zombie(pid)) || lab.processes().is_empty());
    sleep.kill().ok();
    sleep.wait().unwrap();
}

fn own_depth() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find(|line| line.starts_with("NSpid:")).unwrap().split_whitespace().count()
}

fn is_zombie(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| status.contains("State:\tZ"))
}

fn shutdown_leaves_nothing(lab: &Lab) {
    lab.says(&["true"]);
    assert!(lab.processes().len() >= 2, "keeper and first process");
    Keeper::connect(&lab.directory.join("keeper.sock")).unwrap().shutdown().unwrap();
    until("no process", || lab.processes().is_empty());
}
