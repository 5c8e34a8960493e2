//! Actions on parts of strings, on several strings, and on strings that are numbers with a fraction.
//!
//! They never look for what is missing (`execute` has). What is stored is copied. Called by `execute`.
//!
//! Invariant: a string never grows beyond what a value may have ([`super::Limits`]).

use super::action::{Action, integer};
use super::events::Classes;
use super::execute::Run;
use super::long_double::{self, LongDouble, Number};
use super::ranges::places;
use super::{STRING_BYTES_MAX, errors};
use crate::session::Kind;
use crate::wire::resp::parse_integer;
use bytes::{Bytes, BytesMut};

/// What is done with a string; values are in the arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PieceAction {
    BitCount,
    GetBit { offset: usize },
    GetRange { first: i64, last: i64 },
    IncrementByFloat,
    SetBit { offset: usize, on: bool },
    SetMany { if_none: bool },
    SetRange { offset: usize },
}

fn bit_offset(args: &[Bytes]) -> Result<usize, Bytes> {
    let offset = args.get(2).and_then(|text| parse_integer(text)).and_then(|offset| usize::try_from(offset).ok());
    offset.filter(|offset| offset / 8 < STRING_BYTES_MAX).ok_or_else(|| errors::BIT_OFFSET.into())
}

/// `GETRANGE key first last`
pub(super) fn get_range(args: &[Bytes]) -> Result<Action, Bytes> {
    Ok(Action::Piece(PieceAction::GetRange { first: integer(args, 2)?, last: integer(args, 3)? }))
}

/// `SETRANGE key offset value`
pub(super) fn set_range(args: &[Bytes]) -> Result<Action, Bytes> {
    let offset = usize::try_from(integer(args, 2)?).map_err(|_| errors::OFFSET_OUT_OF_RANGE)?;
    Ok(Action::Piece(PieceAction::SetRange { offset }))
}

/// `GETBIT key offset`
pub(super) fn get_bit(args: &[Bytes]) -> Result<Action, Bytes> {
    Ok(Action::Piece(PieceAction::GetBit { offset: bit_offset(args)? }))
}

/// `SETBIT key offset 0|1`
pub(super) fn set_bit(args: &[Bytes]) -> Result<Action, Bytes> {
    let offset = bit_offset(args)?;
    match args.get(3).and_then(|text| parse_integer(text)) {
        Some(bit @ (0 | 1)) => Ok(Action::Piece(PieceAction::SetBit { offset, on: bit == 1 })),
        _ => Err(errors::NOT_A_BIT.into()),
    }
}

/// `MSET key value [key value …]`, `MSETNX …`
pub(super) fn set_many(args: &[Bytes], name: &str, if_none: bool) -> Result<Action, Bytes> {
    if args.len().is_multiple_of(2) {
        return Err(errors::arity(name));
    }
    Ok(Action::Piece(PieceAction::SetMany { if_none }))
}

/// The sum of a text and an increment, or the error that says why there is none; `not_a_number` is for the text.
pub(super) fn add(text: Option<&[u8]>, increment: Number, not_a_number: &'static str) -> Result<String, &'static str> {
    let before = match text {
        None => Number::Finite(LongDouble::ZERO),
        Some(text) => long_double::parse(text).ok_or(not_a_number)?,
    };
    match (before, increment) {
        (Number::Finite(before), Number::Finite(increment)) => match before.add(increment) {
            Number::Finite(sum) => Ok(sum.text()),
            Number::Infinite => Err(errors::INFINITE_SUM),
        },
        _ => Err(errors::INFINITE_SUM),
    }
}

/// The ones among the bits from `first` to `last`, counted from the highest of the first byte.
fn ones(value: &[u8], bits: std::ops::Range<usize>) -> u64 {
    let bytes = value.iter().enumerate().skip(bits.start / 8).take(bits.end.div_ceil(8).saturating_sub(bits.start / 8));
    bytes.fold(0, |sum, (at, byte)| {
        let head = if at == bits.start / 8 { 0xff >> (bits.start % 8) } else { 0xff };
        let behind = if at == bits.end / 8 { 0xff_u8 >> (bits.end % 8) } else { 0 };
        sum.saturating_add(u64::from((byte & head & !behind).count_ones()))
    })
}

impl Run<'_> {
    pub(super) fn piece(&mut self, action: PieceAction) {
        if let PieceAction::SetMany { if_none } = action {
            return self.set_many(if_none);
        }
        let before = match self.string(&self.target().key) {
            Ok(before) => before,
            Err(error) => return self.reply.error(error),
        };
        match action {
            PieceAction::BitCount => self.bit_count(before),
            PieceAction::GetBit { offset } => {
                let byte = before.and_then(|value| value.get(offset / 8).copied()).unwrap_or(0);
                self.reply.integer(i64::from(byte >> (7 - offset % 8) & 1));
            }
            PieceAction::GetRange { first, last } => {
                let before = before.unwrap_or_default();
                let reversed = first < 0 && last < 0 && first > last;
                // Redis takes an end before the start for the start.
                let floor = 0i64.saturating_sub(i64::try_from(before.len()).unwrap_or(i64::MAX));
                let places = if reversed { 0..0 } else { places(first, last.max(floor), before.len()) };
                self.reply.bulk(before.get(places).unwrap_or_default());
            }
            PieceAction::IncrementByFloat => self.increment_by_float(before.as_deref()),
            PieceAction::SetBit { offset, on } => {
                let was = before.as_ref().and_then(|value| value.get(offset / 8)).is_some_and(|b| b >> (7 - offset % 8) & 1 == 1);
                if was == on && before.as_ref().is_some_and(|value| offset / 8 < value.len()) {
                    // Nothing changes, and Redis tells nobody.
                    return self.reply.integer(i64::from(was));
                }
                let stored = self.overwrite(before, offset / 8, 1, "setbit", |byte| {
                    let mask = 0x80 >> (offset % 8);
                    byte.iter_mut().for_each(|byte| *byte = if on { *byte | mask } else { *byte & !mask });
                });
                if stored.is_some() {
                    self.reply.integer(i64::from(was));
                }
            }
            PieceAction::SetRange { offset } => {
                let value = self.arg(3);
                if value.is_empty() {
                    return self.reply.count(before.map_or(0, |b| b.len()));
                }
                if let Some(length) = self.overwrite(before, offset, value.len(), "setrange", |part| part.copy_from_slice(value))
                {
                    self.reply.count(length);
                }
            }
            PieceAction::SetMany { .. } => {}
        }
    }

    /// Changes `length` bytes from `offset` on, with zeros before them if the string is shorter, and stores it. Returns the
    /// length of all; `None`: it would be too long, and the error is said.
    fn overwrite(
        &mut self,
        before: Option<Bytes>,
        offset: usize,
        length: usize,
        event: &'static str,
        change: impl FnOnce(&mut [u8]),
    ) -> Option<usize> {
        let before = before.unwrap_or_default();
        let end = offset.saturating_add(length);
        let whole = end.max(before.len());
        if !self.fits(whole) {
            return None;
        }
        let mut after = BytesMut::zeroed(whole);
        after.get_mut(..before.len())?.copy_from_slice(&before);
        change(after.get_mut(offset..end)?);
        let expires_at_ms = self.expiry();
        self.store(after.freeze(), expires_at_ms, event);
        Some(whole)
    }

    fn bit_count(&mut self, value: Option<Bytes>) {
        let Some(value) = value else { return self.reply.integer(0) };
        let args = self.op.args();
        let (first, last, by_bit) = match args {
            [_, _] => (0, -1, false),
            [_, _, _, _, unit @ ..] if unit.len() <= 1 => {
                let (Ok(first), Ok(last)) = (integer(args, 2), integer(args, 3)) else {
                    return self.reply.error(errors::NOT_AN_INTEGER);
                };
                if first < 0 && last < 0 && first > last {
                    return self.reply.integer(0);
                }
                match unit {
                    [unit] if unit.eq_ignore_ascii_case(b"bit") => (first, last, true),
                    [unit] if !unit.eq_ignore_ascii_case(b"byte") => return self.reply.error(errors::SYNTAX),
                    _ => (first, last, false),
                }
            }
            _ => return self.reply.error(errors::SYNTAX),
        };
        let unit = if by_bit { 1 } else { 8 };
        let total = value.len().saturating_mul(8) / unit;
        let floor = 0i64.saturating_sub(i64::try_from(total).unwrap_or(i64::MAX));
        let places = places(first, last.max(floor), total);
        let ones = ones(&value, places.start.saturating_mul(unit)..places.end.saturating_mul(unit));
        self.reply.integer(i64::try_from(if places.is_empty() { 0 } else { ones }).unwrap_or(i64::MAX));
    }

    fn increment_by_float(&mut self, before: Option<&[u8]>) {
        let increment = long_double::parse(self.arg(2)).ok_or(errors::NOT_A_FLOAT);
        // Redis reads the value first.
        let readable = before.is_none_or(|text| long_double::parse(text).is_some());
        let sum = match increment {
            Ok(increment) if readable => add(before, increment, errors::NOT_A_FLOAT),
            _ => Err(errors::NOT_A_FLOAT),
        };
        match sum {
            Ok(sum) if !self.fits(sum.len()) => {}
            Ok(sum) => {
                let expires_at_ms = self.expiry();
                self.reply.bulk(sum.as_bytes());
                self.store(sum.into(), expires_at_ms, "incrbyfloat");
            }
            Err(error) => self.reply.error(error),
        }
    }

    fn set_many(&mut self, if_none: bool) {
        let targets = self.op.targets();
        if if_none && targets.iter().any(|target| self.session.key(&target.key, self.now).is_some()) {
            return self.reply.integer(0);
        }
        let values = self.op.args().iter().skip(2).step_by(2);
        for (target, value) in targets.iter().zip(values) {
            self.session.write_string(&target.key, target.layout, &target.label, Bytes::copy_from_slice(value));
            self.wrote = true;
            self.note(Classes::STRING, "set", &target.key);
        }
        if if_none { self.reply.integer(1) } else { self.reply.simple("OK") }
    }

    pub(super) fn hash_increment_by_float(&mut self) {
        let increment = match long_double::parse(self.arg(3)) {
            Some(increment @ Number::Finite(_)) => increment,
            Some(Number::Infinite) => return self.reply.error(errors::INFINITE),
            None => return self.reply.error(errors::NOT_A_FLOAT),
        };
        if self.of_kind(Kind::Hash).is_none() {
            return;
        }
        let before = match self.field(self.arg(2)) {
            Ok(before) => before,
            Err(error) => return self.reply.error(error),
        };
        match add(before.as_deref(), increment, errors::HASH_NOT_A_FLOAT) {
            Ok(sum) if !self.fits(sum.len()) => {}
            Ok(sum) => {
                self.reply.bulk(sum.as_bytes());
                self.write_field(self.arg(2), sum.as_bytes());
                self.note(Classes::HASH, "hincrbyfloat", &self.target().key);
            }
            Err(error) => self.reply.error(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_counted_within_bounds() {
        let value = [0xff, 0x0f, 0xf0];
        for (bits, expected) in [(0..24, 16), (0..8, 8), (4..12, 4), (8..16, 4), (13..18, 5), (23..24, 0), (1..2, 1), (0..0, 0)] {
            assert_eq!(ones(&value, bits.clone()), expected, "{bits:?}");
        }
    }
}
