//! Sums of `INCRBYFLOAT` in the 80-bit floating-point numbers of x86, in which Redis computes them: 64 bits of mantissa.
//!
//! It never uses floating-point arithmetic itself: a number is `mantissa · 2^exponent` in integers, so that every machine gives
//! the same text. `strings` and `hashes` call it.
//!
//! ```text
//! text ─decimal digits, shifted, divided─► whole number + sticky bit ─round to 64 bits─► LongDouble
//! sum: both aligned in 128 bits, what falls off is one sticky bit, rounded to 64 bits
//! text: 17 decimal places, rounded half to even, without zeros at the end
//! ```
//! Deviations: hexadecimal numbers and numbers below 10^-4900 are refused.
//! Invariant: every operation rounds once, to the nearest, ties to even.

/// As Redis: a longer text is no number.
const TEXT_BYTES_MAX: usize = 5 * 1024 - 1;
/// Beyond this power of ten a number is out of range.
const DECIMAL_EXPONENT_MAX: i64 = 4900;
/// The bits of a mantissa.
const BITS: u32 = 64;
/// The highest bit of the largest number has this place.
const TOP_BIT_MAX: i64 = 16_383;

/// A finite number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LongDouble {
    negative: bool,
    /// With its highest bit set, or 0.
    mantissa: u64,
    exponent: i64,
}

/// What a text or a sum is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Number {
    Finite(LongDouble),
    /// Infinite, by its text or because it left the range.
    Infinite,
}

/// A whole number without sign, little end first.
struct Whole(Vec<u32>);

impl Whole {
    /// `self · by + add`
    fn scale(&mut self, by: u32, add: u32) {
        let mut carry = u64::from(add);
        for limb in &mut self.0 {
            let product = u64::from(*limb) * u64::from(by) + carry;
            (*limb, carry) = (product as u32, product >> 32);
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    /// Divides and returns the remainder.
    fn divide(&mut self, by: u32) -> u32 {
        let mut rest = 0u64;
        for limb in self.0.iter_mut().rev() {
            let value = (rest << 32) | u64::from(*limb);
            *limb = (value / u64::from(by.max(1))) as u32;
            rest = value % u64::from(by.max(1));
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        rest as u32
    }

    fn shift_left(&mut self, bits: u32) {
        (0..bits / 31).for_each(|_| self.scale(1 << 31, 0));
        self.scale(1 << (bits % 31), 0);
    }

    fn bits(&self) -> u32 {
        let top = self.0.last().map_or(0, |limb| 32 - limb.leading_zeros());
        top + 32 * u32::try_from(self.0.len().saturating_sub(1)).unwrap_or(0)
    }

    /// Its highest 128 bits, how far they were shifted down, and whether anything fell off.
    fn top(&self) -> (u128, i64, bool) {
        let skip = self.0.len().saturating_sub(4);
        let top = self.0.iter().skip(skip).rev().fold(0u128, |sum, limb| (sum << 32) | u128::from(*limb));
        (top, 32 * skip as i64, self.0.iter().take(skip).any(|limb| *limb != 0))
    }
}

/// Rounds `value · 2^exponent`. What fell off below is the lowest bit, with two bits and more between it and the mantissa.
fn round(negative: bool, value: u128, exponent: i64) -> Number {
    let excess = (128 - value.leading_zeros()).saturating_sub(BITS);
    let (mut mantissa, mut exponent) = (value >> excess, exponent + i64::from(excess));
    if excess > 0 {
        let rest = value & ((1u128 << excess) - 1);
        let half = 1u128 << (excess - 1);
        if rest > half || (rest == half && mantissa & 1 == 1) {
            mantissa += 1;
            if mantissa >> BITS != 0 {
                (mantissa, exponent) = (mantissa >> 1, exponent + 1);
            }
        }
    }
    let mantissa = mantissa as u64;
    if mantissa == 0 {
        return Number::Finite(LongDouble { negative, mantissa: 0, exponent: 0 });
    }
    let shift = mantissa.leading_zeros();
    let (mantissa, exponent) = (mantissa << shift, exponent - i64::from(shift));
    if exponent + i64::from(BITS) - 1 > TOP_BIT_MAX {
        return Number::Infinite;
    }
    Number::Finite(LongDouble { negative, mantissa, exponent })
}

/// A number as `strtold` reads it, with nothing before or behind.
pub(super) fn parse(text: &[u8]) -> Option<Number> {
    let (negative, digits) = match text {
        [] => return None,
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    if digits.eq_ignore_ascii_case(b"inf") || digits.eq_ignore_ascii_case(b"infinity") {
        return Some(Number::Infinite);
    }
    let (mut whole, mut seen, mut after_point, mut places) = (Whole(Vec::new()), false, false, 0i64);
    let mut rest = digits.iter();
    let mut power = 0i64;
    while let Some(byte) = rest.next() {
        match byte {
            b'0'..=b'9' => {
                seen = true;
                whole.scale(10, u32::from(byte - b'0'));
                places += i64::from(after_point);
            }
            b'.' if !after_point => after_point = true,
            b'e' | b'E' if seen => {
                power = exponent(rest.as_slice())?;
                break;
            }
            _ => return None,
        }
    }
    if !seen {
        return None;
    }
    if whole.bits() == 0 {
        return Some(Number::Finite(LongDouble { negative, mantissa: 0, exponent: 0 }));
    }
    let power = power - places;
    let magnitude = power + (i64::from(whole.bits()) * 30_103) / 100_000;
    if magnitude.abs() > DECIMAL_EXPONENT_MAX {
        return None;
    }
    let (shift, sticky) = if power >= 0 {
        (0..power).for_each(|_| whole.scale(10, 0));
        (0, false)
    } else {
        let places = u32::try_from(-power).ok()?;
        // Enough that 66 bits and more are left after the division: 10^n has fewer than 3.33·n bits.
        let shift = (66 + places * 10 / 3 + 2).saturating_sub(whole.bits()) + 4;
        whole.shift_left(shift);
        (shift, (0..places).fold(false, |sticky, _| (whole.divide(10) != 0) | sticky))
    };
    let (top, skipped, lost) = whole.top();
    Some(round(negative, top | u128::from(sticky || lost), skipped - i64::from(shift))).filter(|n| *n != Number::Infinite)
}

/// The digits behind an `e`.
fn exponent(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => (1, text),
    };
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0i64, |value, digit| {
        digit.is_ascii_digit().then(|| (value * 10 + i64::from(digit - b'0')).min(2 * DECIMAL_EXPONENT_MAX + 10_240))
    })?;
    Some(sign * value)
}

impl LongDouble {
    /// Nothing.
    pub(super) const ZERO: LongDouble = LongDouble { negative: false, mantissa: 0, exponent: 0 };

    /// The sum.
    pub(super) fn add(self, other: LongDouble) -> Number {
        if self.mantissa == 0 || other.mantissa == 0 {
            let sum = if self.mantissa == 0 { other } else { self };
            return Number::Finite(sum);
        }
        let key = |n: &LongDouble| (n.exponent, n.mantissa);
        let (large, small) = if key(&self) >= key(&other) { (self, other) } else { (other, self) };
        let distance = u32::try_from(large.exponent - small.exponent).unwrap_or(u32::MAX);
        let (a, b) = (u128::from(large.mantissa) << 62, u128::from(small.mantissa) << 62);
        let fell_off = distance >= 126 || b & ((1u128 << distance) - 1) != 0;
        let b = if distance >= 126 { 0 } else { b >> distance } | u128::from(fell_off);
        let sum = if large.negative == small.negative { a + b } else { a - b };
        // Exact cancellation gives a positive zero.
        round(large.negative && sum != 0, sum, large.exponent - 62)
    }

    /// With at most 17 decimal places, without zeros at their end, as Redis shows it.
    pub(super) fn text(self) -> String {
        const PLACES: u32 = 17;
        let digits = if self.exponent >= 0 {
            let mut whole = Whole(vec![self.mantissa as u32, (self.mantissa >> 32) as u32]);
            whole.shift_left(u32::try_from(self.exponent).unwrap_or(0));
            let mut digits = Vec::new();
            while !whole.0.is_empty() {
                digits.push(whole.divide(10) as u8 + b'0');
            }
            digits.reverse();
            String::from_utf8(digits).unwrap_or_default()
        } else {
            let scaled = u128::from(self.mantissa) * 10u128.pow(PLACES);
            let down = u32::try_from(-self.exponent).unwrap_or(u32::MAX);
            let rounded = if down >= 127 {
                0
            } else {
                let (kept, rest, half) = (scaled >> down, scaled & ((1 << down) - 1), 1u128 << (down - 1));
                kept + u128::from(rest > half || (rest == half && kept & 1 == 1))
            };
            let scale = 10u128.pow(PLACES);
            format!("{}.{:017}", rounded / scale, rounded % scale)
        };
        let digits = match super::numbers::trimmed(&digits) {
            "" => "0",
            digits => digits,
        };
        if self.negative && digits != "0" { format!("-{digits}") } else { digits.to_owned() }
    }
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> String {
        match (parse(a.as_bytes()), parse(b.as_bytes())) {
            (Some(Number::Finite(a)), Some(Number::Finite(b))) => match a.add(b) {
                Number::Finite(sum) => sum.text(),
                Number::Infinite => "inf".to_owned(),
            },
            _ => "no".to_owned(),
        }
    }

    #[test]
    fn sums_are_those_of_redis() {
        // What a redis-server on x86 answers.
        for (a, b, expected) in [
            ("0.1", "0.2", "0.3"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("1", "-1.1", "-0.1"),
            ("17179869184", "1.5", "17179869185.5"),
            ("3", "-3", "0"),
            ("-0", "0", "0"),
            ("1e20", "1", "100000000000000000000"),
            ("0.00000000000000000001", "0", "0"),
            (".5", "5.", "5.5"),
        ] {
            assert_eq!(sum(a, b), expected, "{a} + {b}");
        }
        for text in ["", "x", "1x", " 1", "1 ", "1e", "--1", "1e5000", "1e-5000", "nan", ".", "1.2.3"] {
            assert!(parse(text.as_bytes()).is_none(), "{text}");
        }
        assert_eq!(parse(b"-Inf"), Some(Number::Infinite));
        assert_eq!(sum("1e400", "1").len(), 401);
    }
}
