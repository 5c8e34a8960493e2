//! `MULTI`, `EXEC`, `DISCARD`, `WATCH`, `UNWATCH` of one client.
//!
//! It never executes a command of a transaction before `EXEC`, and never sends a session's key upstream. Called by
//! [`super::dispatch`] for these commands and for every command between `MULTI` and `EXEC`.
//!
//! The *party* of a transaction is whose keys it has; a transaction has one party, and so do its watched keys:
//! | party | while queueing | at EXEC |
//! |---|---|---|
//! | nobody yet | nothing is sent | the connection's own commands run here |
//! | a session | commands wait here | one operation on that session, wherever it is, with the stamps of the watched keys |
//! | the upstream | MULTI and commands are sent as they come, so that the upstream's own errors are right | EXEC is sent |
//! | a second one | refused, and EXEC aborts | – |
//!
//! What follows EXEC, and what becomes of replies that are changed on their way, is in [`super::exec`].
//! Bounds: [`TRANSACTION_COMMANDS_MAX`], `[state] frame_bytes_max` for the bytes of a queue, [`WATCHED_KEYS_MAX`].
//! Invariant: *a transaction runs whole or not at all*; a WATCH whose memory was lost with the upstream counts as changed.

use super::connection::Client;
use super::dispatch::{Effect, effect};
use super::merging::Lesson;
use super::{Sessions, Survey};
use crate::passage::Pass;
use crate::replies::Unit;
use bytes::Bytes;
use wayfarer_engine::command::compound::{TRANSACTION_COMMANDS_MAX, targets};
use wayfarer_engine::command::connection::ConnectionCommand;
use wayfarer_engine::command::events::Classes;
use wayfarer_engine::command::{Foreign, Op, Parsed, Refused, Target, errors};
use wayfarer_engine::ids::SessionId;

/// Watched keys of sessions, of one connection.
const WATCHED_KEYS_MAX: usize = 1024;
const NESTED: &str = "ERR MULTI calls can not be nested";
const WATCH_INSIDE: &str = "ERR WATCH inside MULTI is not allowed";
const EXEC_WITHOUT: &str = "ERR EXEC without MULTI";
const EXEC_ARITY: &str = "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command";
const DISCARD_WITHOUT: &str = "ERR DISCARD without MULTI";
const SEVERAL_PARTIES: &str = "ERR wayfarer: a transaction has keys of one session, or of the upstream, and no others";
const WATCH_OF_SEVERAL: &str = "ERR wayfarer: the keys of one WATCH must be of one session, or of the upstream";
const TOO_MANY_WATCHED: &str = "ERR wayfarer: too many watched keys";
const TOO_LONG: &str = "ERR wayfarer: the transaction is too long ([state] frame_bytes_max)";
const SELECT_UPSTREAM: &str = "ERR wayfarer: a transaction of the upstream cannot change the database";
const NOT_INSIDE: &str = "ERR wayfarer: this command is not allowed inside a transaction";

/// Whose keys a transaction has.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Party {
    Nobody,
    Session(SessionId),
    Upstream,
}

/// A command that waits for EXEC.
pub(super) enum Entry {
    /// Runs here.
    Local(ConnectionCommand),
    Unwatch,
    /// Of a session, with options that are wrong: Redis says so at EXEC.
    Fails(Bytes),
    /// Of the party.
    Keyed,
}

/// Between MULTI and EXEC.
pub(super) struct Queue {
    pub(super) party: Party,
    pub(super) entries: Vec<Entry>,
    pub(super) ops: Vec<Op>,
    bytes: usize,
    /// A command was refused: EXEC aborts.
    pub(super) failed: bool,
    /// The upstream has been sent MULTI, and holds its commands.
    pub(super) upstream: bool,
    selects: bool,
    /// It has keys of sessions that have no owners: held until EXEC is answered.
    pub(super) pass: Option<Pass>,
    /// The database that a queued SELECT will have chosen.
    database: u8,
}

/// What is watched.
#[derive(Default)]
pub(super) struct Watch {
    pub(super) keys: Vec<(SessionId, Target, Bytes)>,
    /// WATCHes whose stamps have not come yet.
    pub(super) pending: usize,
    pub(super) upstream: bool,
    /// Keys of sessions are among those, in this turn of the way.
    pub(super) through: Option<u64>,
    /// What the upstream watched it has forgotten.
    pub(super) broken: bool,
}

/// What becomes of a reply before the client gets it.
pub(super) enum Then {
    /// Nothing; but what its client knows then is noted.
    Learn(Lesson),
    /// These are stamps: keep them, and say OK.
    Watched(SessionId, Vec<Target>),
    /// These are the replies of the keyed commands: put those of the others between them.
    Interleave(Vec<Entry>),
    /// A scan of sessions: behind its end the upstream's begins.
    GoOnUpstream,
    /// A scan of the upstream: mark its cursor.
    MarkUpstream,
    /// What the members know of all keys: now the upstream is asked the same. In this order, so that a key that is just being written
    /// there is shown by one of them.
    AskUpstream(Vec<Bytes>, Unit),
    /// The upstream has done what the client said before: now all members are asked, and what they know is the reply.
    AskSessions(Survey, Unit),
    /// The upstream says which events it tells, or has taken what it was told.
    LearnEvents(Option<Classes>),
}

impl<S: Sessions> Client<S> {
    /// One of the five commands. Given back if it has to wait for the stamps of an earlier WATCH.
    pub(super) fn transactional(&mut self, command: Foreign) -> Option<Foreign> {
        let name = command.name.unwrap_or_default();
        if name != "multi" && self.watch.pending > 0 {
            return Some(command);
        }
        let fits = if name == "watch" { command.args.len() > 1 } else { command.args.len() == 1 };
        if !fits && name == "exec" {
            // Redis gives the whole transaction up here.
            self.drop_queue();
            self.error(EXEC_ARITY);
            return None;
        }
        if !fits {
            self.fail_queue();
            self.error(errors::arity(name));
            return None;
        }
        match (name, self.queue.is_some()) {
            ("multi", true) => self.error(NESTED),
            ("watch", true) => self.error(WATCH_INSIDE),
            ("unwatch", true) => self.enqueue(Entry::Unwatch, 0),
            ("exec", false) => self.error(EXEC_WITHOUT),
            ("discard", false) => self.error(DISCARD_WITHOUT),
            ("multi", false) => {
                self.queue = Some(Queue {
                    party: Party::Nobody,
                    entries: Vec::new(),
                    ops: Vec::new(),
                    bytes: 0,
                    failed: false,
                    upstream: false,
                    selects: false,
                    pass: None,
                    database: self.connection.db,
                });
                self.say_ok();
            }
            ("watch", false) => self.watch(&command),
            ("unwatch", false) => {
                self.unwatch();
                self.say_ok();
            }
            ("discard", true) => {
                self.drop_queue();
                self.say_ok();
            }
            (_, _) => self.exec(),
        }
        None
    }

    /// The database of the next command.
    pub(super) fn database(&self) -> u8 {
        self.queue.as_ref().map_or(self.connection.db, |queue| queue.database)
    }

    fn say_ok(&mut self) {
        self.replies.write(self.connection.protocol, |reply| reply.simple("OK"));
    }

    /// A command was refused: the transaction, if there is one, will abort.
    pub(super) fn fail_queue(&mut self) {
        self.queue.iter_mut().for_each(|queue| queue.failed = true);
    }

    pub(super) fn refuse(&mut self, error: impl AsRef<[u8]>) {
        self.fail_queue();
        self.error(error);
    }

    /// A command between MULTI and EXEC.
    pub(super) fn queue_up(&mut self, command: Parsed) {
        match command {
            Parsed::Connection(command) if matches!(command.name(), "quit" | "reset") => self.about_connection(&command),
            Parsed::Connection(command) => self.queue_connection(command),
            Parsed::Keyed(op) => self.queue_keyed(op),
            Parsed::Refused(refused) => self.queue_refused(&refused),
            Parsed::Foreign(foreign) if Self::is_about_scripts(&foreign) => self.scripted(&foreign),
            Parsed::Foreign(foreign) => self.queue_foreign(&foreign),
        }
    }

    fn queue_connection(&mut self, command: ConnectionCommand) {
        if let Some(error) = command.arity_error() {
            return self.refuse(error);
        }
        let selects = matches!(command.name(), "select" | "hello" | "auth");
        if selects && self.queue.as_ref().is_some_and(|queue| queue.upstream) {
            return self.refuse(SELECT_UPSTREAM);
        }
        let bytes = command.args().iter().map(Bytes::len).sum();
        let chosen = command.selected(self.face.databases());
        self.queue.iter_mut().for_each(|queue| queue.database = chosen.unwrap_or(queue.database));
        self.queue.iter_mut().for_each(|queue| queue.selects |= selects);
        self.enqueue(Entry::Local(command), bytes);
    }

    fn queue_keyed(&mut self, mut op: Op) {
        let (database, mut party): (u8, Option<Party>) = (self.database(), None);
        for target in op.targets_mut() {
            let of = match self.face.understanding.keys.fill(database, target) {
                Some(session) => Party::Session(SessionId::copy_of(&session)),
                None => Party::Upstream,
            };
            if party.get_or_insert_with(|| of.clone()) != &of {
                return self.refuse(SEVERAL_PARTIES);
            }
        }
        match party {
            Some(Party::Session(session)) => self.queue_op(session, op),
            _ => self.queue_upstream(op.args()),
        }
    }

    /// An operation on a session, its keys filled in.
    pub(super) fn queue_op(&mut self, session: SessionId, mut op: Op) {
        if self.is_too_long(&op) {
            return self.fail_queue();
        }
        if !self.joins(Party::Session(session)) {
            return;
        }
        op.detach();
        let bytes = op.size_bytes();
        if self.enqueue_if_fits(Entry::Keyed, bytes) {
            self.queue.iter_mut().for_each(|queue| queue.ops.push(op.clone()));
        }
    }

    fn queue_refused(&mut self, refused: &Refused) {
        let database = self.database();
        let mut keys = targets(&refused.keys);
        let mut sessions = keys.iter_mut().map(|target| self.face.understanding.keys.fill(database, target));
        let first = sessions.next().flatten();
        let one = sessions.all(|session| session == first);
        let of_wrong_number = refused.error.starts_with(b"ERR wrong number of arguments");
        if let Some(session) = first.filter(|_| one && !of_wrong_number) {
            return self.queue_failing(&session, refused.error.clone());
        }
        let of_session = refused.keys.iter().any(|key| self.face.understanding.keys.is_session(database, key));
        if of_session || refused.keys.is_empty() || !self.has_upstream() {
            return self.refuse(&refused.error);
        }
        self.queue_upstream(&refused.args);
    }

    /// A command on a session of which it is known that it will fail at EXEC.
    pub(super) fn queue_failing(&mut self, session: &Bytes, error: Bytes) {
        if self.joins(Party::Session(SessionId::copy_of(session))) {
            let bytes = error.len();
            self.enqueue(Entry::Fails(error), bytes);
        }
    }

    fn queue_foreign(&mut self, foreign: &Foreign) {
        let connection_wide = effect(foreign) != Effect::None;
        let database = self.database();
        if foreign.keys.iter().any(|key| self.face.understanding.keys.is_session(database, key)) {
            self.count_unknown(foreign);
            self.refuse(foreign.error());
        } else if connection_wide || self.is_survey(foreign) {
            self.refuse(NOT_INSIDE);
        } else if !self.has_upstream() {
            self.refuse(foreign.error());
        } else {
            self.queue_upstream(&foreign.args);
        }
    }

    /// Sends a command of the transaction to the upstream, which answers for it.
    pub(super) fn queue_upstream(&mut self, args: &[Bytes]) {
        if !self.has_upstream() {
            return self.refuse(super::dispatch::NO_UPSTREAM);
        }
        if !self.joins(Party::Upstream) {
            return;
        }
        let Some(queue) = &mut self.queue else { return };
        if queue.selects {
            return self.refuse(SELECT_UPSTREAM);
        }
        if queue.failed && !queue.upstream {
            // The upstream went away, or something was refused before: nothing of it will run.
            return self.refuse(super::dispatch::NOT_QUEUED);
        }
        if queue.entries.len() >= TRANSACTION_COMMANDS_MAX {
            return self.refuse(TOO_LONG);
        }
        queue.entries.push(Entry::Keyed);
        if !std::mem::replace(&mut queue.upstream, true) {
            self.open_link();
            self.link.iter_mut().for_each(|link| link.send_quietly(&[Bytes::from_static(b"MULTI")]));
        }
        self.relay(args);
    }

    /// Whether the transaction may have keys of this party; if not, it is refused.
    fn joins(&mut self, party: Party) -> bool {
        let Some(queue) = &mut self.queue else { return false };
        if queue.party == Party::Nobody {
            queue.party = party;
        } else if queue.party != party {
            self.refuse(SEVERAL_PARTIES);
            return false;
        }
        true
    }

    fn enqueue(&mut self, entry: Entry, bytes: usize) {
        self.enqueue_if_fits(entry, bytes);
    }

    fn enqueue_if_fits(&mut self, entry: Entry, bytes: usize) -> bool {
        let Some(queue) = &mut self.queue else { return false };
        queue.bytes = queue.bytes.saturating_add(bytes);
        if queue.entries.len() >= TRANSACTION_COMMANDS_MAX || queue.bytes > self.face.state.frame_bytes_max {
            self.refuse(TOO_LONG);
            return false;
        }
        queue.entries.push(entry);
        self.replies.write(self.connection.protocol, |reply| reply.simple("QUEUED"));
        true
    }

    /// Forgets the transaction and what was watched, here and at the upstream.
    pub(super) fn drop_queue(&mut self) {
        if self.queue.take().is_some_and(|queue| queue.upstream) {
            self.watch = Watch::default();
            self.link.iter_mut().for_each(|link| link.send_quietly(&[Bytes::from_static(b"DISCARD")]));
        }
        self.unwatch();
    }

    fn unwatch(&mut self) {
        if std::mem::take(&mut self.watch).upstream {
            self.link.iter_mut().for_each(|link| link.send_quietly(&[Bytes::from_static(b"UNWATCH")]));
        }
    }

    fn watch(&mut self, command: &Foreign) {
        let keys = command.args.get(1..).unwrap_or_default();
        let (database, mut watched) = (self.connection.db, targets(keys));
        let sessions: Vec<Option<Bytes>> =
            watched.iter_mut().map(|target| self.face.understanding.keys.fill(database, target)).collect();
        let first = sessions.first().cloned().flatten();
        if sessions.iter().any(|session| *session != first) {
            return self.error(WATCH_OF_SEVERAL);
        }
        let Some(session) = first else {
            if !self.has_upstream() {
                return self.error(super::dispatch::NO_UPSTREAM);
            }
            self.watch.upstream = true;
            return self.relay(&command.args);
        };
        if self.watch.keys.len().saturating_add(watched.len()) > WATCHED_KEYS_MAX {
            return self.error(TOO_MANY_WATCHED);
        }
        watched.iter_mut().for_each(|target| target.key = Bytes::copy_from_slice(&target.key));
        let session = SessionId::copy_of(&session);
        self.watch.pending = self.watch.pending.saturating_add(1);
        self.compound(session.clone(), Op::stamps(watched.clone()), Some(Then::Watched(session, watched)));
    }
}
