//! `minivpc capture`: what passes a point, read by tcpdump.

use std::fs::{self, File};
use std::process::Command;

use crate::lab::{Lab, Running, lab_or_skip, said, until};
use crate::life::process;

const ARTICLE: &str = include_str!("../../configs/nat-gateway-east-west/lab.yaml");

/// What tcpdump reads in a file, without the times.
fn tcpdump(lab: &Lab, file: &str) -> Vec<String> {
    let file = File::open(lab.file.with_file_name(file)).unwrap();
    let output = Command::new("tcpdump").args(["-n", "-t", "-v", "-r", "-"]).stdin(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = said(&output);
    assert!(!text.contains("bad"), "{text}");
    // With -v, what is in an IP packet stands in a line of its own.
    text.replace("\n    ", " ").lines().map(str::to_owned).collect()
}

/// How many packets tcpdump counts in a file.
fn count(lab: &Lab, file: &str) -> u64 {
    tcpdump(lab, file).len() as u64
}

fn has(printed: &[String], words: &str) -> bool {
    printed.iter().any(|line| line.contains(words))
}

fn ping(lab: &Lab) {
    lab.exec("source", &["ping", "-c", "1", "10.0.1.55"]);
}

#[test]
fn several_points_are_in_one_file_each_with_the_headers_that_packets_have_there() {
    let lab = lab_or_skip!(ARTICLE);
    let capture = lab.capture(&["source", "osaka-NAT", "10.0.1.55", "osaka/source", "-w", "x.pcapng"]);
    assert!(
        has(&capture.printed, "listening on source/eth0, osaka-NAT/inside, osaka-NAT/outside, destination/eth0"),
        "{:?}",
        capture.printed
    );
    ping(&lab);
    let printed = capture.interrupt();
    assert!(has(&printed, "0 packets dropped by minivpc"), "{printed:#?}");
    let read = tcpdump(&lab, "x.pcapng");
    assert!(has(&printed, &format!("{} packets captured", read.len())), "{printed:#?}");
    let icmp: Vec<_> = read.iter().filter(|line| line.contains("ICMP")).collect();
    let expected = [
        ("ttl 255", "10.0.0.11 > 10.0.1.55: ICMP echo request"),
        ("ttl 255", "10.0.0.11 > 10.0.1.55: ICMP echo request"),
        ("ttl 254", "10.0.2.149 > 10.0.1.55: ICMP echo request"),
        ("ttl 254", "10.0.2.149 > 10.0.1.55: ICMP echo request"),
        ("ttl 255", "10.0.1.55 > 10.0.2.149: ICMP echo reply"),
        ("ttl 255", "10.0.1.55 > 10.0.2.149: ICMP echo reply"),
        ("ttl 254", "10.0.1.55 > 10.0.0.11: ICMP echo reply"),
        ("ttl 254", "10.0.1.55 > 10.0.0.11: ICMP echo reply"),
    ];
    assert_eq!(icmp.len(), expected.len(), "{icmp:#?}");
    for (line, (ttl, words)) in icmp.iter().zip(expected) {
        assert!(line.contains(ttl) && line.contains(words), "{line}: {ttl} {words}");
    }
    assert!(read.iter().any(|line| line.contains("Reply 10.0.0.1 is-at")), "the network's own answers");
}

#[test]
fn lines_say_where_a_packet_is_and_a_drop_why_it_was_dropped() {
    let lab = lab_or_skip!(ARTICLE);
    let mut capture =
        lab.capture(&["source", "osaka-NAT/outside", "drops", "-c", "3", "--", "icmp", "or", "port", "9"]);
    lab.run("source", &["ping", "-c", "1", "-W", "1", "10.0.2.149"]);
    capture.until("the drop", |line| line.contains("drops"));
    let printed = capture.wait();
    let line = |words: &str| printed.iter().find(|line| line.contains(words)).unwrap_or_else(|| panic!("{printed:#?}"));
    let packet = "10.0.0.11 > 10.0.2.149: ICMP echo request";
    assert!(line(" source/eth0       Out IP ").contains(packet));
    assert!(line(" osaka-NAT/outside In  IP ").contains(packet));
    assert!(line(" drops                 IP ").contains("[MINIVPC_NAT_NO_SESSION by nat-0efd1351c899a1d4b: "));
    assert!(has(&printed, "3 packets captured"), "it ends at the third");
}

#[test]
fn a_pipe_shows_packets_while_they_come_and_only_those_that_the_filter_wants() {
    let lab = lab_or_skip!(ARTICLE);
    let mut pipe = lab.capture_into("source -w - -- icmp", "tcpdump -n -l -r -");
    for number in 1..=3 {
        ping(&lab);
        pipe.until_count(2 * number, |line| line.contains("ICMP echo"));
    }
    lab.run("source", &["nc", "-z", "-w", "1", "10.0.1.55", "80"]);
    ping(&lab);
    pipe.until_count(8, |line| line.contains("ICMP echo"));
    assert!(!has(&pipe.printed, "Flags"), "{:#?}", pipe.printed);
    // A reader that goes ends the capture.
    let pipe = lab.capture_into("source -w -", "head -c 1 >/dev/null");
    ping(&lab);
    ping(&lab);
    assert!(pipe.end().0);
}

#[test]
fn a_comment_is_in_the_file() {
    let lab = lab_or_skip!(ARTICLE);
    let capture = lab.capture(&["drops", "-c", "1", "-w", "drops.pcapng", "--", "icmp"]);
    lab.run("source", &["ping", "-c", "1", "-W", "1", "192.0.2.1"]);
    capture.wait();
    let bytes = fs::read(lab.file.with_file_name("drops.pcapng")).unwrap();
    let comment = b"MINIVPC_NO_SUCH_HOST by the internet: ";
    assert!(bytes.windows(comment.len()).any(|part| part == comment));
}

#[test]
fn what_can_t_be_captured_is_refused_with_what_can() {
    let lab = lab_or_skip!(ARTICLE);
    let refused = |arguments: &[&str]| {
        let output = lab.minivpc(&[&["capture", "--lab", &lab.name, "-w", "kept"], arguments].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let kept = lab.file.with_file_name("kept");
    fs::write(&kept, "something").unwrap();
    let words = refused(&["nowhere"]);
    assert!(words.contains("'nowhere'") && words.contains("osaka-NAT, source, source/eth0"), "{words}");
    assert!(words.contains("drops"), "{words}");
    assert!(refused(&["source/inside"]).contains("no nat gateway is called 'source'"));
    assert!(refused(&["source", "--", "port", "eighty"]).contains("eighty"), "in tcpdump's words");
    assert_eq!(fs::read_to_string(&kept).unwrap(), "something");
    let output = lab.minivpc(&["capture", "--lab", &lab.name]);
    assert_eq!(output.status.code(), Some(2));
    let twice = "
instances:
  osaka-NAT: { subnet: source, private_ip: 10.0.0.99 }";
    lab.apply(&ARTICLE.replace("\ninstances:", twice).replace("10.0.1.0/24: osaka-NAT, ", ""));
    let words = refused(&["osaka-NAT"]);
    assert!(words.contains("instance:osaka-NAT or nat_gateway:osaka-NAT"), "{words}");
}

/// The number before these words.
fn number(printed: &[String], words: &str) -> u64 {
    let line = printed.iter().find(|line| line.ends_with(words)).unwrap_or_else(|| panic!("{printed:#?}"));
    line.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn what_a_full_buffer_loses_is_counted_and_the_engine_waits_for_nobody() {
    let lab = lab_or_skip!(ARTICLE);
    let capture = lab.capture(&["source", "destination", "-w", "x.pcapng", "--", "icmp"]);
    capture.signal("STOP");
    // Four times 24 million bytes, and answers: many times what a capture keeps.
    for _ in 0..4 {
        lab.exec("source", &["ping", "-q", "-f", "-c", "1500", "-s", "8000", "10.0.1.55"]);
    }
    assert!(lab.ask(&["status"]).contains("destination"), "other commands are answered");
    capture.signal("CONT");
    let printed = capture.interrupt();
    let (captured, received, dropped) = (
        number(&printed, " captured"),
        number(&printed, " received by filter"),
        number(&printed, " dropped by minivpc"),
    );
    assert!(dropped > 0 && captured > 0, "{printed:#?}");
    assert_eq!(captured + dropped, received);
    assert_eq!(count(&lab, "x.pcapng"), captured);
    assert!(
        printed.iter().any(|line| line.starts_with("  source/eth0: ") && line.ends_with(" dropped")),
        "{printed:#?}"
    );
}

#[test]
fn a_change_of_the_lab_ends_no_capture() {
    let lab = lab_or_skip!(ARTICLE);
    let mut capture = lab.capture(&["destination", "osaka-NAT/inside", "--", "icmp[icmptype] = icmp-echo"]);
    let direct = |line: &str| line.contains("destination/eth0") && line.contains("10.0.0.11 > 10.0.1.55");
    ping(&lab);
    capture.until("a packet at the gateway", |line| line.contains("osaka-NAT/inside"));
    capture.until("a packet", |line| line.contains("10.0.2.149 > 10.0.1.55"));
    assert!(!capture.printed.iter().any(|line| direct(line)));
    lab.apply(&ARTICLE.replace("10.0.1.0/24: osaka-NAT, ", ""));
    ping(&lab);
    capture.until("a packet that comes without the gateway", direct);
    // A point that vanishes sees nothing more; the others go on.
    let begin = ARTICLE.find("    nat_gateways:").unwrap();
    let end = ARTICLE.find("    route_tables:").unwrap();
    let without = [&ARTICLE[..begin], &ARTICLE[end..]].concat().replace("10.0.1.0/24: osaka-NAT, ", "");
    lab.apply(&without);
    ping(&lab);
    capture.until_count(2, direct);
    let printed = capture.interrupt();
    assert!(has(&printed, "4 packets captured"), "{printed:#?}");
}

#[test]
fn a_client_that_is_killed_is_looked_for_no_more() {
    let lab = lab_or_skip!(ARTICLE);
    let one_more = || lab.minivpc(&["capture", "--lab", &lab.name, "source", "-w", "x", "-c", "1", "--", "icmp"]);
    let mut captures: Vec<Running> = (0..16).map(|_| lab.capture(&["source", "-w", "/dev/null"])).collect();
    let words = String::from_utf8_lossy(&one_more().stderr).into_owned();
    assert!(words.contains("16 captures"), "{words}");
    for capture in captures.drain(..) {
        capture.signal("KILL");
    }
    let mut traffic = lab.start("source", &["ping", "-i", "0.2", "10.0.1.55"]);
    traffic.until("an answer", |line| line.contains("ttl="));
    until("there is room again", || one_more().status.success());
    let all: Vec<_> = (0..16).map(|_| lab.capture(&["source", "-w", "/dev/null"])).collect();
    for capture in all {
        let printed = capture.interrupt();
        assert!(has(&printed, "dropped by minivpc"), "{printed:#?}");
    }
}

#[test]
fn a_capture_ends_with_its_engine_and_says_so() {
    let lab = lab_or_skip!(ARTICLE);
    let mut capture = lab.capture(&["source", "-w", "x.pcapng"]);
    let mut pipe = lab.capture(&["source"]);
    ping(&lab);
    // What the engine still holds when it is killed is lost.
    pipe.until("the reply", |line| line.contains("ICMP echo reply"));
    crate::life::kill(process(&lab, "engine"));
    capture.until("its end", |line| line.contains("the engine of lab") && line.contains("has ended"));
    let (success, printed) = capture.end();
    assert!(!success, "{printed:#?}");
    let (success, printed) = pipe.end();
    assert!(!success && has(&printed, "ICMP echo reply"), "{printed:#?}");
    assert!(count(&lab, "x.pcapng") > 0, "what was captured before is whole");
    until("another engine", || lab.minivpc(&["status", "--lab", &lab.name]).status.success());
    // Which knows nothing of them.
    let capture = lab.capture(&["source", "-c", "2", "--", "icmp"]);
    ping(&lab);
    assert!(has(&capture.wait(), "2 packets captured"));
}

#[test]
fn a_second_interrupt_waits_for_no_engine() {
    let lab = lab_or_skip!(ARTICLE);
    let mut capture = lab.capture(&["source", "-w", "x.pcapng"]);
    let engine = process(&lab, "engine").to_string();
    let send = |signal: &str| assert!(Command::new("kill").args([signal, &engine]).status().unwrap().success());
    send("-STOP");
    until("its end", || {
        capture.signal("INT");
        capture.has_ended()
    });
    send("-CONT");
    ping(&lab);
}
