//! Flows as they come, change and go.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::thread;
use std::time::Duration;

use minivpc_control::view::{FlowView, Flows};
use minivpc_control::{Lab, Question};
use serde::Serialize;

use crate::{Failure, print};

/// How often it is looked. What comes and goes in between isn't shown.
const INTERVAL: Duration = Duration::from_millis(500);

/// What has become of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Event {
    /// It was there before.
    Open,
    /// It has come.
    New,
    /// It is in another phase.
    Change,
    /// It has ended.
    End,
}

#[derive(Serialize)]
struct Line<'a> {
    event: Event,
    flow: &'a FlowView,
}

type Name = (String, u8, String, String);

fn name(flow: &FlowView) -> Name {
    (flow.interface.id.clone(), flow.protocol, flow.local.clone(), flow.remote.clone())
}

/// Prints what becomes of flows until somebody interrupts it, the lab ends, or nobody reads on.
pub fn flows(lab: &Lab, why: bool, json: bool) -> Result<(), Failure> {
    let mut known: Option<BTreeMap<Name, FlowView>> = None;
    loop {
        let now: Flows = serde_json::from_value(lab.ask(&Question::Flows { why })?)?;
        let now: BTreeMap<_, _> = now.flows.into_iter().map(|flow| (name(&flow), flow)).collect();
        let mut text = String::new();
        for (event, flow) in events(known.as_ref(), &now) {
            if json {
                let _ = writeln!(text, "{}", serde_json::to_string(&Line { event, flow })?);
            } else {
                let word = format!("{event:?}").to_lowercase();
                let _ = writeln!(text, "{word:6}  {}", print::flow(flow, why && event != Event::End));
            }
        }
        match std::io::stdout().write_all(text.as_bytes()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            result => result?,
        }
        known = Some(now);
        thread::sleep(INTERVAL);
    }
}

/// What has happened between two looks; before the first there was none.
fn events<'a>(
    before: Option<&'a BTreeMap<Name, FlowView>>,
    now: &'a BTreeMap<Name, FlowView>,
) -> Vec<(Event, &'a FlowView)> {
    let Some(before) = before else { return now.values().map(|flow| (Event::Open, flow)).collect() };
    // One that is younger than the last of its name is another one.
    let is_same = |old: &&FlowView, new: &FlowView| old.age_seconds <= new.age_seconds;
    let ended = before.iter().filter(|(name, old)| now.get(*name).is_none_or(|new| !is_same(old, new)));
    let ended = ended.map(|(_, flow)| (Event::End, flow));
    let here = now.iter().filter_map(|(name, flow)| match before.get(name).filter(|old| is_same(old, flow)) {
        None => Some((Event::New, flow)),
        Some(old) if old.phase != flow.phase => Some((Event::Change, flow)),
        Some(_) => None,
    });
    ended.chain(here).collect()
}

#[cfg(test)]
mod tests {
    use minivpc_control::view::Resource;

    use super::*;

    fn look(flows: &[(&str, &str, u32)]) -> BTreeMap<Name, FlowView> {
        let interface =
            Resource { kind: "network-interface".to_owned(), id: "eni-1".to_owned(), name: "a/eth0".to_owned() };
        let flow = |(remote, phase, age_seconds): &(&str, &str, u32)| FlowView {
            interface: interface.clone(),
            direction: "egress".to_owned(),
            protocol: 6,
            local: "10.0.0.1:5000".to_owned(),
            remote: (*remote).to_owned(),
            phase: (*phase).to_owned(),
            age_seconds: *age_seconds,
            idle_seconds: 0,
            steps: Vec::new(),
        };
        flows.iter().map(flow).map(|flow| (name(&flow), flow)).collect()
    }

    #[test]
    fn each_flow_is_told_once_when_it_comes_changes_and_goes() {
        let told = |before: Option<&BTreeMap<Name, FlowView>>, now: &BTreeMap<Name, FlowView>| {
            events(before, now).iter().map(|(event, flow)| (*event, flow.remote.clone())).collect::<Vec<_>>()
        };
        let of = |event, remote: &str| (event, remote.to_owned());
        let first = look(&[("x", "opening", 3), ("y", "stream", 9)]);
        assert_eq!(told(None, &first), [of(Event::Open, "x"), of(Event::Open, "y")]);
        assert_eq!(told(Some(&first), &first), []);
        let second = look(&[("x", "stream", 4), ("z", "opening", 0)]);
        let wanted = [of(Event::End, "y"), of(Event::Change, "x"), of(Event::New, "z")];
        assert_eq!(told(Some(&first), &second), wanted);
        let again = look(&[("x", "opening", 0), ("z", "opening", 1)]);
        assert_eq!(told(Some(&second), &again), [of(Event::End, "x"), of(Event::New, "x")], "another one of its name");
    }
}
