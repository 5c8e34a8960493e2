//! The standing of a node: its lease, what it sees of the others, and who is dead.
//!
//! It never declares a member dead but by proof, or by a lease that stood still for longer than `lost_after`.
//! A renewal compares its own incarnation and all its groups, so a renewal that succeeds after a lapse has reread them.
//!
//! Invariant: *no lease, no answer*.

use super::{Effect, Input, Node, Note, Pending, Turn};
use crate::directory::{Compare, MemberState, Outcome, Transaction, View, Write};
use crate::ids::Incarnation;
use crate::lease::Claim;
use crate::residence::Table;

/// Members that are looked after at once; more wait until the watchdog or a broken connection asks again.
const PROBES_MAX: usize = 64;

impl Node {
    pub(super) fn tick_standing<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        if !self.left && self.lease.due(turn.now.boot_us) {
            let me = self.me.incarnation;
            let mut compare = vec![Compare::Alive { incarnation: me }];
            compare.extend(self.me.groups.iter().map(|(group, epoch)| Compare::Group {
                group: *group,
                owner: me,
                epoch: *epoch,
            }));
            let write = vec![Write::Renew { incarnation: me }];
            self.transact(Pending::Renew { sent_us: turn.now.boot_us }, Transaction { compare, write }, turn);
            // The change of state may have been lost, or an older one may have come after it.
            let published = self.view.members.get(&me).map(|m| m.state);
            if published.is_some_and(|state| state != self.state) && !self.pending.values().any(|p| *p == Pending::State) {
                self.publish_state(turn);
            }
        }
        self.watch_while_able(turn.now.boot_us);
        for claim in self.watchdog.claims(turn.now.boot_us) {
            match claim {
                Claim::Probe(who) => self.probe(who, turn),
                Claim::Fence(who, renewals) => self.fence(Compare::StandsStill { incarnation: who, renewals }, who, turn),
            }
        }
    }

    /// Whoever slept, or could not talk to the directory, has not seen anybody stand still: it begins to watch anew.
    fn watch_while_able(&mut self, now_us: u64) {
        let slept = now_us.saturating_sub(self.watched_us) > self.settings.lease.length_us / 4;
        self.watched_us = now_us;
        if slept || !self.lease.is_valid(now_us) {
            self.watchdog.restart(now_us);
        }
    }

    pub(super) fn renewed<T: Table>(&mut self, sent_us: u64, outcome: Option<Outcome>, turn: &mut Turn<'_, T>) {
        match outcome {
            Some(Outcome::Applied { .. }) => {
                self.lease.renewed(sent_us, turn.now.boot_us);
                turn.effects.push(Effect::LeaseUntil(self.lease.valid_until_us()));
            }
            Some(Outcome::Refused { .. }) => self.over(turn),
            // The next renewal is on its way by then; the lease lapses if none succeeds.
            None => {}
        }
    }

    pub(super) fn viewed<T: Table>(&mut self, view: View, turn: &mut Turn<'_, T>) {
        if view.members.get(&self.me.incarnation).is_some_and(|m| m.state == MemberState::Fenced) {
            return self.over(turn);
        }
        self.watchdog.observe(&view, self.me.incarnation, turn.now.boot_us);
        self.newest = self.newest.max(view.members.keys().next_back().copied().unwrap_or(self.newest));
        self.view = view;
        self.follow_mode(turn);
    }

    /// Whether a life has ended for good: fenced, or gone from the directory. One that registered after the newest view was
    /// taken is in no view yet, and lives.
    pub(super) fn is_gone(&self, who: Incarnation) -> bool {
        who <= self.newest && self.view.is_dead(who)
    }

    /// This life has ended: others may own what was here.
    fn over<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        if self.left {
            return;
        }
        self.state = MemberState::Fenced;
        self.lease.end();
        turn.effects.push(Effect::LeaseUntil(0));
        let mut inputs: Vec<Input> = Vec::new();
        self.locate.give_up(&mut inputs);
        self.late.give_up(&mut inputs);
        inputs.extend(self.behind.give_up().into_iter().map(|(session, ticket)| Input::Flush { session, ticket }));
        inputs.extend(self.renames.give_up().into_iter().map(|(rename, ticket)| Input::Rename { rename, ticket }));
        let reaching = self.pending.drain().filter_map(|(_, pending)| match pending {
            Pending::Reach { session, ticket, .. } => Some(Input::Reach { session, keys: Vec::new(), ticket }),
            _ => None,
        });
        inputs.extend(reaching);
        for input in inputs {
            Node::answer_fenced(input, turn);
        }
        turn.effects.push(Effect::Fenced);
    }

    /// A connection broke: look at once, the process may be gone.
    pub(super) fn suspect<T: Table>(&mut self, peer: Incarnation, turn: &mut Turn<'_, T>) {
        if !self.is_gone(peer) {
            self.probe(peer, turn);
        }
    }

    /// Looks for proof of death, once at a time for each member. A probe that nobody answers is forgotten after a lease.
    fn probe<T: Table>(&mut self, who: Incarnation, turn: &mut Turn<'_, T>) {
        let (now, patience_us) = (turn.now.boot_us, self.settings.lease.length_us);
        self.probing.retain(|_, since| *since + patience_us > now);
        if self.probing.len() < PROBES_MAX && !self.probing.contains_key(&who) {
            self.probing.insert(who, now);
            turn.effects.push(Effect::Probe(who));
        }
    }

    pub(super) fn probed<T: Table>(&mut self, who: Incarnation, dead: bool, turn: &mut Turn<'_, T>) {
        self.probing.remove(&who);
        if dead {
            self.fence(Compare::Alive { incarnation: who }, who, turn);
        }
    }

    /// Declares a member dead, if `still` holds.
    fn fence<T: Table>(&mut self, still: Compare, who: Incarnation, turn: &mut Turn<'_, T>) {
        if who == self.me.incarnation || self.pending.values().any(|p| *p == Pending::Fence(who)) {
            return;
        }
        let compare = vec![still, Compare::Alive { incarnation: self.me.incarnation }];
        let write = vec![Write::Fence { incarnation: who }];
        self.transact(Pending::Fence(who), Transaction { compare, write }, turn);
    }

    pub(super) fn fenced<T: Table>(&mut self, who: Incarnation, outcome: Option<Outcome>, turn: &mut Turn<'_, T>) {
        // Refused: somebody else was faster, or we are fenced ourselves; unknown: the watchdog comes back to it.
        if let Some(Outcome::Applied { .. }) = outcome {
            turn.note(Note::Fenced(who));
        }
    }

    pub(super) fn cordon<T: Table>(&mut self, on: bool, turn: &mut Turn<'_, T>) {
        if self.state == MemberState::Draining {
            return;
        }
        let state = if on { MemberState::Cordoned } else { MemberState::Accepting };
        self.state = state;
        self.publish_state(turn);
    }

    pub(super) fn publish_state<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        let (incarnation, state) = (self.me.incarnation, self.state);
        let compare = vec![Compare::Alive { incarnation }];
        self.transact(Pending::State, Transaction { compare, write: vec![Write::State { incarnation, state }] }, turn);
    }
}
