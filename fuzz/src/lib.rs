//! What is fuzzed: for each parser of bytes from outside, a function that panics if a promise of it is broken.
//!
//! Nothing here is part of the product. libFuzzer calls these by `fuzz_targets/` (`make fuzz`), and the gate calls them with the
//! seeds in `seeds/` and with bytes made from them (`tests/fuzz` of the main workspace compiles this file too).
//!
//! | target | promise |
//! |---|---|
//! | `resp_request` | a stream of commands parses the same whole and in pieces; a reply's length too; limits hold |
//! | `control_frame` | what decodes encodes to what decodes the same; limits hold |
//! | `layout_split` | pieces are the value; a rewritten value reads back, versions change only with bytes; merges invent nothing |
//! | `json` | of what serde_json reads, names and values are those that it finds |
//! | `http_identity` | what names a session names a short one, alike each time; a secret is never passed by without its signature |
//! | `settings_text` | every text is settings or named mistakes |

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use wayfarer_engine::session::layout::{self, merge::merge};
use wayfarer_engine::session::{Layout, Session};
use wayfarer_engine::wire::control;
use wayfarer_engine::wire::resp::{RequestLimits, RequestParser, frame_len};
use wayfarer_identity::{Asked, Codec, ID_BYTES_MAX, Identity, Learned, PathTemplate, Place, Secrets, Source};
use wayfarer_settings::{Settings, Sources};

/// Takes any bytes and panics if something that must hold does not.
pub type Target = fn(&[u8]);

/// The version and the value of each member by its name; no value: it is elsewhere.
type Members = HashMap<Bytes, (u64, Option<Bytes>)>;

/// All targets by name, as their folders of seeds are called.
pub const TARGETS: [(&str, Target); 6] = [
    ("resp_request", resp_request),
    ("control_frame", control_frame),
    ("layout_split", layout_split),
    ("json", json),
    ("settings_text", settings_text),
    ("http_identity", http_identity),
];

/// Small limits, so that small inputs meet them.
const REQUEST: RequestLimits = RequestLimits { args_max: 64, bulk_bytes_max: 512, frame_bytes_max: 2048 };
const FRAME_BYTES_MAX: usize = 4096;
const ELEMENTS_MAX: usize = 64;
/// Cuts an input of `layout_split` into the values of a sequence.
const CUT: &[u8] = b"\0/\0";

/// The first byte says in pieces of how many bytes the rest arrives.
pub fn resp_request(data: &[u8]) {
    let Some((step, stream)) = data.split_first() else { return };
    let whole = commands(stream, stream.len().max(1));
    assert_eq!(whole, commands(stream, usize::from(*step).max(1)), "in pieces the same commands arrive");
    let full = frame_len(stream, FRAME_BYTES_MAX, ELEMENTS_MAX);
    if let Ok(Some(frame)) = full {
        assert!(frame.len > 0 && frame.len <= stream.len() && frame.len <= FRAME_BYTES_MAX);
        let alone = frame_len(&stream[..frame.len], FRAME_BYTES_MAX, ELEMENTS_MAX);
        assert_eq!(alone, full, "what comes behind a reply does not change it");
        let less = frame_len(&stream[..frame.len - 1], FRAME_BYTES_MAX, ELEMENTS_MAX);
        assert_eq!(less, Ok(None), "a reply that misses a byte is not complete");
    }
}

/// The commands of a stream that arrives in pieces, and the error that ended it.
fn commands(stream: &[u8], step: usize) -> (Vec<Vec<Bytes>>, Option<String>) {
    let (mut parser, mut buffer, mut found) = (RequestParser::new(REQUEST), BytesMut::new(), Vec::new());
    for piece in stream.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            match parser.next(&mut buffer) {
                Ok(Some(args)) => {
                    assert!(!args.is_empty(), "a command has a name");
                    found.push(args);
                }
                Ok(None) => break,
                Err(error) => return (found, Some(error.to_string())),
            }
        }
    }
    (found, None)
}

/// A stream of frames of the control channel.
pub fn control_frame(data: &[u8]) {
    let mut input = BytesMut::from(data);
    loop {
        let before = input.len();
        match control::decode(&mut input, FRAME_BYTES_MAX) {
            Err(_) | Ok(None) => return,
            Ok(Some(message)) => {
                assert!(input.len() < before && before - input.len() <= FRAME_BYTES_MAX + 4);
                let mut out = BytesMut::new();
                control::encode(&message, &mut out, usize::MAX >> 1).expect("what was decoded can be encoded");
                let again = control::decode(&mut out, usize::MAX >> 1).expect("and decoded");
                assert!(again == Some(message) && out.is_empty(), "to the same message");
            }
        }
    }
}

/// The first byte chooses the layout; the rest is a sequence of values of one key, cut by [`CUT`].
pub fn layout_split(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let layout = [Layout::Json, Layout::Msgpack, Layout::Php][usize::from(*choice) % 3];
    let values = cut(rest);
    values.iter().for_each(|value| check_split(layout, value));
    check_rewrites(layout, &values);
    if let [read, written, present] = values.as_slice() {
        check_merge(layout, read, written, present);
    }
}

fn cut(mut rest: &[u8]) -> Vec<Bytes> {
    let mut values = Vec::new();
    while let Some(at) = rest.windows(CUT.len()).position(|window| window == CUT) {
        values.push(Bytes::copy_from_slice(&rest[..at]));
        rest = &rest[at + CUT.len()..];
    }
    values.push(Bytes::copy_from_slice(rest));
    values
}

fn check_split(layout: Layout, value: &Bytes) {
    let Some(split) = layout::split(layout, value) else { return };
    let joined: Vec<u8> = split.pieces.iter().flat_map(|(_, piece)| piece.iter().copied()).collect();
    assert_eq!(joined, value.as_ref(), "the pieces are the value");
    let names: HashSet<&Bytes> = split.pieces.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), split.pieces.len(), "names are distinct");
    assert!(split.pieces.len() <= layout::MEMBERS_MAX + 2);
    for (name, _) in &split.pieces {
        assert!(name.len() <= layout::NAME_BYTES_MAX);
        layout::plain_name(layout, name);
    }
}

fn check_rewrites(layout: Layout, values: &[Bytes]) {
    let mut session = Session::default();
    let mut before: Option<(Bytes, Members)> = None;
    for value in values {
        let changed = session.write_string(b"k", layout, b"", value.clone());
        assert_eq!(session.read_string(b"k", 0).as_ref(), Some(value), "it reads back as it was written");
        let key = session.key(b"k", 0).expect("it was written");
        let now: HashMap<Bytes, (u64, Option<Bytes>)> = key
            .variables()
            .map(|(name, v)| {
                let wayfarer_engine::session::Content::Here(bytes) = &v.content else { panic!("all of it is here") };
                (name.clone(), (v.version.0, Some(bytes.clone())))
            })
            .collect();
        if let Some((old_value, old)) = &before {
            assert_eq!(changed, old_value != value, "a touch is told from a write");
            for (name, (version, bytes)) in &now {
                match old.get(name) {
                    Some((old_version, old_bytes)) if old_version == version => {
                        assert_eq!(bytes, old_bytes, "no version has two values")
                    }
                    Some((old_version, old_bytes)) => {
                        assert!(version > old_version);
                        assert!(bytes != old_bytes || layout::is_skeleton(name), "an unchanged member keeps its version");
                    }
                    None => {}
                }
            }
        }
        before = Some((value.clone(), now));
    }
}

fn check_merge(layout: Layout, read: &Bytes, written: &Bytes, present: &Bytes) {
    let Some(merged) = merge(layout, read, written, present) else { return };
    if read == present {
        assert_eq!(merged, written);
        return;
    }
    if merged == written || merged == present {
        return;
    }
    let pieces = |value: &Bytes| layout::split(layout, value).expect("what was merged is divided").pieces;
    // Without punctuation, so that a JSON member is the same wherever it stands.
    let core = |piece: &Bytes| {
        let at = if layout == Layout::Json { piece.iter().position(|b| *b == b'"').unwrap_or(piece.len()) } else { 0 };
        piece.slice(at..)
    };
    let members = |value: &Bytes| -> BTreeMap<Bytes, Bytes> {
        let all = pieces(value).into_iter().filter(|(name, _)| !layout::is_skeleton(name));
        all.map(|(name, piece)| (name, core(&piece))).collect()
    };
    let (was, wants, there) = (members(read), members(written), members(present));
    let mut expected = there.clone();
    for (name, piece) in &wants {
        if was.get(name) != Some(piece) {
            expected.insert(name.clone(), piece.clone());
        }
    }
    expected.retain(|name, _| wants.contains_key(name) || !was.contains_key(name));
    assert_eq!(members(&merged), expected, "what each has changed, and nothing else");
}

/// Any text; what serde_json takes for an object must be divided as serde_json reads it.
pub fn json(data: &[u8]) {
    let text = Bytes::copy_from_slice(data);
    check_split(Layout::Json, &text);
    let Ok(Entries(entries)) = serde_json::from_slice::<Entries>(data) else { return };
    let Some(split) = layout::split(Layout::Json, &text) else {
        let distinct: HashSet<&String> = entries.iter().map(|(name, _)| name).collect();
        // Written with escapes a name is up to six times as long.
        let long = entries.iter().any(|(name, _)| name.len() * 6 + 2 > layout::NAME_BYTES_MAX);
        let excused = distinct.len() < entries.len() || entries.len() > layout::MEMBERS_MAX || long;
        assert!(excused, "an object with distinct members is divided");
        return;
    };
    let found: Vec<(String, Value)> = split
        .members()
        .map(|(name, piece)| {
            let member = [b"{", &piece[piece.iter().position(|b| *b == b'"').expect("a name has quotes")..], b"}"].concat();
            let Entries(mut one) = serde_json::from_slice(&member).expect("a member alone is JSON");
            assert_eq!(serde_json::from_slice::<String>(name).expect("a name is text"), one[0].0);
            one.remove(0)
        })
        .collect();
    assert_eq!(found, entries, "names and values are those of serde_json");
}

/// The members of an object in order, duplicates too.
struct Entries(Vec<(String, Value)>);

impl<'de> serde::Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Entries;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// A configuration file.
pub fn settings_text(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    let sources = Sources { file: Some(("w.toml".to_owned(), text)), host_name: "h".to_owned(), ..Sources::default() };
    match Settings::load(&sources) {
        Ok(loaded) => loaded.warnings.iter().for_each(|warning| assert!(!warning.to_string().is_empty())),
        Err(mistakes) => {
            assert!(!mistakes.is_empty(), "what is refused is named");
            mistakes.iter().for_each(|mistake| assert!(!mistake.to_string().is_empty()));
        }
    }
}

/// The first line is the target; every other one is a header field, of a request and of an answer.
pub fn http_identity(data: &[u8]) {
    use http::header::{HeaderMap, HeaderName, HeaderValue};
    let mut lines = data.split(|byte| *byte == b'\n');
    let target = lines.next().unwrap_or_default();
    let mut headers = HeaderMap::new();
    for line in lines.take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(&line[colon + 1..])) else {
            continue;
        };
        headers.append(name, value);
    }
    let asked = Asked { target, headers: &headers };
    let codecs =
        [Codec::Plain, Codec::Express, Codec::Fastify, Codec::Spring, Codec::Rack, Codec::Django, Codec::Php, Codec::Tower];
    let path = |text| Place::Path(PathTemplate::parse(text).expect("it is a template"));
    let places = [
        Place::Cookie("sid".to_owned()),
        Place::Header(HeaderName::from_static("x-sid")),
        Place::Query("sid".to_owned()),
        path("/{any}/s-{session}"),
        path(";sid={session}"),
        Place::Bearer("sub".to_owned()),
    ];
    for place in places {
        for codec in codecs {
            let open = Source::new(place.clone(), codec);
            let closed = Source { secrets: Secrets::new(["secret"]), ..open.clone() };
            let found = open.of_request(asked);
            if let Ok(id) = &found {
                assert!(!id.is_empty() && id.len() <= ID_BYTES_MAX);
            }
            assert_eq!(found, open.of_request(asked), "alike each time");
            if let (Ok(checked), true) = (closed.of_request(asked), codec.is_signed()) {
                assert_eq!(Ok(checked), found, "a secret refuses, it changes nothing");
            }
            if let Some(Learned::Has(id)) = Identity::new(vec![open]).of_answer(&headers) {
                assert!(!id.is_empty() && id.len() <= ID_BYTES_MAX);
            }
        }
    }
}
