//! What an operation does at a node, as the production shell does it: look, run, check the lease, answer; or ask the machine.
//!
//! It decides nothing about ownership. An operation runs at once on a session that is open here; else the machine is asked and
//! its verdict followed: try again, answer that there is none, send the operation to the owner, or wait for a wake.
//! Invariant: *no lease, no answer*: the lease is looked at after the session was touched and before the reply leaves.

use crate::host::{Process, Stimulus, Visit};
use crate::operation::{Attempt, Kind, Reply, run};
use crate::rename::Step;
use crate::upstream::target;
use crate::world::{Event, World};
use wayfarer_engine::ids::{Incarnation, SessionId, Ticket};
use wayfarer_engine::node::{Input, Purpose, Verdict};
use wayfarer_engine::plan::Impact;
use wayfarer_engine::residence::{Came, Table};
use wayfarer_engine::rest::copy::Before;

/// How long a node works on an operation, on its own clock.
const OPERATION_US_MAX: u64 = 1_000_000;
/// How often an operation may try.
const TRIES_MAX: u32 = 100;

impl World {
    /// A client's operation arrives.
    pub(crate) fn begin(&mut self, host: usize, operation: u64) {
        self.visit_first(host, operation, None);
    }

    /// Another node's operation arrives.
    pub(crate) fn forwarded(&mut self, host: usize, from: Incarnation, operation: u64) {
        self.visit_first(host, operation, Some(from));
    }

    fn visit_first(&mut self, host: usize, operation: u64, from: Option<Incarnation>) {
        let deadline_us = self.hosts[host].clock.now(self.now_us).boot_us + OPERATION_US_MAX;
        self.visit(host, Visit { operation, from, tries: 0, deadline_us, ends: None, step: Step::First });
    }

    fn process(&mut self, host: usize) -> Option<&mut Process> {
        self.hosts[host].process.as_mut()
    }

    pub(crate) fn visit(&mut self, host: usize, mut visit: Visit) {
        let Some(operation) = self.operations.get(&visit.operation).cloned() else { return };
        if visit.from.is_none() && operation.answered {
            return;
        }
        visit.tries += 1;
        let waits = visit.from.is_none() && !self.may_begin(host, visit.operation);
        if !waits && visit.from.is_none() && self.goes_upstream(host) {
            return self.send_upstream(host, visit);
        }
        let now = self.hosts[host].clock.now(self.now_us);
        let (id, rule) = (self.sessions[operation.session].clone(), self.profile.adoption);
        let Some(process) = self.hosts[host].process.as_mut() else { return };
        if visit.tries > TRIES_MAX || now.boot_us >= visit.deadline_us {
            return self.finish(host, visit, Reply::Failed);
        }
        if let Kind::Rename { .. } = operation.kind {
            return if waits { self.hold(host, visit) } else { self.visit_rename(host, visit, &operation) };
        }
        let policy = self.profile.node.policy.clone();
        let keys = self.profile.keys;
        let names = operation.kind.keys(keys);
        let (attempt, adopt, impact) = process.table.with(&id, |slot| match slot.as_mut().filter(|r| r.is_open()) {
            Some(resident) => {
                let adopt = resident.arrived(visit.from, Came::Operation, now.boot_us, &rule);
                resident.used_us = now.boot_us;
                let before = Before::of(&resident.session, names.iter(), false);
                let attempt = run(operation.kind, resident, now.unix_ms, keys);
                let changes = matches!(attempt, Attempt::Ran { .. }) && operation.kind.changes();
                let rest = resident.rest.as_mut().filter(|_| changes);
                let impact = rest.and_then(|r| r.changed(&resident.session, before, names.iter(), &policy, now.boot_us));
                (attempt, adopt, impact)
            }
            None => (Attempt::NotHere, false, None),
        });
        if impact.is_some() {
            process.table.unwritten(&id);
        }
        let (me, in_lease) = (process.me, now.boot_us < process.lease_until_us);
        match attempt {
            Attempt::NotHere | Attempt::Unknown | Attempt::Fetch(_) if waits => self.hold(host, visit),
            Attempt::NotHere => {
                let creates = matches!(operation.kind, Kind::Write(..) | Kind::Update(..));
                let purpose = if creates { Purpose::Create } else { Purpose::Read };
                let ticket = self.ticket(host, visit);
                self.feed(host, Input::Locate { session: id.clone(), purpose, ticket });
            }
            Attempt::Unknown => {
                let ticket = self.ticket(host, visit);
                self.feed(host, Input::Reach { session: id.clone(), keys: names.into_iter().map(target).collect(), ticket });
            }
            Attempt::Fetch(variables) => {
                let ticket = self.ticket(host, visit);
                self.feed(host, Input::Need { session: id.clone(), variables, ticket });
            }
            Attempt::Lost => self.finish(host, visit, if in_lease { Reply::Lost } else { Reply::Failed }),
            Attempt::Ran { saw, emptied, key } => {
                self.trace.line(
                    self.now_us,
                    format_args!(
                        "{} runs {} {:?} on {}: saw {saw:?}",
                        me.0.0, visit.operation, operation.kind, operation.session
                    ),
                );
                let answers = in_lease && !emptied;
                self.judge_run(me, operation.session, (visit.operation, operation.kind), key, saw, answers);
                self.coverage.lapses += u64::from(!in_lease);
                self.coverage.forwarded += u64::from(visit.from.is_some());
                if !emptied && impact == Some(Impact::Critical) {
                    visit.ends = Some(Reply::Done(saw));
                    let ticket = self.ticket(host, visit);
                    self.feed(host, Input::Flush { session: id.clone(), ticket });
                } else if emptied {
                    visit.ends = Some(Reply::Done(saw));
                    let ticket = self.ticket(host, visit);
                    self.feed(host, Input::Ended { session: id.clone(), ticket: Some(ticket) });
                } else {
                    self.finish(host, visit, reply(in_lease, saw));
                }
            }
        }
        if let (true, Some(to)) = (adopt, visit.from) {
            self.feed(host, Input::Follow { session: id, to });
        }
    }

    /// An input that the machine answers to this visit.
    pub(crate) fn ticket_for(&mut self, host: usize, visit: Visit, input: impl FnOnce(Ticket) -> Input) -> Input {
        input(self.ticket(host, visit))
    }

    fn ticket(&mut self, host: usize, visit: Visit) -> Ticket {
        let Some(process) = self.process(host) else { return Ticket(0) };
        process.last_ticket += 1;
        let ticket = Ticket(process.last_ticket);
        process.tickets.insert(ticket, visit);
        ticket
    }

    /// The machine's verdict for one that asked.
    pub(crate) fn decided(&mut self, host: usize, ticket: Ticket, verdict: Verdict) {
        let now = self.hosts[host].clock.now(self.now_us);
        let Some(process) = self.hosts[host].process.as_mut() else { return };
        let Some(visit) = process.tickets.remove(&ticket) else {
            return self.violate("everything is bounded", format!("a second verdict {verdict:?} for one operation"));
        };
        let in_lease = now.boot_us < process.lease_until_us;
        let Some(operation) = self.operations.get(&visit.operation).cloned() else { return };
        if let Kind::Rename { .. } = operation.kind {
            return self.rename_decided(host, visit, &operation, verdict);
        }
        match verdict {
            Verdict::Here | Verdict::Fetched => self.visit(host, visit),
            Verdict::Absent => {
                if visit.from.is_some() || !operation.answered {
                    self.judge_absence(operation.session, operation.called_us);
                }
                self.finish(host, visit, Reply::Done(None));
            }
            Verdict::At(owner) => match visit.from {
                Some(_) => self.finish(host, visit, Reply::NotHere),
                None => self.send_on(host, visit, owner),
            },
            Verdict::Upstream => match visit.from {
                Some(_) => self.finish(host, visit, Reply::NotHere),
                None => self.send_upstream(host, visit),
            },
            Verdict::Parked => {
                let session = self.sessions[operation.session].clone();
                process.parked.push((session, visit));
            }
            Verdict::Ended | Verdict::Written => {
                let reply = visit.ends.filter(|_| in_lease).unwrap_or(Reply::Unknown);
                self.finish(host, visit, reply);
            }
            // For renames alone.
            Verdict::Renamed | Verdict::NoKey | Verdict::NameTaken => self.finish(host, visit, Reply::Unknown),
            Verdict::TryAgain(_) => {
                let reply = if visit.ends.is_some() { Reply::Unknown } else { Reply::Failed };
                self.finish(host, visit, reply);
            }
        }
    }

    pub(crate) fn send_on(&mut self, host: usize, visit: Visit, owner: Incarnation) {
        let Some(process) = self.process(host) else { return };
        let me = process.me;
        process.sent_on.insert(visit.operation, visit);
        let Some(there) = self.homes.get(&owner).copied() else { return };
        if let Some(delay_us) = self.network.carry(host, there, self.now_us, &self.profile, &mut self.random) {
            let stimulus = Stimulus::Forwarded { from: me, operation: visit.operation };
            self.after(delay_us, Event::Reach(owner, stimulus));
        }
    }

    /// The answer of the node to which an operation was sent.
    pub(crate) fn replied(&mut self, host: usize, operation: u64, reply: Reply) {
        let Some(visit) = self.process(host).and_then(|p| p.sent_on.remove(&operation)) else { return };
        match reply {
            Reply::NotHere => self.visit(host, visit),
            reply => self.finish(host, visit, reply),
        }
    }

    /// Sends the answer of this node: to its client, or to the node that forwarded the operation.
    pub(crate) fn finish(&mut self, host: usize, visit: Visit, reply: Reply) {
        let Some(to) = visit.from else {
            self.ends(host, visit.operation);
            return self.answer(visit.operation, reply);
        };
        let Some(there) = self.homes.get(&to).copied() else { return };
        if let Some(delay_us) = self.network.carry(host, there, self.now_us, &self.profile, &mut self.random) {
            self.after(delay_us, Event::Reach(to, Stimulus::Replied { operation: visit.operation, reply }));
        }
    }

    /// Parked operations of a session try again, in the order in which they came.
    pub(crate) fn wake(&mut self, host: usize, session: &SessionId) {
        let Some(process) = self.process(host) else { return };
        let (woken, parked) = std::mem::take(&mut process.parked).into_iter().partition(|(id, _)| id == session);
        process.parked = parked;
        let woken: Vec<(SessionId, Visit)> = woken;
        for (_, visit) in woken {
            self.visit(host, visit);
        }
    }

    /// Gives up what has waited too long. The client of a sent-on operation cannot know whether it ran.
    pub(crate) fn give_up_late(&mut self, host: usize) {
        let now_us = self.hosts[host].clock.now(self.now_us).boot_us;
        let Some(process) = self.hosts[host].process.as_mut() else { return };
        let mut over: Vec<(Visit, Reply)> = Vec::new();
        process.parked.retain(|(_, visit)| {
            let late = visit.deadline_us <= now_us;
            if late {
                over.push((*visit, Reply::Failed));
            }
            !late
        });
        let held = |v: &&Visit| v.deadline_us <= now_us;
        over.extend(process.holding.iter().filter(held).map(|v| (*v, Reply::Failed)));
        process.holding.retain(|v| v.deadline_us > now_us);
        let late: Vec<u64> = process.sent_on.iter().filter(|(_, v)| v.deadline_us <= now_us).map(|(n, _)| *n).collect();
        over.extend(late.iter().filter_map(|n| process.sent_on.remove(n)).map(|v| (v, Reply::Unknown)));
        // A verdict still comes for these; their clients wait no longer.
        let unanswered = |v: &&Visit| v.deadline_us <= now_us && v.from.is_none();
        let reply = |v: &Visit| if v.ends.is_some() { Reply::Unknown } else { Reply::Failed };
        over.extend(process.tickets.values().filter(unanswered).map(|v| (*v, reply(v))));
        for (visit, reply) in over {
            self.finish(host, visit, reply);
        }
    }
}

fn reply(in_lease: bool, saw: Option<u64>) -> Reply {
    if in_lease { Reply::Done(saw) } else { Reply::Unknown }
}
