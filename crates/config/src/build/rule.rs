//! Rules of security groups, entries of network ACLs.

use minivpc_model::*;
use serde_saphyr::{Location, Spanned};

use super::{Builder, at, found, plain, v4};
use crate::file;
use crate::mistake::Mistake;
use crate::scalar::{Ports, Protocol};

impl Builder<'_> {
    pub(super) fn group_rule(
        &mut self,
        home: Option<VpcId>,
        rule: &Spanned<file::SecurityGroupRule>,
    ) -> Result<(Location, SecurityGroupRule), Mistake> {
        let place = at(rule);
        let rule = &rule.value;
        let peer = match (&rule.cidr, &rule.security_group) {
            (Some(cidr), None) => Peer::Cidr(v4(cidr)?.trunc().into()),
            (None, Some(group)) => {
                Peer::SecurityGroup(found(group, self.world().find_security_group(home, &group.value))?)
            }
            (None, None) => return Err(Mistake::new(place, "the rule has no peer").help("add cidr or security_group")),
            (Some(_), Some(group)) => {
                return Err(
                    Mistake::new(at(group), "a rule has one peer: cidr or security_group").help("make two rules")
                );
            }
        };
        let traffic = traffic(&rule.protocol, rule.ports.as_ref(), rule.icmp_type.as_ref(), rule.code.as_ref())?;
        let description = plain(place, rule.description.as_deref().unwrap_or_default())?;
        Ok((place, SecurityGroupRule { traffic, peer, description, origin: self.origin(place) }))
    }
}

pub(super) fn acl_entry(number: &Spanned<String>, entry: &file::NetworkAclEntry) -> Result<NetworkAclEntry, Mistake> {
    let (action, protocol) = match (&entry.allow, &entry.deny) {
        (Some(protocol), None) => (RuleAction::Allow, protocol),
        (None, Some(protocol)) => (RuleAction::Deny, protocol),
        _ => {
            let message = format!("rule {} needs either `allow: PROTOCOL` or `deny: PROTOCOL`", number.value);
            return Err(Mistake::new(at(number), message));
        }
    };
    let traffic = traffic(protocol, entry.ports.as_ref(), entry.icmp_type.as_ref(), entry.code.as_ref())?;
    Ok(NetworkAclEntry { action, traffic, cidr: v4(&entry.cidr)?.into(), origin: Origin::default() })
}

fn traffic(
    protocol: &Spanned<Protocol>,
    ports: Option<&Spanned<Ports>>,
    icmp_type: Option<&Spanned<i16>>,
    code: Option<&Spanned<i16>>,
) -> Result<Traffic, Mistake> {
    let number = protocol.value.0.0;
    if let Some(ports) = ports.filter(|_| !matches!(number, Some(6 | 17))) {
        return Err(Mistake::new(at(ports), "only tcp and udp have ports"));
    }
    if let Some(icmp) = icmp_type.or(code).filter(|_| number != Some(1)) {
        return Err(Mistake::new(at(icmp), "only icmp has a type and a code"));
    }
    let range = ports.map_or(PortRange::ALL, |ports| ports.value.0);
    Ok(match number {
        None => Traffic::All,
        Some(6) => Traffic::Tcp(range),
        Some(17) => Traffic::Udp(range),
        Some(1) => {
            let (kind, code_value) = (icmp_field(icmp_type)?, icmp_field(code)?);
            if let (None, Some(_), Some(code)) = (kind, code_value, code) {
                return Err(Mistake::new(at(code), "a code needs a type"));
            }
            Traffic::Icmp { kind, code: code_value }
        }
        Some(other) => Traffic::Protocol(other),
    })
}

/// AWS's −1 is any.
fn icmp_field(value: Option<&Spanned<i16>>) -> Result<Option<u8>, Mistake> {
    let Some(value) = value.filter(|value| value.value != -1) else { return Ok(None) };
    let number = u8::try_from(value.value);
    number.map(Some).map_err(|_| Mistake::new(at(value), format!("{} isn't 0 to 255, or -1 for any", value.value)))
}
