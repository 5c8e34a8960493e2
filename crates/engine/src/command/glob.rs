//! Patterns of names as Redis matches them: `*`, `?`, `[a-z]`, `[^a]`, `\x`.
//!
//! It never allocates and takes time linear in both texts but for the last `*`, so that no pattern is an attack. The scans of
//! a key's members call it.
//!
//! Invariant: any bytes are a pattern; one that ends within a class ends the class.

/// Whether `text` matches. As in Redis the empty text only matches the empty pattern.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut rest, mut at) = (pattern, 0);
    let mut star: Option<(&[u8], usize)> = None;
    loop {
        if let [b'*', behind @ ..] = rest {
            rest = behind;
            star = Some((rest, at));
            continue;
        }
        let Some(byte) = text.get(at) else { return rest.is_empty() };
        match one(rest, *byte) {
            Some(behind) => (rest, at) = (behind, at + 1),
            None => match star {
                Some((behind, from)) => {
                    star = Some((behind, from + 1));
                    (rest, at) = (behind, from + 1);
                }
                None => return false,
            },
        }
    }
}

/// What is left of the pattern behind the part that matches one byte; `None`: it does not.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'[', rest @ ..] => class(rest, byte),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal == byte).then_some(rest),
    }
}

fn class(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (negated, mut rest) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        _ => (false, pattern),
    };
    let mut found = false;
    loop {
        rest = match rest {
            [] => break,
            [b'\\', literal, rest @ ..] => {
                found |= *literal == byte;
                rest
            }
            [b']', behind @ ..] => {
                rest = behind;
                break;
            }
            [from, b'-', to, rest @ ..] => {
                found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                rest
            }
            [literal, rest @ ..] => {
                found |= *literal == byte;
                rest
            }
        };
    }
    (found != negated).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("*", "a", true),
            ("*", "", false),
            ("", "", true),
            ("a*", "a", true),
            ("a*c", "abbc", true),
            ("a*c", "abbcd", false),
            ("*a*b*", "xxayyb", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[abc]x", "bx", true),
            ("[^abc]x", "bx", false),
            ("[c-a]", "b", true),
            ("[a", "a", true),
            ("[\\]]", "]", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a\\", true),
            ("[]a", "a", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
        let hostile = "*a".repeat(1000) + "b";
        assert!(!matches(hostile.as_bytes(), "a".repeat(10_000).as_bytes()));
    }
}
