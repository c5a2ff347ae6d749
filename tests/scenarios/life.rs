//! The life of a lab: two `up`s at once, killed processes, a guest that breaks its own link.

use std::fs;
use std::process::{Command, Stdio};

use crate::lab::{Lab, can_run_or_skip, lab_or_skip, said, until};

const ARTICLE: &str = include_str!("../../configs/nat-gateway-east-west/lab.yaml");

/// The process of this role.
pub fn process(lab: &Lab, role: &str) -> i32 {
    find_process(lab, role).unwrap()
}

/// The same, if there is one.
pub fn find_process(lab: &Lab, role: &str) -> Option<i32> {
    let line = format!("minivpc\0{role}\0{}\0", crate::lab::runtime().join(&lab.name).display());
    let mut all = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let found = fs::read_to_string(entry.path().join("cmdline")).is_ok_and(|other| other.starts_with(&line));
        found.then(|| entry.file_name().to_string_lossy().parse().unwrap())
    });
    // PID 1 of a guest is a copy of the keeper, and younger.
    all.by_ref().min()
}

pub fn kill(pid: i32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

#[test]
fn of_several_ups_at_once_one_comes_up_and_the_others_say_so() {
    can_run_or_skip!();
    let lab = Lab::write(ARTICLE);
    for _ in 0..3 {
        let start = || lab.command(&["up", "lab.yaml"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let ups: Vec<_> = (0..4).map(|_| start()).collect();
        let ends: Vec<_> = ups.into_iter().map(|up| up.wait_with_output().unwrap()).collect();
        let words = |end: &std::process::Output| String::from_utf8_lossy(&end.stderr).into_owned();
        assert_eq!(ends.iter().filter(|end| end.status.success()).count(), 1, "{ends:?}");
        let others = ends.iter().filter(|end| !end.status.success());
        assert!(others.into_iter().all(|end| words(end).contains("is up already")), "{ends:?}");
        lab.exec("source", &["ping", "-c", "1", "10.0.1.55"]);
        assert!(lab.down().status.success());
    }
}

pub fn is_zombie(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| status.contains("State:\tZ"))
}

#[test]
fn without_its_keeper_nothing_lives_and_the_lab_comes_up_again() {
    let lab = lab_or_skip!(ARTICLE);
    let engine = process(&lab, "engine");
    kill(process(&lab, "keeper"));
    until("the engine ends", || !fs::exists(format!("/proc/{engine}")).unwrap() || is_zombie(engine));
    let status = lab.minivpc(&["status", "--lab", &lab.name]);
    let words = String::from_utf8_lossy(&status.stderr).into_owned();
    assert!(words.contains(&format!("`minivpc down --lab {}` removes what it has left", lab.name)), "{words}");
    assert!(said(&lab.minivpc(&["labs"])).contains(&format!("{}  (dead", lab.name)));
    let up = lab.minivpc(&["up", lab.file.to_str().unwrap()]);
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    lab.exec("source", &["ping", "-c", "1", "10.0.1.55"]);
}

#[test]
fn a_guest_that_deletes_its_link_costs_nothing() {
    let lab = lab_or_skip!(ARTICLE);
    lab.exec("source", &["ip", "link", "delete", "eth0"]);
    let engine = process(&lab, "engine");
    // Its processor time in ticks: utime and stime.
    let ticks = || -> u64 {
        let stat = fs::read_to_string(format!("/proc/{engine}/stat")).unwrap();
        stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum()
    };
    let before = ticks();
    // Something else happens meanwhile: three seconds of a ping between two that are well.
    lab.run("destination", &["ping", "-c", "3", "-W", "1", "10.0.1.1"]);
    assert!(ticks() - before < 100, "not a second of it");
    let log = fs::read_to_string(crate::lab::runtime().join(&lab.name).join("engine.log")).unwrap();
    assert!(log.contains("a TAP is gone"), "{log}");
}

#[test]
fn a_lab_keeps_nothing_of_its_callers_open() {
    can_run_or_skip!();
    let lab = Lab::write(ARTICLE);
    // The shell's own descriptor 9 would reach the keeper and the engine.
    let script = format!("exec 9</dev/null; {} up {}", crate::lab::minivpc().display(), lab.file.display());
    let up = crate::lab::as_user("sh").args(["-c", &script]).output().unwrap();
    assert!(up.status.success(), "{}{}", said(&up), String::from_utf8_lossy(&up.stderr));
    for role in ["keeper", "engine"] {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", process(&lab, role))).unwrap().flatten();
        let nulls = descriptors.filter(|fd| {
            let number: u32 = fd.file_name().to_string_lossy().parse().unwrap();
            number > 2 && fs::read_link(fd.path()).is_ok_and(|path| path.to_str() == Some("/dev/null"))
        });
        assert_eq!(nulls.count(), 0, "{role}");
    }
}

#[test]
fn a_reader_that_has_gone_is_no_crash() {
    let lab = Lab::write("lab: x\ntransit_gateways: {}\n");
    for command in [&["validate", "lab.yaml"][..], &["exec", "--lab", "nowhere", "a", "true"]] {
        let mut child = lab.command(command).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stderr.take());
        assert_eq!(child.wait().unwrap().code(), Some(1), "{command:?}");
    }
}
