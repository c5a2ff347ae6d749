//! A running lab, and how it changes: prepared beside what runs, published at once, and then the rest is cleared away.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use minivpc_config::Lab;
use minivpc_dataplane::services::port;
use minivpc_dataplane::{Engine, Now, compile};
use minivpc_host::{GuestSpec, HostError, Keeper, Outside, Ports, Publisher};
use minivpc_model::{GuestId, InstanceId, Op, World};
use minivpc_services::Authority;
use serde_json::Value;

use crate::answer::{Answers, json, not_found};
use crate::capture::{Capture, Captures};
use crate::commands::{Server, Starting};
use crate::guest::{self, Guest, Start};
use crate::protocol::{Answer, CaptureRequest, Change, Failure, LabFile, Question};
use crate::saved::{self, Base, Saved};
use crate::views::Views;
use crate::{change, commands, set, subnet_services};

/// One running lab.
pub(crate) struct Running {
    /// Its directory.
    pub directory: PathBuf,
    pub engine: Arc<Engine>,
    pub publisher: Publisher,
    pub keeper: Keeper,
    pub base: Base,
    pub authority: Authority,
    /// The TAP of the port of the subnets' services.
    services: Arc<OwnedFd>,
    /// When this engine took over.
    pub took_over: Now,
    captures: Captures,
    /// What is published, for those who can't wait for a change.
    pub published: ArcSwap<World>,
    /// One change at a time.
    current: Mutex<Current>,
}

/// What runs between two changes.
#[derive(Default)]
pub(crate) struct Current {
    pub lab: Lab,
    /// What it was made of last.
    pub file: LabFile,
    pub guests: BTreeMap<GuestId, Guest>,
    /// Guests started so far.
    starts: u64,
}

impl Current {
    /// What makes the lab that `file` describes of this one.
    pub fn next(&self, file: &LabFile) -> Result<(Vec<Op>, Lab), Failure> {
        let wanted = minivpc_config::load(&file.text, &crate::lab::now(), Some(&self.lab));
        let wanted = wanted.map_err(|mistake| Failure::Mistake(Box::new(mistake)))?;
        Ok(wanted.succeed(&self.lab).map_err(|refusal| refusal.to_string())?)
    }

    /// What the file is called, for messages.
    pub fn file_name(&self) -> String {
        let path = &self.file.path;
        path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
    }
}

impl Running {
    /// Nothing runs yet; [`Change::Apply`] brings the lab up.
    ///
    /// # Errors
    /// When the port of the subnets' services can't be made.
    pub fn new(
        directory: PathBuf,
        engine: Arc<Engine>,
        publisher: Publisher,
        keeper: Keeper,
        base: Base,
        authority: Authority,
    ) -> Result<Self, HostError> {
        let (captures, current, took_over) = (Captures::default(), Mutex::default(), base.clock.now());
        let services = subnet_services::tap(&keeper, base.moving.backend)?;
        let published = ArcSwap::default();
        Ok(Self {
            directory,
            engine,
            publisher,
            keeper,
            base,
            authority,
            services,
            took_over,
            captures,
            published,
            current,
        })
    }

    /// Takes over from an engine that has died: what runs stays, what is missing is made, and what an unfinished change
    /// has left behind goes.
    pub fn take_over(&self, saved: Saved) -> Result<(), Failure> {
        let mut current = self.current();
        let all = self.keeper.guests()?;
        let running: BTreeSet<_> = all.iter().map(|guest| guest.name.clone()).collect();
        let mut guests = BTreeMap::new();
        let left = saved.guests.into_iter().filter(|(_, (spec, ..))| running.contains(&spec.name));
        for (id, (spec, run, start)) in left {
            let serials = guest::serials(&saved.lab.world, id);
            // Better one guest without an interface than a lab without an engine.
            if let Err(error) = self.keeper.assign(&spec.name, &spec.interfaces) {
                tracing::error!(guest = spec.name, %error, "its interfaces");
            }
            let taps = self.keeper.taps(&spec.name)?.into_iter().map(Arc::new);
            guests.insert(id, Guest { taps: serials.into_iter().zip(taps).collect(), spec, run, start });
        }
        let adopted: BTreeSet<_> = guests.values().map(|guest| guest.spec.name.clone()).collect();
        for unknown in running.difference(&adopted).filter(|name| *name != subnet_services::GUEST) {
            self.keeper.remove_guest(unknown)?;
        }
        match saved::read_flows(&self.directory) {
            Ok(flows) => self.engine.state().restore(flows.unwrap_or_default()),
            // Better without flows than without an engine.
            Err(error) => tracing::error!(%error, "the flows are lost"),
        }
        *current = Current { lab: saved.lab.clone(), file: saved.file.clone(), guests, starts: saved.starts };
        self.turn_into(&mut current, saved.lab, saved.file, &BTreeMap::new())?;
        // The engine before may have died before it started their commands.
        let waiting: BTreeSet<_> = all.into_iter().filter(|guest| !guest.entered).map(|guest| guest.name).collect();
        self.start_commands(&current, &waiting);
        Ok(())
    }

    pub fn now(&self) -> Now {
        self.base.clock.now()
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn answer(&self, question: Question) -> Answer {
        let current = self.current();
        let (ports, file) = (self.publisher.load(), current.file_name());
        let views = Views { lab: &current.lab, file: &file, snapshot: &ports.snapshot };
        Answers { running: self, current: &current, views }.answer(question)
    }

    /// Looks at packets from now on.
    pub fn start_capture(&self, wanted: CaptureRequest) -> Result<Arc<Capture>, Failure> {
        let current = self.current();
        let capture = Arc::new(Capture::new(wanted, &current.lab.world, &self.publisher.load().snapshot)?);
        self.captures.add(&capture)?;
        let published = self.ports(&current).and_then(|ports| Ok(self.publisher.publish(ports)?));
        if published.is_err() {
            self.captures.remove(&capture);
        }
        published.map(|()| capture)
    }

    /// Looks at them no more.
    pub fn end_capture(&self, capture: &Arc<Capture>) {
        let current = self.current();
        if self.captures.remove(capture)
            && let Err(failure) = self.ports(&current).and_then(|ports| Ok(self.publisher.publish(ports)?))
        {
            tracing::error!(?failure, "ending a capture");
        }
    }

    pub fn change(&self, change: Change) -> Answer {
        self.make(&mut self.current(), change)
    }

    fn make(&self, current: &mut Current, change: Change) -> Answer {
        match change {
            Change::Apply(file) => {
                let (ops, next) = current.next(&file)?;
                let restarted = ops.iter().filter_map(guest::made_by).map(|id| (id, Start::First)).collect();
                let plan = change::plan(&ops, current, &next, &file);
                self.turn_into(current, next, file, &restarted)?;
                return json(&plan);
            }
            Change::Stop(instance) => self.operate(current, &instance, Op::StopInstance)?,
            Change::Start(instance) => self.operate(current, &instance, start)?,
            Change::Restart(instance) => {
                let id = current.lab.world.find_guest(&instance).map_err(not_found)?;
                if !current.guests.contains_key(&id) {
                    let message = format!("instance '{instance}' is stopped; `minivpc start {instance}` starts it");
                    return Err(message.into());
                }
                let (next, file) = (current.lab.clone(), current.file.clone());
                self.turn_into(current, next, file, &BTreeMap::from([(id, Start::Later)]))?;
            }
            Change::Set(setting) => {
                let ops = set::ops(&current.lab.world, &setting)?;
                let mut next = current.lab.clone();
                for op in &ops {
                    next.world.apply(op.clone()).map_err(|refusal| refusal.to_string())?;
                }
                let file = current.file.clone();
                let plan = change::plan(&ops, current, &next, &file);
                self.turn_into(current, next, file, &BTreeMap::new())?;
                return json(&plan);
            }
            Change::Reset => self.reset(current)?,
        }
        Ok(Value::Null)
    }

    /// One operation on an instance.
    fn operate(&self, current: &mut Current, instance: &str, op: fn(InstanceId) -> Op) -> Result<(), Failure> {
        let id = current.lab.world.find_instance(instance).map_err(not_found)?;
        let mut next = current.lab.clone();
        next.world.apply(op(id)).map_err(|refusal| refusal.to_string())?;
        let file = current.file.clone();
        self.turn_into(current, next, file, &BTreeMap::new())
    }

    /// As the lab was when it came up: the file's state, new guests, no flows.
    fn reset(&self, current: &mut Current) -> Result<(), Failure> {
        let file = current.file.clone();
        let (_, mut next) = current.next(&file)?;
        let stopped = |world: &World| -> Vec<_> {
            world.instances().filter(|i| !i.is_running() && !i.is_terminated()).map(|i| i.id).collect()
        };
        for id in stopped(&next.world) {
            next.world.apply(start(id)).map_err(|refusal| refusal.to_string())?;
        }
        let all = guest::wanted(&next.world).map(|id| (id, Start::First)).collect();
        self.turn_into(current, next, file, &all)?;
        self.engine.state().clear(self.now().tick());
        self.engine.drops().clear();
        Ok(())
    }

    fn saved(&self, current: &Current) -> Saved {
        let parts = |guest: &Guest| (guest.spec.clone(), guest.run.clone(), guest.start);
        let guests = current.guests.iter().map(|(id, guest)| (*id, parts(guest)));
        Saved {
            base: self.base,
            lab: current.lab.clone(),
            authority: self.authority.clone(),
            file: current.file.clone(),
            guests: guests.collect(),
            starts: current.starts,
        }
    }

    /// What is published of `next`, with the captures that run now.
    fn ports(&self, next: &Current) -> Result<Ports, Failure> {
        let generation = self.publisher.load().snapshot.generation + 1;
        let mut snapshot = compile(&next.lab.world, generation).map_err(|error| error.to_string())?;
        snapshot.armed = self.captures.armed();
        let taps = next.guests.values().flat_map(|guest| &guest.taps).map(|(serial, tap)| (serial, tap));
        let services = std::iter::once((&port::SERIAL, &self.services));
        let taps: BTreeMap<_, _> = taps.chain(services).collect();
        let taps = snapshot.serials().map(|serial| taps.get(&serial).map(|tap| Arc::clone(tap))).collect();
        Ok(Ports::new(snapshot, taps, self.base.moving.backend))
    }

    /// Turns what runs into `next`. What can fail comes first, beside what runs; until the snapshot is published nobody
    /// can tell, and a failure takes back all that was made.
    fn turn_into(
        &self,
        current: &mut Current,
        next: Lab,
        file: LabFile,
        restarted: &BTreeMap<GuestId, Start>,
    ) -> Result<(), Failure> {
        let hosts = next.world.internet_hosts().map(|host| (host.address, host.name.clone()));
        let names = hosts.chain(guest::public_names(&next.world)).collect();
        self.keeper.outside(Outside { authority: self.authority.certificate().to_owned(), names })?;
        let mut guests = BTreeMap::new();
        let mut undo = Undo { keeper: &self.keeper, made: Vec::new(), assigned: Vec::new() };
        let mut starts = current.starts;
        for id in guest::wanted(&next.world) {
            let old = current.guests.get(&id).filter(|_| !restarted.contains_key(&id));
            let run = next.guests.get(&id).map(|guest| guest.run.clone()).unwrap_or_default();
            let spec = guest::spec(&next, &self.directory, id, self.base.moving.backend)
                .map_err(|refusal| refusal.to_string())?;
            let guest = match old {
                Some(old) if old.can_stay(&spec, &run) => {
                    let spec = GuestSpec { name: old.spec.name.clone(), ..spec };
                    let added = undo.assign(old, &spec)?;
                    old.with(spec, guest::serials(&next.world, id), added)
                }
                _ => {
                    starts += 1;
                    let spec = GuestSpec { name: format!("{id}.{starts}"), ..spec };
                    let taps = undo.create(&spec)?.into_iter().map(Arc::new);
                    let taps = guest::serials(&next.world, id).into_iter().zip(taps).collect();
                    let start = restarted.get(&id).copied().unwrap_or(Start::Later);
                    Guest { spec, taps, run, start }
                }
            };
            guests.insert(id, guest);
        }
        let next = Current { lab: next, file, guests, starts };
        let ports = self.ports(&next)?;
        self.saved(&next).write(&self.directory)?;
        if let Err(error) = self.publisher.publish(ports) {
            self.saved(current).write(&self.directory)?;
            return Err(error.into());
        }

        let made: BTreeSet<_> = std::mem::take(&mut undo.made).into_iter().collect();
        undo.assigned.clear();
        self.published.store(Arc::new(next.lab.world.clone()));
        let before = std::mem::replace(current, next);
        let names: BTreeSet<_> = current.guests.values().map(|guest| &guest.spec.name).collect();
        for old in before.guests.values().map(|guest| &guest.spec.name).filter(|name| !names.contains(name)) {
            if let Err(error) = self.keeper.remove_guest(old) {
                tracing::error!(guest = old, %error, "removing a guest");
            }
        }
        // What interfaces have gone leave their names to others.
        for (id, Guest { spec, .. }) in &current.guests {
            let old = before.guests.get(id).filter(|old| old.spec.name == spec.name && old.spec != *spec);
            if let Some(Err(error)) = old.map(|_| self.keeper.assign(&spec.name, &spec.interfaces)) {
                tracing::error!(guest = spec.name, %error, "taking interfaces away");
            }
        }
        self.start_commands(current, &made);
        Ok(())
    }

    /// Starts the commands and servers of guests, by their names at the keeper's.
    fn start_commands(&self, current: &Current, guests: &BTreeSet<String>) {
        let mut starting = Vec::new();
        for (id, guest) in current.guests.iter().filter(|(_, guest)| guests.contains(&guest.spec.name)) {
            let server = self.server(&current.lab.world, *id);
            let instance = match id {
                GuestId::Instance(id) if guest.start == Start::First => current.lab.world.instance(*id).ok(),
                _ => None,
            };
            let user_data = instance.and_then(|instance| instance.user_data.as_deref());
            match commands::start(&self.directory, &current.file.path, *id, guest, server, user_data) {
                Ok(server) => starting.extend(server),
                Err(error) => tracing::error!(guest = %id, %error, "starting its commands"),
            }
        }
        starting.into_iter().for_each(Starting::wait);
    }

    /// What a host answers by itself.
    fn server(&self, world: &World, id: GuestId) -> Option<Server> {
        let GuestId::Host(id) = id else { return None };
        let host = world.host(id).ok().filter(|host| !host.serve.is_empty())?;
        match self.authority.identity(&host.name) {
            Ok(identity) => Some(Server { host: host.name.clone(), serve: host.serve.clone(), identity }),
            Err(error) => {
                tracing::error!(host = host.name, %error, "its certificate");
                None
            }
        }
    }
}

/// Takes back what was made for a change that fails.
struct Undo<'a> {
    keeper: &'a Keeper,
    made: Vec<String>,
    assigned: Vec<GuestSpec>,
}

impl Undo<'_> {
    fn create(&mut self, spec: &GuestSpec) -> Result<Vec<OwnedFd>, HostError> {
        let taps = self.keeper.create_guest(spec)?;
        self.made.push(spec.name.clone());
        Ok(taps)
    }

    /// What is new beside what it has; the TAPs of interfaces that are new.
    fn assign(&mut self, old: &Guest, new: &GuestSpec) -> Result<Vec<OwnedFd>, HostError> {
        if old.spec == *new {
            return Ok(Vec::new());
        }
        self.assigned.push(old.spec.clone());
        self.keeper.assign(&new.name, &old.interfaces_with(new))
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        for guest in &self.made {
            let _ = self.keeper.remove_guest(guest);
        }
        for spec in &self.assigned {
            let _ = self.keeper.assign(&spec.name, &spec.interfaces);
        }
    }
}

fn start(instance: InstanceId) -> Op {
    Op::StartInstance { instance, launch_time: crate::lab::now() }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Refused(error.to_string())
    }
}
