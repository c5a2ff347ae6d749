//! Private hosted zones as resolvers read them (DNS-9, RFC 1034 §4.3.2, RFC 4592).

use std::collections::HashMap;

use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use minivpc_model::{self as model, is_in_domain};

/// What is known of a name. Who says that there is nothing says for how long that holds (RFC 2308).
pub(super) enum Known {
    /// Records.
    Is(Vec<Record>),
    /// It is another name for this one.
    Alias(Record, Name),
    /// There is such a name, but nothing of this type.
    NoData(Option<Record>),
    /// There is none.
    Nothing(Option<Record>),
}

/// A private hosted zone.
#[derive(Debug)]
pub struct HostedZone {
    /// In lower case, without the dot at its end; so are all names here.
    name: String,
    /// Its names. One with nothing is there because others are below it.
    names: HashMap<String, Vec<RecordSet>>,
    /// What it says along with there being nothing.
    soa: Option<Record>,
}

/// What a name has of one type; never empty.
#[derive(Debug)]
struct RecordSet {
    ttl: u32,
    data: Vec<RData>,
}

impl RecordSet {
    fn is(&self, kind: RecordType) -> bool {
        self.data.first().is_some_and(|data| data.record_type() == kind)
    }
}

impl HostedZone {
    pub(crate) fn new(zone: &model::HostedZone) -> Self {
        let mut names: HashMap<String, Vec<RecordSet>> = HashMap::new();
        for (name, kind, set) in zone.all_record_sets() {
            let data: Vec<_> = set.values.iter().filter_map(|value| kind.parse(value)).collect();
            names.entry(name.to_owned()).or_default().push(RecordSet { ttl: set.ttl, data });
            let mut below = name;
            while let Some((_, above)) = below.split_once('.').filter(|(_, above)| is_in_domain(above, &zone.name)) {
                names.entry(above.to_owned()).or_default();
                below = above;
            }
        }
        let apex = names.get(&zone.name);
        let soa = apex.and_then(|sets| sets.iter().find(|set| set.is(RecordType::SOA)));
        let soa = soa.and_then(|set| Some((set.ttl, set.data.first()?.clone()))).zip(absolute(&zone.name));
        let soa = soa.map(|((ttl, data), name)| Record::from_rdata(name, ttl, data));
        Self { name: zone.name.clone(), names, soa }
    }

    /// Is a name its own, or below?
    pub(super) fn has(&self, name: &str) -> bool {
        is_in_domain(name, &self.name)
    }

    pub(crate) fn labels(&self) -> usize {
        labels(&self.name)
    }

    /// What it knows of a name that it has; `asked` is the name as it was asked for.
    pub(super) fn look_up(&self, asked: &Name, name: &str, wanted: RecordType) -> Known {
        let Some(sets) = self.names.get(name).or_else(|| self.wildcard(name)) else {
            return Known::Nothing(self.soa.clone());
        };
        let records = |set: &RecordSet| {
            let record = |data: &RData| Record::from_rdata(asked.clone(), set.ttl, data.clone());
            set.data.iter().map(record).collect::<Vec<_>>()
        };
        if let Some(RecordSet { ttl, data }) = sets.iter().find(|set| set.is(RecordType::CNAME))
            && let [RData::CNAME(CNAME(target))] = data.as_slice()
            && !matches!(wanted, RecordType::CNAME | RecordType::ANY)
        {
            let alias = Record::from_rdata(asked.clone(), *ttl, data[0].clone());
            return Known::Alias(alias, target.clone());
        }
        let found: Vec<_> =
            sets.iter().filter(|set| wanted == RecordType::ANY || set.is(wanted)).flat_map(records).collect();
        if found.is_empty() { Known::NoData(self.soa.clone()) } else { Known::Is(found) }
    }

    /// What stands for a name that there isn't: a `*` right below the closest name above it that there is.
    fn wildcard(&self, name: &str) -> Option<&Vec<RecordSet>> {
        let mut above = name;
        while let Some((_, rest)) = above.split_once('.') {
            if self.names.contains_key(rest) {
                return self.names.get(&format!("*.{rest}"));
            }
            above = rest;
        }
        None
    }
}

/// A name that isn't completed by anything, as zones hold it: without the dot at its end.
pub(super) fn absolute(name: &str) -> Option<Name> {
    Name::from_labels(name.split('.').map(str::as_bytes)).ok()
}

pub(super) fn labels(name: &str) -> usize {
    name.split('.').count()
}
