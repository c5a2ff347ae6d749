//! AWS's resolver of a VPC: what it knows, and how it says so (DNS-1 to DNS-7).
//!
//! It knows instances' names and addresses, if the VPC's attributes say so, and the hosts of the lab's internet; it asks
//! nobody. Names of instances are made of addresses, so whether there is such an instance doesn't matter (DNS-4).

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::snapshot::{Snapshot, Vpc};

/// Seconds.
const TTL: u32 = 60;
/// Longest answer over UDP to who says that he takes so much, bytes; who says nothing takes 512 (RFC 1035 §4.2.1).
const LONGEST: u16 = 4096;
const SHORTEST: u16 = 512;

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// What the resolver knows of a name.
enum Known {
    /// A record.
    Is(RData),
    /// There is such a name, but nothing of this type.
    NoData,
    /// There is none.
    Nothing,
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
    answer.add_queries(question.queries.iter().cloned());
    answer.metadata.response_code = match question.queries.as_slice() {
        _ if question.metadata.op_code != OpCode::Query => ResponseCode::NotImp,
        [asked] if asked.query_class == DNSClass::IN => {
            let asker = Asker { snapshot, number: vpc, vpc: snapshot.vpc(vpc) };
            match asker.look_up(&asked.name, asked.query_type) {
                Known::Is(data) => {
                    answer.add_answer(Record::from_rdata(asked.name.clone(), TTL, data));
                    ResponseCode::NoError
                }
                Known::NoData => asker.say_who_knows(&asked.name, &mut answer, ResponseCode::NoError),
                Known::Nothing => asker.say_who_knows(&asked.name, &mut answer, ResponseCode::NXDomain),
            }
        }
        [_] => ResponseCode::Refused,
        _ => ResponseCode::FormErr,
    };
    let most = match (transport, &question.edns) {
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, Some(edns)) => edns.max_payload().clamp(SHORTEST, LONGEST),
        (Transport::Udp, None) => SHORTEST,
    };
    if question.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(LONGEST);
        answer.set_edns(edns);
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
    fn look_up(&self, name: &Name, wanted: RecordType) -> Known {
        let name = name.to_lowercase().to_ascii();
        let name = name.trim_end_matches('.');
        if let Some(reversed) = name.strip_suffix(".in-addr.arpa") {
            let found = address_of_reversed(reversed).and_then(|address| self.name_of(address));
            let found = found.and_then(|name| Name::from_ascii(format!("{name}.")).ok());
            return known(found.map(|name| RData::PTR(PTR(name))), wanted, RecordType::PTR);
        }
        let address = self.private_name(name).or_else(|| self.public_name(name)).or_else(|| self.host(name));
        known(address.map(|address| RData::A(A(address))), wanted, RecordType::A)
    }

    /// DNS-3, DNS-4.
    fn private_name(&self, name: &str) -> Option<Ipv4Addr> {
        let address = address_in(name.strip_suffix(&self.vpc.domain)?.strip_suffix('.')?.strip_prefix("ip-")?)?;
        self.is_named(address).then_some(address)
    }

    fn is_named(&self, address: Ipv4Addr) -> bool {
        self.vpc.dns_hostnames && (address.is_private() || self.vpc.cidr.contains(&address))
    }

    /// DNS-6: inside its VPC it is another address than outside.
    fn public_name(&self, name: &str) -> Option<Ipv4Addr> {
        let address = address_in(name.strip_suffix(&self.vpc.public_domain)?.strip_suffix('.')?.strip_prefix("ec2-")?)?;
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
        let dashed = address.to_string().replace('.', "-");
        if self.is_named(address) {
            return Some(format!("ip-{dashed}.{}", self.vpc.domain));
        }
        if self.public_name(&format!("ec2-{dashed}.{}", self.vpc.public_domain)).is_some() {
            return Some(format!("ec2-{dashed}.{}", self.vpc.public_domain));
        }
        let host = self.snapshot.host_at(None, address.into())?;
        Some(self.snapshot.host(host).name.clone())
    }

    /// Who asks again for what there isn't is told for how long he needn't (RFC 2308).
    fn say_who_knows(&self, name: &Name, answer: &mut Message, code: ResponseCode) -> ResponseCode {
        let zone = Name::from_ascii(format!("{}.", self.vpc.domain)).unwrap_or_default();
        if zone.zone_of(name) {
            let [server, mailbox] = [format!("ns0.{zone}"), "hostmaster.amazon.com.".to_owned()]
                .map(|name| Name::from_ascii(name).unwrap_or_default());
            let soa = SOA::new(server, mailbox, 1, 3600, 3600, 3600, TTL);
            answer.add_authority(Record::from_rdata(zone, TTL, RData::SOA(soa)));
        }
        code
    }
}

fn known(found: Option<RData>, wanted: RecordType, has: RecordType) -> Known {
    match found {
        None => Known::Nothing,
        Some(data) if wanted == has || wanted == RecordType::ANY => Known::Is(data),
        Some(_) => Known::NoData,
    }
}

/// `10-0-1-55`.
fn address_in(dashed: &str) -> Option<Ipv4Addr> {
    let address: Ipv4Addr = dashed.replace('-', ".").parse().ok()?;
    (address.to_string().replace('.', "-") == dashed).then_some(address)
}

/// `55.1.0.10`, of a reverse name.
fn address_of_reversed(reversed: &str) -> Option<Ipv4Addr> {
    let address: Ipv4Addr = reversed.parse().ok()?;
    let [a, b, c, d] = address.octets();
    Some(Ipv4Addr::new(d, c, b, a))
}
