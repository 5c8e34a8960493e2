//! What becomes of one command: executed, put into a lane, split, relayed or refused.
//!
//! It never waits: what takes time becomes a unit whose reply is due. Called by the loop in [`super::connection`].
//!
//! | keys | a command of ours | any other command |
//! |---|---|---|
//! | of one session | execute | unknown command |
//! | of two sessions, RENAME or RENAMENX | one operation in the lanes of both; waits until these are free | |
//! | of several sessions, or some of none | split, if its replies can be joined | unknown command |
//! | of no session, upstream | relay | relay |
//! | of no session, no upstream | error | error, or unknown command |
//!
//! Between MULTI and EXEC commands are queued ([`super::transaction`]). While the mode is `observe`, commands on sessions go
//! through ([`super::through`]).
//! Invariant: a key of a session is never sent to the upstream from here.

use super::Sessions;
use super::connection::Client;
use super::lanes::Waiting;
use super::sifting::Sifting;
use super::subscriptions::Channels;
use super::transaction::{Then, Watch};
use super::upstream::{Event, Link};
use crate::passage::Pass;
use crate::replies::{Out as _, Unit};
use crate::telemetry::names;
use bytes::{Bytes, BytesMut};
use wayfarer_engine::command::connection::{After, ConnectionCommand, ServerFacts};
use wayfarer_engine::command::{Foreign, Op, Parsed, Refused, errors};
use wayfarer_engine::ids::SessionId;
use wayfarer_engine::wire::resp::reply::error_reply;

pub(super) const NO_UPSTREAM: &str = "ERR wayfarer: this key belongs to no session and there is no upstream ([state] upstream)";
const UPSTREAM_DOWN: &[u8] = b"-ERR wayfarer: the upstream Redis does not answer ([state] upstream)\r\n";
pub(super) use errors::SEVERAL_SESSIONS;
const TOO_MANY_SESSIONS: &str = "ERR wayfarer: the keys of this command belong to too many sessions ([state] pipeline_depth_max)";
/// For a command of a transaction that the upstream has forgotten.
pub(super) const NOT_QUEUED: &str =
    "ERR wayfarer: the transaction has failed already: the upstream Redis does not answer ([state] upstream)";

/// What a command does to the connection at the upstream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// MULTI and its like.
    Transaction,
    /// Its replies cannot be counted.
    Tunnel,
    /// A stream of bytes that is not RESP.
    NotRelayed,
    None,
}

pub(super) fn effect(command: &Foreign) -> Effect {
    match command.name {
        Some("multi" | "exec" | "discard" | "watch" | "unwatch") => Effect::Transaction,
        Some("subscribe" | "psubscribe" | "ssubscribe" | "unsubscribe" | "punsubscribe" | "sunsubscribe" | "monitor") => {
            Effect::Tunnel
        }
        Some("sync" | "psync" | "replconf") => Effect::NotRelayed,
        _ => Effect::None,
    }
}

/// Without scripts their commands are like any other that is not executed here.
#[cfg(not(feature = "lua"))]
impl<S: Sessions> Client<S> {
    pub(super) fn is_about_scripts(_: &Foreign) -> bool {
        false
    }

    pub(super) fn scripted(&mut self, _: &Foreign) {}
}

impl<S: Sessions> Client<S> {
    /// Begins a command. One that has to wait until no reply is due is given back.
    pub(super) fn dispatch(&mut self, command: Parsed) -> Option<Parsed> {
        if self.tunnel {
            return self.in_tunnel(command);
        }
        if self.is_listening_only() {
            return self.while_listening(command);
        }
        match command {
            Parsed::Connection(command) if command.name() == "reset" && self.replies.slots() > 0 => {
                return Some(Parsed::Connection(command));
            }
            Parsed::Connection(command) if self.queue.is_none() && self.asks_for_events(&command) => {
                self.ask_for_events(command.args());
            }
            Parsed::Connection(command) if self.queue.is_none() => self.about_connection(&command),
            _ if !self.connection.authenticated => self.error(errors::NO_AUTH),
            command if self.names_guard(&command) => self.refuse_guard(),
            command if self.face.passage.is_upstream() && self.session_of(&command).is_some() => return self.through(command),
            command => return self.by_owner(command),
        }
        None
    }

    /// A command on sessions that have owners, or on none.
    pub(super) fn by_owner(&mut self, command: Parsed) -> Option<Parsed> {
        if self.queue.is_some() || !matches!(&command, Parsed::Keyed(op) if op.targets().len() == 1) {
            self.forget_named(&command);
        }
        match command {
            Parsed::Foreign(foreign) if effect(&foreign) == Effect::Transaction => {
                return self.transactional(foreign).map(Parsed::Foreign);
            }
            command if self.queue.is_some() => self.queue_up(command),
            Parsed::Foreign(foreign) if Self::is_about_scripts(&foreign) => self.scripted(&foreign),
            Parsed::Foreign(foreign) if self.is_survey(&foreign) => self.survey(&foreign),
            Parsed::Connection(command) => self.about_connection(&command),
            Parsed::Keyed(op) => return self.keyed(op).map(Parsed::Keyed),
            Parsed::Refused(refused) => self.refused(&refused),
            Parsed::Foreign(foreign) => return self.foreign(foreign).map(Parsed::Foreign),
        }
        None
    }

    pub(super) fn error(&mut self, text: impl AsRef<[u8]>) {
        self.face.metrics.refused.increment(1);
        self.replies.write(self.connection.protocol, |reply| reply.error(text));
    }

    /// Names a command on a session's key that is not served: for the operator who wonders what a library needs.
    pub(super) fn count_unknown(&self, command: &Foreign) {
        metrics::counter!(names::STATE_UNKNOWN, "command" => command.name.unwrap_or("other")).increment(1);
    }

    pub(super) fn has_upstream(&self) -> bool {
        self.face.dialer.is_some()
    }

    /// Runs a command about the connection and says its reply.
    pub(super) fn about_connection(&mut self, command: &ConnectionCommand) {
        let mut out = BytesMut::new();
        self.run_about_connection(command, &mut out);
        // CLIENT REPLY and RESET are about their own reply already.
        self.replies.hush(self.connection.answering.is_silent());
        self.replies.push(out.freeze());
    }

    /// Runs a command about the connection, and does to the upstream's connection what it did to this.
    pub(super) fn run_about_connection(&mut self, command: &ConnectionCommand, out: &mut BytesMut) {
        let face = &self.face;
        let check = |user: &[u8], password: &[u8]| face.is_right_password(user, password);
        let facts = ServerFacts {
            password: if face.state.password.is_some() { Some(&check) } else { None },
            port: face.port,
            uptime_s: face.started.elapsed().as_secs(),
            clients: face.clients.load(std::sync::atomic::Ordering::Relaxed),
            events: face.bus.classes(),
            databases: face.databases(),
        };
        let (protocol, db) = (self.connection.protocol, self.connection.db);
        match self.connection.run(command, facts, out) {
            After::Close => self.closing = true,
            After::Reset => {
                (self.link, self.queue, self.watch) = (None, None, Watch::default());
                (self.channels, self.sifting) = (Channels::default(), Sifting::default());
            }
            After::Continue => {
                let now = &self.connection;
                if let (Some(link), Some(upstream)) = (&mut self.link, &self.face.state.upstream) {
                    link.follow(upstream, (now.protocol != protocol).then_some(now.protocol), (now.db != db).then_some(now.db));
                }
            }
        }
    }

    fn keyed(&mut self, mut op: Op) -> Option<Op> {
        let database = self.connection.db;
        if let [target] = op.targets_mut() {
            match self.face.understanding.keys.fill(database, target) {
                Some(session) => self.on_session(&session, op),
                None => self.on_upstream(&op),
            }
            return None;
        }
        // One that has to wait is given back as it came.
        let as_it_came = op.renames().map(|_| op.clone());
        // One group of places for each session, and one for the upstream, in the order of their first keys.
        let mut groups: Vec<(Option<Bytes>, Vec<usize>)> = Vec::new();
        let mut found = std::collections::HashMap::<Option<Bytes>, usize>::new();
        for (place, target) in op.targets_mut().iter_mut().enumerate() {
            let session = self.face.understanding.keys.fill(database, target);
            let group = *found.entry(session.clone()).or_insert(groups.len());
            match groups.get_mut(group) {
                Some((_, places)) => places.push(place),
                None => groups.push((session, vec![place])),
            }
        }
        match groups.as_slice() {
            [(Some(session), _)] => self.on_session(&session.clone(), op),
            [] | [(None, _)] => self.on_upstream(&op),
            [(Some(from), _), (Some(to), _)] if as_it_came.is_some() => {
                let (from, to) = (SessionId::copy_of(from), SessionId::copy_of(to));
                if self.lanes.is_busy(&from) || self.lanes.is_busy(&to) {
                    return as_it_came;
                }
                self.rename_across(from, to, op);
            }
            _ => self.split(&op, groups),
        }
        None
    }

    /// Whether an operation has a value that is too long for a session; then the error is said.
    pub(super) fn is_too_long(&mut self, op: &Op) -> bool {
        let too_long = op.is_write() && op.args().iter().any(|arg| arg.len() > self.face.state.value_bytes_max);
        if too_long {
            metrics::counter!(names::BOUNDS_HIT, "bound" => "value_bytes_max").increment(1);
            self.error(errors::VALUE_TOO_LONG);
        }
        too_long
    }

    fn on_session(&mut self, session: &Bytes, mut op: Op) {
        if self.is_too_long(&op) {
            return;
        }
        let lesson = if self.face.merging.is_some() { self.lesson(session, &mut op) } else { None };
        let protocol = self.connection.protocol;
        let busy = !self.lanes.is_empty() && self.lanes.is_busy(&SessionId(session.clone()));
        if !busy {
            let done = match self.replies.direct().filter(|_| lesson.is_none()) {
                Some(out) => out.write(|answer| self.face.sessions.execute(session, &op, protocol, answer)),
                None => {
                    let mut out = BytesMut::new();
                    let done = self.face.sessions.execute(session, &op, protocol, (&mut out).into());
                    if done {
                        lesson.iter().for_each(|lesson| self.learn(lesson, &out));
                        self.replies.push(out.freeze());
                    }
                    done
                }
            };
            if done {
                self.hot += 1;
                return self.parser.give_back(op.into_args());
            }
        }
        let unit = self.replies.due();
        if let Some(mut lesson) = lesson {
            lesson.detach();
            self.changes.insert(unit, Then::Learn(lesson));
        }
        self.begin(SessionId::copy_of(session), Waiting { unit, op, protocol }, busy);
    }

    fn split(&mut self, op: &Op, groups: Vec<(Option<Bytes>, Vec<usize>)>) {
        if self.is_too_long(op) {
            return;
        }
        let Some(join) = op.join() else { return self.error(SEVERAL_SESSIONS) };
        if groups.iter().any(|(session, _)| session.is_none()) && !self.has_upstream() {
            return self.error(NO_UPSTREAM);
        }
        if groups.len() > self.face.state.pipeline_depth_max {
            return self.error(TOO_MANY_SESSIONS);
        }
        let protocol = self.connection.protocol;
        let units = self.replies.due_parts(join, groups.iter().map(|(_, places)| places.clone()).collect());
        for ((session, places), unit) in groups.into_iter().zip(units) {
            let part = op.part(&places);
            let Some(session) = session else {
                self.send(part.args(), unit);
                continue;
            };
            let session = SessionId(session);
            let busy = self.lanes.is_busy(&session);
            let mut out = BytesMut::new();
            if !busy && self.face.sessions.execute(&session.0, &part, protocol, (&mut out).into()) {
                self.hot += 1;
                self.replies.fill(unit, out.freeze());
            } else {
                self.begin(SessionId::copy_of(&session.0), Waiting { unit, op: part, protocol }, busy);
            }
        }
    }

    fn on_upstream(&mut self, op: &Op) {
        if self.has_upstream() { self.relay(op.args()) } else { self.error(NO_UPSTREAM) }
    }

    fn refused(&mut self, refused: &Refused) {
        let database = self.connection.db;
        let of_session = refused.keys.iter().any(|key| self.face.understanding.keys.is_session(database, key));
        if of_session || refused.keys.is_empty() || !self.has_upstream() {
            return self.error(&refused.error);
        }
        self.relay(&refused.args);
    }

    /// A command that is not executed here. Given back if it has to wait.
    fn foreign(&mut self, command: Foreign) -> Option<Foreign> {
        if self.is_about_channels(&command) {
            return self.about_channels(command);
        }
        let (effect, database) = (effect(&command), self.connection.db);
        let of_session = command.keys.iter().any(|key| self.face.understanding.keys.is_session(database, key));
        if of_session {
            self.count_unknown(&command);
        }
        if effect == Effect::NotRelayed || of_session {
            self.error(command.error());
        } else if !self.has_upstream() {
            // What may be a key of DEBUG seldom is one, and Redis does not serve it either.
            let on_keys = command.name.is_some_and(|name| name != "debug") && !command.keys.is_empty();
            if on_keys { self.error(NO_UPSTREAM) } else { self.error(command.error()) }
        } else if effect == Effect::Tunnel {
            if self.replies.slots() > 0 || self.must_be_told(&command) {
                return Some(command);
            }
            self.tunnel = true;
            self.open_link();
            self.link.iter_mut().for_each(|link| link.send_through(&command.args));
        } else {
            self.relay(&command.args);
        }
        None
    }

    pub(super) fn open_link(&mut self) {
        if self.link.is_none()
            && let Some(dialer) = &self.face.dialer
        {
            let (protocol, db) = (self.connection.protocol, self.connection.db);
            self.link = Some(Link::new(dialer, protocol, db, self.face.state.output_bytes_max));
        }
    }

    pub(super) fn relay(&mut self, args: &[Bytes]) {
        self.relay_with(args, None);
    }

    /// Relays a command whose pass is held until its reply comes.
    pub(super) fn relay_with(&mut self, args: &[Bytes], pass: Option<Pass>) {
        let unit = self.replies.due();
        self.send_with(args, unit, pass);
    }

    pub(super) fn send(&mut self, args: &[Bytes], unit: Unit) {
        self.send_with(args, unit, None);
    }

    pub(super) fn send_with(&mut self, args: &[Bytes], unit: Unit, pass: Option<Pass>) {
        self.face.metrics.upstream.increment(1);
        self.open_link();
        // Within a transaction nothing blocks.
        let blocks = self.queue.is_none() && crate::upstream::is_blocking(args);
        match &mut self.link {
            Some(link) => link.send(args, unit, blocks, pass),
            None => self.replies.fill(unit, error_reply(NO_UPSTREAM)),
        }
    }

    /// Takes in what the upstream has said.
    pub(super) fn upstream_event(&mut self, event: Event) {
        match event {
            Event::Reply(unit, reply) => self.settle(unit, reply),
            Event::Push(frame) if self.tunnel => self.through_tunnel(frame),
            Event::Push(push) => self.replies.out.push(push),
            Event::TunnelEnded => self.tunnel = false,
            Event::Down(units) => {
                self.link = None;
                self.upstream_forgot();
                units.into_iter().for_each(|unit| self.settle(unit, Bytes::from_static(UPSTREAM_DOWN)));
                // Who has subscribed must do so again: only a new connection is honest.
                self.closing |= self.tunnel;
            }
        }
    }
}
