//! Floating-point numbers as Redis reads and writes them.
//!
//! It never rounds more than a double must. [`super::long_double`] does the same for `INCRBYFLOAT`, which is more exact.
//! Scores, bounds of ranges and random counts come through here.
//!
//! Deviation: hexadecimal floating-point numbers, which C reads, are refused.
//! Invariant: what is read is never NaN.

use std::fmt::Write;

/// Digits that tell any two doubles apart.
const DIGITS: i32 = 17;

/// The longest text that can be a number.
const TEXT_BYTES_MAX: usize = 5 * 1024;

/// A number as an argument: no space before or behind, and neither too large nor too small for a double.
pub(super) fn parse_double(text: &[u8]) -> Option<f64> {
    let value = parse_number(text)?;
    let digits = || text.iter().take_while(|b| !matches!(b, b'e' | b'E')).any(|b| (b'1'..=b'9').contains(b));
    // C reports a range error for both.
    let out_of_range = if value == 0.0 { digits() } else { value.is_infinite() && text.iter().any(u8::is_ascii_digit) };
    (!out_of_range).then_some(value)
}

/// A bound of a range: space before it, nothing at all and numbers beyond a double are taken, as Redis does.
pub(super) fn parse_bound(text: &[u8]) -> Option<f64> {
    if text.is_empty() {
        return Some(0.0);
    }
    let space = |b: &u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
    parse_number(text.get(text.iter().take_while(|b| space(b)).count()..)?)
}

/// The decimal numbers, infinities and signs of C, as the nearest double.
fn parse_number(text: &[u8]) -> Option<f64> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse::<f64>().ok().filter(|value| !value.is_nan())
}

/// `%.17g`: what Redis 7.0 answers for a double.
pub fn format_double(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    if value.is_nan() {
        return "nan".to_owned();
    }
    // Scores are mostly whole: those need no exact arithmetic.
    if value.abs() < 1e15 && value.fract() == 0.0 && !(value == 0.0 && value.is_sign_negative()) {
        return format!("{value:.0}");
    }
    let scientific = format!("{value:.16e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let Ok(exponent) = exponent.parse::<i32>() else { return scientific };
    if !(-4..DIGITS).contains(&exponent) {
        let mut text = trimmed(mantissa).to_owned();
        let sign = if exponent < 0 { '-' } else { '+' };
        // Writing to a string cannot fail.
        let _ = write!(text, "e{sign}{:02}", exponent.unsigned_abs());
        return text;
    }
    let places = usize::try_from(DIGITS - 1 - exponent).unwrap_or(0);
    trimmed(&format!("{value:.places$}")).to_owned()
}

/// As a small sorted set of Redis keeps a score, and shows it in a scan: whole numbers without an exponent, up to half of 64 bits.
pub(super) fn format_stored(score: f64) -> String {
    const WHOLE_MAX: f64 = (i64::MAX / 2) as f64;
    if score.fract() == 0.0 && score.abs() <= WHOLE_MAX { format!("{score:.0}") } else { format_double(score) }
}

/// Without the zeros at the end of a fraction, and without its point if nothing is left.
pub(super) fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_shown_with_seventeen_digits() {
        for (value, expected) in [
            (1.0, "1"),
            (-3.0, "-3"),
            (0.0, "0"),
            (-0.0, "-0"),
            (1.5, "1.5"),
            (3.15, "3.1499999999999999"),
            (0.1, "0.10000000000000001"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (1.5e300, "1.5000000000000001e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1.0000000000000001e-05"),
            (123456789.123, "123456789.123"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(format_double(value), expected);
        }
    }

    #[test]
    fn arguments_are_stricter_than_bounds() {
        for (text, argument, bound) in [
            ("1", Some(1.0), Some(1.0)),
            ("+1.5e1", Some(15.0), Some(15.0)),
            (".5", Some(0.5), Some(0.5)),
            ("5.", Some(5.0), Some(5.0)),
            ("-inf", Some(f64::NEG_INFINITY), Some(f64::NEG_INFINITY)),
            ("Infinity", Some(f64::INFINITY), Some(f64::INFINITY)),
            ("1e400", None, Some(f64::INFINITY)),
            ("1e-400", None, Some(0.0)),
            ("0e5", Some(0.0), Some(0.0)),
            (" 1", None, Some(1.0)),
            ("1 ", None, None),
            ("", None, Some(0.0)),
            ("nan", None, None),
            ("x", None, None),
            ("1x", None, None),
        ] {
            assert_eq!((parse_double(text.as_bytes()), parse_bound(text.as_bytes())), (argument, bound), "{text:?}");
        }
    }
}
