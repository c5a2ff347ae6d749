//! What a machine may refuse: each time the exact hint, exit status 1, and nothing left behind.

use std::fs;
use std::process::{Command, Output};

use crate::lab::{Lab, as_user, can_run_or_skip, cannot_run, minivpc, runtime, said};

const ARTICLE: &str = include_str!("../../configs/nat-gateway-east-west/lab.yaml");

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `up` is refused in these words, and nothing is left.
fn refused(lab: &Lab, up: &mut Command, why: &str) {
    let output = up.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(words(&output).contains(why), "{}", words(&output));
    assert!(!runtime().join(&lab.name).exists());
}

#[test]
fn without_the_tun_driver_up_and_doctor_say_how_to_get_it() {
    let lab = Lab::write(ARTICLE);
    let missing = lab.file.with_file_name("no-such-node");
    let hint = "a lab needs the tun driver; as root: modprobe tun";
    refused(&lab, lab.command(&["up", "--tun"]).arg(&missing), hint);
    let doctor = lab.command(&["doctor", "--tun"]).arg(&missing).output().unwrap();
    assert_eq!(doctor.status.code(), Some(1));
    assert!(said(&doctor).contains(hint), "{}", said(&doctor));
}

#[test]
fn a_tun_driver_for_root_alone_is_told_with_both_ways_out() {
    let lab = Lab::write(ARTICLE);
    let closed = lab.file.with_file_name("closed");
    fs::write(&closed, "").unwrap();
    fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    if fs::File::open(&closed).is_ok() && std::env::var_os("MINIVPC_TEST_USER").is_none() {
        println!("skipped: root may open everything");
        return;
    }
    let up = &mut lab.command(&["up", "--tun"]);
    refused(&lab, up.arg(&closed), "chmod 0666 /dev/net/tun; or make a node of your own, mknod -m 0666");
}

#[test]
fn without_user_namespaces_up_says_what_to_set() {
    can_run_or_skip!();
    let lab = Lab::write(ARTICLE);
    // A user namespace may forbid others in it. The user stays who he is there, so his labs stay where they are.
    let within = |script: &str| {
        let script = format!("echo 0 > /proc/sys/user/max_user_namespaces && {script}");
        let mut command = as_user("unshare");
        command.args(["--user", "--map-current-user", "--keep-caps", "sh", "-c", &script, "sh"]).arg(minivpc());
        command.current_dir(lab.file.parent().unwrap());
        command
    };
    if !within("true").status().unwrap().success() {
        println!("skipped: this machine grants no user namespace to try it in");
        return;
    }
    let remedy = "sysctl -w user.max_user_namespaces=10000";
    refused(&lab, &mut within("exec \"$1\" up"), remedy);
    let doctor = within("exec \"$1\" doctor").output().unwrap();
    assert_eq!(doctor.status.code(), Some(1));
    assert!(said(&doctor).contains(remedy), "{}", said(&doctor));
}

#[test]
fn with_few_descriptors_up_says_which_limit() {
    can_run_or_skip!();
    let lab = Lab::write(&ARTICLE.replace("instances:\n", "instances:\n  more: { subnet: source, count: 60 }\n"));
    let mut up = as_user("sh");
    up.args(["-c", "ulimit -n 128 && exec \"$1\" up lab.yaml", "sh"]).arg(minivpc());
    up.current_dir(lab.file.parent().unwrap());
    refused(&lab, &mut up, "the hard limit is 128; as root: ulimit -Hn 1048576");
}

#[test]
fn one_sentence_each_and_the_right_status() {
    let lab = Lab::write(ARTICLE);
    let is = |arguments: &[&str], status: i32, sentence: &str| {
        let output = lab.minivpc(arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", words(&output));
        assert!(words(&output).contains(sentence), "{arguments:?}: {}", words(&output));
        assert!(status == 2 || words(&output).trim().lines().count() == 1, "{}", words(&output));
    };
    is(&["exec", "--lab", &lab.name, "source", "true"], 1, "isn't up");
    is(&["down", "--lab", &lab.name], 1, "isn't up");
    is(&["apply"], 1, "isn't up");
    is(&["nonsense"], 2, "unrecognized subcommand");
    is(&["exec"], 2, "required arguments were not provided");
    if let Some(why) = cannot_run() {
        println!("skipped in part: {why}");
        return;
    }
    assert!(lab.minivpc(&["up"]).status.success());
    is(&["up"], 1, "is up already");
    is(
        &["exec", "--lab", &lab.name, "nobody", "true"],
        1,
        "no instance or host is called 'nobody'; these are: destination, source",
    );
    is(&["status", "--lab", "another"], 1, "lab 'another' isn't up; these are: ");
    let other = Lab::up(ARTICLE);
    is(&["status"], 1, "several labs are up: ");
    drop(other);
    let foreign = std::os::unix::net::UnixStream::connect(runtime().join(&lab.name).join("control.sock")).unwrap();
    std::io::Write::write_all(&mut &foreign, b"{\"version\":\"0.0.9\",\"request\":{\"Ask\":\"Status\"}}\n").unwrap();
    let mut answer = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(&foreign), &mut answer).unwrap();
    assert!(answer.contains("this command is minivpc 0.0.9, and the lab was brought up by minivpc"), "{answer}");
    assert!(lab.down().status.success());
    is(&["down", "--lab", &lab.name], 1, "isn't up");
}

#[test]
fn without_the_virtio_net_header_labs_work_by_the_plain_backend() {
    can_run_or_skip!();
    if std::env::var_os("MINIVPC_TUN").is_some() {
        println!("skipped: the plain backend knows /dev/net/tun only");
        return;
    }
    let lab = Lab::write(ARTICLE);
    let up = lab.minivpc(&["up", "--backend", "tun-tap"]);
    assert!(up.status.success(), "{}", words(&up));
    lab.exec("source", &["ping", "-c", "1", "10.0.1.55"]);
    let server = lab.start("destination", &["iperf3", "-s", "-1", "-p", "5201"]);
    lab.until_listening("destination", 5201);
    lab.exec("source", &["iperf3", "-c", "10.0.1.55", "-n", "20M"]);
    drop(server);
    let ping = lab.run("source", &["ping", "-c", "1", "-W", "1", "-M", "do", "-s", "8473", "10.0.1.55"]);
    assert!(said(&ping).contains("mtu = 8500"), "{}", said(&ping));
}

/// What AppArmor does on Ubuntu, done by seccomp: a user namespace is granted, and no right in it.
const NO_RIGHTS: &str = r#"
import ctypes, os, platform, struct, sys
unshare = {"x86_64": 272, "aarch64": 97}[platform.machine()]
code = [(0x20, 0, 0, 0), (0x15, 0, 3, unshare), (0x20, 0, 0, 16), (0x45, 0, 1, 0x40000000), (0x06, 0, 0, 0x00050001),
        (0x06, 0, 0, 0x7fff0000)]
filter = b"".join(struct.pack("HBBI", *one) for one in code)
buffer = ctypes.create_string_buffer(filter)
class Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
program = Program(len(code), ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn a_user_namespace_without_rights_is_told_as_such() {
    can_run_or_skip!();
    let lab = Lab::write(ARTICLE);
    let hint = "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";
    let restricted = |command: &str| {
        let mut restricted = as_user("python3");
        restricted.args(["-c", NO_RIGHTS]).arg(minivpc()).arg(command).current_dir(lab.file.parent().unwrap());
        restricted
    };
    refused(&lab, &mut restricted("up"), hint);
    let doctor = restricted("doctor").output().unwrap();
    assert_eq!(doctor.status.code(), Some(1));
    assert!(said(&doctor).contains(hint), "{}", said(&doctor));
}
