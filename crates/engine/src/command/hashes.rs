//! Actions on hashes: a field is a variable.
//!
//! They never look for what is missing (`execute` has) and never keep a slice of a receive buffer: what is stored is copied.
//! Called by `execute`.
//!
//! Invariant: fields come back in the order in which they were first written, as Redis keeps it for small hashes.

use super::errors;
use super::events::Classes;
use super::execute::Run;
use super::strings::{NOT_HERE, show};
use crate::session::{Kind, Session, Shown};
use crate::wire::resp::{Reply, parse_integer};
use bytes::Bytes;

/// A value, or the error that should not happen.
fn reply_value(reply: &mut Reply<'_>, value: Option<Shown<'_>>) {
    match value {
        Some(value) => show(reply, value),
        None => reply.error(NOT_HERE),
    }
}

impl<'a> Run<'a> {
    /// Whether there is a hash; answers the error if there is something else.
    fn hash(&mut self) -> Option<bool> {
        self.of_kind(Kind::Hash)
    }

    fn has_field(&self, field: &[u8]) -> bool {
        self.key().is_some_and(|k| k.has(field))
    }

    /// The value of a field: `Err` if it exists and is not here.
    pub(super) fn field(&mut self, field: &[u8]) -> Result<Option<Bytes>, &'static str> {
        let value = self.session.read_field(&self.target().key, field, self.now);
        if value.is_none() && self.has_field(field) { Err(NOT_HERE) } else { Ok(value) }
    }

    pub(super) fn write_field(&mut self, field: &[u8], value: &[u8]) -> bool {
        self.wrote = true;
        self.session.write_field(&self.target().key, field, value, self.now)
    }

    fn reply_field(&mut self, field: &[u8]) {
        let (key, reply) = (&self.op.targets().first().map(|t| t.key.as_ref()).unwrap_or_default(), &mut self.reply);
        if self.session.show_field(key, field, self.now, |value| reply_value(reply, value)).is_none() {
            reply.null();
        }
    }

    pub(super) fn hash_get(&mut self) {
        if self.hash().is_some() {
            self.reply_field(self.arg(2));
        }
    }

    fn rest(&self) -> &'a [Bytes] {
        self.op.args().get(2..).unwrap_or_default()
    }

    pub(super) fn hash_get_many(&mut self) {
        if self.hash().is_some() {
            let (fields, key, now) = (self.rest(), &self.target().key, self.now);
            let size = |s: &Session| {
                let found = s.key(key, now).into_iter().flat_map(|key| fields.iter().filter_map(|field| key.size_of(field)));
                found.sum()
            };
            if self.is_too_long(fields.len(), size) {
                return;
            }
            self.reply.array(fields.len());
            fields.iter().for_each(|field| self.reply_field(field));
        }
    }

    pub(super) fn hash_get_all(&mut self) {
        if self.hash().is_some() {
            self.reply.map(self.key().map_or(0, |k| k.len()));
            let reply = &mut self.reply;
            let target = self.op.targets().first().map(|t| t.key.as_ref()).unwrap_or_default();
            self.session.read_hash(target, self.now, |name, value| {
                reply.bulk(name);
                reply_value(reply, value);
            });
        }
    }

    pub(super) fn hash_values(&mut self) {
        if self.hash().is_some() {
            self.reply.array(self.key().map_or(0, |k| k.len()));
            let reply = &mut self.reply;
            let target = self.op.targets().first().map(|t| t.key.as_ref()).unwrap_or_default();
            self.session.read_hash(target, self.now, |_, value| reply_value(reply, value));
        }
    }

    pub(super) fn hash_names(&mut self) {
        if self.hash().is_some() {
            let names: Vec<Bytes> = self.key().into_iter().flat_map(|k| k.variables()).map(|(name, _)| name.clone()).collect();
            self.reply.array(names.len());
            names.iter().for_each(|name| self.reply.bulk(name));
        }
    }

    pub(super) fn hash_exists(&mut self) {
        if self.hash().is_some() {
            let exists = self.has_field(self.arg(2));
            self.reply.integer(i64::from(exists));
        }
    }

    pub(super) fn hash_value_length(&mut self) {
        if self.hash().is_some() {
            let length = self.key().and_then(|k| k.size_of(self.arg(2))).unwrap_or(0);
            self.reply.integer(i64::try_from(length).unwrap_or(i64::MAX));
        }
    }

    pub(super) fn hash_set(&mut self, answers_ok: bool) {
        if self.hash().is_none() {
            return;
        }
        let mut new = 0;
        for pair in self.rest().chunks_exact(2) {
            if let [field, value] = pair {
                new += usize::from(self.write_field(field, value));
            }
        }
        self.note(Classes::HASH, "hset", &self.target().key);
        if answers_ok { self.reply.simple("OK") } else { self.reply.count(new) }
    }

    pub(super) fn hash_set_if_new(&mut self) {
        if self.hash().is_none() {
            return;
        }
        let new = !self.has_field(self.arg(2));
        if new {
            self.write_field(self.arg(2), self.arg(3));
            self.note(Classes::HASH, "hset", &self.target().key);
        }
        self.reply.integer(i64::from(new));
    }

    pub(super) fn hash_increment(&mut self, by: i64) {
        if self.hash().is_none() {
            return;
        }
        let before = match self.field(self.arg(2)) {
            Ok(before) => before,
            Err(error) => return self.reply.error(error),
        };
        let Some(before) = before.map_or(Some(0), |text| parse_integer(&text)) else {
            return self.reply.error(errors::HASH_NOT_AN_INTEGER);
        };
        let Some(after) = before.checked_add(by) else { return self.reply.error(errors::OVERFLOW) };
        let mut digits = itoa::Buffer::new();
        let text = digits.format(after).as_bytes();
        if self.fits(text.len()) {
            self.write_field(self.arg(2), text);
            self.note(Classes::HASH, "hincrby", &self.target().key);
            self.reply.integer(after);
        }
    }

    pub(super) fn hash_delete(&mut self) {
        if self.hash().is_none() {
            return;
        }
        let mut removed = 0;
        for field in self.rest() {
            removed += usize::from(self.session.remove_field(&self.target().key, field, self.now));
        }
        if removed > 0 {
            self.wrote = true;
            self.note_removal(Classes::HASH, "hdel", &self.target().key);
        }
        self.reply.count(removed);
    }
}
