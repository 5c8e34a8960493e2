//! What a read of one variable may return: the rule by which the users tell a stale read from a lawful one.
//!
//! It knows no time but the order in which it is called, and no values but their sequence numbers. Called by the check of a
//! session.
//!
//! A session's variable has one writer: its user, who never has two writes of the same variable in flight. Its writes are
//! numbered 1, 2, 3, …; 0 stands for "never written". For an atomic (linearizable) register with one writer a read is lawful
//! exactly if all three hold (Lamport 1986, theorem 3):
//!
//! | rule | why |
//! |---|---|
//! | result ≥ the last write acknowledged before the read was sent | else an acknowledged write is missing |
//! | result ≥ the newest result of any read answered before this one was sent | else time runs backwards between two reads |
//! | result ≤ the last write sent before this read was answered | else the value comes from nowhere |
//!
//! A write that failed may take effect at any later time or never, so its number stays lawful for ever (and its run has an error
//! to report anyhow). "Sent" is noted before the request leaves and "answered" after the whole answer has arrived, so each
//! interval holds the one in which the operation really happened: no false alarm. Nothing is missed that the answers show: any
//! sequence of answers that keeps the rules is one that a correct store could have given.
//! Invariant: `acknowledged ≤ sent`, and a floor never sinks.

/// The history of one variable of one session, as its user knows it.
#[derive(Debug, Default, Clone)]
pub struct Register {
    sent: u64,
    acknowledged: u64,
    seen: u64,
    in_flight: Option<u64>,
    unknown: Vec<u64>,
}

/// The oldest result that a read may return; taken when the read is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor(pub u64);

/// What a result says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A correct store could have answered this.
    Lawful,
    /// Older than what must be there.
    Stale,
    /// A write that nobody has sent.
    FromNowhere,
}

impl Register {
    /// Starts the next write and gives its number; nothing while another write is in flight.
    pub fn send_write(&mut self) -> Option<u64> {
        if self.in_flight.is_some() {
            return None;
        }
        self.sent = self.sent.saturating_add(1);
        self.in_flight = Some(self.sent);
        Some(self.sent)
    }

    /// The write in flight was answered: with success, or in a way that leaves open whether it happened.
    pub fn end_write(&mut self, acknowledged: bool) {
        match self.in_flight.take() {
            Some(sequence) if acknowledged => self.acknowledged = sequence,
            // At most one number for each request that failed.
            Some(sequence) => self.unknown.push(sequence),
            None => {}
        }
    }

    /// A read is about to be sent.
    pub fn send_read(&self) -> Floor {
        Floor(self.acknowledged.max(self.seen))
    }

    /// A read that was sent at `floor` was answered with `result`.
    pub fn end_read(&mut self, floor: Floor, result: u64) -> Verdict {
        let verdict = if self.unknown.contains(&result) {
            Verdict::Lawful
        } else if result < floor.0 {
            Verdict::Stale
        } else if result > self.sent {
            Verdict::FromNowhere
        } else {
            Verdict::Lawful
        };
        if verdict == Verdict::Lawful {
            self.seen = self.seen.max(result);
        }
        verdict
    }

    /// The last write that was acknowledged, 0 if none.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Whether nothing is in flight and nothing is in doubt.
    pub fn settled(&self) -> bool {
        self.in_flight.is_none() && self.unknown.is_empty()
    }
}

/// The history of a session's counter, which requests raise by one, several at a time.
///
/// A raise is lawful if its result is above the number of raises acknowledged before it was sent and above every result answered
/// before it was sent, at most the number sent before it was answered, and no other raise has returned it.
#[derive(Debug, Default, Clone)]
pub struct Counter {
    sent: u64,
    acknowledged: u64,
    highest: u64,
    /// Results so far, one for each page of the session.
    results: Vec<u64>,
}

impl Counter {
    /// A raise is about to be sent.
    pub fn send(&mut self) -> Floor {
        self.sent = self.sent.saturating_add(1);
        Floor(self.acknowledged.max(self.highest).saturating_add(1))
    }

    /// A raise that was sent at `floor` was acknowledged with `result`.
    pub fn end(&mut self, floor: Floor, result: u64) -> Verdict {
        self.acknowledged = self.acknowledged.saturating_add(1);
        let verdict = if result < floor.0 || self.results.contains(&result) {
            Verdict::Stale
        } else if result > self.sent {
            Verdict::FromNowhere
        } else {
            Verdict::Lawful
        };
        self.highest = self.highest.max(result);
        self.results.push(result);
        verdict
    }

    /// Raises missing from `result`, which was read when nothing was in flight.
    pub fn lost(&self, result: u64) -> u64 {
        self.acknowledged.saturating_sub(result)
    }

    /// Raises that were sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_returns_the_last_acknowledged_write_or_a_later_one() {
        let mut register = Register::default();
        assert_eq!(register.end_read(register.send_read(), 0), Verdict::Lawful);
        register.send_write();
        register.end_write(true);
        let floor = register.send_read();
        assert_eq!(register.clone().end_read(floor, 0), Verdict::Stale);
        assert_eq!(register.clone().end_read(floor, 1), Verdict::Lawful);
        assert_eq!(register.clone().end_read(floor, 2), Verdict::FromNowhere);
        // A write that was sent while the read was under way may show.
        register.send_write();
        assert_eq!(register.clone().end_read(floor, 2), Verdict::Lawful);
        assert_eq!(register.clone().end_read(floor, 1), Verdict::Lawful);
    }

    #[test]
    fn a_read_that_was_sent_before_the_acknowledgement_may_return_the_older_value() {
        let mut register = Register::default();
        let floor = register.send_read();
        register.send_write();
        register.end_write(true);
        assert_eq!(register.end_read(floor, 0), Verdict::Lawful);
    }

    #[test]
    fn two_reads_in_a_row_do_not_go_backwards_while_a_write_is_in_flight() {
        let mut register = Register::default();
        register.send_write();
        let early = register.send_read();
        assert_eq!(register.end_read(register.send_read(), 1), Verdict::Lawful);
        assert_eq!(register.clone().end_read(register.send_read(), 0), Verdict::Stale);
        // One that was sent before the newer value was seen may still return the older one.
        assert_eq!(register.end_read(early, 0), Verdict::Lawful);
    }

    #[test]
    fn a_write_in_doubt_stays_lawful_and_nothing_else_does() {
        let mut register = Register::default();
        for acknowledged in [true, false, true] {
            register.send_write();
            register.end_write(acknowledged);
        }
        assert!(!register.settled());
        let floor = register.send_read();
        assert_eq!(register.clone().end_read(floor, 2), Verdict::Lawful);
        assert_eq!(register.clone().end_read(floor, 3), Verdict::Lawful);
        assert_eq!(register.clone().end_read(floor, 1), Verdict::Stale);
    }

    #[test]
    fn one_writer_has_one_write_in_flight() {
        let mut register = Register::default();
        assert_eq!(register.send_write(), Some(1));
        assert_eq!(register.send_write(), None);
    }

    /// The rule against its definition: every answer that an atomic store can give for a random schedule is lawful.
    #[test]
    fn no_answer_of_an_atomic_store_raises_an_alarm() {
        for seed in 0..500 {
            let mut draws = crate::random::Draws::new(seed, &[]);
            let (mut register, mut store) = (Register::default(), 0);
            let mut write: Option<(u64, bool)> = None;
            let mut reads: Vec<(Floor, Option<u64>)> = Vec::new();
            for _ in 0..60 {
                match (draws.below(5), &mut write) {
                    (0, None) => write = register.send_write().map(|sequence| (sequence, false)),
                    (0, Some((sequence, done @ false))) => (store, *done) = (*sequence, true),
                    (0, Some(_)) => {
                        register.end_write(true);
                        write = None;
                    }
                    (1, _) if reads.len() < 4 => reads.push((register.send_read(), None)),
                    (2, _) => reads.iter_mut().filter(|read| read.1.is_none()).take(1).for_each(|read| read.1 = Some(store)),
                    _ => {
                        if let Some(at) = reads.iter().rposition(|read| read.1.is_some()) {
                            let (floor, result) = reads.remove(at);
                            assert_eq!(register.end_read(floor, result.unwrap_or(0)), Verdict::Lawful, "seed {seed}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_lost_raise_and_a_raise_twice_are_seen() {
        let mut counter = Counter::default();
        let (first, second) = (counter.send(), counter.send());
        assert_eq!(counter.end(first, 2), Verdict::Lawful);
        assert_eq!(counter.clone().end(second, 2), Verdict::Stale);
        assert_eq!(counter.end(second, 1), Verdict::Lawful);
        let third = counter.send();
        assert_eq!(counter.clone().end(third, 2), Verdict::Stale);
        assert_eq!(counter.clone().end(third, 4), Verdict::FromNowhere);
        assert_eq!(counter.end(third, 3), Verdict::Lawful);
        assert_eq!((counter.lost(3), counter.lost(2)), (0, 1));
    }
}
