//! Patterns of `KEYS`, `SCAN` and `PSUBSCRIBE`, as Redis matches them: `*`, `?`, `[abc]`, `[^a-z]`, `\x`.
//!
//! It never recurses: a `*` that does not match is tried at the next place, and only the last one has to be.

/// Whether the whole of `text` matches.
pub fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Where to go on when nothing matches: behind the last `*`, one byte later than before.
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        if let Some((b'*', rest)) = pattern.split_first().map(|(first, rest)| (*first, rest)) {
            again = Some((rest, text));
            pattern = rest;
            continue;
        }
        match (one(pattern, text), text.split_first()) {
            (Some((rest, true)), Some((_, behind))) => (pattern, text) = (rest, behind),
            _ if pattern.is_empty() && text.is_empty() => return true,
            _ => {
                let Some((rest, [_, behind @ ..])) = again else { return false };
                again = Some((rest, behind));
                (pattern, text) = (rest, behind);
            }
        }
    }
}

/// The pattern behind its first element, and whether that matches the first byte of `text`; `None`: no element is left.
fn one<'a>(pattern: &'a [u8], text: &[u8]) -> Option<(&'a [u8], bool)> {
    let byte = text.first();
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some((rest, byte.is_some())),
        [b'\\', escaped, rest @ ..] => Some((rest, byte == Some(escaped))),
        [b'[', rest @ ..] => Some(class(rest, byte.copied())),
        [plain, rest @ ..] => Some((rest, byte == Some(plain))),
    }
}

/// A class behind its `[`. One that never ends reaches to the end, as in Redis.
fn class(pattern: &[u8], byte: Option<u8>) -> (&[u8], bool) {
    let (negated, mut rest) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    let mut is = |low: u8, high: u8| found |= byte.is_some_and(|b| (low.min(high)..=low.max(high)).contains(&b));
    loop {
        rest = match rest {
            [] => break,
            [b']', behind @ ..] => {
                rest = behind;
                break;
            }
            [b'\\', escaped, behind @ ..] => {
                is(*escaped, *escaped);
                behind
            }
            [low, b'-', high, behind @ ..] => {
                is(*low, *high);
                behind
            }
            [plain, behind @ ..] => {
                is(*plain, *plain);
                behind
            }
        };
    }
    (rest, byte.is_some() && found != negated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, yes, no) in [
            ("*", "", "-"),
            ("sess:*", "sess:1", "ses:1"),
            ("*a*b", "xxaxxb", "xxaxx"),
            ("h?llo", "hello", "hllo"),
            ("h[ae]llo", "hallo", "hillo"),
            ("h[^e]llo", "hallo", "hello"),
            ("h[a-b]llo", "hbllo", "hcllo"),
            ("h[b-a]llo", "hallo", "hcllo"),
            ("a\\*b", "a*b", "axb"),
            ("[\\]]", "]", "x"),
            ("[abc", "b", "d"),
            ("a**b*", "ab", "ba"),
        ] {
            assert!(glob(pattern.as_bytes(), yes.as_bytes()), "{pattern} {yes}");
            assert!(pattern == "*" || !glob(pattern.as_bytes(), no.as_bytes()), "{pattern} {no}");
        }
        let hostile = "*a".repeat(50) + "b";
        assert!(!glob(hostile.as_bytes(), "a".repeat(5000).as_bytes()));
    }
}
