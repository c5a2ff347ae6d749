//! Processes of a lab are killed at any instant. `MINIVPC_ROUNDS` says how often; `MINIVPC_SEED` fixes the instants.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::lab::{Lab, can_run_or_skip, lab_or_skip, runtime, until};
use crate::life::{find_process, is_zombie, kill, process};

const ARTICLE: &str = include_str!("../../configs/nat-gateway-east-west/lab.yaml");

fn deaths(lab: &Lab) -> u64 {
    lab.json(&["status"])["engine_deaths"].as_u64().unwrap()
}

/// The engine is killed, and another one has taken over.
pub fn kill_engine(lab: &Lab) {
    let before = deaths(lab);
    kill(process(lab, "engine"));
    until("another engine", || deaths(lab) == before + 1);
}

#[test]
fn a_transfer_through_the_gateway_outlives_the_engine() {
    let lab = lab_or_skip!(ARTICLE);
    let server = lab.start("destination", &["iperf3", "-s", "-1", "-p", "5201"]);
    lab.until_listening("destination", 5201);
    let mut client = lab.start("source", &["iperf3", "-c", "10.0.1.55", "-t", "5", "-i", "1", "--forceflush"]);
    // By the end of the second interval the flow is in a checkpoint, which is at most a second old.
    client.until_count(2, |line| line.starts_with("[  5]") && line.contains(" sec "));
    kill_engine(&lab);
    let printed = client.wait();
    assert!(printed.iter().any(|line| line.contains("receiver")), "{printed:#?}");
    drop(server);
    assert!(lab.ask(&["status"]).contains("its engine died once"));
}

#[test]
fn processes_links_and_nat_ports_outlive_the_engine() {
    let lab = lab_or_skip!(ARTICLE);
    let mut server = lab.start("destination", &["nc", "-l", "-p", "7000"]);
    lab.until_listening("destination", 7000);
    let mut client = lab.converse("source", &["nc", "10.0.1.55", "7000"]);
    client.say("before");
    server.until("the line", |line| line == "before");
    let port = |lab: &Lab| {
        let flows = lab.json(&["flows"]);
        let flows = flows["flows"].as_array().unwrap();
        let at_destination = flows.iter().find(|flow| flow["local"] == "10.0.1.55:7000").unwrap();
        at_destination["remote"].as_str().unwrap().to_owned()
    };
    let before = port(&lab);
    let flows = runtime().join(&lab.name).join("flows");
    let written = || fs::metadata(&flows).is_ok_and(|meta| meta.len() > 60);
    until("a checkpoint", written);
    kill_engine(&lab);
    client.say("after");
    server.until("the line", |line| line == "after");
    assert_eq!(port(&lab), before);
}

#[test]
fn a_lab_whose_engine_dies_again_and_again_ends_and_says_so() {
    let lab = lab_or_skip!(ARTICLE);
    until("its keeper has given up", || {
        // It may be dead already.
        find_process(&lab, "engine").map(|engine| Command::new("kill").args(["-9", &engine.to_string()]).status());
        find_process(&lab, "keeper").is_none()
    });
    let status = lab.minivpc(&["status", "--lab", &lab.name]);
    let words = String::from_utf8_lossy(&status.stderr).into_owned();
    assert!(words.contains("is dead") && words.contains("minivpc down --lab"), "{words}");
    assert!(lab.down().status.success());
    assert!(!runtime().join(&lab.name).exists());
}

#[test]
fn an_interrupted_up_leaves_no_lab() {
    can_run_or_skip!();
    let lab = Lab::write(&ARTICLE.replace("instances:\n", "instances:\n  more: { subnet: source, count: 200 }\n"));
    let directory = runtime().join(&lab.name);
    for _ in 0..20 {
        let mut up = lab.command(&["up"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Before, there is nobody yet who could clear away.
        until("it has begun", || directory.join("engine.log").exists());
        // Not SIGINT: a shell has what it starts in the background ignore that.
        assert!(Command::new("kill").args(["-TERM", &up.id().to_string()]).status().unwrap().success());
        let _ = up.wait();
        // On a busy machine the signal may come when the lab is up.
        if !lab.minivpc(&["status", "--lab", &lab.name]).status.success() {
            until("nothing is left", || !directory.exists());
            return;
        }
        lab.down();
    }
    panic!("each time it was up before the signal");
}

/// A small generator with a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    /// Lets up to so many milliseconds pass: the instant is what is tried, nothing waits for anything.
    fn pass(&mut self, milliseconds: u64) {
        std::thread::sleep(Duration::from_micros(self.below(milliseconds * 1000)));
    }
}

/// Whatever was killed, the lab works or can be taken down, and nothing of it is left then.
fn works_or_goes(lab: &Lab) {
    let named = ["--lab", &lab.name];
    let ping = [&["exec"], &named[..], &["source", "--", "ping", "-c", "1", "-W", "2", "10.0.1.55"]].concat();
    // A lab that is just ending may say so between the two.
    until("it works, or says that it doesn't", || {
        let works = lab.minivpc(&ping).status.success();
        let status = lab.minivpc(&[&["status"], &named[..]].concat());
        let words = String::from_utf8_lossy(&status.stderr).into_owned();
        let ended = words.contains("is dead") || words.contains("isn't up") || words.contains("no lab is up");
        assert!(status.status.success() || ended, "{words}");
        works || ended
    });
    let start = Instant::now();
    lab.down();
    assert!(start.elapsed() < Duration::from_secs(10), "down took {:?}", start.elapsed());
    assert!(!runtime().join(&lab.name).exists());
    let mine = format!("{}\0", runtime().join(&lab.name).display());
    let is_of_lab = |entry: &fs::DirEntry| {
        let pid = entry.file_name().to_string_lossy().parse().unwrap_or(0);
        fs::read_to_string(entry.path().join("cmdline")).is_ok_and(|line| line.contains(&mine)) && !is_zombie(pid)
    };
    let left = || fs::read_dir("/proc").unwrap().flatten().filter(is_of_lab).count();
    until("its last process is gone", || left() == 0);
}

#[test]
fn commands_of_a_start_that_an_engine_did_not_outlive_are_run_by_the_next() {
    let lab = lab_or_skip!(ARTICLE);
    let more = "instances:\n  more: { subnet: source, count: 100, run: [ \"echo begun\" ] }\n";
    let more = ARTICLE.replace("instances:\n", more)
        + "internet: { hosts: { site: { address: 192.0.2.9, serve: [http] } } }\n";
    let logs = || {
        let files = fs::read_dir(runtime().join(&lab.name)).unwrap().flatten();
        files.filter(|file| file.file_name().to_string_lossy().starts_with("i-")).count()
    };
    lab.rewrite(&more);
    // Whoever asks the engine now waits for the change.
    let engine = process(&lab, "engine");
    let mut apply = lab.command(&["apply"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the first has begun", || logs() > 0);
    kill(engine);
    let _ = apply.wait();
    for n in 1..=100 {
        until("its commands have run", || lab.ask(&["logs", &format!("more-{n}")]).contains("begun"));
    }
    until("its server answers", || {
        lab.run("site", &["curl", "-sS", "-m", "1", "-o", "/dev/null", "http://192.0.2.9/"]).status.success()
    });
}

#[test]
fn whatever_is_killed_no_lab_is_stuck_and_nothing_is_left() {
    can_run_or_skip!();
    let number = |name: &str, default| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let (rounds, seed) = (number("MINIVPC_ROUNDS", 9), number("MINIVPC_SEED", u64::from(std::process::id())));
    println!("MINIVPC_SEED={seed}");
    let mut random = Random(seed);
    let more = ARTICLE.replace("instances:\n", "instances:\n  more: { subnet: source, count: 5 }\n");
    for round in 0..rounds {
        let lab = Lab::write(ARTICLE);
        let up = || lab.command(&["up", "lab.yaml"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let victim = ["engine", "keeper", "cli"][(round % 3) as usize];
        match random.below(3) {
            0 => {
                let mut cli = up();
                random.pass(60);
                strike(&lab, victim, cli.id());
                let _ = cli.wait();
            }
            1 => {
                up().wait().unwrap();
                let traffic = lab.start("source", &["ping", "-i", "0.01", "-q", "10.0.1.55"]);
                lab.rewrite(&more);
                let apply = lab.command(&["apply"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
                let mut cli = apply.unwrap();
                random.pass(60);
                strike(&lab, victim, cli.id());
                let _ = cli.wait();
                drop(traffic);
            }
            _ => {
                up().wait().unwrap();
                let named = ["down", "--lab", &lab.name];
                let mut cli = lab.command(&named).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
                random.pass(15);
                strike(&lab, victim, cli.id());
                let _ = cli.wait();
            }
        }
        println!("round {round}: {victim}");
        works_or_goes(&lab);
    }
}

/// Kills it, if it is there.
fn strike(lab: &Lab, victim: &str, cli: u32) {
    let pid = match victim {
        "cli" => Some(cli as i32),
        role => crate::life::find_process(lab, role),
    };
    if let Some(pid) = pid {
        let _ = std::process::Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
    }
}
