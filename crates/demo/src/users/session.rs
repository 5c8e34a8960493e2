//! One session as its user knows it: what was written, what is in flight, and so what every answer must contain.
//!
//! It sends nothing. Called by the virtual user before a request leaves and after its answer has come. The rule for a variable is
//! that of `register.rs`; besides, the bytes of every value must be those of the write that it names.
//! Invariant: what `begin` notes precedes the sending, what `end` judges follows the whole answer.

use std::collections::BTreeMap;

use crate::model::{Sizes, Variable, all};
use crate::users::register::{Counter, Floor, Register, Verdict};
use crate::users::schedule::Planned;
use crate::value;

/// What the shop said about a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is not there.
    Absent,
    /// A value that names this write (none if it names no write) and has this digest.
    Value(Option<u64>, u64),
}

/// What the shop answered.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The variables that were read.
    pub values: BTreeMap<Variable, Seen>,
    /// The counter.
    pub hits: Option<u64>,
    /// Fields that the shop does not know.
    pub unknown: u64,
}

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// An older value than must be there.
    Stale,
    /// An acknowledged write is not there when all is over.
    Lost,
    /// Bytes that nobody wrote, or a variable that should have been answered and was not.
    Wrong,
    /// Something of a session that had ended.
    CameBack,
}

/// One wrong variable of one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub kind: FaultKind,
    /// Name of the variable or counter.
    pub variable: String,
    /// The oldest write that would have been right.
    pub expected: u64,
    /// The write that was answered, 0 for none.
    pub found: u64,
}

/// A request under way.
#[derive(Debug)]
pub struct Ticket {
    floors: Vec<(Variable, Floor)>,
    /// Variable, sequence and size of each write.
    pub writes: Vec<(Variable, u64, usize)>,
    counter: Option<Floor>,
}

/// The session.
#[derive(Debug)]
pub struct SessionCheck {
    sid: String,
    sizes: Sizes,
    registers: BTreeMap<Variable, Register>,
    counter: Counter,
    in_doubt: bool,
}

impl SessionCheck {
    /// A session that nobody has written to.
    pub fn new(sid: String, sizes: Sizes) -> Self {
        let registers = all().map(|variable| (variable, Register::default())).collect();
        Self { sid, sizes, registers, counter: Counter::default(), in_doubt: false }
    }

    /// Its id.
    pub fn sid(&self) -> &str {
        &self.sid
    }

    /// Whether a request failed, so that its effect may still come at any time.
    pub fn in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Notes that `planned` is about to be sent. A write whose variable has one in flight is left out.
    pub fn begin(&mut self, planned: &Planned) -> Ticket {
        let floors =
            planned.reads.iter().filter_map(|variable| Some((*variable, self.registers.get(variable)?.send_read()))).collect();
        let mut writes = Vec::with_capacity(planned.writes.len());
        for variable in &planned.writes {
            if let Some(sequence) = self.registers.get_mut(variable).and_then(Register::send_write) {
                writes.push((*variable, sequence, self.sizes.bytes(*variable, sequence)));
            }
        }
        let counter = planned.counts.then(|| self.counter.send());
        Ticket { floors, writes, counter }
    }

    /// Judges the answer; none means that the request failed and may or may not have taken effect.
    pub fn end(&mut self, ticket: Ticket, answer: Option<&Answer>) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let Some(answer) = answer {
            for (variable, floor) in ticket.floors {
                faults.extend(self.judge(variable, floor, answer.values.get(&variable).copied()));
            }
            if let Some(floor) = ticket.counter {
                faults.extend(self.judge_count(floor, answer.hits));
            }
        } else {
            self.in_doubt |= !ticket.writes.is_empty() || ticket.counter.is_some();
        }
        for (variable, ..) in ticket.writes {
            if let Some(register) = self.registers.get_mut(&variable) {
                register.end_write(answer.is_some());
            }
        }
        faults
    }

    /// Judges a read of the whole session while nothing is in flight. What is stale here is lost for good.
    pub fn read_back(&mut self, answer: &Answer) -> Vec<Fault> {
        let mut faults = Vec::new();
        let variables: Vec<Variable> = self.registers.keys().copied().collect();
        for variable in variables {
            let Some(register) = self.registers.get(&variable) else { continue };
            let (floor, acknowledged) = (register.send_read(), register.acknowledged());
            let fault = self.judge(variable, floor, answer.values.get(&variable).copied());
            faults.extend(fault.map(|fault| match fault.kind {
                FaultKind::Stale if fault.found < acknowledged => Fault { kind: FaultKind::Lost, ..fault },
                _ => fault,
            }));
        }
        let hits = answer.hits.unwrap_or(0);
        for _ in 0..self.counter.lost(hits) {
            faults.push(counter_fault(FaultKind::Lost, self.counter.sent(), hits));
        }
        if hits > self.counter.sent() {
            faults.push(counter_fault(FaultKind::Wrong, self.counter.sent(), hits));
        }
        for _ in 0..answer.unknown {
            faults.push(Fault {
                kind: FaultKind::Wrong,
                variable: "a field that the shop never wrote".into(),
                expected: 0,
                found: 0,
            });
        }
        faults
    }

    /// Judges a read of the whole session after its end was acknowledged: nothing may be there.
    pub fn read_after_end(&self, answer: &Answer) -> Vec<Fault> {
        let came_back = |variable: String, found| Fault { kind: FaultKind::CameBack, variable, expected: 0, found };
        let values = answer.values.iter().filter_map(|(variable, seen)| match seen {
            Seen::Absent => None,
            Seen::Value(sequence, _) => Some(came_back(variable.name(), sequence.unwrap_or(0))),
        });
        values.chain(answer.hits.map(|hits| came_back(crate::model::COUNTER.into(), hits))).collect()
    }

    fn judge(&mut self, variable: Variable, floor: Floor, seen: Option<Seen>) -> Option<Fault> {
        let fault = |kind, found| Some(Fault { kind, variable: variable.name(), expected: floor.0, found });
        let sequence = match seen {
            None | Some(Seen::Value(None | Some(0), _)) => return fault(FaultKind::Wrong, 0),
            Some(Seen::Absent) => 0,
            Some(Seen::Value(Some(sequence), digest)) => {
                let right = value::encode(&self.sid, &variable.name(), sequence, self.sizes.bytes(variable, sequence));
                if value::digest(&right) != digest {
                    return fault(FaultKind::Wrong, sequence);
                }
                sequence
            }
        };
        match self.registers.get_mut(&variable)?.end_read(floor, sequence) {
            Verdict::Lawful => None,
            Verdict::Stale => fault(FaultKind::Stale, sequence),
            Verdict::FromNowhere => fault(FaultKind::Wrong, sequence),
        }
    }

    fn judge_count(&mut self, floor: Floor, hits: Option<u64>) -> Option<Fault> {
        let Some(hits) = hits else { return Some(counter_fault(FaultKind::Wrong, floor.0, 0)) };
        match self.counter.end(floor, hits) {
            Verdict::Lawful => None,
            Verdict::Stale => Some(counter_fault(FaultKind::Stale, floor.0, hits)),
            Verdict::FromNowhere => Some(counter_fault(FaultKind::Wrong, floor.0, hits)),
        }
    }
}

fn counter_fault(kind: FaultKind, expected: u64, found: u64) -> Fault {
    Fault { kind, variable: crate::model::COUNTER.into(), expected, found }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::model::Route;

    fn planned(reads: &[&str], writes: &[&str]) -> Planned {
        let variables = |names: &[&str]| names.iter().map(|name| Variable::named(name, 0).unwrap()).collect();
        Planned { route: Route::Item, offset_us: 0, reads: variables(reads), writes: variables(writes), counts: false }
    }

    fn value_of(check: &SessionCheck, name: &str, sequence: u64) -> (Variable, Seen) {
        let variable = Variable::named(name, 0).unwrap();
        let bytes = value::encode(check.sid(), name, sequence, check.sizes.bytes(variable, sequence));
        (variable, Seen::Value(Some(sequence), value::digest(&bytes)))
    }

    fn written() -> SessionCheck {
        let mut check = SessionCheck::new("ab".repeat(16), Sizes::new(1, u32::MAX));
        for _ in 0..2 {
            let ticket = check.begin(&planned(&[], &["cart"]));
            assert!(check.end(ticket, Some(&Answer::default())).is_empty());
        }
        check
    }

    #[test]
    fn a_right_answer_passes_and_an_old_wrong_or_missing_one_does_not() {
        let mut check = written();
        let mut read = |seen: Option<(Variable, Seen)>| {
            let ticket = check.begin(&planned(&["cart"], &[]));
            let answer = Answer { values: seen.into_iter().collect(), ..Answer::default() };
            check.end(ticket, Some(&answer)).first().map(|fault| fault.kind)
        };
        let other = written();
        let (cart, right) = value_of(&other, "cart", 2);
        let Seen::Value(_, digest) = right else { panic!("a value") };
        assert_eq!(read(Some((cart, right))), None);
        assert_eq!(read(Some(value_of(&other, "cart", 1))), Some(FaultKind::Stale));
        assert_eq!(read(Some((cart, Seen::Absent))), Some(FaultKind::Stale));
        assert_eq!(read(Some((cart, Seen::Value(Some(2), digest ^ 1)))), Some(FaultKind::Wrong));
        assert_eq!(read(Some(value_of(&other, "cart", 3))), Some(FaultKind::Wrong));
        assert_eq!(read(None), Some(FaultKind::Wrong));
    }

    #[test]
    fn the_read_back_finds_lost_writes_and_lost_counts() {
        let mut check = written();
        let mut raise = planned(&[], &[]);
        raise.counts = true;
        let ticket = check.begin(&raise);
        assert!(check.end(ticket, Some(&Answer { hits: Some(1), ..Answer::default() })).is_empty());
        let mut answer = Answer { hits: Some(1), ..Answer::default() };
        answer.values = all().map(|variable| (variable, Seen::Absent)).chain([value_of(&check, "cart", 2)]).collect();
        assert_eq!(check.read_back(&answer), []);
        let lost_count = check.read_back(&Answer { hits: None, ..answer.clone() });
        assert_eq!((lost_count.len(), lost_count[0].kind), (1, FaultKind::Lost));
        answer.values.extend([value_of(&check, "cart", 1)]);
        assert_eq!(check.read_back(&answer)[0].kind, FaultKind::Lost);
        assert_eq!(check.read_after_end(&answer).len(), 2);
    }

    #[test]
    fn a_failed_request_leaves_both_outcomes_open() {
        let mut check = written();
        let ticket = check.begin(&planned(&[], &["cart"]));
        assert!(check.end(ticket, None).is_empty());
        assert!(check.in_doubt());
        for sequence in [2, 3] {
            let ticket = check.begin(&planned(&["cart"], &[]));
            let values = [value_of(&check, "cart", sequence)].into_iter().collect();
            assert!(check.end(ticket, Some(&Answer { values, ..Answer::default() })).is_empty());
        }
    }
}
