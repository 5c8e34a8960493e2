//! What the clients of one session know: which writes were acknowledged, and so what a read must give back.
//!
//! It never asks the session. Each variable has one writer; its writes are numbered from 1 and carry their number and bytes that
//! follow from it, so that a read can be checked byte for byte whichever write it sees.
//!
//! A read that begins when `n` is acknowledged (or was read by anybody) and ends when `m` has begun must see `n..=m`: less is a
//! stale read or a lost write, more is something that nobody wrote. That is the rule of a linearizable register.

use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// The variables of a session: what they hold and how large it is, in bytes.
pub const VARIABLES: &[Variable] = &[
    Variable { name: "step", binary: false, bytes: 24 },
    Variable { name: "note", binary: false, bytes: 900 },
    Variable { name: "token", binary: true, bytes: 1_024 },
    Variable { name: "picture", binary: true, bytes: 12_000 },
];
/// Requests of a session whose times are kept, the latest.
const FLIGHTS_MAX: usize = 20_000;

pub struct Variable {
    pub name: &'static str,
    pub binary: bool,
    bytes: usize,
}

#[derive(Default)]
struct Register {
    begun: AtomicU64,
    known: AtomicU64,
}

/// See the head of this file.
pub struct Ledger {
    seed: u64,
    registers: Vec<Register>,
    /// When its requests began and ended, in microseconds since 1970.
    flights: Mutex<Vec<(u64, u64)>>,
    done: AtomicU64,
}

impl Ledger {
    pub fn new(seed: u64) -> Ledger {
        let registers = VARIABLES.iter().map(|_| Register::default()).collect();
        Ledger { seed, registers, flights: Mutex::default(), done: AtomicU64::new(0) }
    }

    /// Begins the next write of a variable: its number and its value.
    pub fn begin(&self, at: usize) -> (u64, Vec<u8>) {
        let number = self.registers[at].begun.fetch_add(1, Ordering::SeqCst) + 1;
        (number, self.value(at, number))
    }

    /// That write was acknowledged.
    pub fn acknowledged(&self, at: usize, number: u64) {
        self.registers[at].known.fetch_max(number, Ordering::SeqCst);
    }

    /// What a read that begins now must see at least.
    pub fn floors(&self) -> Vec<u64> {
        self.registers.iter().map(|r| r.known.load(Ordering::SeqCst)).collect()
    }

    /// Checks what a read that began at `floor` has seen of a variable; `None`: that there is none.
    pub fn check(&self, at: usize, floor: u64, seen: Option<&[u8]>) -> Result<(), String> {
        let register = &self.registers[at];
        let allowed = floor..=register.begun.load(Ordering::SeqCst);
        let number = self.number(at, &allowed, seen)?;
        register.known.fetch_max(number, Ordering::SeqCst);
        Ok(())
    }

    fn number(&self, at: usize, allowed: &RangeInclusive<u64>, seen: Option<&[u8]>) -> Result<u64, String> {
        let name = VARIABLES[at].name;
        let Some(seen) = seen else {
            return if *allowed.start() == 0 { Ok(0) } else { Err(format!("{name} is gone; {allowed:?} was written")) };
        };
        let digits = seen.get(..16).and_then(|d| std::str::from_utf8(d).ok()?.parse().ok());
        let number = digits.ok_or_else(|| format!("{name}: {} bytes that nobody wrote", seen.len()))?;
        if !allowed.contains(&number) {
            return Err(format!("{name} is from write {number}, and not from {allowed:?}"));
        }
        if seen != self.value(at, number) {
            return Err(format!("{name}: the bytes differ from those of write {number}"));
        }
        Ok(number)
    }

    /// 16 digits, then what follows from session, variable and number: any bytes, or a text with what codecs stumble over.
    fn value(&self, at: usize, number: u64) -> Vec<u8> {
        let variable = &VARIABLES[at];
        let mut state = self.seed ^ (at as u64) << 32 ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut value = format!("{number:016}").into_bytes();
        while value.len() < variable.bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let byte = state.to_be_bytes()[0];
            if variable.binary {
                value.push(byte);
            } else {
                let texts = [
                    "a",
                    "Z",
                    "0",
                    " ",
                    "\"",
                    "\\",
                    "/",
                    "\n",
                    "\u{e9}",
                    "\u{2028}",
                    "\u{1f9f3}",
                    "&=+%",
                    "\u{0}",
                    "{}[]",
                    "<>'",
                    "\r",
                ];
                value.extend_from_slice(texts[usize::from(byte) % texts.len()].as_bytes());
            }
        }
        value
    }

    /// A request of this session was under way from `began_us` until now.
    pub fn flew(&self, began_us: u64) {
        let mut flights = self.flights.lock().unwrap();
        if flights.len() < FLIGHTS_MAX {
            flights.push((began_us, unix_us()));
        }
        self.done.fetch_add(1, Ordering::SeqCst);
    }

    /// Requests that have ended well.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }

    /// How many requests were in flight at that time.
    pub fn in_flight_at(&self, unix_us: u64) -> usize {
        self.flights.lock().unwrap().iter().filter(|(from, to)| (*from..=*to).contains(&unix_us)).count()
    }
}

/// Microseconds since 1970, as the sidecars write them into their log of moves.
#[allow(clippy::disallowed_methods, reason = "the one place of these tests that reads the clock")]
pub fn unix_us() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

#[test]
fn a_ledger_sees_what_is_wrong() {
    let ledger = Ledger::new(7);
    let values: Vec<Vec<u8>> = (0..3).map(|_| ledger.begin(3).1).collect();
    ledger.acknowledged(3, 2);
    let floor = ledger.floors()[3];
    assert_eq!(floor, 2);
    assert!(ledger.check(3, floor, Some(&values[0])).is_err(), "stale");
    assert!(ledger.check(3, floor, None).is_err(), "gone");
    assert!(ledger.check(3, floor, Some(&ledger.value(3, 4))).is_err(), "never written");
    assert!(ledger.check(3, floor, Some(&values[1][..11_999])).is_err(), "cut short");
    let mut other = values[1].clone();
    other[5_000] ^= 1;
    assert!(ledger.check(3, floor, Some(&other)).is_err(), "one bit");
    assert!(ledger.check(3, floor, Some(&Ledger::new(8).value(3, 2))).is_err(), "of another session");
    ledger.check(3, floor, Some(&values[2])).unwrap();
    assert_eq!(ledger.floors()[3], 3, "what one has read, all read from then on");
    ledger.check(0, 0, None).unwrap();
}
