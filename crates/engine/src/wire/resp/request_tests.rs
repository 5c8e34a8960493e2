//! What the request parser must do, by example and by property.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use proptest::prelude::*;

const SMALL: RequestLimits = RequestLimits { args_max: 8, bulk_bytes_max: 100, frame_bytes_max: 300 };

/// All commands of `input`, given in pieces of `step` bytes; each as its arguments joined by `|`, and how it ended.
fn parse(input: &[u8], step: usize, limits: RequestLimits) -> (Vec<Vec<Bytes>>, Option<ProtocolError>) {
    let mut parser = RequestParser::new(limits);
    let mut buffer = BytesMut::new();
    let mut commands = Vec::new();
    for piece in input.chunks(step.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match parser.next(&mut buffer) {
                Ok(Some(args)) => {
                    commands.push(args.clone());
                    parser.give_back(args);
                }
                Ok(None) => break,
                Err(error) => return (commands, Some(error)),
            }
        }
    }
    (commands, None)
}

#[track_caller]
fn check(input: &str, expected: &str) {
    for step in [1, 2, 3, 7, input.len().max(1)] {
        let (commands, error) = parse(input.as_bytes(), step, SMALL);
        let show = |args: &Vec<Bytes>| args.iter().map(|a| String::from_utf8_lossy(a).into_owned()).collect::<Vec<_>>().join("|");
        let mut lines: Vec<String> = commands.iter().map(show).collect();
        lines.extend(error.map(|e| e.to_string()));
        assert_eq!(lines.join("\n"), expected, "in pieces of {step}");
    }
}

#[test]
fn commands_are_cut_out_whole() {
    check("*2\r\n$3\r\nGET\r\n$1\r\na\r\n", "GET|a");
    check("*1\r\n$0\r\n\r\n*1\r\n$4\r\n\r\n\r\n\r\n", "\n\r\n\r\n");
    check("*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n", "PING");
    check("*2\r\n$3\r\nGET\r\n$1\r\n", "");
    check("PING\r\n\r\n  get   a \nx", "PING\nget|a");
}

#[test]
fn lengths_of_any_number_of_digits_are_read() {
    let limits = RequestLimits { bulk_bytes_max: 1001, frame_bytes_max: 2000, ..SMALL };
    for len in [0, 1, 9, 10, 11, 99, 100, 101, 999, 1000] {
        let input = format!("*2\r\n$1\r\na\r\n${len}\r\n{}\r\n*1\r\n$4\r\nPING\r\n", "v".repeat(len));
        for step in [1, 4, 5, input.len()] {
            let (commands, error) = parse(input.as_bytes(), step, limits);
            let lengths: Vec<Vec<usize>> = commands.iter().map(|args| args.iter().map(Bytes::len).collect()).collect();
            assert_eq!((lengths, error), (vec![vec![1, len], vec![4]], None), "{len} in pieces of {step}");
        }
    }
    check("*01\r\n", "Protocol error: invalid multibulk length");
    check("*1\r\n$01\r\n", "Protocol error: invalid bulk length");
    check("*1\r\n$1x\r\n", "Protocol error: invalid bulk length");
}

#[test]
fn room_that_is_given_back_serves_the_next_command() {
    let mut parser = RequestParser::new(SMALL);
    let mut buffer = BytesMut::from(&b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$3\r\nGET\r\n$1\r\nb\r\n"[..]);
    let first = parser.next(&mut buffer).unwrap().unwrap();
    let room = first.as_ptr();
    parser.give_back(first);
    let second = parser.next(&mut buffer).unwrap().unwrap();
    assert_eq!((second.as_slice(), second.as_ptr()), (&[Bytes::from_static(b"GET"), Bytes::from_static(b"b")][..], room));
    parser.give_back(Vec::with_capacity(ARGS_RESERVED + 1));
    assert_eq!(parser.spare.capacity(), 0, "much room is not kept");
}

#[test]
fn inline_quotes_are_those_of_redis() {
    check("set k \"a b\\x41\\n\"\r\n", "set|k|a bA\n");
    check("set k 'a\\'b\\n'\r\n", "set|k|a'b\\n");
    check("set k \"\"\n", "set|k|");
    check("a\"b c\"\n", "ab c");
    check("set k \"a\n", "Protocol error: unbalanced quotes in request");
    check("set k \"a\"b\n", "Protocol error: unbalanced quotes in request");
    check("set k 'a'b\n", "Protocol error: unbalanced quotes in request");
}

#[test]
fn errors_are_those_of_redis() {
    check("*x\r\n", "Protocol error: invalid multibulk length");
    check("*9\r\n", "Protocol error: invalid multibulk length");
    check("*99999999999999999999\r\n", "Protocol error: invalid multibulk length");
    check("*1\r\n:1\r\n", "Protocol error: expected '$', got ':'");
    check("*1\r\n\r\n", "Protocol error: expected '$', got ' '");
    check("*1\r\n$x\r\n", "Protocol error: invalid bulk length");
    check("*1\r\n$-1\r\n", "Protocol error: invalid bulk length");
    check("*1\r\n$101\r\n", "Protocol error: invalid bulk length");
    check("*1\r\n$9223372036854775807\r\n", "Protocol error: invalid bulk length");
    check("PING\r\n*1\r\n$4\r\nPING\r\n*1\r\n$x\r\n", "PING\nPING\nProtocol error: invalid bulk length");
}

#[test]
fn a_frame_is_bounded_as_a_whole() {
    let args: String = (0..4).map(|_| format!("$90\r\n{}\r\n", "x".repeat(90))).collect();
    let (commands, error) = parse(format!("*4\r\n{args}").as_bytes(), 1000, SMALL);
    assert_eq!((commands.len(), error), (0, Some(ProtocolError::BulkLength)));
}

#[test]
fn endless_lines_end() {
    for (prefix, expected) in
        [("", ProtocolError::TooBigInline), ("*", ProtocolError::TooBigCount), ("*1\r\n$", ProtocolError::TooBigLength)]
    {
        let input = format!("{prefix}{}", "1".repeat(LINE_BYTES_MAX + 10));
        for step in [1000, input.len()] {
            assert_eq!(parse(input.as_bytes(), step, RequestLimits::default()), (vec![], Some(expected.clone())));
        }
    }
}

#[test]
fn a_stranger_has_small_limits() {
    let mut parser = RequestParser::new(RequestLimits::default());
    parser.set_stranger(true);
    assert_eq!(parser.next(&mut BytesMut::from("*11\r\n")), Err(ProtocolError::StrangerMultibulk));
    let mut parser = RequestParser::new(RequestLimits::default());
    parser.set_stranger(true);
    assert_eq!(parser.next(&mut BytesMut::from("*1\r\n$16385\r\n")), Err(ProtocolError::StrangerBulk));
}

#[test]
fn a_large_frame_in_small_pieces_is_not_searched_again() {
    // 4 MB in pieces of 64 bytes: 65,536 calls. With a search from the start each this would be 10^11 steps.
    let value = vec![b'x'; 4 * 1024 * 1024];
    let mut input = format!("*2\r\n$3\r\nGET\r\n${}\r\n", value.len()).into_bytes();
    input.extend_from_slice(&value);
    input.extend_from_slice(b"\r\n");
    let (commands, error) = parse(&input, 64, RequestLimits::default());
    assert_eq!((commands.len(), error), (1, None));
    assert_eq!(commands[0][1].len(), value.len());
}

fn encode(args: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

proptest! {
    #[test]
    fn what_was_encoded_comes_back_in_any_pieces(
        commands in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6), 0..6),
        step in 1usize..50,
    ) {
        let input: Vec<u8> = commands.iter().flat_map(|c| encode(c)).collect();
        let (parsed, error) = parse(&input, step, RequestLimits::default());
        prop_assert_eq!(error, None);
        let parsed: Vec<Vec<Vec<u8>>> = parsed.iter().map(|c| c.iter().map(|a| a.to_vec()).collect()).collect();
        prop_assert_eq!(parsed, commands);
    }

    #[test]
    fn any_bytes_in_any_pieces_give_the_same(
        input in prop::collection::vec(prop_oneof![3 => prop::sample::select(b"*$0123-\r\n \"'\\x".to_vec()), 1 => any::<u8>()], 0..200),
        step in 1usize..20,
    ) {
        let whole = parse(&input, input.len().max(1), SMALL);
        prop_assert_eq!(parse(&input, step, SMALL), whole);
    }
}
