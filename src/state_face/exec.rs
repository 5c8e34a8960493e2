//! `EXEC`: a queue becomes one operation or goes upstream; and replies that are changed before the client gets them.
//!
//! It never runs a part of a transaction. Called by [`super::transaction`]; [`Client::settle`] by whatever brings a reply.
//!
//! Commands about the connection (PING, SELECT, …) run here when the other replies are there, which take their places among
//! theirs; no later command is begun before that.
//! Invariant: *a transaction runs whole or not at all*.

use super::Sessions;
use super::connection::Client;
use super::lanes::Waiting;
use super::transaction::{Entry, Party, Queue, Then, Watch};
use crate::replies::Unit;
use bytes::{Bytes, BytesMut};
use wayfarer_engine::command::{Op, Target};
use wayfarer_engine::ids::SessionId;
use wayfarer_engine::wire::resp::Reply;
use wayfarer_engine::wire::resp::frame::elements;

const ABORTED: &[u8] = b"-EXECABORT Transaction discarded because of previous errors.\r\n";
const WATCHED_ELSEWHERE: &str = "EXECABORT Transaction discarded because of: wayfarer: the watched keys are not of the same session as those of the transaction";

impl<S: Sessions> Client<S> {
    /// Ends the transaction.
    pub(super) fn exec(&mut self) {
        let Some(mut queue) = self.queue.take() else { return };
        self.watch.broken |= !self.is_watch_of_this_mode(&mut queue);
        if queue.failed {
            self.queue = Some(queue);
            self.drop_queue();
            return self.replies.push(Bytes::from_static(ABORTED));
        }
        if self.watch.broken {
            self.queue = Some(queue);
            self.drop_queue();
            return self.replies.write(self.connection.protocol, |reply| reply.null_array());
        }
        let watched = self.watch.keys.first().map(|(session, _, _)| session.clone());
        let one_watched = self.watch.keys.iter().all(|(session, _, _)| Some(session) == watched.as_ref());
        let party = match (&queue.party, &watched, self.watch.upstream) {
            (_, Some(_), true) => None,
            (_, Some(_), _) if !one_watched => None,
            (Party::Nobody, Some(session), false) => Some(Party::Session(session.clone())),
            (Party::Nobody, None, true) => Some(Party::Upstream),
            (Party::Session(_), None, true) | (Party::Upstream, Some(_), _) => None,
            (Party::Session(session), Some(watched), _) if session != watched => None,
            (party, _, _) => Some(party.clone()),
        };
        match party {
            None => {
                self.queue = Some(queue);
                self.drop_queue();
                self.error(WATCHED_ELSEWHERE);
            }
            Some(Party::Nobody) => {
                let unit = self.replies.due();
                self.answers_itself(unit, &queue.entries);
                let reply = self.interleaved(&Bytes::from_static(b"*0\r\n"), queue.entries);
                self.replies.fill(unit, reply);
            }
            Some(Party::Session(session)) => self.exec_on(session, queue),
            Some(Party::Upstream) => self.exec_upstream(queue),
        }
    }

    fn exec_on(&mut self, session: SessionId, queue: Queue) {
        let stamps = std::mem::take(&mut self.watch).keys.into_iter().map(|(_, target, stamp)| (target, stamp)).collect();
        let op = Op::transaction(queue.ops, stamps);
        let plain = queue.entries.iter().all(|entry| matches!(entry, Entry::Keyed));
        self.compound(session, op, (!plain).then_some(Then::Interleave(queue.entries)));
    }

    fn exec_upstream(&mut self, queue: Queue) {
        self.watch = Watch::default();
        self.open_link();
        if !queue.upstream {
            self.link.iter_mut().for_each(|link| link.send_quietly(&[Bytes::from_static(b"MULTI")]));
        }
        let unit = self.replies.due();
        self.then(unit, Then::Interleave(queue.entries));
        self.send_with(&[Bytes::from_static(b"EXEC")], unit, queue.pass);
    }

    /// The reply of `unit` will be changed. While the connection itself may change with it, no later command is begun.
    fn then(&mut self, unit: Unit, then: Then) {
        if let Then::Interleave(entries) = &then
            && self.answers_itself(unit, entries)
        {
            self.barrier = Some(unit);
        }
        self.changes.insert(unit, then);
    }

    /// Whether commands of the connection itself are among them. Then one of them may be about replies, and [`Self::interleaved`]
    /// leaves out what is not wanted.
    fn answers_itself(&mut self, unit: Unit, entries: &[Entry]) -> bool {
        let has_local = has_local(entries);
        if has_local {
            self.replies.speak(unit);
        }
        has_local
    }

    /// Runs an operation of several commands in its session's lane.
    pub(super) fn compound(&mut self, session: SessionId, op: Op, then: Option<Then>) {
        let unit = self.replies.due();
        then.into_iter().for_each(|then| self.then(unit, then));
        let protocol = self.connection.protocol;
        let busy = self.lanes.is_busy(&session);
        let mut out = BytesMut::new();
        if !busy && self.face.sessions.execute(&session.0, &op, protocol, (&mut out).into()) {
            self.hot += 1;
            return self.settle(unit, out.freeze());
        }
        self.begin(session, Waiting { unit, op, protocol }, busy);
    }

    /// A reply has come: what the client gets takes its place.
    pub(super) fn settle(&mut self, unit: Unit, reply: Bytes) {
        if self.barrier == Some(unit) {
            self.barrier = None;
        }
        if self.changes.is_empty() {
            return self.replies.fill(unit, reply);
        }
        let reply = match self.changes.remove(&unit) {
            None => reply,
            Some(Then::Watched(session, watched)) => self.watched(session, watched, reply),
            Some(Then::Interleave(entries)) => self.interleaved(&reply, entries),
            Some(Then::AskUpstream(args, whole)) => {
                self.send(&args, whole);
                reply
            }
            Some(Then::AskSessions(survey, whole)) => {
                self.ask_sessions(survey, whole);
                reply
            }
            Some(Then::Learn(lesson)) => {
                self.learn(&lesson, &reply);
                reply
            }
            Some(Then::GoOnUpstream) => self.with_cursor(&reply, true),
            Some(Then::MarkUpstream) => self.with_cursor(&reply, false),
            Some(Then::LearnEvents(set)) => {
                self.learned(set, &reply);
                reply
            }
        };
        self.replies.fill(unit, reply);
    }

    fn watched(&mut self, session: SessionId, watched: Vec<Target>, reply: Bytes) -> Bytes {
        self.watch.pending = self.watch.pending.saturating_sub(1);
        let Some(stamps) = elements(&reply, watched.len()).filter(|stamps| stamps.len() == watched.len()) else { return reply };
        for (target, stamp) in watched.into_iter().zip(stamps) {
            self.watch.keys.push((session.clone(), target, content(stamp)));
        }
        Bytes::from_static(b"+OK\r\n")
    }

    /// The replies of keyed commands with those of the connection's own commands between them. An error or a null stays.
    fn interleaved(&mut self, reply: &Bytes, entries: Vec<Entry>) -> Bytes {
        let decides = has_local(&entries);
        let Some(keyed) = elements(reply, usize::MAX) else {
            return if decides && self.connection.answering.is_silent() { Bytes::new() } else { reply.clone() };
        };
        let mut keyed = keyed.into_iter();
        let (mut out, mut next) = (BytesMut::new(), BytesMut::new());
        Reply::new(&mut next, self.connection.protocol).array(entries.len());
        self.unless_silent(decides, &mut next, &mut out);
        for entry in entries {
            match entry {
                Entry::Keyed => next.extend_from_slice(keyed.next().unwrap_or(b"_\r\n")),
                Entry::Fails(error) => Reply::new(&mut next, self.connection.protocol).error(error),
                Entry::Unwatch => next.extend_from_slice(b"+OK\r\n"),
                Entry::Local(command) => self.run_about_connection(&command, &mut next),
            }
            self.unless_silent(decides, &mut next, &mut out);
        }
        out.freeze()
    }

    /// As in Redis, an order within a transaction is for the replies behind it, though the client has been told how many come.
    fn unless_silent(&self, decides: bool, next: &mut BytesMut, out: &mut BytesMut) {
        if !(decides && self.connection.answering.is_silent()) {
            out.extend_from_slice(next);
        }
        next.clear();
    }

    /// The upstream is gone, with all that it knew of this connection.
    pub(super) fn upstream_forgot(&mut self) {
        if let Some(queue) = self.queue.as_mut().filter(|queue| queue.upstream) {
            (queue.failed, queue.upstream) = (true, false);
        }
        if std::mem::take(&mut self.watch.upstream) {
            self.watch.broken = true;
        }
    }
}

fn has_local(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| matches!(entry, Entry::Local(_)))
}

/// The bytes of a bulk string.
fn content(bulk: &[u8]) -> Bytes {
    let from = bulk.iter().position(|b| *b == b'\n').map_or(bulk.len(), |at| at.saturating_add(1));
    Bytes::copy_from_slice(bulk.get(from..).and_then(|rest| rest.strip_suffix(b"\r\n")).unwrap_or_default())
}
