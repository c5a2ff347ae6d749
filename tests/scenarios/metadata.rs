//! What instances read of themselves, with real clients.

use crate::crashes::kill_engine;
use crate::lab::{Lab, lab_or_skip, until};

/// A group without rules, and a list that denies everything; a container is routed by its instance, and hidden behind it.
const LAB: &str = r#"
lab: x
region: ap-northeast-1
vpcs:
  v:
    cidr: 10.0.0.0/16
    dns_hostnames: true
    internet_gateway: { name: igw }
    subnets:
      a: { cidr: 10.0.0.0/24, az: c, network_acl: closed }
    network_acls: { closed: {} }
    security_groups: { closed: { egress: [] } }
elastic_ips: { web: { address: 203.0.113.10 } }
instances:
  one:
    subnet: a
    private_ip: 10.0.0.10
    security_groups: [closed]
    elastic_ip: web
    metadata_options: { instance_metadata_tags: enabled }
    tags: { team: blue }
    user_data: |
      #!/bin/sh
      echo "for $(hostname -s), with $# arguments, in $PWD"
      exit 3
    run: [ echo at each start ]
  two: { subnet: a, private_ip: 10.0.0.11, security_groups: [closed], ami: al2023 }
"#;

const BASE: &str = "http://169.254.169.254";
const TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds: ";

/// Status and body of what an instance asks.
fn ask(lab: &Lab, instance: &str, arguments: &[&str], path: &str) -> (u16, String) {
    let url = format!("{BASE}{path}");
    let curl = ["curl", "-sS", "-m", "5", "-w", "\n%{http_code}"];
    let said = lab.exec(instance, &[&curl, arguments, &[&*url]].concat());
    let (body, status) = said.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

fn read(lab: &Lab, instance: &str, path: &str) -> String {
    let (status, body) = ask(lab, instance, &[], &format!("/latest/{path}"));
    assert_eq!(status, 200, "{path}");
    body
}

fn token(lab: &Lab, instance: &str, seconds: u32) -> String {
    let (status, token) = ask(lab, instance, &["-X", "PUT", "-H", &format!("{TTL}{seconds}")], "/latest/api/token");
    assert_eq!(status, 200);
    format!("X-aws-ec2-metadata-token: {token}")
}

#[test]
fn imds_1_sg_25_nacl_9_an_instance_reads_who_it_is_and_nothing_else_works() {
    let lab = lab_or_skip!(LAB);
    let name = "ip-10-0-0-10.ap-northeast-1.compute.internal";
    let id = lab.json(&["show", "network-interface", "one/eth0"])["NetworkInterfaces"][0]["Attachment"]["InstanceId"]
        .as_str()
        .unwrap()
        .to_owned();
    let public = "ec2-203-0-113-10.ap-northeast-1.compute.amazonaws.com";
    for (path, value) in [
        ("instance-id", &*id),
        ("hostname", name),
        ("local-hostname", name),
        ("local-ipv4", "10.0.0.10"),
        ("public-ipv4", "203.0.113.10"),
        ("public-hostname", public),
        ("placement/availability-zone", "ap-northeast-1c"),
        ("placement/region", "ap-northeast-1"),
        ("security-groups", "closed"),
        ("tags/instance", "Name\nteam"),
        ("tags/instance/team", "blue"),
    ] {
        assert_eq!(read(&lab, "one", &format!("meta-data/{path}")), value, "{path}");
    }
    let mac = lab.exec("one", &["cat", "/sys/class/net/eth0/address"]).trim().to_owned();
    assert_eq!(read(&lab, "one", "meta-data/mac"), mac);
    let interface = format!("meta-data/network/interfaces/macs/{mac}");
    assert_eq!(read(&lab, "one", "meta-data/network/interfaces/macs/"), format!("{mac}/"));
    assert_eq!(read(&lab, "one", &format!("{interface}/subnet-ipv4-cidr-block")), "10.0.0.0/24");
    assert_eq!(read(&lab, "one", &format!("{interface}/ipv4-associations/203.0.113.10")), "10.0.0.10");
    assert_eq!(ask(&lab, "one", &[], "/").1.lines().last(), Some("latest"));
    assert_eq!(ask(&lab, "one", &[], "/2021-07-15/meta-data/local-ipv4").1, "10.0.0.10");
    for missing in ["/latest/meta-data/iam/security-credentials/", "/latest/meta-data/nothing", "/1999-01-01/"] {
        assert_eq!(ask(&lab, "one", &[], missing).0, 404, "{missing}");
    }
    let head = lab.exec("one", &["curl", "-sSI", &format!("{BASE}/latest/meta-data/instance-id")]);
    for line in ["Content-Type: text/plain", "Accept-Ranges: none", "Server: EC2ws", "Connection: close"] {
        assert!(head.lines().any(|other| other.trim() == line), "{line} in {head}");
    }
    let known = lab.exec("one", &["ec2metadata"]);
    for line in [format!("instance-id: {id}"), format!("mac: {mac}"), "region: ap-northeast-1".to_owned()] {
        assert!(known.lines().any(|other| other == line), "{line} in {known}");
    }
    // An address that moves is another instance's at once.
    lab.ask(&["set", "eip", "web", "two"]);
    assert_eq!(ask(&lab, "one", &[], "/latest/meta-data/public-ipv4").0, 404);
    lab.loses_all("one", "10.0.0.11");
    lab.loses_all("one", "169.254.169.254");
    lab.drops_only_for("ENI_SG_RULES_MISMATCH");
}

#[test]
fn imds_2_tokens_are_given_and_asked_for_as_documented() {
    let lab = lab_or_skip!(LAB);
    let put = |arguments: &[&str], path| ask(&lab, "one", &[&["-X", "PUT"], arguments].concat(), path).0;
    let hour = format!("{TTL}3600");
    assert_eq!(put(&[], "/latest/api/token"), 400, "without a lifetime");
    for seconds in ["0", "21601", "-1", "x"] {
        assert_eq!(put(&["-H", &format!("{TTL}{seconds}")], "/latest/api/token"), 400, "{seconds}");
    }
    assert_eq!(put(&["-H", &hour, "-H", "X-Forwarded-For: 10.0.0.9"], "/latest/api/token"), 403);
    assert_eq!(put(&["-H", &hour], "/2021-07-15/api/token"), 403);
    assert_eq!(ask(&lab, "one", &[], "/latest/api/token").0, 405);
    assert_eq!(ask(&lab, "one", &["-d", "x"], "/latest/meta-data/instance-id").0, 405);
    let id = "/latest/meta-data/instance-id";
    let with = |instance: &str, token: &str| ask(&lab, instance, &["-H", token], id).0;
    let given = token(&lab, "one", 3600);
    assert_eq!((with("one", &given), with("two", &given)), (200, 401), "a token is its instance's");
    assert_eq!(with("one", "X-aws-ec2-metadata-token: x"), 401, "also where none is needed");
    let required = token(&lab, "two", 3600);
    assert_eq!((ask(&lab, "two", &[], id).0, with("two", &required)), (401, 200), "IMDS-3: of this image it is needed");
    kill_engine(&lab);
    assert_eq!(with("one", &given), 200, "another engine knows it, too");
    let short = token(&lab, "one", 1);
    until("it has expired", || with("one", &short) == 401);
    lab.apply(&LAB.replace("instance_metadata_tags: enabled", "http_tokens: required"));
    assert_eq!((ask(&lab, "one", &[], id).0, with("one", &given)), (401, 200));
    assert_eq!(ask(&lab, "one", &["-H", &given], "/latest/meta-data/tags/").0, 404);
    lab.apply(&LAB.replace("instance_metadata_tags: enabled", "http_endpoint: disabled"));
    assert_eq!((with("one", &given), put(&["-H", &hour], "/latest/api/token")), (403, 403));
}

/// What a container in the instance gets of a token and, without one, of the instance's id.
const CONTAINER: &str = r#"
unshare -Urn sleep 60 & container=$!
trap 'kill $container' EXIT
until [ "$(readlink /proc/$container/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
ip link add veth0 type veth peer name inside netns $container
ip addr add 172.17.0.1/24 dev veth0
ip link set veth0 up
enter="nsenter -t $container -U -n --preserve-credentials"
$enter ip addr add 172.17.0.2/24 dev inside
$enter ip link set inside up
$enter ip route add default via 172.17.0.1
sysctl -qw net.ipv4.ip_forward=1
nft 'table ip hide { chain out { type nat hook postrouting priority 100; oifname eth0 masquerade; }; }'
curl="$enter curl -s -o /dev/null -w %{http_code}\n"
$curl -m 5 http://169.254.169.254/latest/meta-data/instance-id
$curl -m $1 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token
true
"#;

#[test]
fn imds_3_imds_4_a_token_goes_no_further_than_its_hop_limit() {
    let lab = lab_or_skip!(LAB);
    let container = |patience| lab.exec("one", &["sh", "-c", CONTAINER, "sh", patience]);
    assert_eq!(container("2"), "200\n000\n", "the answer with the token ends in the instance, others don't");
    drop(lab);
    let lab = lab_or_skip!(&LAB.replace("instance_metadata_tags: enabled", "http_put_response_hop_limit: 2"));
    assert_eq!(lab.exec("one", &["sh", "-c", CONTAINER, "sh", "5"]), "200\n200\n");
}

#[test]
fn user_data_are_run_at_the_first_start_and_read_at_any() {
    let lab = lab_or_skip!(LAB);
    let prints = |wanted: &str| until(wanted, || lab.ask(&["logs", "one"]) == wanted);
    let script = "$ user data\nfor ip-10-0-0-10, with 0 arguments, in /\n(exit status 3)\n";
    let commands = "$ echo at each start\nat each start\n";
    prints(&format!("{script}{commands}"));
    assert_eq!(read(&lab, "one", ""), "dynamic\nmeta-data\nuser-data");
    assert_eq!(read(&lab, "one", "user-data").lines().next(), Some("#!/bin/sh"));
    lab.ask(&["restart", "one"]);
    prints(commands);
    lab.ask(&["reset"]);
    prints(&format!("{script}{commands}"));
    lab.ask(&["stop", "one"]);
    lab.ask(&["start", "one"]);
    prints(commands);
    let plan = lab.apply(&LAB.replace("exit 3", "exit 4"));
    assert!(plan.contains("made anew: other user data"), "{plan}");
    prints(&format!("{}{commands}", script.replace('3', "4")));
    // AWS changes those of stopped instances, whose first start is over.
    lab.ask(&["stop", "one"]);
    let plan = lab.apply(&LAB.replace("exit 3", "exit 5"));
    assert!(plan.contains("ModifyInstanceAttribute") && plan.contains("1 change"), "{plan}");
    assert_eq!(lab.json(&["status"])["instances"][0]["state"], "stopped");
    lab.ask(&["start", "one"]);
    prints(commands);
    assert!(read(&lab, "one", "user-data").contains("exit 5"));
}

#[test]
fn tags_change_together_with_whether_they_are_told() {
    let with = |more: &str| LAB.replacen("private_ip: 10.0.0.11", &format!("private_ip: 10.0.0.11{more}"), 1);
    let lab = lab_or_skip!(&with(", tags: { 'cost center': a }, metadata_options: { http_tokens: optional }"));
    let told = "/latest/meta-data/tags/instance/cost-center";
    assert_eq!(ask(&lab, "two", &[], told).0, 404);
    let options = "metadata_options: { http_tokens: optional, instance_metadata_tags: enabled }";
    let said = lab.apply(&with(&format!(", tags: {{ cost-center: a }}, {options}")));
    assert!(said.contains("ModifyInstanceMetadataOptions"), "{said}");
    assert_eq!(ask(&lab, "two", &[], told), (200, "a".to_owned()));
}

#[test]
fn an_identity_is_signed_by_the_lab() {
    let lab = lab_or_skip!(LAB);
    let document: serde_json::Value =
        serde_json::from_str(&read(&lab, "one", "dynamic/instance-identity/document")).unwrap();
    assert_eq!((&document["privateIp"], &document["region"]), (&"10.0.0.10".into(), &"ap-northeast-1".into()));
    // The authority is the last that the guest trusts.
    let check = r#"
cd /tmp
curl -sS http://169.254.169.254/latest/dynamic/instance-identity/document >document
curl -sS http://169.254.169.254/latest/dynamic/instance-identity/signature | base64 -d >signature
awk '/BEGIN CERT/ { one = "" } { one = one $0 "\n" } END { printf "%s", one }' /etc/ssl/certs/ca-certificates.crt >ca
openssl x509 -in ca -noout -pubkey >key
openssl dgst -sha256 -verify key -signature signature document
"#;
    assert_eq!(lab.exec("one", &["sh", "-c", check]), "Verified OK\n");
    let changed = format!("{check}sed -i s/10.0.0.10/10.0.0.11/ document\n{}", check.lines().last().unwrap());
    assert!(!lab.run("one", &["sh", "-c", &changed]).status.success());
}

#[test]
fn imds_5_who_holds_connections_or_talks_nonsense_keeps_nobody_else_up() {
    let lab = lab_or_skip!(LAB);
    let count = r#"
import select, socket
held = [socket.create_connection(("169.254.169.254", 80), 5) for _ in range(40)]
closed = set()
while len(closed) < 8:
    ready = select.select([s for s in held if s not in closed], [], [], 9)[0]
    assert ready, f"only {len(closed)} were closed"
    closed |= {s for s in ready if s.recv(1) == b""}
assert not select.select([s for s in held if s not in closed], [], [], 0)[0], "more were closed"
"#;
    lab.exec("one", &["python3", "-c", count]);
    let hold = r#"
import os, socket
held = []
for port in [80, 53] * 100:
    s = socket.create_connection(("169.254.169.254" if port == 80 else "169.254.169.253", port), 5)
    s.send([b"GET /latest/", b"\xff\xff", os.urandom(64), b"\r\n\r\n", b""][len(held) % 5])
    held.append(s)
print("held", flush=True)
import time
time.sleep(60)
"#;
    let mut holder = lab.start("one", &["python3", "-c", hold]);
    holder.until("it holds them", |line| line == "held");
    let given = token(&lab, "two", 60);
    assert_eq!(ask(&lab, "two", &["-H", &given], "/latest/meta-data/local-ipv4").1, "10.0.0.11");
    assert_eq!(lab.exec("two", &["dig", "+tcp", "+short", "-x", "10.0.0.11"]).lines().count(), 1);
    drop(holder);
    until("its own are served again", || {
        lab.run("one", &["curl", "-sSf", "-m", "1", &format!("{BASE}/latest/meta-data/mac")]).status.success()
    });
}
