//! AWS's resolver of a VPC: what it knows, and how it says so (DNS-1 to DNS-7).
//!
//! It knows instances' names and addresses and private hosted zones, if the VPC's attributes say so, and the hosts of the
//! lab's internet; it asks nobody. Names of instances are made of addresses, so whether there is such an instance doesn't
//! matter (DNS-4).

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use minivpc_model::{host_name, is_in_domain, public_host_name};

use super::METADATA;
use super::hosted_zone::{Known, absolute, labels};
use crate::snapshot::{Snapshot, Vpc};

/// Seconds.
const TTL: u32 = 60;
/// Longest answer over UDP to who says that he takes so much, bytes; who says nothing takes 512 (RFC 1035 §4.2.1).
const LONGEST: u16 = 4096;
const SHORTEST: u16 = 512;
/// Shortest record, bytes: its name stands before it in the message, and its data are two bytes or more.
const SHORTEST_RECORD: usize = 14;
/// Aliases on the way to an answer; who has more of them has a loop.
const ALIASES: usize = 16;

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// The answer to a question of somebody in a VPC, a number; none to what is no question.
pub fn answer(snapshot: &Snapshot, vpc: u16, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    if question.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.add_queries(question.queries.first().cloned());
    answer.metadata.response_code = match question.queries.as_slice() {
        // RFC 6891 §6.1.3.
        _ if question.edns.as_ref().is_some_and(|edns| edns.version() > 0) => ResponseCode::BADVERS,
        _ if question.metadata.op_code != OpCode::Query => ResponseCode::NotImp,
        // Zones are handed out to nobody.
        [asked] if matches!(asked.query_type, RecordType::AXFR | RecordType::IXFR) => ResponseCode::Refused,
        [asked] if asked.query_class == DNSClass::IN => {
            let asker = Asker { snapshot, number: vpc, vpc: snapshot.vpc(vpc) };
            asker.resolve(&asked.name, asked.query_type, &mut answer)
        }
        [_] => ResponseCode::Refused,
        _ => ResponseCode::FormErr,
    };
    let most = match (transport, &question.edns) {
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, Some(edns)) => edns.max_payload().clamp(SHORTEST, LONGEST),
        (Transport::Udp, None) => SHORTEST,
    };
    if let Some(asked) = &question.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(LONGEST).set_dnssec_ok(asked.flags().dnssec_ok);
        answer.set_edns(edns);
    }
    // What can't fit needn't be written to see it.
    if answer.answers.len() * SHORTEST_RECORD > usize::from(most) {
        return answer.truncate().to_vec().ok();
    }
    let bytes = answer.to_vec().ok()?;
    if bytes.len() <= usize::from(most) { Some(bytes) } else { answer.truncate().to_vec().ok() }
}

/// Who asks.
struct Asker<'a> {
    snapshot: &'a Snapshot,
    number: u16,
    vpc: &'a Vpc,
}

impl Asker<'_> {
    /// Follows aliases, wherever they lead.
    fn resolve(&self, asked: &Name, wanted: RecordType, answer: &mut Message) -> ResponseCode {
        let mut name = asked.clone();
        for _ in 0..=ALIASES {
            let (code, authority) = match self.look_up(&name, wanted) {
                Known::Alias(alias, target) => {
                    answer.add_answer(alias);
                    name = target;
                    continue;
                }
                Known::Is(mut records) => {
                    // Who asks again gets them in another order, and so shares himself out among them.
                    let first = usize::from(answer.metadata.id) % records.len().max(1);
                    records.rotate_left(first);
                    answer.add_answers(records);
                    return ResponseCode::NoError;
                }
                Known::NoData(soa) => (ResponseCode::NoError, soa),
                Known::Nothing(soa) => (ResponseCode::NXDomain, soa),
            };
            answer.add_authorities(authority);
            return code;
        }
        answer.answers.clear();
        ResponseCode::ServFail
    }

    /// A hosted zone knows of all names in it whether there are any; AWS's own names are in zones, too, and a more specific
    /// one of these counts.
    fn look_up(&self, asked: &Name, wanted: RecordType) -> Known {
        let name = &as_text(asked);
        let own = self.own_zone(name);
        let hosted = self.vpc.hosted_zones.iter().find(|zone| zone.has(name));
        if let Some(zone) = hosted.filter(|zone| zone.labels() >= own.map_or(0, labels)) {
            return zone.look_up(asked, name, wanted);
        }
        let soa = own.and_then(start_of_authority);
        let found = match name.strip_suffix(".in-addr.arpa") {
            Some(reversed) => {
                let found = address_of_reversed(reversed).and_then(|address| self.name_of(address));
                found.and_then(|name| absolute(&name)).map(|name| RData::PTR(PTR(name)))
            }
            None => {
                let own = self.private_name(name).or_else(|| self.metadata_name(name));
                let address = own.or_else(|| self.public_name(name));
                address.or_else(|| self.host(name)).map(|address| RData::A(A(address)))
            }
        };
        match (found, soa) {
            (Some(data), _) if wanted == data.record_type() || wanted == RecordType::ANY => {
                Known::Is(vec![Record::from_rdata(asked.clone(), TTL, data)])
            }
            (Some(_), soa) => Known::NoData(soa),
            (None, Some(soa)) if wanted == RecordType::SOA && own == Some(name) => Known::Is(vec![soa]),
            (None, soa) if self.is_above_others(name, own) => Known::NoData(soa),
            (None, soa) => Known::Nothing(soa),
        }
    }

    /// The zone of AWS's own that a name is in, if such names are on: instances' private names and public ones, and
    /// private addresses (RFC 1918).
    fn own_zone<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let [private, public] = [&self.vpc.domain, &self.vpc.public_domain].map(String::as_str);
        let zone = [private, public].into_iter().find(|zone| is_in_domain(name, zone));
        let reverse = || {
            let mut bytes = name.strip_suffix(".in-addr.arpa")?.rsplit('.').map(|byte| byte.parse().unwrap_or(0_u8));
            match (bytes.next(), bytes.next()) {
                (Some(10), _) => Some(last_labels(name, 3)),
                (Some(172), Some(16..32)) | (Some(192), Some(168)) => Some(last_labels(name, 4)),
                _ => None,
            }
        };
        zone.or_else(reverse).filter(|_| self.vpc.dns_hostnames)
    }

    /// Is something below this name, which is in a zone of AWS's `own` or in none (RFC 8020)?
    fn is_above_others(&self, name: &str, own: Option<&str>) -> bool {
        let is_above = |below: &str| name.is_empty() || is_in_domain(below, name);
        let mut zones = [self.vpc.domain.as_str(), &self.vpc.public_domain].into_iter().chain(PRIVATE_REVERSE);
        let some_bytes = |reversed: &str| reversed.split('.').all(|byte| byte.parse::<u8>().is_ok());
        let reversed = own.and_then(|_| name.strip_suffix(".in-addr.arpa"));
        let mut hosts = self.snapshot.hosts.iter().filter(|host| host.site.is_none());
        let above_own = self.vpc.dns_hostnames && zones.any(is_above);
        let above_addresses = reversed.is_some_and(|reversed| reversed.split('.').count() < 4 && some_bytes(reversed));
        above_own
            || above_addresses
            || hosts.any(|host| {
                let reverse = if let IpAddr::V4(address) = host.ip { reverse_name(address) } else { String::new() };
                is_above(&host.name.to_ascii_lowercase()) || is_above(&reverse)
            })
    }

    /// DNS-3, DNS-4.
    fn private_name(&self, name: &str) -> Option<Ipv4Addr> {
        let address = address_in(name.strip_suffix(&self.vpc.domain)?.strip_suffix('.')?, "ip-", host_name)?;
        self.is_named(address).then_some(address)
    }

    /// Instances ask `instance-data` for their metadata, which their domain completes.
    fn metadata_name(&self, name: &str) -> Option<Ipv4Addr> {
        let named = name.strip_suffix(&self.vpc.domain).is_some_and(|name| name == "instance-data.");
        (named && self.vpc.dns_hostnames).then_some(METADATA)
    }

    fn is_named(&self, address: Ipv4Addr) -> bool {
        self.vpc.dns_hostnames && (address.is_private() || self.vpc.cidr.contains(&address))
    }

    /// DNS-6: inside its VPC it is another address than outside.
    fn public_name(&self, name: &str) -> Option<Ipv4Addr> {
        let host = name.strip_suffix(&self.vpc.public_domain)?.strip_suffix('.')?;
        let address = address_in(host, "ec2-", public_host_name)?;
        let public = self.snapshot.public(address.into())?;
        let eni = self.snapshot.eni(public.eni);
        let home = self.snapshot.subnet(eni.subnet).vpc;
        match public.private {
            _ if !self.snapshot.vpc(home).dns_hostnames => None,
            IpAddr::V4(private) if home == self.number => Some(private),
            _ => Some(address),
        }
    }

    /// Of the lab's internet.
    fn host(&self, name: &str) -> Option<Ipv4Addr> {
        let is_it = |host: &&crate::Host| host.site.is_none() && host.name.eq_ignore_ascii_case(name);
        match self.snapshot.hosts.iter().find(is_it)?.ip {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    /// DNS-7.
    fn name_of(&self, address: Ipv4Addr) -> Option<String> {
        if address == METADATA && self.vpc.dns_hostnames {
            return Some(format!("instance-data.{}", self.vpc.domain));
        }
        if self.is_named(address) {
            return Some(format!("{}.{}", host_name(address), self.vpc.domain));
        }
        let public = format!("{}.{}", public_host_name(address), self.vpc.public_domain);
        if self.public_name(&public).is_some() {
            return Some(public);
        }
        let host = self.snapshot.host_at(None, address.into())?;
        Some(self.snapshot.host(host).name.clone())
    }
}

/// Who knows a zone of AWS's own, and for how long that there is nothing holds.
fn start_of_authority(zone: &str) -> Option<Record> {
    let [server, mailbox] = [absolute(&format!("ns0.{zone}"))?, absolute("hostmaster.amazon.com")?];
    let soa = SOA::new(server, mailbox, 1, 3600, 3600, 3600, TTL);
    Some(Record::from_rdata(absolute(zone)?, TTL, RData::SOA(soa)))
}

/// A name as zones hold it. What in a label looks like the end of one isn't, and nobody's names have it.
fn as_text(name: &Name) -> String {
    let in_label = |byte: &u8| if *byte == b'.' { '\0' } else { char::from(byte.to_ascii_lowercase()) };
    let labels = name.iter().map(|label| label.iter().map(in_label).collect::<String>());
    labels.collect::<Vec<_>>().join(".")
}

/// The end of a name that has at least so many labels.
fn last_labels(name: &str, count: usize) -> &str {
    name.rmatch_indices('.').nth(count - 1).map_or(name, |(dot, _)| &name[dot + 1..])
}

/// The address that is so `named`: `ip-10-0-1-55`.
fn address_in(host: &str, prefix: &str, named: fn(Ipv4Addr) -> String) -> Option<Ipv4Addr> {
    let address = host.strip_prefix(prefix)?.replace('-', ".").parse().ok()?;
    (named(address) == host).then_some(address)
}

/// The reverse names of private addresses (RFC 1918), one for each part of the tree, and of the metadata service's.
const PRIVATE_REVERSE: [&str; 4] =
    ["10.in-addr.arpa", "16.172.in-addr.arpa", "168.192.in-addr.arpa", "254.169.254.169.in-addr.arpa"];

fn reverse_name(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("{d}.{c}.{b}.{a}.in-addr.arpa")
}

/// `55.1.0.10`, of a reverse name.
fn address_of_reversed(reversed: &str) -> Option<Ipv4Addr> {
    let address: Ipv4Addr = reversed.parse().ok()?;
    let [a, b, c, d] = address.octets();
    Some(Ipv4Addr::new(d, c, b, a))
}
