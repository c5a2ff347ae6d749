//! Private hosted zones, as Route 53 has them.

use std::collections::btree_map::Entry;

use hickory_proto::rr::{RData, RecordType as Type};

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
/// Longest a record may be kept, seconds (RFC 2181 §8).
const LONGEST_TTL: u32 = i32::MAX as u32;

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

impl HostedZone {
    /// Is a name its own, or one below?
    fn has(&self, name: &str) -> bool {
        name.strip_suffix(&self.name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

impl World {
    pub(super) fn create_hosted_zone(&mut self, new: HostedZone) -> Result<(), Refusal> {
        self.unused(self.hosted_zones.contains_key(&new.id), new.id)?;
        if domain_name(&new.name).as_ref() != Some(&new.name) {
            let message = format!("'{}' isn't a domain name: letters, digits, '-' and '_' between dots", new.name);
            return Err(Refusal::new(ErrorCode::InvalidDomainName, "Name", message));
        }
        for vpc in &new.vpcs {
            self.check_association(&new, *vpc)?;
        }
        self.hosted_zones.insert(new.id, new);
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
        if zone.vpcs.iter().eq([&vpc]) {
            let message = format!("The VPC {vpc} is the last one that is associated with the hosted zone {id}.");
            return Err(Refusal::new(ErrorCode::LastVpcAssociation, "VPC", message));
        }
        if let Some(zone) = self.hosted_zones.get_mut(&id) {
            zone.vpcs.remove(&vpc);
        }
        Ok(())
    }

    pub(super) fn delete_hosted_zone(&mut self, id: HostedZoneId) -> Result<(), Refusal> {
        if !self.hosted_zone(id)?.record_sets.is_empty() {
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
                return Err(invalid(format!(
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

fn invalid(message: String) -> Refusal {
    Refusal::new(ErrorCode::InvalidChangeBatch, "", message)
}

fn check_name(zone: &HostedZone, name: &str, kind: RecordType) -> Result<(), Refusal> {
    let (zone_name, written) = (&zone.name, kind.as_str());
    let refuse = |why: String| Err(invalid(format!("RRSet of type {written} with DNS name {name}. {why}")));
    // `*` stands for whole labels, and only in front (RFC 4592).
    let below = name.strip_prefix("*.").unwrap_or(name);
    if domain_name(below).as_deref() != Some(below) || !zone.has(below) {
        return Err(invalid(format!("RRSet with DNS name {name}. is not permitted in zone {zone_name}.")));
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
        return Err(invalid(format!(
            "RRSet of type {written} with DNS name {name}. has {count} values, not 1 to {most}"
        )));
    }
    if set.ttl > LONGEST_TTL {
        let message = format!("RRSet of type {written} with DNS name {name}. has a TTL above {LONGEST_TTL}");
        return Err(Refusal { parameter: "TTL", ..invalid(message) });
    }
    for (number, value) in set.values.iter().enumerate() {
        let twice = set.values[..number].contains(value);
        let wrong = if twice { Some("Duplicate Resource Record") } else { what_is_wrong(kind, value) };
        if let Some(wrong) = wrong {
            return Err(invalid(format!("Invalid Resource Record: {wrong} encountered with '{value}'")));
        }
    }
    Ok(())
}

/// What keeps a value from being one of its type.
fn what_is_wrong(kind: RecordType, value: &str) -> Option<&'static str> {
    let (words, expected) = match kind {
        RecordType::A => (1, "Value is not a valid IPv4 address"),
        RecordType::Aaaa => (1, "Value is not a valid IPv6 address"),
        RecordType::Cname | RecordType::Ptr => (1, "Value is not a valid domain name"),
        RecordType::Mx => (2, "Value is not a priority and a domain name, as '10 mail.example.com',"),
        RecordType::Srv => {
            (4, "Value is not a priority, a weight, a port and a domain name, as '1 10 5269 xmpp.example.com',")
        }
        RecordType::Txt => {
            return match kind.parse(value) {
                _ if !value.starts_with('"') => Some("Value should be enclosed in quotation marks"),
                Some(RData::TXT(text)) if text.txt_data.iter().any(|part| part.len() > LONGEST_STRING) => {
                    Some("Value is too long: a piece between quotation marks has up to 255 bytes")
                }
                Some(_) => None,
                None => Some("Value is not text between quotation marks"),
            };
        }
    };
    let is_name = |name: &str| domain_name(name).is_some();
    let names = !matches!(kind, RecordType::A | RecordType::Aaaa);
    let fits = value.split(' ').count() == words
        && kind.parse(value).is_some()
        && (!names || value.rsplit(' ').next().is_some_and(is_name));
    (!fits).then_some(expected)
}

impl RecordType {
    /// A value as DNS carries it; names in it are absolute, as Route 53 takes them. None if it is no value of this type.
    #[must_use]
    pub fn parse(self, value: &str) -> Option<RData> {
        let kind = match self {
            Self::A => Type::A,
            Self::Aaaa => Type::AAAA,
            Self::Cname => Type::CNAME,
            Self::Mx => Type::MX,
            Self::Ptr => Type::PTR,
            Self::Srv => Type::SRV,
            Self::Txt => Type::TXT,
        };
        RData::try_from_str(kind, value).ok()
    }
}
