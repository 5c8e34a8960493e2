//! Commands on sessions while the cluster's mode is `observe`: they go to the upstream as they are, and it answers.
//!
//! It never executes and never asks who owns a session: nobody does. Called by [`super::dispatch`] for commands that name a key
//! of a session, while [`crate::passage`] says that the way is to the upstream.
//!
//! Each goes through the client's own connection to the upstream, so that order, transactions, WATCH, scripts and commands that
//! block are what they are there. It has a pass until its reply comes; a transaction from its first command on a session until its
//! EXEC is answered, so that a change of the mode waits for it. What this connection began while sessions had owners (operations
//! under way, an open transaction, watched keys) ends in that way first.
//!
//! Invariant: what is watched in one mode counts as changed in another; no transaction runs in two.

use super::Sessions;
use super::connection::Client;
use super::dispatch::{Effect, effect};
use super::transaction::{Party, Queue};
use crate::driver::clock;
use crate::passage::Pass;
use bytes::Bytes;
use wayfarer_engine::command::Parsed;

const NO_LEASE: &str =
    "TRYAGAIN wayfarer: this node has had no lease for so long that others may take it for dead ([cluster] lost_after_ms)";

impl<S: Sessions> Client<S> {
    /// The first session of which a command names a key.
    pub(super) fn session_of<'a>(&'a self, command: &'a Parsed) -> Option<&'a [u8]> {
        let (database, keys) = (self.database(), &self.face.understanding.keys);
        match command {
            Parsed::Connection(_) => None,
            Parsed::Keyed(op) => op.targets().iter().find_map(|target| keys.session_of(database, &target.key)),
            Parsed::Refused(refused) => refused.keys.iter().find_map(|key| keys.session_of(database, key)),
            Parsed::Foreign(foreign) => foreign.keys.iter().find_map(|key| keys.session_of(database, key)),
        }
    }

    /// Sends a command on sessions to the upstream. Given back if it has to wait.
    pub(super) fn through(&mut self, command: Parsed) -> Option<Parsed> {
        let began_with_owners = self.queue.as_ref().is_some_and(|queue| matches!(queue.party, Party::Session(_)))
            || !self.watch.keys.is_empty()
            || self.watch.pending > 0;
        if began_with_owners {
            return self.by_owner(command);
        }
        if !self.slow.is_empty() {
            return Some(command);
        }
        self.forget_named(&command);
        // While operations wait this one waits too, and then its session has an owner, or this way is open again.
        let Some(pass) = self.face.passage.enter() else { return self.by_owner(command) };
        let now_us = clock::now().boot_us;
        if !self.face.passage.may_pass(now_us) {
            self.refuse(NO_LEASE);
            return None;
        }
        if let Some(session) = self.session_of(&command) {
            self.face.passage.note(session, now_us);
        }
        let args = match &command {
            Parsed::Connection(_) => return self.by_owner(command),
            Parsed::Keyed(op) => op.args(),
            Parsed::Refused(refused) => &refused.args,
            Parsed::Foreign(foreign) => &foreign.args,
        }
        .to_vec();
        match command {
            Parsed::Foreign(foreign) if foreign.name == Some("watch") => {
                return self.watch_through(Parsed::Foreign(foreign), &args, pass);
            }
            // Channels have names that may look like keys.
            Parsed::Foreign(foreign) if effect(&foreign) != Effect::None || self.is_about_channels(&foreign) => {
                return self.by_owner(Parsed::Foreign(foreign));
            }
            _ => {}
        }
        match &mut self.queue {
            None => self.relay_with(&args, Some(pass)),
            Some(queue) => {
                queue.pass.get_or_insert(pass);
                self.queue_upstream(&args);
            }
        }
        None
    }

    fn watch_through(&mut self, command: Parsed, args: &[Bytes], pass: Pass) -> Option<Parsed> {
        if self.queue.is_some() || args.len() < 2 {
            return self.by_owner(command);
        }
        self.watch.upstream = true;
        let turn = self.face.passage.turn();
        // Of two turns the earlier one counts: what was watched then has changed.
        self.watch.through.get_or_insert(turn);
        self.relay_with(args, Some(pass));
        None
    }

    /// Whether what is watched of sessions at the upstream was watched in this very mode. Gives the transaction a pass if it was.
    pub(super) fn is_watch_of_this_mode(&mut self, queue: &mut Queue) -> bool {
        let Some(watched) = self.watch.through else { return true };
        let pass = queue.pass.take().or_else(|| self.face.passage.enter());
        let same = pass.is_some() && self.face.passage.is_upstream() && self.face.passage.turn() == watched;
        queue.pass = pass;
        same
    }
}
