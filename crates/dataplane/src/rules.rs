//! Which of a list's rules speak of a packet: answered for all of them at once, in a time that hardly depends on how
//! many there are.
//!
//! Each field of a packet has a set of the rules that it would satisfy: found by its protocol and port, by the address
//! of the other side, and by the groups that this address is in. A rule speaks of the packet if it is in the first set
//! and in one of the other two; the lowest number wins. The sets are rows of bits, made with the snapshot.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use foldhash::fast::FixedState;
use ipnet::{IpNet, Ipv4Net};
use minivpc_model::{PortRange, Traffic};
use minivpc_packet::Headers;
use prefix_trie::PrefixMap;

/// Whose packets a rule speaks of.
#[derive(Clone, Copy)]
pub enum Whose<'a> {
    /// Those of who has an address in this block.
    Block(IpNet),
    /// Those of these addresses, if they come straight from them (SG-5, SG-7).
    Members(&'a [IpAddr]),
}

/// A set of rules, by the place of its row.
type Set = usize;

/// The rules of one list and direction.
#[derive(Debug, Default)]
pub struct Rules {
    /// Words of a row.
    words: usize,
    rows: Vec<u64>,
    /// By destination port; of ICMP by type and code.
    tcp: Ranges,
    udp: Ranges,
    icmp: Ranges,
    /// Protocols without ports that rules name, and all others.
    protocols: HashMap<u8, Set, FixedState>,
    other_protocols: Set,
    blocks: PrefixMap<Ipv4Net, Set>,
    members: HashMap<IpAddr, Set, FixedState>,
    /// Rules for 0.0.0.0/0.
    everybody: Set,
    /// Does one of those let all of TCP through, and of UDP?
    all_tcp: bool,
    all_udp: bool,
}

/// Sets by the number of the range that a value is in.
#[derive(Debug, Default)]
struct Ranges {
    /// Where each range begins; the first at 0.
    starts: Vec<u16>,
    sets: Vec<Set>,
}

impl Ranges {
    fn set(&self, value: u16) -> Set {
        self.sets[self.starts.partition_point(|start| *start <= value) - 1]
    }
}

/// The set of no rules is the first row.
const NONE: Set = 0;

impl Whose<'_> {
    fn block(&self) -> Option<Ipv4Net> {
        match self {
            Self::Block(IpNet::V4(block)) => Some(*block),
            Self::Block(IpNet::V6(_)) | Self::Members(_) => None,
        }
    }

    fn members(&self) -> &[IpAddr] {
        match self {
            Self::Members(members) => members,
            Self::Block(_) => &[],
        }
    }

    fn is_everybody(&self) -> bool {
        self.block().is_some_and(|block| block.prefix_len() == 0)
    }
}

/// The number that rules of ICMP range over.
fn icmp_number(kind: u8, code: u8) -> u16 {
    u16::from(kind) << 8 | u16::from(code)
}

fn covers(traffic: Traffic, protocol: u8, value: u16) -> bool {
    let [icmp_kind, icmp_code] = value.to_be_bytes();
    match traffic {
        Traffic::All => true,
        Traffic::Tcp(ports) => protocol == 6 && ports.contains(value),
        Traffic::Udp(ports) => protocol == 17 && ports.contains(value),
        Traffic::Icmp { kind, code } => {
            protocol == 1 && kind.is_none_or(|kind| kind == icmp_kind) && code.is_none_or(|code| code == icmp_code)
        }
        Traffic::Protocol(number) => number == protocol,
    }
}

impl Rules {
    /// The rules of a list, in its order.
    pub fn new(rules: &[(Traffic, Whose<'_>)]) -> Self {
        let mut all = Self { words: rules.len().div_ceil(64), ..Self::default() };
        let none = all.add(rules, |_, _| false);
        debug_assert_eq!(none, NONE);
        all.tcp = all.ranges(rules, 6);
        all.udp = all.ranges(rules, 17);
        all.icmp = all.ranges(rules, 1);
        let numbers: BTreeSet<u8> = rules.iter().filter_map(|(traffic, _)| traffic.protocol()).collect();
        for number in numbers {
            let set = all.add(rules, |traffic, _| covers(traffic, number, 0));
            all.protocols.insert(number, set);
        }
        all.other_protocols = all.add(rules, |traffic, _| traffic == Traffic::All);
        let blocks: BTreeSet<Ipv4Net> = rules.iter().filter_map(|(_, whose)| whose.block()).collect();
        for inner in blocks {
            let set = all.add(rules, |_, whose| whose.block().is_some_and(|outer| outer.contains(&inner)));
            all.blocks.insert(inner, set);
        }
        let named: BTreeSet<IpAddr> = rules.iter().flat_map(|(_, whose)| whose.members()).copied().collect();
        for address in named {
            let set = all.add(rules, |_, whose| whose.members().binary_search(&address).is_ok());
            all.members.insert(address, set);
        }
        all.everybody = all.add(rules, |_, whose| whose.is_everybody());
        let everything =
            |all_of| rules.iter().any(|(t, whose)| whose.is_everybody() && [Traffic::All, all_of].contains(t));
        all.all_tcp = everything(Traffic::Tcp(PortRange::ALL));
        all.all_udp = everything(Traffic::Udp(PortRange::ALL));
        all
    }

    fn add(&mut self, rules: &[(Traffic, Whose<'_>)], is_in: impl Fn(Traffic, Whose<'_>) -> bool) -> Set {
        let set = self.rows.len();
        self.rows.resize(set + self.words, 0);
        for (number, (traffic, whose)) in rules.iter().enumerate() {
            if is_in(*traffic, *whose) {
                self.rows[set + number / 64] |= 1 << (number % 64);
            }
        }
        set
    }

    fn ranges(&mut self, rules: &[(Traffic, Whose<'_>)], protocol: u8) -> Ranges {
        let mut starts = BTreeSet::from([0]);
        let mut range = |from: u16, to: u16| {
            starts.insert(from);
            starts.extend(to.checked_add(1));
        };
        for (traffic, _) in rules {
            match *traffic {
                Traffic::Tcp(ports) if protocol == 6 => range(ports.from, ports.to),
                Traffic::Udp(ports) if protocol == 17 => range(ports.from, ports.to),
                Traffic::Icmp { kind, code } if protocol == 1 => {
                    let kinds = kind.map_or(0..=u8::MAX, |kind| kind..=kind);
                    kinds.for_each(|kind| {
                        range(icmp_number(kind, code.unwrap_or(0)), icmp_number(kind, code.unwrap_or(u8::MAX)));
                    });
                }
                _ => {}
            }
        }
        let starts: Vec<u16> = starts.into_iter().collect();
        let sets = starts.iter().map(|start| self.add(rules, |traffic, _| covers(traffic, protocol, *start))).collect();
        Ranges { starts, sets }
    }

    fn service(&self, packet: &Headers) -> Set {
        match (packet.flow.protocol, packet.kind.icmp()) {
            (6, _) => self.tcp.set(packet.flow.dst_port),
            (17, _) => self.udp.set(packet.flow.dst_port),
            (1, Some((kind, code))) => self.icmp.set(icmp_number(kind, code)),
            (number, _) => self.protocols.get(&number).copied().unwrap_or(self.other_protocols),
        }
    }

    /// The first that is in `one`, and in one of the two others.
    fn first_of(&self, one: Set, others: [Set; 2]) -> Option<u16> {
        (0..self.words).find_map(|word| {
            let found = self.rows[one + word] & (self.rows[others[0] + word] | self.rows[others[1] + word]);
            (found != 0).then(|| word as u16 * 64 + found.trailing_zeros() as u16)
        })
    }

    /// The first rule that speaks of a packet from or to `other`; of rules that name a group only if `straight`.
    pub fn first(&self, packet: &Headers, other: IpAddr, straight: bool) -> Option<u16> {
        if self.words == 0 {
            return None;
        }
        let block = match other {
            IpAddr::V4(v4) => self.blocks.get_lpm(&Ipv4Net::from(v4)).map_or(NONE, |(_, set)| *set),
            IpAddr::V6(_) => NONE,
        };
        let members = if straight { self.members.get(&other).copied().unwrap_or(NONE) } else { NONE };
        self.first_of(self.service(packet), [block, members])
    }

    /// The first rule for 0.0.0.0/0 that speaks of a packet.
    pub fn first_for_everybody(&self, packet: &Headers) -> Option<u16> {
        if self.words == 0 {
            return None;
        }
        self.first_of(self.service(packet), [self.everybody, NONE])
    }

    /// Does a rule let all packets of a protocol through, from or to anybody?
    pub fn pass_all(&self, protocol: u8) -> bool {
        match protocol {
            6 => self.all_tcp,
            17 => self.all_udp,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use minivpc_packet::{Flow, Kind};
    use proptest::prelude::*;

    use super::*;

    const MEMBERS: [[u8; 4]; 2] = [[10, 0, 0, 1], [10, 0, 0, 3]];

    fn traffic() -> impl Strategy<Value = Traffic> {
        let ports = (0_u16..20, 0_u16..20).prop_map(|(a, b)| PortRange { from: a.min(b), to: a.max(b) });
        let ports = prop_oneof![ports, Just(PortRange::ALL), Just(PortRange { from: 9, to: u16::MAX })];
        let some = || proptest::option::of(0_u8..4);
        prop_oneof![
            Just(Traffic::All),
            ports.clone().prop_map(Traffic::Tcp),
            ports.prop_map(Traffic::Udp),
            (some(), some()).prop_map(|(kind, code)| Traffic::Icmp { kind, code }),
            prop_oneof![Just(6), Just(47)].prop_map(Traffic::Protocol),
        ]
    }

    fn packet() -> impl Strategy<Value = (Headers, IpAddr)> {
        let what = prop_oneof![
            (0_u16..24).prop_map(|port| (6, Kind::Tcp(0), port)),
            (0_u16..24).prop_map(|port| (17, Kind::Udp, port)),
            (0_u8..5, 0_u8..5).prop_map(|(kind, code)| (1, Kind::Icmp { kind, code }, 0)),
            prop_oneof![Just(47), Just(50)].prop_map(|number| (number, Kind::Other, 0)),
        ];
        (what, 0_u8..4).prop_map(|((protocol, kind, dst_port), last)| {
            let other = IpAddr::from([10, 0, 0, last]);
            let flow = Flow { src: other, dst: other, protocol, src_port: 5, dst_port };
            let (src_mac, dst_mac, fragment, mss_limit) = ([0; 6], [0; 6], None, None);
            let headers =
                Headers { src_mac, dst_mac, ttl: 1, flow, kind, size: 28, dont_fragment: true, fragment, mss_limit };
            (headers, other)
        })
    }

    /// A rule's traffic, and the length of its block or none for a group's members.
    fn rule() -> impl Strategy<Value = (Traffic, Option<Ipv4Net>)> {
        let block = (0_u8..4, prop_oneof![Just(0), Just(24), Just(31), Just(32)])
            .prop_map(|(last, length)| Ipv4Net::new([10, 0, 0, last].into(), length).unwrap().trunc());
        (traffic(), proptest::option::weighted(0.8, block))
    }

    fn speaks(traffic: Traffic, packet: &Headers) -> bool {
        match traffic {
            Traffic::All => true,
            Traffic::Tcp(ports) => packet.flow.protocol == 6 && ports.contains(packet.flow.dst_port),
            Traffic::Udp(ports) => packet.flow.protocol == 17 && ports.contains(packet.flow.dst_port),
            Traffic::Icmp { kind, code } => packet
                .kind
                .icmp()
                .is_some_and(|(k, c)| kind.is_none_or(|kind| kind == k) && code.is_none_or(|code| code == c)),
            Traffic::Protocol(number) => packet.flow.protocol == number,
        }
    }

    proptest! {
        #[test]
        fn all_at_once_say_what_one_after_the_other_says(
            list in proptest::collection::vec(rule(), 0..150), (packet, other) in packet(), straight in any::<bool>(),
        ) {
            let members = MEMBERS.map(IpAddr::from);
            let whose = |block: Option<Ipv4Net>| block.map_or(Whose::Members(&members), |b| Whose::Block(b.into()));
            let rules = Rules::new(&list.iter().map(|(traffic, block)| (*traffic, whose(*block))).collect::<Vec<_>>());
            let first = list.iter().position(|(traffic, block)| {
                let of_other = block.map_or(straight && members.contains(&other), |b| IpNet::V4(b).contains(&other));
                of_other && speaks(*traffic, &packet)
            });
            prop_assert_eq!(rules.first(&packet, other, straight).map(usize::from), first);
            let everybody = |block: &Option<Ipv4Net>| block.is_some_and(|block| block.prefix_len() == 0);
            let first = list.iter().position(|(traffic, block)| everybody(block) && speaks(*traffic, &packet));
            prop_assert_eq!(rules.first_for_everybody(&packet).map(usize::from), first);
            let all = |traffic: &Traffic| matches!(traffic, Traffic::All | Traffic::Tcp(PortRange::ALL));
            let passes = list.iter().any(|(traffic, block)| everybody(block) && all(traffic));
            prop_assert_eq!(rules.pass_all(6), passes);
        }
    }
}
