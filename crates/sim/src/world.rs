//! The world: the queue of events in virtual time, and what each of them does.
//!
//! It never decides for a node: the production machine does. What clients do is in `clients`, what operations do at a node in
//! `shell`, how the directory is asked in `requests`, what goes wrong in `faults`, what must hold in `invariants`. One event is
//! one instant; equal times keep the order in which they were scheduled, so that a run is a function of its seed.

use crate::coverage::Coverage;
use crate::directory::Model;
use crate::history::History;
use crate::host::{Clock, Host, Stimulus};
use crate::names::name_of;
use crate::network::Network;
use crate::operation::{Operation, Reply};
use crate::profile::{DRIFT_PPM_MAX, Profile};
use crate::random::Random;
use crate::trace::Trace;
use crate::truth::SessionTruth;
use crate::upstream::{Ask, Upstream};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use wayfarer_engine::directory::{Outcome, Transaction};
use wayfarer_engine::ids::{HandoverId, Incarnation, RequestId, SessionId};
use wayfarer_engine::node::{Effect, Input, Note, Verdict};

/// Between two ticks of a node.
pub(crate) const TICK_US: u64 = 5_000;
/// How long a process that has left needs to end.
pub(crate) const EXIT_US: u64 = 100_000;

/// An invariant that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Its name in the design.
    pub invariant: &'static str,
    /// What happened.
    pub what: String,
}

/// What happens at one instant.
#[derive(Clone, Debug)]
pub enum Event {
    /// A node's time passes.
    Tick(usize, Incarnation),
    /// Something reaches a process, if it is still there.
    Reach(Incarnation, Stimulus),
    /// A transaction reaches the directory.
    Transact {
        /// Who sent it.
        from: Incarnation,
        /// Joins the outcome.
        request: RequestId,
        /// What.
        transaction: Transaction,
        /// When its answer arrives, from now; `None`: never.
        answer_us: Option<u64>,
    },
    /// A read reaches the directory.
    Read {
        /// Who sent it.
        from: Incarnation,
        /// Joins the placement.
        request: RequestId,
        /// Of which session.
        session: SessionId,
        /// When its answer arrives, from now.
        answer_us: u64,
    },
    /// Something reaches the upstream.
    Upstream {
        /// Who sent it.
        from: Incarnation,
        /// Joins the answer.
        request: RequestId,
        /// Of which session.
        session: SessionId,
        /// What.
        ask: Ask,
        /// When its answer arrives, from now; `None`: never.
        answer_us: Option<u64>,
    },
    /// An operation of a client reaches the upstream, straight from its node.
    Direct {
        /// Who sent it.
        from: Incarnation,
        /// Which.
        operation: u64,
        /// When its answer arrives, from now; `None`: never.
        answer_us: Option<u64>,
    },
    /// The watch shows members and groups to a host.
    Show(usize),
    /// A client acts.
    Act(usize),
    /// A process starts and registers.
    Start(usize),
    /// A pause ends.
    Resume(usize),
    /// A process ends without warning.
    Crash(Incarnation),
    /// A process that has left ends.
    Exit(Incarnation),
    /// A node that has drained leaves, when nothing of its clients is under way any more.
    Leave(Incarnation),
    /// Something goes wrong, or an operator gives an order.
    Trouble,
}

/// See the head of this file.
pub struct World {
    pub(crate) profile: Profile,
    pub(crate) random: Random,
    pub(crate) now_us: u64,
    pub(crate) queue: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    pub(crate) directory: Model,
    pub(crate) upstream: Upstream,
    pub(crate) network: Network,
    pub(crate) hosts: Vec<Host>,
    pub(crate) homes: BTreeMap<Incarnation, usize>,
    pub(crate) sessions: Vec<SessionId>,
    pub(crate) operations: BTreeMap<u64, Operation>,
    pub(crate) truth: Vec<SessionTruth>,
    pub(crate) history: History,
    pub(crate) elsewhere: BTreeMap<(usize, usize), HandoverId>,
    pub(crate) renewed_us: BTreeMap<Incarnation, u64>,
    /// When last no member took sessions: operators had told all of them not to, and an operation may find nobody to run it.
    pub(crate) nobody_accepts_us: Option<u64>,
    pub(crate) left: BTreeSet<Incarnation>,
    pub(crate) calm: bool,
    pub(crate) last_id: u64,
    pub(crate) coverage: Coverage,
    pub(crate) trace: Trace,
    pub(crate) violation: Option<Violation>,
}

impl World {
    /// The world that a seed gives, before anything has happened.
    pub fn new(seed: u64, keep_trace: bool) -> World {
        let mut random = Random::new(seed);
        let mut profile = Profile::draw(&mut random);
        // By a die of its own, so that the worlds without it are those that their seeds always gave.
        profile.renames = profile.sessions > 1 && Random::new(!seed).chance(400);
        let mut world = World {
            now_us: 0,
            queue: BTreeMap::new(),
            scheduled: 0,
            directory: Model::default(),
            upstream: Upstream::default(),
            network: Network::default(),
            hosts: Vec::new(),
            homes: BTreeMap::new(),
            sessions: (0..profile.sessions).map(|n| SessionId::copy_of(format!("s{n}").as_bytes())).collect(),
            operations: BTreeMap::new(),
            truth: vec![SessionTruth::default(); profile.sessions],
            history: History::default(),
            elsewhere: BTreeMap::new(),
            renewed_us: BTreeMap::new(),
            nobody_accepts_us: None,
            left: BTreeSet::new(),
            calm: false,
            last_id: 0,
            coverage: Coverage::default(),
            trace: Trace::new(keep_trace),
            violation: None,
            random,
            profile,
        };
        for host in 0..world.profile.hosts {
            let ahead_ppm = world.random.between(0, 2 * DRIFT_PPM_MAX) as i64 - DRIFT_PPM_MAX as i64;
            let clock = Clock { offset_us: world.random.between(0, 1 << 40), ahead_ppm };
            world.hosts.push(Host {
                clock,
                process: None,
                paused_until_us: None,
                inbox: VecDeque::new(),
                cut_until_us: 0,
                view_under_way: false,
                starting: true,
            });
            let at = world.random.between(0, 60_000);
            world.after(at, Event::Start(host));
        }
        for client in 0..world.profile.clients {
            world.after(100_000, Event::Act(client));
        }
        world.after(150_000, Event::Trouble);
        world
    }

    pub(crate) fn after(&mut self, delay_us: u64, event: Event) {
        self.scheduled += 1;
        self.queue.insert((self.now_us + delay_us, self.scheduled), event);
    }

    pub(crate) fn violate(&mut self, invariant: &'static str, what: String) {
        self.trace.line(self.now_us, format_args!("VIOLATION of \"{invariant}\": {what}"));
        self.violation.get_or_insert(Violation { invariant, what });
    }

    /// The next event; false if there is none.
    pub fn step(&mut self) -> bool {
        let Some(((at_us, _), event)) = self.queue.pop_first() else { return false };
        self.now_us = at_us;
        self.coverage.events += 1;
        match event {
            Event::Tick(host, me) => {
                if self.host_of(me) == Some(host) {
                    self.after(TICK_US, Event::Tick(host, me));
                    if self.hosts[host].paused_until_us.is_none() {
                        self.feed(host, Input::Tick);
                        self.give_up_late(host);
                    }
                }
            }
            Event::Reach(to, stimulus) => {
                if let Some(host) = self.host_of(to) {
                    self.stimulate(host, stimulus);
                }
            }
            Event::Transact { from, request, transaction, answer_us } => self.transact(from, request, &transaction, answer_us),
            Event::Read { from, request, session, answer_us } => {
                let placement = Some(self.directory.read(&session));
                self.after(answer_us, Event::Reach(from, Stimulus::Input(Input::Placement { request, placement })));
            }
            Event::Upstream { from, request, session, ask, answer_us } => {
                self.upstream(from, request, &session, &ask, answer_us);
            }
            Event::Direct { from, operation, answer_us } => self.direct(from, operation, answer_us),
            Event::Show(host) => self.show(host),
            Event::Act(client) => self.act(client),
            Event::Start(host) => self.start(host),
            Event::Resume(host) => self.resume(host),
            Event::Crash(who) => self.host_of(who).into_iter().for_each(|host| self.crash(host)),
            Event::Exit(who) => {
                let busy = self.operations.values().any(|o| o.entry == who && !o.answered);
                if busy && self.host_of(who).is_some() {
                    self.after(TICK_US, Event::Exit(who));
                } else if let Some(host) = self.host_of(who) {
                    self.end_process(host);
                    self.after(200_000, Event::Start(host));
                    self.hosts[host].starting = true;
                }
            }
            Event::Leave(who) => self.leave(who),
            Event::Trouble => self.trouble(),
        }
        self.check();
        true
    }

    /// The host on which this life runs now.
    pub(crate) fn host_of(&self, who: Incarnation) -> Option<usize> {
        let host = self.homes.get(&who).copied()?;
        self.hosts[host].process.as_ref().filter(|p| p.me == who).map(|_| host)
    }

    pub(crate) fn stimulate(&mut self, host: usize, stimulus: Stimulus) {
        if self.hosts[host].paused_until_us.is_some() {
            self.hosts[host].inbox.push_back(stimulus);
            return;
        }
        match stimulus {
            Stimulus::Input(input) => self.feed(host, input),
            Stimulus::Begin(operation) => self.begin(host, operation),
            Stimulus::Forwarded { from, operation } => self.forwarded(host, from, operation),
            Stimulus::Replied { operation, reply } => self.replied(host, operation, reply),
            Stimulus::Answered { operation, reply } => self.came_from_upstream(host, operation, reply),
            Stimulus::Again(visit) => self.visit(host, visit),
            Stimulus::Verdict(ticket, verdict) => self.decided(host, ticket, verdict),
            Stimulus::Wake(session) => self.wake(host, &session),
        }
    }

    /// Gives one input to the machine of a host and performs what it wants.
    pub(crate) fn feed(&mut self, host: usize, input: Input) {
        let now = self.hosts[host].clock.now(self.now_us);
        let Some(process) = self.hosts[host].process.as_mut() else { return };
        let me = process.me;
        match &input {
            Input::Tick | Input::View(_) => {}
            Input::Message { from, message } => {
                self.trace.line(self.now_us, format_args!("{} <- {}: {}", me.0.0, from.0.0, name_of(message)));
            }
            Input::Outcome { request, outcome } => {
                let how = match outcome {
                    None => "unknown".into(),
                    Some(Outcome::Applied { epoch }) => format!("applied at {}", epoch.0),
                    Some(Outcome::Refused { found }) => format!("refused, found {:?}", found.key()),
                };
                self.trace.line(self.now_us, format_args!("{} <- outcome {}: {how}", me.0.0, request.0));
            }
            other => self.trace.line(self.now_us, format_args!("{} <- {other:?}", me.0.0)),
        }
        let mut effects = Vec::new();
        process.node.handle(now, input, &process.table, &mut effects);
        for effect in effects {
            self.perform(host, me, effect);
        }
    }

    fn perform(&mut self, host: usize, me: Incarnation, effect: Effect) {
        match effect {
            Effect::Send { to, message } => {
                let Some(there) = self.homes.get(&to).copied() else { return };
                match self.network.carry(host, there, self.now_us, &self.profile, &mut self.random) {
                    Some(delay_us) => {
                        self.after(delay_us, Event::Reach(to, Stimulus::Input(Input::Message { from: me, message })));
                    }
                    // A connection that is known to be broken refuses what is sent; another loses it silently.
                    None => {
                        let told = if self.random.chance(500) { Input::not_sent(&message) } else { None };
                        told.into_iter().for_each(|input| self.after(0, Event::Reach(me, Stimulus::Input(input))));
                    }
                }
            }
            Effect::Transact { request, transaction } => self.send_transaction(host, me, request, transaction),
            Effect::Read { request, session } => self.send_read(host, me, request, session),
            Effect::Probe(incarnation) => {
                let dead = self.host_of(incarnation).is_none();
                let delay_us = self.random.between(500, 20_000);
                self.after(delay_us, Event::Reach(me, Stimulus::Input(Input::Probed { incarnation, dead })));
            }
            // A shell must wait for the wake from the very effect that tells it to, or it misses a wake that follows at once.
            Effect::Answer { ticket, verdict: Verdict::Parked } => self.decided(host, ticket, Verdict::Parked),
            Effect::Answer { ticket, verdict } => {
                let delay_us = self.random.between(0, 100);
                self.after(delay_us, Event::Reach(me, Stimulus::Verdict(ticket, verdict)));
            }
            Effect::Wake(session) => {
                let delay_us = self.random.between(0, 100);
                self.after(delay_us, Event::Reach(me, Stimulus::Wake(session)));
            }
            Effect::LeaseUntil(until_us) => {
                if let Some(process) = self.hosts[host].process.as_mut() {
                    process.lease_until_us = until_us;
                    let longer_us = self.profile.node.lease.lost_after_us.unwrap_or(u64::MAX);
                    process.direct_until_us = if until_us == 0 { 0 } else { until_us.saturating_add(longer_us) };
                }
            }
            Effect::Fenced => {
                self.coverage.heard_of_fence += 1;
                self.end_process(host);
                self.hosts[host].starting = true;
                self.after(30_000, Event::Start(host));
            }
            Effect::Drained => {
                self.coverage.drains += 1;
                self.trace.line(self.now_us, format_args!("{} has drained", me.0.0));
                self.hosts[host].process.iter_mut().for_each(|process| process.leaving = true);
                self.leave(me);
            }
            Effect::Gave { .. } => self.coverage.gifts += 1,
            Effect::Look { request, session } => self.ask_upstream(me, request, session, Ask::Look),
            Effect::Load { request, session, epoch, keys, becomes_ours: ours } => {
                self.ask_upstream(me, request, session, Ask::Load(epoch, keys, ours));
            }
            Effect::Store { request, session, batch } => self.ask_upstream(me, request, session, Ask::Store(batch)),
            Effect::StoreBoth { request, swap } => self.ask_upstream(me, request, swap.from.clone(), Ask::StoreBoth(swap)),
            Effect::CheckedIn { .. } | Effect::Expired(_) => {}
            Effect::Route(route) => self.reroute(host, route),
            Effect::Note(Note::Renamed(from, to)) => self.note_renamed(host, &from, &to),
            Effect::Note(note) => self.note(me, &note),
        }
    }

    fn note(&mut self, me: Incarnation, note: &Note) {
        self.trace.line(self.now_us, format_args!("{} notes {note:?}", me.0.0));
        let coverage = &mut self.coverage;
        match note {
            Note::Born => coverage.births += 1,
            Note::Ended => coverage.ends += 1,
            Note::Opened(..) => coverage.commits += 1,
            Note::Aborted(..) => coverage.aborts += 1,
            Note::Declined(_) => coverage.declines += 1,
            Note::Fetched { .. } => coverage.fetches += 1,
            // Nobody forges anything in this world.
            Note::Mismatch => self.violate("never wrong data", "a value did not match its manifest".to_owned()),
            Note::Lost => coverage.lost_variables += 1,
            Note::CheckedOut => coverage.check_outs += 1,
            Note::Flushed { .. } | Note::UpstreamFailed | Note::CheckedIn | Note::CheckInFailed(_) => {}
            // Nobody but nodes writes there, and the guard tells those apart.
            Note::Foreign(..) => self.violate("one owner", "a key at rest was written by somebody else".to_owned()),
            Note::Stale(_) => {}
            Note::ResidualEnded => coverage.residuals_ended += 1,
            Note::Froze(..) | Note::Left(..) | Note::Demoted(_) | Note::Fenced(_) => {}
            Note::AdoptionSkipped | Note::SessionLost(_) | Note::Unsendable(_) | Note::Renamed(..) => {}
        }
    }

    /// The life on a host is over, and everything in its memory is gone.
    pub(crate) fn end_process(&mut self, host: usize) {
        let Some(process) = self.hosts[host].process.take() else { return };
        self.trace.line(self.now_us, format_args!("{} is over", process.me.0.0));
        self.remember_lost(&process);
        self.hosts[host].inbox.clear();
        self.hosts[host].paused_until_us = None;
        let waiting: Vec<u64> = self.operations.iter().filter(|(_, o)| o.entry == process.me).map(|(n, _)| *n).collect();
        waiting.into_iter().for_each(|operation| self.answer(operation, Reply::Unknown));
    }
}
