//! What an operation on a session that is open here costs: parse → classify → look up → execute → reply, without sockets.
//!
//! Run with `cargo bench -p wayfarer`. Figures of a machine are never compared with those of another; the side-by-side
//! comparison with Redis is a matter of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use wayfarer::driver::clock;
use wayfarer::store::{Call, Store, Tried};
use wayfarer_engine::command::{self, Op, Parsed};
use wayfarer_engine::directory::Location;
use wayfarer_engine::ids::{Epoch, GroupId, SessionId, Version};
use wayfarer_engine::residence::{AdoptionRule, Resident, Table};
use wayfarer_engine::session::{Layout, Session};
use wayfarer_engine::wire::resp::Protocol;
use wayfarer_settings::{KeyMatcher, Settings, Sources};

const SESSIONS: usize = 10_000;

fn matcher() -> KeyMatcher {
    let overrides =
        [r#"state.keys=[{pattern="s:{session}",layout="hash"}]"#, r#"cluster.node="bench""#].map(str::to_owned).into();
    Settings::load(&Sources { overrides, ..Sources::default() }).expect("valid settings").settings.state.keys
}

fn store() -> Store {
    let store = Store::new(AdoptionRule { arrivals: 3, gap_us: 20_000, residence_us_min: 1_000_000 });
    store.set_lease_until_us(u64::MAX);
    for n in 0..SESSIONS {
        let mut session = Session::new(Version::default());
        for field in 0..10 {
            let key = format!("s:{n:08}");
            session.write_field(key.as_bytes(), format!("field{field}").as_bytes(), Bytes::from(vec![b'x'; 100]), 0);
        }
        let location = Location { group: GroupId(1), epoch: Epoch(1), last: None, depends: Vec::new() };
        let id = SessionId::copy_of(format!("{n:08}").as_bytes());
        store.with(&id, |slot| *slot = Some(Resident::new(session, location, 0)));
    }
    store
}

fn operation(matcher: &KeyMatcher, words: &[&str]) -> (Bytes, Op) {
    let args = words.iter().map(|w| Bytes::copy_from_slice(w.as_bytes())).collect();
    let Parsed::Keyed(mut op) = command::parse(args) else { unreachable!("the bench knows its commands") };
    let mut session = Bytes::new();
    for target in op.targets_mut() {
        let found = matcher.classify(0, &target.key).expect("a session's key");
        session = Bytes::copy_from_slice(found.session);
        target.layout = Layout::Hash;
    }
    (session, op)
}

fn hot_path(c: &mut Criterion) {
    let (store, matcher) = (store(), matcher());
    for (name, words) in [
        ("hget", vec!["HGET", "s:00004321", "field5"]),
        ("hset", vec!["HSET", "s:00004321", "field5", "another value"]),
        ("hgetall", vec!["HGETALL", "s:00004321"]),
    ] {
        c.bench_function(name, |b| {
            let mut out = BytesMut::with_capacity(4096);
            b.iter(|| {
                out.clear();
                let (session, op) = operation(&matcher, black_box(&words));
                let call = Call { session: &session, op: &op, protocol: Protocol::Resp2, from: None, may_end: false };
                let tried = store.execute(call, &clock::System, &mut out);
                assert!(matches!(tried, Tried::Done(None)));
            });
        });
    }
}

criterion_group!(benches, hot_path);
criterion_main!(benches);
