//! What a node does about the cluster's mode: it follows the record, confirms, goes on when all have, and takes back what is late.
//!
//! The table is in [`crate::mode`]; here are its events. It never acts on a mode that the directory has not shown, and never
//! confirms what it has not been told or seen itself.
//!
//! | phase | this node |
//! |---|---|
//! | own, observe | nothing |
//! | settling | sends every session to rest; confirms when it has none and nothing under way can give it one |
//! | parking | confirms when the shell says that nothing of its clients is under way to the upstream |
//!
//! The living member with the lowest incarnation makes the changes; the others do after [`FOLLOW_US`], should it not.
//! Invariant: *one owner*: while the mode is not `own` nothing is claimed, proposed or taken here.

use super::{Effect, Node, Pending, Turn, Verdict};
use crate::bugs::{self, Bug};
use crate::directory::{Compare, Location, Outcome, Placement, Transaction, Write};
use crate::ids::SessionId;
use crate::mode::{Event, Goal, Mode, Phase, Route, taken_back, unconfirmed};
use crate::node::Reason;
use crate::residence::Table;

/// So much later than the first of them the other members make a change.
const FOLLOW_US: u64 = 250_000;

/// What a node knows of the mode.
#[derive(Debug, Default)]
pub(super) struct Modes {
    mode: Mode,
    /// Since when.
    since_us: u64,
    /// The generation for which the shell has said that nothing is under way to the upstream.
    held: u64,
    /// Neither a confirmation nor a change is sent again before.
    pause_until_us: u64,
    /// No round of check-ins is begun before.
    settle_at_us: u64,
}

impl Modes {
    pub(super) fn new(mode: Mode, now_us: u64) -> Modes {
        Modes { mode, since_us: now_us, ..Modes::default() }
    }

    /// Whether sessions may get an owner, or another one.
    pub(super) fn owns(&self) -> bool {
        self.mode.phase == Phase::Own
    }
}

impl Node {
    /// Where operations of clients go at this member now.
    pub fn route(&self) -> Route {
        self.modes.mode.route()
    }

    /// The view shows the mode.
    pub(super) fn follow_mode<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        let mode = self.view.mode;
        if mode.generation > self.modes.mode.generation {
            self.modes = Modes::new(mode, turn.now.boot_us);
            turn.effects.push(Effect::Route(mode.route()));
        }
    }

    /// Nothing of this node's clients is under way to the upstream, and nothing begins.
    pub(super) fn held<T: Table>(&mut self, generation: u64, turn: &mut Turn<'_, T>) {
        self.modes.held = self.modes.held.max(generation);
        self.tick_modes(turn);
    }

    pub(super) fn tick_modes<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        let mode = self.modes.mode;
        if mode.phase == Phase::Settling && self.settings.rest.is_some() {
            self.settle_all(turn);
        }
        if self.left || turn.now.boot_us < self.modes.pause_until_us || !self.lease.is_valid(turn.now.boot_us) {
            return;
        }
        if let Some(transaction) = self.next_of_mode(mode, turn) {
            self.modes.pause_until_us = turn.now.boot_us + self.settings.retry_us;
            self.transact(Pending::Mode, transaction, turn);
        }
    }

    /// What this node has to say about the mode now, if anything: a confirmation, or a change.
    fn next_of_mode<T: Table>(&self, mode: Mode, turn: &Turn<'_, T>) -> Option<Transaction> {
        let now_us = turn.now.boot_us;
        // A member whose sessions cannot rest would keep everybody on the way for ever.
        if self.settings.rest.is_none() && mode.phase == Phase::Settling {
            let name = self.view.members.get(&self.me.incarnation).map(|m| m.draft.name.as_str());
            let note = format!("taken back: {} has no upstream for sessions at rest", name.unwrap_or("a member"));
            return mode.change(Event::Ordered(Goal::Own), note);
        }
        let ready = match mode.phase {
            Phase::Own | Phase::Observe => return None,
            Phase::Settling => self.is_settled(turn),
            Phase::Parking { .. } => self.modes.held == mode.generation || bugs::on(Bug::ConfirmUnderWay),
        };
        let confirmed = self.view.members.get(&self.me.incarnation).is_some_and(|m| m.confirmed == mode.generation);
        if ready && !confirmed {
            return Some(mode.confirmation(self.me.incarnation));
        }
        let living = self.view.others(self.me.incarnation).map(|m| m.incarnation);
        let follows = living.min().is_some_and(|first| first < self.me.incarnation);
        let waited_us = now_us.saturating_sub(self.modes.since_us).saturating_sub(if follows { FOLLOW_US } else { 0 });
        if self.view.mode == mode && unconfirmed(&self.view).next().is_none() && (!follows || waited_us > 0) {
            return mode.change(Event::AllConfirmed, String::new());
        }
        let late = matches!(mode.phase, Phase::Parking { .. }) && waited_us > self.settings.mode_us_max;
        if late { mode.change(Event::Late, taken_back(&self.view)) } else { None }
    }

    /// Whether this node has no session, and nothing that is under way can give it one.
    fn is_settled<T: Table>(&self, turn: &Turn<'_, T>) -> bool {
        if bugs::on(Bug::ConfirmUnsettled) {
            return true;
        }
        let bears = |p: &Pending| matches!(p, Pending::Birth { .. } | Pending::Load { .. } | Pending::Commit(_));
        let moving = self.incoming.count() > 0 || self.outgoing.count() > 0 || !self.check_ins.is_idle();
        turn.table.count() == 0 && !moving && self.locate.is_idle() && !self.pending.values().any(bears)
    }

    /// Puts every session in line to rest, round after round.
    fn settle_all<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        let now_us = turn.now.boot_us;
        if turn.table.count() > 0 && self.check_ins.is_idle() && now_us >= self.modes.settle_at_us {
            self.modes.settle_at_us = now_us + self.settings.retry_us;
            self.check_in(turn.table.ids(), None, turn);
        }
    }

    /// A session, read while the mode is not `own`: its owner has it, or the upstream.
    pub(super) fn located_in_mode<T: Table>(&mut self, session: SessionId, placement: &Placement, turn: &mut Turn<'_, T>) {
        match (placement.owner(), &placement.location) {
            // A claim of ours that came to nothing: what it left is removed.
            (Some(owner), Some(location)) if owner == self.me.incarnation => {
                self.release(session, location, placement.mode, turn)
            }
            (Some(owner), _) => self.conclude(&session, turn, |_| Some(Verdict::At(owner))),
            (None, _) => self.conclude(&session, turn, |_| Some(Verdict::Upstream)),
        }
    }

    fn release<T: Table>(&mut self, session: SessionId, location: &Location, mode: Mode, turn: &mut Turn<'_, T>) {
        let is = Some((location.group, location.epoch));
        let compare = vec![
            Compare::Location { session: session.clone(), is },
            Compare::Mode { generation: mode.generation },
            Compare::Alive { incarnation: self.me.incarnation },
        ];
        let write = vec![Write::Forget { session: session.clone() }];
        self.transact(Pending::Release(session), Transaction { compare, write }, turn);
    }

    pub(super) fn released<T: Table>(&mut self, session: SessionId, outcome: Option<Outcome>, turn: &mut Turn<'_, T>) {
        match outcome {
            Some(Outcome::Applied { .. }) => self.conclude(&session, turn, |_| Some(Verdict::Upstream)),
            Some(Outcome::Refused { found }) => self.located(session, Some(found), turn),
            None => self.conclude(&session, turn, |_| Some(Verdict::TryAgain(Reason::Directory))),
        }
    }

    /// How many sessions this node has still to send to rest before the mode can go on, and who has not confirmed it.
    pub fn mode_progress(&self) -> (Mode, Vec<String>) {
        (self.modes.mode, unconfirmed(&self.view).map(str::to_owned).collect())
    }
}
