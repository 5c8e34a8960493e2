//! Runs an operation on a session: what it needs first, then the action.
//!
//! It never reads a clock (`now` is an argument) and never creates what an operation with an error would not. Called through
//! [`super::execute`].
//!
//! | action | needs |
//! |---|---|
//! | GET, SET … GET, APPEND, SETRANGE, INCR, GETDEL, GETEX, GETSET, MGET, bits | the whole strings |
//! | SET that is merged with what others have written | the whole string |
//! | HGET, HMGET, HINCRBY | those fields |
//! | HGETALL, HVALS, HSCAN, HRANDFIELD … WITHVALUES | all fields |
//! | lists | see `lists` |
//! | sorted sets | the scores, which are always here |
//! | RENAME, COPY | all of the first key |
//! | STRLEN, HSTRLEN | nothing: the manifest has sizes |
//! | everything else | nothing: the manifest has keys, types, names and expiries |
//!
//! Invariant: what is needed is looked for before anything is changed.

use super::action::{Action, Set};
use super::events::{Classes, Events};
use super::lists::{self, ListAction};
use super::pieces::PieceAction;
use super::{Executed, Limits, Op, STRING_BYTES_MAX, Target, errors};
use crate::session::{Content, Key, Kind, Missing, Session, Variable, VariableId};
use crate::wire::resp::{Answer, Protocol, Reply};
use bytes::Bytes;

/// One execution.
pub(super) struct Run<'a> {
    pub(super) session: &'a mut Session,
    pub(super) op: &'a Op,
    pub(super) now: u64,
    pub(super) limits: Limits,
    pub(super) reply: Reply<'a>,
    pub(super) wrote: bool,
    events: &'a mut Events,
}

pub(super) fn execute(
    (limits, now, protocol): (Limits, u64, Protocol),
    session: &mut Session,
    op: &Op,
    out: Answer<'_>,
    events: &mut Events,
) -> Executed {
    if limits.full && op.grows() {
        Reply::to(out, protocol).error(errors::OUT_OF_MEMORY);
        return Executed::Done { wrote: false };
    }
    if session.missing_count() > 0
        && let Some(missing) = missing(session, op, now)
    {
        return Executed::Missing(missing);
    }
    let mut run = Run { session, op, now, limits, reply: Reply::to(out, protocol), wrote: false, events };
    if op.is_write() {
        if !op.args.iter().all(|arg| run.fits(arg.len())) {
            return Executed::Done { wrote: false };
        }
        run.clear_expired();
    }
    let before = run.session.last_version();
    run.action();
    let wrote = run.wrote;
    if wrote {
        // A removal or a new expiry gives no variable a version, yet whoever watches the session must see it.
        session.advance_beyond(before);
    }
    Executed::Done { wrote }
}

/// What of the values that `op` reads is not here.
pub(super) fn missing(session: &Session, op: &Op, now: u64) -> Option<Missing> {
    if let Action::Rename { if_none: true } | Action::Copy { replace: false } = op.action
        && op.targets.get(1).is_some_and(|to| session.key(&to.key, now).is_some())
    {
        return None;
    }
    let mut fetch = Vec::new();
    for (place, target) in op.targets.iter().enumerate() {
        let Some(key) = session.key(&target.key, now) else { continue };
        let mut need = |name: &Bytes, variable: &Variable, size_is_enough: bool| match variable.content {
            Content::Elsewhere(_) if !size_is_enough => {
                fetch.push(VariableId { key: key.name.to_bytes(), name: name.clone() });
                false
            }
            Content::Here(_) | Content::Elsewhere(_) => false,
            Content::Lost => true,
        };
        let lost = match needs(op) {
            Needs::Nothing => false,
            Needs::All(kind) => kind == key.kind && key.variables().any(|(n, v)| need(n, v, false)),
            Needs::Size(kind) => kind == key.kind && key.variables().any(|(n, v)| need(n, v, true)),
            Needs::First => place == 0 && key.variables().any(|(n, v)| need(n, v, false)),
            Needs::Fields(fields) => {
                key.kind == Kind::Hash && fields.iter().any(|f| key.variable(f).is_some_and(|v| need(f, v, false)))
            }
            Needs::FieldSize(field) => key.kind == Kind::Hash && key.variable(field).is_some_and(|v| need(field, v, true)),
            Needs::Elements(action) if key.kind == Kind::List && place == 0 => {
                let places = lists::needed(action, op, key);
                key.variables().skip(places.start).take(places.len()).any(|(n, v)| need(n, v, false))
            }
            Needs::Elements(_) => false,
        };
        if lost {
            // A write cures what is lost: with nothing to merge with, it replaces all.
            return op.merges_on().is_none().then_some(Missing::Lost);
        }
    }
    fetch.sort_unstable();
    fetch.dedup();
    if fetch.is_empty() { None } else { Some(Missing::Fetch(fetch)) }
}

enum Needs<'a> {
    Nothing,
    /// Of every key of this kind.
    All(Kind),
    /// The size of every key of this kind.
    Size(Kind),
    /// Of the first key, whatever it is.
    First,
    /// These fields of a hash.
    Fields(&'a [Bytes]),
    FieldSize(&'a Bytes),
    /// Those elements of the first key that the action shows or compares.
    Elements(ListAction),
}

fn needs(op: &Op) -> Needs<'_> {
    match &op.action {
        Action::Get | Action::GetMany | Action::GetSet | Action::GetDelete | Action::GetExpire { .. } => Needs::All(Kind::String),
        Action::Append | Action::IncrementBy(_) | Action::Set(Set { get: true, .. }) => Needs::All(Kind::String),
        Action::Set(_) if op.merges_on().is_some() => Needs::All(Kind::String),
        Action::Piece(PieceAction::SetMany { .. }) => Needs::Nothing,
        Action::Piece(_) => Needs::All(Kind::String),
        Action::Length => Needs::Size(Kind::String),
        Action::HashGetMany => Needs::Fields(op.args.get(2..).unwrap_or_default()),
        Action::HashGet | Action::HashIncrementBy(_) | Action::HashIncrementByFloat => {
            Needs::Fields(op.args.get(2..3).unwrap_or_default())
        }
        Action::HashValueLength => Needs::FieldSize(op.arg(2)),
        Action::HashGetAll | Action::HashValues => Needs::All(Kind::Hash),
        Action::Sample(sample) => sample.needs_values_of().map_or(Needs::Nothing, Needs::All),
        Action::Scan(Kind::Set) | Action::OfSet(_) => Needs::Nothing,
        Action::Scan(kind) => Needs::All(*kind),
        Action::OfSortedSet(_) => Needs::All(Kind::SortedSet),
        Action::OfList(action) => Needs::Elements(*action),
        Action::Rename { .. } if op.targets.first() == op.targets.get(1) => Needs::Nothing,
        Action::Rename { .. } | Action::Copy { .. } => Needs::First,
        Action::Count | Action::Delete | Action::Expire { .. } | Action::Persist | Action::TimeToLive(_) | Action::Type => {
            Needs::Nothing
        }
        Action::Set(_) | Action::SetIfNew | Action::HashDelete | Action::HashExists | Action::Size(_) | Action::HashNames => {
            Needs::Nothing
        }
        Action::HashSet { .. } | Action::HashSetIfNew | Action::Object(_) => Needs::Nothing,
    }
}

impl<'a> Run<'a> {
    /// The only key, or the first.
    pub(super) fn target(&self) -> &'a Target {
        self.target_at(0)
    }

    /// The second key. The arguments say how the client names it, which is another name in other databases than 0.
    pub(super) fn second_target(&self) -> &'a Target {
        self.target_at(1)
    }

    fn target_at(&self, place: usize) -> &'a Target {
        static NONE: Target = Target { key: Bytes::new(), layout: crate::session::Layout::Opaque, label: Bytes::new() };
        self.op.targets.get(place).unwrap_or(&NONE)
    }

    /// The argument at `place`, beyond the life of this borrow.
    pub(super) fn arg(&self, place: usize) -> &'a Bytes {
        self.op.arg(place)
    }

    /// The longest value.
    pub(super) fn value_bytes_max(&self) -> usize {
        self.limits.value_bytes_max.min(STRING_BYTES_MAX)
    }

    /// Whether a value may have so many bytes; answers the error if not.
    pub(super) fn fits(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.value_bytes_max();
        if !fits {
            let redis_too = bytes > STRING_BYTES_MAX;
            self.reply.error(if redis_too { errors::STRING_TOO_LONG } else { errors::VALUE_TOO_LONG });
        }
        fits
    }

    pub(super) fn key(&self) -> Option<&Key> {
        self.session.key(&self.target().key, self.now)
    }

    /// Whether a reply with values of these sizes is refused, with the error said. A client could name a long value many times,
    /// which costs it little; with few names no sum is made.
    pub(super) fn is_too_long(&mut self, names: usize, sizes: impl Fn(&Session) -> u64) -> bool {
        const FEW: usize = 64;
        let too_long = names > FEW && sizes(self.session) > STRING_BYTES_MAX as u64;
        if too_long {
            self.reply.error(errors::REPLY_TOO_LONG);
        }
        too_long
    }

    /// A write removes what has expired under its keys, so that nothing of a former life is compared or kept.
    fn clear_expired(&mut self) {
        for target in &self.op.targets {
            let expired = self.session.held(&target.key).is_some_and(|k| k.is_expired(self.now));
            if expired {
                self.session.remove(&target.key, self.now);
                self.wrote = true;
                self.events.note(Classes::EXPIRED, "expired", &target.key);
            }
        }
    }

    /// Something has happened to a key.
    pub(super) fn note(&mut self, class: Classes, event: &'static str, key: &[u8]) {
        self.events.note(class, event, key);
    }

    /// A part of a key was removed; the key goes with the last one.
    pub(super) fn note_removal(&mut self, class: Classes, event: &'static str, key: &[u8]) {
        self.note(class, event, key);
        if self.session.held(key).is_none() {
            self.note(Classes::GENERIC, "del", key);
        }
    }

    fn action(&mut self) {
        match &self.op.action {
            Action::Append => self.append(),
            Action::Copy { replace } => self.copy(*replace),
            Action::Count => self.count(),
            Action::Delete => self.delete(),
            Action::Expire { amount, unit, condition } => self.expire(*amount, *unit, *condition),
            Action::Get => self.get(),
            Action::GetDelete => self.get_delete(),
            Action::GetExpire { expiry, persist } => self.get_expire(*expiry, *persist),
            Action::GetMany => self.get_many(),
            Action::GetSet => self.get_set(),
            Action::HashDelete => self.hash_delete(),
            Action::HashExists => self.hash_exists(),
            Action::HashGet => self.hash_get(),
            Action::HashGetAll => self.hash_get_all(),
            Action::HashGetMany => self.hash_get_many(),
            Action::HashIncrementBy(by) => self.hash_increment(*by),
            Action::HashIncrementByFloat => self.hash_increment_by_float(),
            Action::HashNames => self.hash_names(),
            Action::HashSet { answers_ok } => self.hash_set(*answers_ok),
            Action::HashSetIfNew => self.hash_set_if_new(),
            Action::HashValueLength => self.hash_value_length(),
            Action::HashValues => self.hash_values(),
            Action::IncrementBy(by) => self.increment(*by),
            Action::Length => self.length(),
            Action::Object(ask) => self.object(*ask),
            Action::OfList(action) => self.of_list(*action),
            Action::OfSet(action) => self.of_set(*action),
            Action::OfSortedSet(action) => self.of_sorted_set(*action),
            Action::Persist => self.persist(),
            Action::Piece(action) => self.piece(*action),
            Action::Rename { if_none } => self.rename(*if_none),
            Action::Sample(sample) => self.sample(*sample),
            Action::Scan(kind) => self.scan(*kind),
            Action::Set(set) => self.set(*set),
            Action::SetIfNew => self.set_if_new(),
            Action::Size(kind) => self.size(*kind),
            Action::TimeToLive(unit) => self.time_to_live(*unit),
            Action::Type => self.kind(),
        }
    }
}
