//! The slides' last question, what becomes available again when something has died: by an Elastic IP, by a secondary
//! address, by an interface, by a route. What lives on, and what doesn't.

use crate::lab::{Lab, lab_or_skip, said, until};

const ELASTIC_IP: &str = include_str!("../../configs/elastic-ip-failover/lab.yaml");

const INTERFACE: &str = include_str!("../../configs/eni-failover/lab.yaml");

const APPLIANCES: &str = include_str!("../../configs/appliance-failover/lab.yaml");
const MONITOR: &str = include_str!("../../configs/appliance-failover/monitor.sh");

/// Pings five times a second until `act` is done and answered; how many echoes were lost.
fn lost_meanwhile(lab: &Lab, from: &str, to: &str, act: impl FnOnce()) -> usize {
    let mut pings = lab.start(from, &["ping", "-i", "0.2", to]);
    pings.until("an answer", |line| line.contains("icmp_seq=2 "));
    act();
    let answered = pings.printed.len();
    pings.until_count(answered + 5, |_| true);
    let printed = pings.interrupt();
    let summary = printed.iter().find(|line| line.contains("packets transmitted")).expect("a summary");
    let number = |word: &str| {
        let before = summary.split(word).next().unwrap().trim();
        before.rsplit([' ', ',']).next().unwrap().parse::<usize>().unwrap()
    };
    number("packets transmitted") - number("received")
}

/// A connection that says a line every now and then, and says so when it ends.
const TALK: &str = "import socket, sys, time
s = socket.create_connection((sys.argv[1], 80), 5)
print('connected', flush=True)
for line in sys.stdin:
    try:
        s.sendall(b'GET / HTTP/1.0\\r\\n')
        time.sleep(0.2)
        s.sendall(b'X: y\\r\\n')
        print('said', flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
        break";

#[test]
fn fo_4_igw_9_by_an_elastic_ip_no_echo_is_lost_and_a_connection_is_reset() {
    let lab = lab_or_skip!(ELASTIC_IP);
    for server in ["active", "standby"] {
        lab.until_listening(server, 80);
    }
    let lost = lost_meanwhile(&lab, "client", "203.0.113.80", || {
        lab.ask(&["set", "eip", "service", "standby"]);
    });
    assert_eq!(lost, 0);
    assert_eq!(lab.exec("client", &["curl", "-sS", "-m", "5", "http://203.0.113.80/"]), "standby\n");
    let mut talk = lab.converse("client", &["python3", "-c", TALK, "203.0.113.80"]);
    talk.until("a connection", |line| line == "connected");
    lab.ask(&["set", "eip", "service", "active"]);
    talk.say("now");
    talk.until("its end", |line| line.contains("ConnectionResetError") || line.contains("BrokenPipeError"));
    assert_eq!(lab.exec("client", &["curl", "-sS", "-m", "5", "http://203.0.113.80/"]), "active\n");
}

#[test]
fn igw_9_the_dead_ones_address_serves_again_with_the_next_packet_after_the_move() {
    let lab = lab_or_skip!(ELASTIC_IP);
    lab.until_listening("standby", 80);
    lab.ask(&["stop", "active"]);
    let curl = lab.run("client", &["curl", "-sS", "-m", "1", "http://203.0.113.80/"]);
    assert_eq!(curl.status.code(), Some(28), "silence");
    lab.ask(&["set", "eip", "service", "standby"]);
    assert_eq!(lab.exec("client", &["curl", "-sS", "-m", "1", "http://203.0.113.80/"]), "standby\n");
    // The file says otherwise, and `plan` knows.
    assert!(said(&lab.minivpc(&["plan"])).contains("AssociateAddress"));
}

#[test]
fn fo_3_igw_7_by_a_secondary_address_that_moves_with_its_elastic_ip() {
    let text =
        ELASTIC_IP.replace("subnet: c\n    private_ip: 10.0.1.10", "subnet: a\n    private_ip: 10.0.0.11").replace(
            "    elastic_ip: service\n",
            "    secondary_private_ips: [10.0.0.100]\n    secondary_elastic_ips: [service]\n",
        );
    let lab = lab_or_skip!(&text);
    let holder = |instance: &str| lab.exec(instance, &["ip", "-br", "addr", "show", "eth0"]).contains("10.0.0.100");
    assert!(holder("active") && !holder("standby"));
    let lost = lost_meanwhile(&lab, "client", "203.0.113.80", || {
        lab.ask(&["set", "address", "10.0.0.100", "standby"]);
    });
    assert!(lost <= 1, "{lost} lost: the old holder gives it up just before the new one has it");
    assert!(!holder("active") && holder("standby"));
    until("the new holder's answer", || {
        said(&lab.run("client", &["curl", "-sS", "-m", "1", "http://203.0.113.80/"])) == "standby\n"
    });
}

#[test]
fn fo_2_by_an_interface_that_takes_its_address_its_elastic_ip_and_the_route_to_it_along() {
    let lab = lab_or_skip!(INTERFACE);
    for server in ["active", "standby"] {
        lab.until_listening(server, 80);
    }
    let holder = |instance: &str| lab.exec(instance, &["ip", "-br", "addr", "show"]).contains("10.0.0.100/24");
    let answer = || said(&lab.run("client", &["curl", "-sS", "-m", "1", "http://203.0.113.80/"]));
    assert!(holder("active") && !holder("standby"));
    assert_eq!(answer(), "active\n");
    let first_hop = || {
        let printed = said(&lab.run("inside", &["traceroute", "-n", "-m", "1", "-q", "1", "192.0.2.10"]));
        printed.split_whitespace().rev().nth(2).unwrap_or_default().to_owned()
    };
    assert_eq!(first_hop(), "10.0.0.10", "the route leads to who has it");
    let id = |text: &str| text.lines().find(|line| line.contains("MacAddress")).unwrap().to_owned();
    let mac = id(&lab.ask(&["show", "network-interface", "service"]));
    let lost = lost_meanwhile(&lab, "client", "203.0.113.80", || {
        lab.ask(&["set", "eni", "service", "standby"]);
    });
    assert!(lost <= 1, "{lost} lost");
    let mut talk = lab.converse("client", &["python3", "-c", TALK, "203.0.113.80"]);
    talk.until("a connection", |line| line == "connected");
    lab.ask(&["set", "eni", "service", "active"]);
    talk.say("now");
    talk.until("its end: the new instance knows nothing of it", |line| {
        line.contains("ConnectionResetError") || line.contains("BrokenPipeError")
    });
    assert_eq!(answer(), "active\n");
    lab.ask(&["set", "eni", "service", "standby"]);
    assert!(!holder("active") && holder("standby"));
    assert_eq!(answer(), "standby\n");
    assert_eq!(id(&lab.ask(&["show", "network-interface", "standby/eth1"])), mac, "it is the same interface");
    assert_eq!(lab.json(&["status"])["instances"][2]["interfaces"][1]["private_ip"], "10.0.0.100");
    assert_eq!(first_hop(), "10.0.0.11", "the route follows it");

    lab.ask(&["set", "eni", "service", "none"]);
    let curl = lab.run("client", &["curl", "-sS", "-m", "1", "http://203.0.113.80/"]);
    assert_eq!(curl.status.code(), Some(28), "silence");
    assert!(lab.ask(&["show", "route-table", "private"]).contains("blackhole"));
    lab.loses_all("inside", "192.0.2.10");
    assert!(lab.dropped("IGW_PRIVATE_IP_ASSOCIATION_FOR_INGRESS") > 0 && lab.dropped("BAD_STATE_ROUTE") > 0);
    assert_eq!(lab.json(&["status"])["network_interfaces"][0]["status"], "available");
    assert!(lab.apply(INTERFACE).contains("AttachNetworkInterface"));
    assert_eq!(answer(), "active\n");
}

#[test]
fn fo_2_the_dead_ones_interface_serves_again_at_another_instance() {
    let lab = lab_or_skip!(INTERFACE);
    lab.until_listening("standby", 80);
    lab.ask(&["stop", "active"]);
    let answer = || lab.run("client", &["curl", "-sS", "-m", "1", "http://203.0.113.80/"]);
    assert_eq!(answer().status.code(), Some(28), "silence");
    lab.ask(&["set", "eni", "service", "standby"]);
    assert_eq!(said(&answer()), "standby\n");
    lab.ask(&["start", "active"]);
    assert!(!lab.exec("active", &["ip", "-br", "addr"]).contains("eth1"), "it comes back without it");
}

#[test]
fn fo_1_r_29_by_routes_that_a_monitor_in_a_guest_replaces_when_the_active_appliance_dies() {
    crate::lab::can_run_or_skip!();
    let lab = Lab::write(APPLIANCES);
    std::fs::write(lab.file.with_file_name("monitor.sh"), MONITOR).unwrap();
    let up = lab.minivpc(&["up"]);
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    let hop = || {
        let printed = said(&lab.run("client", &["traceroute", "-n", "-q", "1", "-w", "1", "-m", "3", "203.0.113.20"]));
        let hop = printed.lines().nth(2).and_then(|line| line.split_whitespace().nth(1));
        hop.unwrap_or_default().to_owned()
    };
    assert_eq!(hop(), "203.0.113.11");
    lab.ask(&["stop", "appliance-a"]);
    until("the way through the other one", || hop() == "203.0.113.12");
    lab.exec("client", &["ping", "-c", "1", "-W", "5", "203.0.113.20"]);
    assert!(lab.ask(&["logs", "monitor"]).contains("appliance-a is silent: through appliance-c from now on"));
    // Others can't: they don't even know that there is a lab.
    assert_eq!(lab.run("application", &["minivpc", "labs"]).status.code(), Some(127));
}
