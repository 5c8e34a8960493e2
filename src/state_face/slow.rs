//! Operations that take time: how they begin, in which lanes, and what goes on when they end.
//!
//! It never waits and never looks where a session is: the other side of [`Sessions::slow`] does. [`super::dispatch`] lets operations
//! begin; the loop in [`super::connection`] tells of each that has ended.
//!
//! | operation | its lanes |
//! |---|---|
//! | on one session | that of the session |
//! | a rename to another session | those of both, which were free |
//!
//! Invariant: at most one operation of a lane is under way, and they start in the order of their arrival.

use super::Sessions;
use super::connection::Client;
use super::lanes::Waiting;
use crate::replies::Unit;
use bytes::{Bytes, BytesMut};
use wayfarer_engine::command::Op;
use wayfarer_engine::ids::SessionId;

impl<S: Sessions> Client<S> {
    /// Lets an operation go its slow way: behind the one under way on its session, or at once.
    pub(super) fn begin(&mut self, session: SessionId, mut waiting: Waiting, busy: bool) {
        // It may wait for long: it must not keep the buffer alive in which it was received.
        waiting.op.detach();
        if busy {
            self.lanes.wait(&session, waiting);
        } else {
            self.lanes.open(session.clone());
            self.start(session, waiting);
        }
    }

    fn start(&mut self, session: SessionId, waiting: Waiting) {
        self.face.metrics.slow.increment(1);
        let sessions = self.face.sessions.clone();
        let Waiting { unit, op, protocol } = waiting;
        self.slow.spawn(async move {
            let reply = sessions.slow(session.clone(), op, protocol).await;
            (session, unit, reply)
        });
    }

    /// An operation under way has ended: its reply, and those behind it in its lane as far as they need not wait.
    pub(super) fn finished(&mut self, session: SessionId, unit: Unit, reply: Bytes) {
        if unit == Unit::NOBODYS {
            return self.were_told();
        }
        self.settle(unit, reply);
        if let Some(to) = self.across.remove(&unit) {
            self.go_on(to);
        }
        self.go_on(session);
    }

    /// The next operations of a lane, as far as they need not wait.
    fn go_on(&mut self, session: SessionId) {
        while let Some(waiting) = self.lanes.next(&session) {
            let mut out = BytesMut::new();
            if !self.face.sessions.execute(&session.0, &waiting.op, waiting.protocol, (&mut out).into()) {
                return self.start(session, waiting);
            }
            self.face.metrics.hot.increment(1);
            self.settle(waiting.unit, out.freeze());
        }
    }

    /// A key of one session becomes another's. Operations behind it on either wait for it.
    pub(super) fn rename_across(&mut self, from: SessionId, to: SessionId, mut op: Op) {
        let (unit, protocol) = (self.replies.due(), self.connection.protocol);
        op.detach();
        self.lanes.open(from.clone());
        self.lanes.open(to.clone());
        self.across.insert(unit, to.clone());
        self.start(from, Waiting { unit, op: op.across(to), protocol });
    }
}
