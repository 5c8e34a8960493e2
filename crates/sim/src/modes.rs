//! Modes of the cluster: the operators who order them, operations that wait for one, and those that go straight to the upstream.
//!
//! It never decides for a node: the production machine confirms, goes on and takes back. What the shells do is here as the
//! production shells do it: an operation has a pass from its beginning to its end, none begins while the mode is to be confirmed,
//! and the node is told when the last pass has ended.
//!
//! What a process has sent to the upstream does not arrive any more once the process has ended, nor a store of a life that was
//! declared dead once sessions have no owners: their connections are gone. (A claim would have refused that store by its guard.)
//! Invariant: *one owner*: what goes straight to the upstream goes to a session that has no owner.

use crate::host::{Stimulus, Visit};
use crate::network::fate;
use crate::operation::{Kind, Reply};
use crate::profile::DIRECTORY_PATIENCE_US;
use crate::world::{EXIT_US, Event, TICK_US, World};
use wayfarer_engine::directory::{Transaction, Write};
use wayfarer_engine::ids::{Incarnation, SessionId};
use wayfarer_engine::mode::{Event as ModeEvent, Goal, Phase, Route};
use wayfarer_engine::node::Input;

impl World {
    /// An operator wants another mode.
    pub(crate) fn order_mode(&mut self) {
        let goal = if self.random.chance(500) { Goal::Own } else { Goal::Observe };
        let mode = self.directory.view().mode;
        let Some(change) = mode.change(ModeEvent::Ordered(goal), String::new()) else { return };
        self.directory.transact(&change);
        self.coverage.modes_ordered += 1;
        self.trace.line(self.now_us, format_args!("an operator wants {goal:?}, the mode is {:?}", self.directory.view().mode));
        self.show_all();
    }

    /// Whether an operation of a client has a pass, or gets one.
    pub(crate) fn may_begin(&mut self, host: usize, operation: u64) -> bool {
        let Some(process) = self.hosts[host].process.as_mut() else { return true };
        if process.passes.contains(&operation) {
            return true;
        }
        let may = !matches!(process.route, Route::Wait { .. });
        if may {
            process.passes.insert(operation);
        }
        may
    }

    pub(crate) fn goes_upstream(&self, host: usize) -> bool {
        self.hosts[host].process.as_ref().is_some_and(|process| process.route == Route::Upstream)
    }

    pub(crate) fn hold(&mut self, host: usize, visit: Visit) {
        self.coverage.held += 1;
        if let Some(process) = self.hosts[host].process.as_mut() {
            process.holding.push(visit);
        }
    }

    /// The process ends its clients before it leaves: once it has left, whoever changes the mode does not wait for it any more.
    pub(crate) fn leave(&mut self, me: Incarnation) {
        let Some(host) = self.host_of(me) else { return };
        let passes = self.hosts[host].process.as_ref().is_some_and(|process| !process.passes.is_empty());
        let awaited = self.operations.values().any(|operation| operation.entry == me && !operation.answered);
        if passes || awaited {
            return self.after(TICK_US, Event::Leave(me));
        }
        self.trace.line(self.now_us, format_args!("{} leaves", me.0.0));
        self.left.insert(me);
        self.after(0, Event::Reach(me, Stimulus::Input(Input::Leave)));
        self.after(EXIT_US, Event::Exit(me));
    }

    /// An operation of a client has ended at its node.
    pub(crate) fn ends(&mut self, host: usize, operation: u64) {
        if let Some(process) = self.hosts[host].process.as_mut() {
            process.passes.remove(&operation);
        }
        self.tell_held(host);
    }

    /// Tells the node when nothing of its clients is under way and nothing begins.
    pub(crate) fn tell_held(&mut self, host: usize) {
        let Some(process) = self.hosts[host].process.as_ref() else { return };
        if let (Route::Wait { generation }, true) = (process.route, process.passes.is_empty()) {
            self.after(0, Event::Reach(process.me, Stimulus::Input(Input::Held { generation })));
        }
    }

    /// Operations of clients go another way from now on.
    pub(crate) fn reroute(&mut self, host: usize, route: Route) {
        let Some(process) = self.hosts[host].process.as_mut() else { return };
        process.route = route;
        if let Route::Wait { .. } = route {
            return self.tell_held(host);
        }
        for visit in std::mem::take(&mut process.holding) {
            self.visit(host, visit);
        }
    }

    /// Sends an operation of a client to the upstream.
    pub(crate) fn send_upstream(&mut self, host: usize, visit: Visit) {
        let now = self.hosts[host].clock.now(self.now_us);
        let answered = self.operations.get(&visit.operation).is_none_or(|operation| operation.answered);
        let Some(process) = self.hosts[host].process.as_mut().filter(|_| !answered) else { return };
        if now.boot_us >= process.direct_until_us {
            return self.finish(host, visit, Reply::Failed);
        }
        let me = process.me;
        process.direct.insert(visit.operation, visit);
        let fate = fate(&self.profile, &mut self.random);
        // A server that is busy takes its time: what waits for these operations must be seen to wait.
        let slow_us = if self.random.chance(5 * self.profile.slow) {
            self.random.between(10_000, DIRECTORY_PATIENCE_US - 5_000)
        } else {
            0
        };
        let applied_us = fate.applied_us.map(|at| at.max(slow_us)).filter(|at| *at < DIRECTORY_PATIENCE_US);
        let answer_us = fate.answered_us.zip(applied_us).map(|(answered, at)| answered.saturating_sub(at));
        if let Some(at) = applied_us {
            self.after(at, Event::Direct { from: me, operation: visit.operation, answer_us });
        }
        if answer_us.is_none() {
            let unknown = Stimulus::Answered { operation: visit.operation, reply: Reply::Unknown };
            self.after(DIRECTORY_PATIENCE_US, Event::Reach(me, unknown));
        }
    }

    /// An operation of a client reaches the upstream.
    pub(crate) fn direct(&mut self, from: Incarnation, number: u64, answer_us: Option<u64>) {
        let Some(operation) = self.operations.get(&number).cloned().filter(|_| self.host_of(from).is_some()) else { return };
        let id = self.sessions[operation.session].clone();
        self.coverage.direct += 1;
        if let Some(owner) = self.directory.read(&id).owner() {
            let what = format!("operation {number} of {} went to the upstream, and {} has its session", from.0.0, owner.0.0);
            return self.violate("one owner", what);
        }
        if let Kind::Rename { to, .. } = operation.kind
            && let Some(owner) = self.directory.read(&self.sessions[to]).owner()
        {
            let what = format!("rename {number} of {} went to the upstream, and {} has a session of it", from.0.0, owner.0.0);
            return self.violate("one owner", what);
        }
        let saw = self.upstream.direct(&id, operation.kind, self.profile.keys);
        self.trace.line(self.now_us, format_args!("upstream: {number} of {}: {:?}, saw {saw:?}", from.0.0, operation.kind));
        self.truth[operation.session].execute(operation.kind, self.now_us);
        self.promise_run(operation.session, operation.kind, number);
        if let Kind::Rename { place, to, .. } = operation.kind {
            self.direct_rename(operation.session, to, place, saw.is_some());
        }
        if let Some(answer_us) = answer_us {
            let answered = Stimulus::Answered { operation: number, reply: Reply::Done(saw) };
            self.after(answer_us, Event::Reach(from, answered));
        }
    }

    pub(crate) fn came_from_upstream(&mut self, host: usize, operation: u64, reply: Reply) {
        let visit = self.hosts[host].process.as_mut().and_then(|process| process.direct.remove(&operation));
        visit.into_iter().for_each(|visit| self.finish(host, visit, reply));
    }

    /// Whether a store of this life cannot arrive any more.
    pub(crate) fn is_cut_off(&self, from: Incarnation) -> bool {
        self.directory.view().mode.phase != Phase::Own && !self.directory.is_alive(from)
    }

    /// The records that a transaction will remove with a member's confirmation that it has no session.
    pub(crate) fn leftovers(&self, transaction: &Transaction) -> Vec<SessionId> {
        let disowns = transaction.write.iter().filter_map(|write| match write {
            Write::Disown { incarnation } => Some(*incarnation),
            _ => None,
        });
        disowns.flat_map(|who| self.directory.disowned(who)).collect()
    }

    /// After a transaction was applied: what went with it is at rest, and the counts.
    pub(crate) fn judge_mode(&mut self, transaction: &Transaction, leftovers: &[SessionId]) {
        for session in leftovers {
            if let Some(at) = self.sessions.iter().position(|id| id == session) {
                self.judge_forget(at, None);
            }
        }
        for write in &transaction.write {
            if let Write::Mode { note, .. } = write {
                let count = if note.is_empty() { &mut self.coverage.modes_reached } else { &mut self.coverage.modes_taken_back };
                *count += 1;
            }
        }
    }
}
