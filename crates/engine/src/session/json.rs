//! Splits the text of a JSON object into spans, one a top-level member, so that their concatenation is the text again.
//!
//! It never parses more than it needs: nesting is skipped by counting brackets outside strings. It never changes, unescapes or
//! orders anything. Whatever is not certainly an object with distinct members is `None`: the caller keeps it whole.
//!
//! `{"a":1, "b":[2]}` → (`"a"`, `{"a":1`) (`"b"`, `, "b":[2]`) (``, `}`). The name is the key's text with its quotes, so that
//! no member can have the empty name of the tail.
//!
//! Invariant: the spans in order are exactly the input (a property test and a fuzz target hold it to that).

use bytes::Bytes;
use std::collections::HashSet;

/// An object with more members stays whole: versions by member would cost more than they save.
const MEMBERS_MAX: usize = 512;
/// Deeper nesting is not followed.
const DEPTH_MAX: usize = 128;

/// The spans of `text`, or `None` if it is to be kept whole. Slices share the memory of `text`.
pub(crate) fn split(text: &Bytes) -> Option<Vec<(Bytes, Bytes)>> {
    let mut cursor = Cursor { text, at: 0 };
    cursor.space();
    cursor.expect(b'{')?;
    let mut spans = Vec::new();
    let mut names = HashSet::new();
    let mut start = 0;
    cursor.space();
    if cursor.peek()? != b'}' {
        loop {
            cursor.space();
            let from = cursor.at;
            cursor.string()?;
            let name = text.slice(from..cursor.at);
            cursor.space();
            cursor.expect(b':')?;
            cursor.space();
            cursor.value()?;
            if spans.len() >= MEMBERS_MAX || !names.insert(name.clone()) {
                return None;
            }
            spans.push((name, text.slice(start..cursor.at)));
            start = cursor.at;
            cursor.space();
            match cursor.next()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
    } else {
        cursor.at += 1;
    }
    cursor.space();
    if cursor.at != text.len() {
        return None;
    }
    spans.push((Bytes::new(), text.slice(start..)));
    Some(spans)
}

/// The name of a member as policies write it: without its quotes.
pub(crate) fn plain_name(name: &[u8]) -> &[u8] {
    name.strip_prefix(b"\"").and_then(|n| n.strip_suffix(b"\"")).unwrap_or(name)
}

struct Cursor<'a> {
    text: &'a Bytes,
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn string(&mut self) -> Option<()> {
        self.expect(b'"')?;
        loop {
            match self.next()? {
                b'"' => return Some(()),
                b'\\' => {
                    self.next()?;
                }
                _ => {}
            }
        }
    }

    /// Skips one value. Numbers and words are not checked: their bytes are kept whatever they are.
    fn value(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string(),
            b'{' | b'[' => self.nested(),
            _ => {
                let from = self.at;
                while !matches!(
                    self.peek(),
                    None | Some(b',' | b'}' | b']' | b'{' | b'[' | b'"' | b':' | b' ' | b'\t' | b'\n' | b'\r')
                ) {
                    self.at += 1;
                }
                (self.at > from).then_some(())
            }
        }
    }

    fn nested(&mut self) -> Option<()> {
        let mut closing = Vec::new();
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' => closing.push(b'}'),
                b'[' => closing.push(b']'),
                byte @ (b'}' | b']') if closing.pop()? != byte => return None,
                _ => {}
            }
            self.at += 1;
            if closing.is_empty() {
                return Some(());
            }
            if closing.len() > DEPTH_MAX {
                return None;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(text: &str) -> Option<Vec<String>> {
        let spans = split(&Bytes::copy_from_slice(text.as_bytes()))?;
        let joined: Vec<u8> = spans.iter().flat_map(|(_, s)| s.to_vec()).collect();
        assert_eq!(joined, text.as_bytes());
        Some(spans.iter().map(|(n, _)| String::from_utf8_lossy(plain_name(n)).into_owned()).collect())
    }

    #[test]
    fn members_are_named_and_the_text_comes_back() {
        assert_eq!(names(r#"{"a":1,"b":{"c":[1,2,"}"]},"":null}"#).unwrap(), ["a", "b", "", ""]);
        assert_eq!(names(" { } ").unwrap(), [""]);
        assert_eq!(names(r#"{"a\"b" : "x\\" , "é":[]}"#).unwrap(), ["a\\\"b", "é", ""]);
    }

    #[test]
    fn what_is_not_an_object_with_distinct_members_stays_whole() {
        for text in [
            "",
            "[]",
            "1",
            "{",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":[}"#,
            r#"{"a":1}x"#,
            r#"{a:1}"#,
        ] {
            assert_eq!(names(text), None, "{text}");
        }
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(1000), "]".repeat(1000));
        assert_eq!(names(&deep), None);
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes in proptest::collection::vec(prop_oneof![Just(b'{'), Just(b'}'), Just(b'"'), Just(b':'), Just(b','), Just(b'\\'), any::<u8>()], 0..200)) {
            let text = Bytes::from(bytes.clone());
            if let Some(spans) = split(&text) {
                let joined: Vec<u8> = spans.iter().flat_map(|(_, s)| s.to_vec()).collect();
                prop_assert_eq!(joined, bytes);
            }
        }
    }
}
