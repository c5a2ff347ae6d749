//! Private hosted zones, as Route 53 has them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::str::FromStr;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData};

use crate::id::*;
use crate::refusal::{ErrorCode, Refusal};
use crate::resource::*;
use crate::world::World;

/// Record sets of a zone, by Route 53's quota.
const SETS_PER_ZONE: usize = 10_000;
/// Values of a record set, by Route 53's quota.
const VALUES_PER_SET: usize = 400;
/// Longest piece of a text, bytes (RFC 1035 §3.3).
const LONGEST_STRING: usize = 255;
/// For how long others may keep who serves a zone, seconds, and who that is: of private zones nobody who can be asked.
const NS_TTL: u32 = 172_800;
const SERVERS: [&str; 4] =
    ["ns-1536.awsdns-00.co.uk.", "ns-0.awsdns-00.com.", "ns-1024.awsdns-00.org.", "ns-512.awsdns-00.net."];
/// For how long they may keep that there is nothing, seconds, and who says so.
const SOA_TTL: u32 = 900;
const START_OF_AUTHORITY: &str = "ns-1536.awsdns-00.co.uk. awsdns-hostmaster.amazon.com. 1 7200 900 1209600 86400";
/// What names are made of, in words.
const LABELS: &str = "1 to 63 letters, digits, '-' and '_' between two dots, and 253 characters in all";
/// Of a record set's values together, by Route 53's quota of a request.
const CHARACTERS_PER_SET: usize = 32_000;
/// Of one text, by Route 53's quota.
const LONGEST_TEXT: usize = 4000;
/// Longest a record may be kept, seconds (RFC 2181 §8).
const LONGEST_TTL: u32 = i32::MAX as u32;

/// Parameters of [`Op::CreateHostedZone`](super::Op::CreateHostedZone).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateHostedZone {
    /// Its id.
    pub id: HostedZoneId,
    /// Its domain, as [`domain_name`] makes it.
    pub name: String,
    /// The first VPC whose resolver knows it.
    pub vpc: VpcId,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

/// A change of a zone's record sets; names are as [`domain_name`] makes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordChange {
    /// One more.
    Create(ResourceRecordSet),
    /// One in place of what there may be.
    Upsert(ResourceRecordSet),
    /// One less.
    Delete,
}

/// A domain's name as zones hold it: in lower case, without the dot at its end. None if it can't be one.
#[must_use]
pub fn domain_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(allowed);
    (name.len() <= 253 && name.split('.').all(label)).then_some(name)
}

/// Is a name a domain's own, or below it? Both are as zones hold them.
#[must_use]
pub fn is_in_domain(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

impl World {
    pub(super) fn create_hosted_zone(&mut self, new: CreateHostedZone) -> Result<(), Refusal> {
        let CreateHostedZone { id, name, vpc, tags, origin } = new;
        self.unused(self.hosted_zones.contains_key(&id), id)?;
        if domain_name(&name).as_ref() != Some(&name) {
            let message = format!("'{name}' isn't a domain name: {LABELS}");
            return Err(Refusal::new(ErrorCode::InvalidDomainName, "Name", message));
        }
        let set = |ttl, values: &[&str]| {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            ResourceRecordSet { ttl, values, origin }
        };
        let required =
            [(RecordType::Ns, set(NS_TTL, &SERVERS)), (RecordType::Soa, set(SOA_TTL, &[START_OF_AUTHORITY]))];
        let (vpcs, record_sets) = (BTreeSet::from([vpc]), BTreeMap::from([(name.clone(), required.into())]));
        let zone = HostedZone { id, name, vpcs, record_sets, tags, origin };
        self.check_association(&zone, vpc)?;
        self.hosted_zones.insert(id, zone);
        Ok(())
    }

    /// A resolver can't know two zones of one name.
    fn check_association(&self, zone: &HostedZone, vpc: VpcId) -> Result<(), Refusal> {
        let region = &self.vpc(vpc)?.region;
        let rivals = |other: &&HostedZone| other.name == zone.name && other.id != zone.id && other.vpcs.contains(&vpc);
        let Some(rival) = self.hosted_zones.values().find(rivals) else { return Ok(()) };
        let message = format!(
            "The VPC {vpc} in region {region} has already been associated with the hosted zone {} with the same \
             domain name.",
            rival.id
        );
        Err(Refusal::new(ErrorCode::ConflictingDomainExists, "VPC", message))
    }

    pub(super) fn associate_hosted_zone(&mut self, id: HostedZoneId, vpc: VpcId) -> Result<(), Refusal> {
        self.check_association(self.hosted_zone(id)?, vpc)?;
        if let Some(zone) = self.hosted_zones.get_mut(&id) {
            zone.vpcs.insert(vpc);
        }
        Ok(())
    }

    pub(super) fn disassociate_hosted_zone(&mut self, id: HostedZoneId, vpc: VpcId) -> Result<(), Refusal> {
        let zone = self.hosted_zone(id)?;
        if !zone.vpcs.contains(&vpc) {
            let message = format!("The VPC {vpc} is not associated with the hosted zone {id}.");
            return Err(Refusal::new(ErrorCode::VpcAssociationNotFound, "VPC", message));
        }
        if zone.vpcs.len() == 1 {
            let message = format!("The VPC {vpc} is the last one that is associated with the hosted zone {id}.");
            return Err(Refusal::new(ErrorCode::LastVpcAssociation, "VPC", message));
        }
        if let Some(zone) = self.hosted_zones.get_mut(&id) {
            zone.vpcs.remove(&vpc);
        }
        Ok(())
    }

    pub(super) fn delete_hosted_zone(&mut self, id: HostedZoneId) -> Result<(), Refusal> {
        if self.hosted_zone(id)?.all_record_sets().any(|(_, kind, _)| !kind.is_required()) {
            let message =
                "The specified hosted zone contains non-required resource record sets and so cannot be deleted.";
            return Err(Refusal::new(ErrorCode::HostedZoneNotEmpty, "HostedZoneId", message));
        }
        self.hosted_zones.remove(&id);
        Ok(())
    }

    pub(super) fn change_record_set(
        &mut self,
        id: HostedZoneId,
        name: &str,
        kind: RecordType,
        change: RecordChange,
    ) -> Result<(), Refusal> {
        let zone = self.hosted_zone(id)?;
        if kind.is_required() {
            let message = format!("A HostedZone must contain the {} record that was made with it", kind.as_str());
            return Err(at_name(message));
        }
        let has = zone.record_set(name, kind).is_some();
        let missing = || {
            let message = format!(
                "Tried to delete resource record set [name='{name}.', type='{}'] but it was not found",
                kind.as_str()
            );
            invalid(message)
        };
        let set = match change {
            RecordChange::Delete if has => None,
            RecordChange::Delete => return Err(missing()),
            RecordChange::Create(_) if has => {
                let kind = kind.as_str();
                return Err(at_name(format!(
                    "Tried to create resource record set [name='{name}.', type='{kind}'] but it already exists"
                )));
            }
            RecordChange::Create(set) | RecordChange::Upsert(set) => {
                check_name(zone, name, kind)?;
                check_values(name, kind, &set)?;
                Some(set)
            }
        };
        let Some(zone) = self.hosted_zones.get_mut(&id) else { return Ok(()) };
        if let Some(set) = set {
            zone.record_sets.entry(name.to_owned()).or_default().insert(kind, set);
        } else if let Entry::Occupied(mut sets) = zone.record_sets.entry(name.to_owned()) {
            sets.get_mut().remove(&kind);
            if sets.get().is_empty() {
                sets.remove();
            }
        }
        Ok(())
    }
}

/// What is wrong with the name of a record set.
fn at_name(message: String) -> Refusal {
    Refusal { parameter: "Name", ..invalid(message) }
}

fn invalid(message: String) -> Refusal {
    Refusal::new(ErrorCode::InvalidChangeBatch, "", message)
}

fn check_name(zone: &HostedZone, name: &str, kind: RecordType) -> Result<(), Refusal> {
    let (zone_name, written) = (&zone.name, kind.as_str());
    let refuse = |why: String| Err(at_name(format!("RRSet of type {written} with DNS name {name}. {why}")));
    // `*` stands for whole labels, and only in front (RFC 4592).
    let below = name.strip_prefix("*.").unwrap_or(name);
    if !is_in_domain(below, zone_name) {
        return Err(at_name(format!("RRSet with DNS name {name}. is not permitted in zone {zone_name}.")));
    }
    if domain_name(below).as_deref() != Some(below) {
        let message = format!("'{name}' isn't a name that is supported here: {LABELS}, and '*' as the first label");
        return Err(at_name(message));
    }
    let others = zone.record_sets.get(name).into_iter().flat_map(|sets| sets.keys()).filter(|other| **other != kind);
    let others: Vec<_> = others.collect();
    if kind == RecordType::Cname && name == zone_name {
        return refuse(format!("is not permitted at apex in zone {zone_name}."));
    }
    if kind == RecordType::Cname && !others.is_empty() {
        return refuse(format!(
            "is not permitted as it conflicts with other records with the same DNS name in zone {zone_name}."
        ));
    }
    if others.contains(&&RecordType::Cname) {
        return refuse(format!(
            "is not permitted because a conflicting RRSet of type CNAME with the same DNS name already exists in zone \
             {zone_name}."
        ));
    }
    if zone.record_set(name, kind).is_none() && zone.all_record_sets().count() >= SETS_PER_ZONE {
        return refuse(format!("is one too many: a hosted zone has up to {SETS_PER_ZONE} resource record sets."));
    }
    Ok(())
}

fn check_values(name: &str, kind: RecordType, set: &ResourceRecordSet) -> Result<(), Refusal> {
    let written = kind.as_str();
    let most = if kind == RecordType::Cname { 1 } else { VALUES_PER_SET };
    if !(1..=most).contains(&set.values.len()) {
        let count = set.values.len();
        let message = format!("RRSet of type {written} with DNS name {name}. has {count} values, not 1 to {most}");
        return Err(Refusal { parameter: "Value", number: most, ..invalid(message) });
    }
    if set.ttl > LONGEST_TTL {
        let message = format!("RRSet of type {written} with DNS name {name}. has a TTL above {LONGEST_TTL}");
        return Err(Refusal { parameter: "TTL", ..invalid(message) });
    }
    if set.values.iter().map(String::len).sum::<usize>() > CHARACTERS_PER_SET {
        let message =
            format!("RRSet of type {written} with DNS name {name}. has more than {CHARACTERS_PER_SET} characters");
        return Err(invalid(message));
    }
    let mut known = HashSet::new();
    for (number, value) in set.values.iter().enumerate() {
        let twice = |data| (!known.insert(data)).then_some("Duplicate Resource Record");
        if let Some(wrong) = kind.parse(value).map_or_else(|| Some(what_is_wrong(kind, value)), twice) {
            let refusal = invalid(format!("Invalid Resource Record: {wrong} encountered with '{value}'"));
            return Err(Refusal { parameter: "Value", number, ..refusal });
        }
    }
    Ok(())
}

/// What keeps a value from being one of its type.
fn what_is_wrong(kind: RecordType, value: &str) -> &'static str {
    match kind {
        RecordType::A => "Value is not a valid IPv4 address",
        RecordType::Aaaa => "Value is not a valid IPv6 address",
        RecordType::Cname | RecordType::Ptr | RecordType::Ns | RecordType::Soa => "Value is not a valid domain name",
        RecordType::Mx => "Value is not a priority and a domain name, as '10 mail.example.com',",
        RecordType::Srv => "Value is not a priority, a weight, a port and a domain name, as '1 10 80 www.example.com',",
        RecordType::Txt if !value.starts_with('"') => "Value should be enclosed in quotation marks",
        RecordType::Txt => {
            "Value is not printable text between quotation marks, up to 255 bytes between two of them and 4000 in all,"
        }
    }
}

impl RecordType {
    /// A value as DNS carries it; names in it are absolute, as Route 53 takes them. None if it is no value of this type.
    #[must_use]
    pub fn parse(self, value: &str) -> Option<RData> {
        let name = |text: &str| Name::from_labels(domain_name(text)?.split('.').map(str::as_bytes)).ok();
        // A dot alone says that there is nobody (RFC 7505, RFC 2782).
        let name_or_nobody = |text: &str| if text == "." { Some(Name::root()) } else { name(text) };
        let words: Vec<_> = value.split(' ').collect();
        Some(match (self, words.as_slice()) {
            (Self::A, [address]) => RData::A(A(address.parse().ok()?)),
            (Self::Aaaa, [address]) => RData::AAAA(AAAA(address.parse().ok()?)),
            (Self::Cname, [target]) => RData::CNAME(CNAME(name(target)?)),
            (Self::Ptr, [target]) => RData::PTR(PTR(name(target)?)),
            (Self::Ns, [server]) => RData::NS(NS(name(server)?)),
            (Self::Soa, [server, mailbox, serial, refresh, retry, expire, minimum]) => {
                let [refresh, retry, expire] = [refresh, retry, expire].map(|text| number(text));
                let (serial, minimum) = (number(serial)?, number(minimum)?);
                RData::SOA(SOA::new(name(server)?, name(mailbox)?, serial, refresh?, retry?, expire?, minimum))
            }
            (Self::Mx, [preference, exchange]) => RData::MX(MX::new(number(preference)?, name_or_nobody(exchange)?)),
            (Self::Srv, [priority, weight, port, target]) => {
                let [priority, weight, port] = [priority, weight, port].map(|text| number(text));
                RData::SRV(SRV::new(priority?, weight?, port?, name_or_nobody(target)?))
            }
            (Self::Txt, _) if value.len() <= LONGEST_TEXT => {
                let strings = strings(value)?;
                RData::TXT(TXT::from_bytes(strings.iter().map(Vec::as_slice).collect()))
            }
            _ => return None,
        })
    }
}

/// Digits only.
fn number<N: FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The strings of a text as Route 53 takes it: each between quotation marks, with `\"`, `\\` and octal codes as `\303`.
fn strings(value: &str) -> Option<Vec<Vec<u8>>> {
    let mut strings = Vec::new();
    let mut rest = value.as_bytes();
    loop {
        let (mut string, mut inside) = (Vec::new(), rest.strip_prefix(b"\"")?);
        loop {
            inside = match inside {
                [b'"', after @ ..] => break rest = after,
                [b'\\', c @ (b'"' | b'\\'), after @ ..] => {
                    string.push(*c);
                    after
                }
                [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] => {
                    string.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                    after
                }
                [c @ b' '..=b'~', after @ ..] if *c != b'\\' => {
                    string.push(*c);
                    after
                }
                _ => return None,
            }
        }
        if string.len() > LONGEST_STRING {
            return None;
        }
        strings.push(string);
        match rest {
            [] => return Some(strings),
            [b' ', after @ ..] => rest = after,
            _ => return None,
        }
    }
}
