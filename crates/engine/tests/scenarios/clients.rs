//! The clients of a scenario: what they see and write at a node, and the operations that wait for its verdict.
//!
//! It never decides where an operation runs: the script names the node. Reads and writes go to the table, as on the hot path.

use crate::requests::Ask;
use crate::world::World;
use bytes::Bytes;
use wayfarer_engine::ids::{Incarnation, Ticket};
use wayfarer_engine::node::{Input, Purpose, Verdict};
use wayfarer_engine::residence::{Gate, Table};
use wayfarer_engine::rest::copy::Before;
use wayfarer_engine::session::{Missing, VariableId};

/// The one key of the session, a hash.
pub const KEY: &[u8] = b"sess:1";

/// What a client would see of one field at one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    Value(Bytes),
    Nil,
    /// It must be fetched first.
    Elsewhere,
    Lost,
    /// The gate is closed, the node is not in its lease, or the session is not here.
    NoAnswer,
}

/// 100 bytes: too long for a manifest entry.
pub fn long(c: char) -> Bytes {
    Bytes::from(c.to_string().repeat(100))
}

pub fn value(c: char) -> Seen {
    Seen::Value(long(c))
}

fn variable(field: &str) -> VariableId {
    VariableId { key: Bytes::from_static(KEY), name: Bytes::copy_from_slice(field.as_bytes()) }
}

impl World {
    pub fn gate(&self, who: Incarnation) -> Option<Gate> {
        self.life(who).table.with(&self.session, |slot| slot.as_ref().map(|r| r.gate))
    }

    /// What a client of `who` sees of a field.
    pub fn read(&mut self, who: Incarnation, field: &str) -> Seen {
        if !self.answerers().contains(&who) {
            return Seen::NoAnswer;
        }
        let unix_ms = self.now.unix_ms;
        self.life(who).table.with(&self.session, |slot| {
            let session = &mut slot.as_mut().unwrap().session;
            match session.missing_of(KEY, Some(field.as_bytes())) {
                Some(Missing::Fetch(_)) => Seen::Elsewhere,
                Some(Missing::Lost) => Seen::Lost,
                None => session.read_field(KEY, field.as_bytes(), unix_ms).map_or(Seen::Nil, Seen::Value),
            }
        })
    }

    pub fn write(&mut self, who: Incarnation, field: &str, value: Bytes) {
        assert_eq!(self.answerers(), [who], "only who answers can write");
        let unix_ms = self.now.unix_ms;
        let key = Bytes::from_static(KEY);
        let table = &self.life(who).table;
        let impact = table.with(&self.session, |slot| {
            let resident = slot.as_mut().unwrap();
            let before = Before::of(&resident.session, [&key].into_iter(), false);
            resident.session.write_field(KEY, field.as_bytes(), value, unix_ms);
            let rest = resident.rest.as_mut()?;
            rest.changed(&resident.session, before, [&key].into_iter(), &self.settings.policy, self.now.boot_us)
        });
        table.unwritten.borrow_mut().extend(impact.map(|_| self.session.clone()));
    }

    /// Removes the only key, closes the gate, and asks the machine to end the session.
    pub fn delete(&mut self, who: Incarnation) -> Ticket {
        assert_eq!(self.answerers(), [who], "only who answers can delete");
        self.life(who).table.with(&self.session, |slot| {
            let resident = slot.as_mut().unwrap();
            assert!(resident.session.remove(KEY, self.now.unix_ms));
            resident.gate = Gate::Ending;
        });
        let ticket = self.ticket();
        self.feed(who, Input::Ended { session: self.session.clone(), ticket: Some(ticket) });
        ticket
    }

    fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    pub fn locate(&mut self, who: Incarnation, purpose: Purpose) -> Ticket {
        let ticket = self.ticket();
        self.feed(who, Input::Locate { session: self.session.clone(), purpose, ticket });
        ticket
    }

    pub fn need(&mut self, who: Incarnation, field: &str) -> Ticket {
        let ticket = self.ticket();
        self.feed(who, Input::Need { session: self.session.clone(), variables: vec![variable(field)], ticket });
        ticket
    }

    pub fn verdict(&self, ticket: Ticket) -> Option<Verdict> {
        self.verdicts.get(&ticket).copied()
    }

    /// The verdict for an operation that needs one read of the directory.
    pub fn look_up(&mut self, who: Incarnation, purpose: Purpose) -> Verdict {
        let ticket = self.locate(who, purpose);
        let read = self.asked(who, Ask::Read);
        self.answer(read);
        self.verdict(ticket).expect("a verdict after the read")
    }

    /// The session is born at `who` with these fields.
    pub fn bear(&mut self, who: Incarnation, fields: &[(&str, Bytes)]) {
        let ticket = self.locate(who, Purpose::Create);
        let read = self.asked(who, Ask::Read);
        self.answer(read);
        let birth = self.asked(who, Ask::Birth);
        self.answer(birth);
        assert_eq!(self.verdict(ticket), Some(Verdict::Here));
        fields.iter().for_each(|(field, value)| self.write(who, field, value.clone()));
    }

    /// Fetches a field from its holder, and hands it to its reader.
    pub fn fetch(&mut self, who: Incarnation, holder: Incarnation, field: &str) {
        let reader = self.need(who, field);
        self.deliver(who, holder, "Fetch");
        self.deliver(holder, who, "Fetched");
        assert_eq!(self.verdict(reader), Some(Verdict::Fetched));
    }
}
