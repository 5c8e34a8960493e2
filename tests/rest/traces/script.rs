//! The commands of a library as text: one line a command, `###` lines name the library and the step.
//!
//! It never guesses: a line that it cannot read fails the test with its number. Both the captured log beside the project and the
//! sequences of this folder (`*.txt`) are written so:
//!
//! ```text
//! ### go-redis connects
//! c1 'HELLO' '3'
//! c1 'SET' 'a' '\x00b' 'EXAT' '@s+60'
//! c2 <
//! ```
//!
//! `c1` is a connection, `\x00`, `\t`, `\n`, `\r`, `\\`, `\'` are bytes, `@s+N` and `@ms+N` are the time now and N more, `c2 <` waits for
//! what comes to a connection unasked. The log cuts long values after 110 characters, quote included: those are taken as they are.

use std::time::{SystemTime, UNIX_EPOCH};

/// Characters of a value that the log keeps.
const KEPT_MAX: usize = 110;
/// By how much an absolute time of the log lies ahead, whenever it is replayed.
const AHEAD_S: u64 = 1_209_600;

/// One line.
#[derive(Clone, Debug)]
pub struct Step {
    pub connection: String,
    /// None: something comes unasked.
    pub words: Option<Vec<Vec<u8>>>,
    /// Its number in its file.
    pub line: usize,
}

/// What stands under one heading.
#[derive(Clone, Debug)]
pub struct Section {
    pub heading: String,
    pub steps: Vec<Step>,
}

/// The sections of a text; those without a command too.
pub fn sections(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if let Some(heading) = line.strip_prefix("### ") {
            sections.push(Section { heading: heading.to_owned(), steps: Vec::new() });
        } else if !line.is_empty() && !line.starts_with("# ") {
            let (connection, rest) = line.split_once(' ').unwrap_or_else(|| panic!("line {number}: no command: {line}"));
            let words = (rest != "<").then(|| words(rest, number));
            let section = sections.last_mut().unwrap_or_else(|| panic!("line {number}: a command before any heading"));
            section.steps.push(Step { connection: connection.to_owned(), words, line: number });
        }
    }
    sections
}

fn words(mut rest: &str, line: usize) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = Vec::new();
    while !rest.is_empty() {
        let inside = rest.strip_prefix('\'').unwrap_or_else(|| panic!("line {line}: no quote at {rest}"));
        let (word, behind) = first(inside).unwrap_or_else(|| panic!("line {line}: no end of {rest}"));
        let before = words.last().map(|w| w.to_ascii_lowercase());
        words.push(moved_ahead(before.as_deref(), bytes(word, line)));
        rest = behind;
    }
    words
}

/// A word without its quotes, and what stands behind it.
fn first(inside: &str) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    for (at, character) in inside.char_indices() {
        // The opening quote counts.
        if at + 2 == KEPT_MAX && inside.get(at + 1..).is_some_and(|behind| behind.starts_with(" '")) {
            return Some((&inside[..=at], &inside[at + 2..]));
        }
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '\'' => {
                let behind = &inside[at + 1..];
                return Some((&inside[..at], behind.strip_prefix(' ').unwrap_or(behind)));
            }
            _ => {}
        }
    }
    None
}

fn bytes(word: &str, line: usize) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), word.as_bytes());
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        // A value that was cut may end within an escape.
        let Some((kind, behind)) = rest.split_first() else { break };
        rest = behind;
        match kind {
            b'x' if rest.len() < 2 => break,
            b'x' => {
                let digits = std::str::from_utf8(&rest[..2]).unwrap();
                out.push(u8::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("line {line}: \\x{digits}")));
                rest = &rest[2..];
            }
            b't' => out.push(b'\t'),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b'\\' | b'\'' => out.push(*kind),
            other => panic!("line {line}: an escape \\{}", char::from(*other)),
        }
    }
    out
}

/// `@s+N` and `@ms+N`; and what the log says after EXAT, which is over by now.
fn moved_ahead(before: Option<&[u8]>, word: Vec<u8>) -> Vec<u8> {
    let text = std::str::from_utf8(&word).unwrap_or("");
    if let Some(more) = text.strip_prefix("@s+") {
        return (unix_ms() / 1000 + more.parse::<u64>().unwrap()).to_string().into_bytes();
    }
    if let Some(more) = text.strip_prefix("@ms+") {
        return (unix_ms() + more.parse::<u64>().unwrap()).to_string().into_bytes();
    }
    if before == Some(b"exat") {
        return (unix_ms() / 1000 + AHEAD_S).to_string().into_bytes();
    }
    word
}

#[allow(clippy::disallowed_methods, reason = "an expiry at an absolute time")]
fn unix_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[test]
fn what_the_log_writes_is_read() {
    let cut = format!("'{}", "a".repeat(KEPT_MAX - 1));
    let text =
        format!("### one\nc1 'GET' 'a\\x00\\t\\'b'\nc2 <\n### two\nc1 'SET' 'k' {cut} 'EX' '60'\nc1 'SET' 'k' '' 'EXAT' '1'\n");
    let read = sections(&text);
    assert_eq!((read.len(), read[0].heading.as_str()), (2, "one"));
    assert_eq!(read[0].steps[0].words.as_deref().unwrap(), [b"GET".to_vec(), b"a\0\t'b".to_vec()]);
    assert!(read[0].steps[1].words.is_none());
    let set = read[1].steps[0].words.as_deref().unwrap();
    assert_eq!((set.len(), set[2].len(), set[4].as_slice()), (5, KEPT_MAX - 1, b"60".as_slice()));
    let over = read[1].steps[1].words.as_deref().unwrap();
    assert!(over[2].is_empty() && over[4].len() > 1, "{over:?}");
}
