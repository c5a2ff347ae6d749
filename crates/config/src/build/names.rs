//! Who knows names: sets of DHCP options, private hosted zones.

use minivpc_model::*;
use serde_saphyr::Spanned;

use super::{Builder, addresses, at, found, tags};
use crate::file;
use crate::mistake::Mistake;

/// Of records whose file doesn't say for how long they may be kept, as Route 53's console has it; seconds.
const TTL: u32 = 300;

impl Builder<'_> {
    pub(super) fn dhcp_options(&mut self, name: &Spanned<String>, set: &file::DhcpOptions) -> Result<(), Mistake> {
        let configuration = DhcpConfiguration {
            domain_name_servers: set.domain_name_servers.iter().map(|server| server.value.0).collect(),
            domain_name: set.domain_name.as_ref().map(|domain| domain.value.clone()),
            ntp_servers: addresses(&set.ntp_servers),
            netbios_name_servers: addresses(&set.netbios_name_servers),
            netbios_node_type: set.netbios_node_type.as_ref().map(|kind| kind.value.0),
        };
        let request = DhcpOptions {
            id: self.id(set.id.as_ref(), DhcpOptionsId::from_seed, &["dopt", &name.value])?,
            configuration,
            tags: tags(name, &set.tags)?,
            origin: self.origin(at(name)),
        };
        let parameters = [
            ("domain-name-servers", set.domain_name_servers.first().map(at)),
            ("domain-name", set.domain_name.as_ref().map(at)),
            ("ntp-servers", set.ntp_servers.first().map(at)),
            ("netbios-name-servers", set.netbios_name_servers.first().map(at)),
            ("netbios-node-type", set.netbios_node_type.as_ref().map(at)),
        ];
        self.apply(Op::CreateDhcpOptions(request), at(name), &parameters)
    }

    pub(super) fn private_hosted_zone(
        &mut self,
        key: &Spanned<String>,
        zone: &file::PrivateHostedZone,
    ) -> Result<(), Mistake> {
        let written = zone.name.as_ref().unwrap_or(key);
        // What can't be one is refused as it is.
        let name = domain_name(&written.value).unwrap_or_else(|| written.value.clone());
        let id = self.id(zone.id.as_ref(), HostedZoneId::from_seed, &["zone", &key.value])?;
        let [first, others @ ..] = zone.vpcs.as_slice() else {
            let mistake = Mistake::new(at(key), format!("'{}' is a private zone of no VPC", key.value));
            return Err(mistake.help("name those whose resolvers know it: `vpcs: [ NAME ]`"));
        };
        let new = CreateHostedZone {
            id,
            name: name.clone(),
            vpc: found(first, self.world().find_vpc(None, &first.value))?,
            tags: tags(key, &zone.tags)?,
            origin: self.origin(at(key)),
        };
        self.apply(Op::CreateHostedZone(new), at(key), &[("Name", Some(at(written))), ("VPC", Some(at(first)))])?;
        for other in others {
            let vpc = found(other, self.world().find_vpc(None, &other.value))?;
            self.apply(Op::AssociateVpcWithHostedZone { zone: id, vpc }, at(other), &[])?;
        }
        for (record, written) in &zone.records.0 {
            self.records(id, &name, record, written)?;
        }
        Ok(())
    }

    fn records(
        &mut self,
        zone: HostedZoneId,
        zone_name: &str,
        written: &Spanned<String>,
        records: &file::Records,
    ) -> Result<(), Mistake> {
        let name = name_in(zone_name, &written.value);
        let ttl = records.ttl.as_ref().map_or(TTL, |ttl| ttl.value.0);
        let all = [
            (RecordType::A, &records.a),
            (RecordType::Aaaa, &records.aaaa),
            (RecordType::Cname, &records.cname),
            (RecordType::Mx, &records.mx),
            (RecordType::Ptr, &records.ptr),
            (RecordType::Srv, &records.srv),
            (RecordType::Txt, &records.txt),
        ];
        let mut any = false;
        for (kind, values) in all {
            let Some(values) = values else { continue };
            any = true;
            let origin = self.origin(at(written));
            let set = ResourceRecordSet { ttl, values: values.iter().map(|v| v.value.clone()).collect(), origin };
            let (name, change) = (name.clone(), RecordChange::Create(set));
            let op = Op::ChangeResourceRecordSets { zone, name, kind, change };
            self.lab.world.apply(op).map_err(|refusal| {
                let place = match refusal.parameter {
                    "Value" => values.get(refusal.number).map(at),
                    "TTL" => records.ttl.as_ref().map(at),
                    _ => None,
                };
                Mistake::refused(place.unwrap_or_else(|| at(written)), &refusal)
            })?;
        }
        if !any {
            let mistake = Mistake::new(at(written), format!("'{}' has no records", written.value));
            return Err(mistake.help("add some by their type, as `A: [ 10.0.1.10 ]`"));
        }
        Ok(())
    }
}

/// A name that isn't the zone's own, nor below it, is one in the zone, as Terraform takes names of records.
fn name_in(zone: &str, written: &str) -> String {
    let name = written.to_ascii_lowercase();
    match name.strip_suffix('.') {
        Some(absolute) => absolute.to_owned(),
        None if name == "@" => zone.to_owned(),
        None if is_in_domain(&name, zone) => name,
        None => format!("{name}.{zone}"),
    }
}
