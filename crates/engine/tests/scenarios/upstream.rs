//! The upstream of the scenarios: one hash a session with its guard, changed only when a script applies a request.
//!
//! It never delays or repeats anything. Requests are in `requests`, beside those to the directory.

use crate::clients::KEY;
use crate::requests::{Ask, Request};
use crate::world::World;
use bytes::Bytes;
use std::collections::BTreeMap;
use wayfarer_engine::command::Target;
use wayfarer_engine::ids::{Epoch, Incarnation, RequestId, SessionId, Ticket};
use wayfarer_engine::node::{Input, Purpose, Verdict};
use wayfarer_engine::residence::Table;
use wayfarer_engine::rest::change::{Batch, KeyChange, KeyStore, Loaded, LoadedKey, Stored};
use wayfarer_engine::rest::content::KeyContent;
use wayfarer_engine::session::Layout;

#[derive(Default)]
struct Key {
    fields: BTreeMap<Bytes, Bytes>,
    guard: (Epoch, u64),
}

/// See the head of this file.
#[derive(Default)]
pub struct Upstream(BTreeMap<SessionId, Key>);

/// What a node asks of it.
#[derive(Clone, Debug)]
pub enum Question {
    Look(SessionId),
    Load(SessionId, Epoch),
    Store(SessionId, Batch),
}

impl Question {
    pub fn ask(&self) -> Ask {
        match self {
            Question::Look(_) => Ask::Look,
            Question::Load(..) => Ask::Load,
            Question::Store(..) => Ask::Store,
        }
    }

    /// What a node hears that gets no answer.
    pub fn unanswered(&self, request: RequestId) -> Input {
        match self {
            Question::Look(_) => Input::Looked { request, found: None },
            Question::Load(..) => Input::Loaded { request, loaded: Loaded::Unknown },
            Question::Store(..) => Input::Stored { request, stored: None },
        }
    }
}

impl Upstream {
    /// Does what is asked; the answer.
    pub fn apply(&mut self, question: &Question, request: RequestId) -> Input {
        match question {
            Question::Look(session) => {
                let found = self.0.get(session).is_some_and(|key| !key.fields.is_empty());
                Input::Looked { request, found: Some(found) }
            }
            Question::Load(session, epoch) => {
                let key = self.0.entry(session.clone()).or_default();
                if key.guard.0 > *epoch {
                    return Input::Loaded { request, loaded: Loaded::Refused };
                }
                key.guard = (*epoch, 0).max(key.guard);
                let pairs: Vec<_> = key.fields.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
                let content = (!pairs.is_empty()).then_some(KeyContent::Hash(pairs));
                let target = Target { key: Bytes::from_static(KEY), layout: Layout::Hash, label: Bytes::new() };
                let keys = vec![LoadedKey { target, content, expires_at_ms: None }];
                Input::Loaded { request, loaded: Loaded::Keys(keys) }
            }
            Question::Store(session, batch) => {
                let key = self.0.entry(session.clone()).or_default();
                let stored = batch.keys.iter().map(|store| key.store((batch.epoch, batch.sequence), store)).collect();
                Input::Stored { request, stored: Some(stored) }
            }
        }
    }
}

impl Key {
    fn store(&mut self, mark: (Epoch, u64), store: &KeyStore) -> Stored {
        if mark <= self.guard {
            return Stored::Refused;
        }
        match &store.change {
            KeyChange::Whole(KeyContent::Hash(pairs)) => self.fields = pairs.iter().cloned().collect(),
            KeyChange::Fields { set, gone } => {
                self.fields.extend(set.iter().cloned());
                self.fields.retain(|name, _| !gone.contains(name));
            }
            KeyChange::Gone => self.fields.clear(),
            KeyChange::Expiry => {}
            other => panic!("no scenario has {other:?}"),
        }
        self.guard = mark;
        Stored::Written
    }
}

impl World {
    /// The session is at rest with this field.
    pub fn put_at_rest(&mut self, field: &str, value: Bytes) {
        self.upstream.0.entry(self.session.clone()).or_default().fields.insert(Bytes::copy_from_slice(field.as_bytes()), value);
    }

    /// What is at rest of a field.
    pub fn at_rest(&self, field: &str) -> Option<Bytes> {
        self.upstream.0.get(&self.session)?.fields.get(field.as_bytes()).cloned()
    }

    /// Claims the session, of which something is at rest; it is not loaded yet.
    pub fn claim(&mut self, who: Incarnation) -> Ticket {
        let ticket = self.locate(who, Purpose::Read);
        for ask in [Ask::Read, Ask::Look, Ask::Birth] {
            let request = self.asked(who, ask);
            self.answer(request);
        }
        ticket
    }

    /// The session, which is nobody's, opens at `who` with what is at rest.
    pub fn check_out(&mut self, who: Incarnation) {
        self.open_by(who, Ask::Birth);
    }

    /// The same for one whose record names a group that has no owner any more.
    pub fn claim_lost(&mut self, who: Incarnation) {
        self.open_by(who, Ask::Again);
    }

    fn open_by(&mut self, who: Incarnation, claim: Ask) {
        let ticket = self.locate(who, Purpose::Create);
        for ask in [Ask::Read, claim, Ask::Load] {
            let request = self.asked(who, ask);
            assert!(self.answer(request));
        }
        assert_eq!(self.verdict(ticket), Some(Verdict::Here));
    }

    /// The version of a field.
    pub fn version(&self, who: Incarnation, field: &str) -> u64 {
        self.life(who).table.with(&self.session, |slot| {
            slot.as_ref().unwrap().session.key(KEY, 0).unwrap().variable(field.as_bytes()).unwrap().version.0
        })
    }

    /// What a node wants to store.
    pub fn batch(&self, request: Request) -> Batch {
        match self.requests.question(request) {
            Some(Question::Store(_, batch)) => batch.clone(),
            other => panic!("no store: {other:?}"),
        }
    }

    /// Answers a store in another way than the upstream would; nothing is stored.
    pub fn answer_stored(&mut self, request: Request, stored: &[Stored]) {
        self.requests.tell(request);
        self.feed(request.0, Input::Stored { request: request.1, stored: Some(stored.to_vec()) });
    }
}
