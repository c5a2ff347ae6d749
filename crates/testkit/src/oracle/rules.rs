//! Security groups and network ACLs.

use super::*;

impl<'a> Oracle<'a> {
    /// Asks an interface's groups, and notes what they will track.
    pub(super) fn groups_allow(
        &self,
        eni: &NetworkInterface,
        packet: &Datum,
        egress: bool,
        trip: &mut Trip<'_>,
    ) -> bool {
        let key = |flow: (Ipv4Addr, Ipv4Addr, Flowing)| (eni.id, flow.0, flow.1, flow.2);
        let flow = (packet.src, packet.dst, flowing(packet.what));
        let tracked = !matches!(packet.what, What::Error { .. }) && self.tracked.contains(&key(flow));
        if is_reset(packet.what) {
            trip.untracked.push(key(flow));
        }
        if let What::Error { quoted, .. } = packet.what {
            // SG-21.
            let (src, dst, flow) = quoted;
            let sent = Datum { src, dst, what: sent_as(flow), ttl: 0 };
            if self.tracked.contains(&key(quoted)) || self.untracked(eni, &sent, !egress) {
                return true;
            }
        }
        let other = if egress { packet.dst } else { packet.src };
        let carries = |member: &NetworkInterface, group| member.groups.contains(&group) && member.private_ip == other;
        let mut allowing = 0;
        for rule in self.rules(eni, egress).filter(|rule| covers(rule.traffic, packet)) {
            let meant = match rule.peer {
                Peer::Cidr(net) => net.contains(&IpNet::V4(other.into())),
                Peer::SecurityGroup(group) => self.world.network_interfaces().any(|member| carries(member, group)), // SG-5
            };
            let by_reference = matches!(rule.peer, Peer::SecurityGroup(_)) && meant;
            if by_reference {
                let direct = if trip.middlebox { "reference behind a middlebox" } else { "reference" };
                trip.kinds.insert(direct);
            }
            // SG-7.
            allowing += usize::from(meant && !(by_reference && trip.middlebox));
        }
        if tracked {
            if allowing == 0 {
                trip.kinds.insert("tracked alone");
            }
            return true; // SG-12
        }
        if allowing > 1 {
            trip.kinds.insert("overlapping rules");
        }
        let allowed = allowing > 0;
        if allowed && !matches!(packet.what, What::Error { .. } | What::Tcp(_, _, Tcp::Rst)) {
            let untracked = matches!(packet.what, What::Udp(..) | What::Tcp(..)) && self.untracked(eni, packet, egress);
            match (untracked, trip.by_nat) {
                (true, false) => trip.maybe = Some(key(flow)),
                _ => trip.tracked.push(key(flow)),
            }
        }
        allowed
    }

    fn rules(&self, eni: &NetworkInterface, egress: bool) -> impl Iterator<Item = &'a SecurityGroupRule> {
        let groups: Vec<_> = eni.groups.iter().map(|id| self.world.security_group(*id).unwrap()).collect();
        groups.into_iter().flat_map(move |group| if egress { &group.egress } else { &group.ingress })
    }

    /// SG-13, for a packet of either side.
    fn untracked(&self, eni: &NetworkInterface, packet: &Datum, egress: bool) -> bool {
        let turned = Datum { src: packet.dst, dst: packet.src, what: turned(packet.what), ttl: 0 };
        [(*packet, egress), (turned, !egress)].into_iter().any(|(packet, egress)| {
            let everybody = |rule: &&SecurityGroupRule| rule.peer == Peer::Cidr("0.0.0.0/0".parse().unwrap());
            let opens = self.rules(eni, egress).filter(everybody).any(|rule| covers(rule.traffic, &packet));
            let every_port = PortRange { from: 0, to: u16::MAX };
            let any_port = |rule: &SecurityGroupRule| {
                rule.traffic == Traffic::All
                    || rule.traffic == Traffic::Tcp(every_port) && matches!(packet.what, What::Tcp(..))
                    || rule.traffic == Traffic::Udp(every_port) && matches!(packet.what, What::Udp(..))
            };
            let about_ports = matches!(packet.what, What::Tcp(..) | What::Udp(..));
            about_ports && opens && self.rules(eni, !egress).filter(everybody).any(any_port)
        })
    }

    /// The list that denies, if it does (NACL-2).
    pub(super) fn acl_denies(
        &self,
        subnet: SubnetId,
        egress: bool,
        packet: &Datum,
        trip: &mut Trip<'_>,
    ) -> Option<NetworkAclId> {
        let acl = self.world.network_acl(self.world.subnet(subnet).unwrap().network_acl).unwrap();
        let other = if egress { packet.dst } else { packet.src };
        let entries = if egress { &acl.egress } else { &acl.ingress };
        let mut numbers: Vec<_> = entries.keys().collect();
        numbers.sort_unstable();
        let meant = numbers
            .into_iter()
            .map(|number| &entries[number])
            .filter(|entry| covers(entry.traffic, packet) && entry.cidr.contains(&IpNet::V4(other.into())))
            .map(|entry| entry.action)
            .collect::<Vec<_>>();
        if meant.contains(&RuleAction::Allow) && meant.contains(&RuleAction::Deny) {
            trip.kinds.insert("contradicting entries");
        }
        match meant.first() {
            Some(RuleAction::Allow) => None,
            Some(RuleAction::Deny) | None => Some(acl.id),
        }
    }
}

fn sent_as((protocol, from, to): Flowing) -> What {
    match protocol {
        17 => What::Udp(from, to),
        6 => What::Tcp(from, to, Tcp::Ack),
        other => What::Other(other),
    }
}

/// SG-3, NACL-3, NACL-4.
fn covers(traffic: Traffic, packet: &Datum) -> bool {
    let icmp = match packet.what {
        What::Echo(_) => Some((8, 0)),
        What::EchoReply(_) => Some((0, 0)),
        What::Error { kind, code, .. } => Some((kind, code)),
        _ => None,
    };
    match (traffic, packet.what) {
        (Traffic::All, _) => true,
        (Traffic::Tcp(ports), What::Tcp(_, to, _)) | (Traffic::Udp(ports), What::Udp(_, to)) => {
            ports.from <= to && to <= ports.to
        }
        (Traffic::Icmp { kind, code }, _) => {
            icmp.is_some_and(|(k, c)| kind.is_none_or(|kind| kind == k) && code.is_none_or(|code| code == c))
        }
        (Traffic::Protocol(number), what) => number == flowing(what).0,
        _ => false,
    }
}
