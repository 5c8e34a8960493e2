//! Listeners on which every key is a session, before an upstream.

use crate::harness::free_port;
use crate::harness::resp::{Client, Reply};
use crate::{cluster, redis::Redis, settled};

#[test]
fn a_key_by_its_whole_name_rests_under_it_and_is_found_again() {
    let Some(redis) = Redis::start() else { return };
    let port = free_port();
    let listener = format!("state.listener=[{{ listen = \"127.0.0.1:{port}\", sessions = \"all\" }}]");
    let cluster = cluster(&redis).set(&[&listener]);
    let all = || Client::to(([127, 0, 0, 1], port).into());
    assert_eq!(redis.client().say("SET before there"), Reply::ok());
    let mut a = cluster.start("a", &[]);
    // What was there before is found, by this listener as a session.
    assert_eq!(settled(&mut all(), &["GET", "before"]), Reply::text("there"));
    assert_eq!(a.sessions(), 1);
    assert_eq!(settled(&mut all(), &["HSET", "{odd} id", "f", "v"]), Reply::Int(1));
    assert_eq!(all().say("EXPIRE before 1000"), Reply::Int(1));
    // By the first listener a key is a session's by its pattern alone.
    assert_eq!(a.client().say("SET not-one x"), Reply::ok());
    assert_eq!(redis.client().say("GET not-one"), Reply::text("x"));
    assert_eq!(a.client().say("DBSIZE"), Reply::Int(3));
    assert_eq!(a.sessions(), 2);
    a.ask_drain();
    assert_eq!(a.wait_exit().code(), Some(0), "all went to rest");
    let mut upstream = redis.client();
    assert_eq!(upstream.call(&["HGET", "{odd} id", "f"]), Reply::text("v"));
    assert_eq!(upstream.say("GET before"), Reply::text("there"));
    let Reply::Int(ttl) = upstream.say("TTL before") else { panic!("no number") };
    assert!((1..=1000).contains(&ttl), "{ttl}");
    let a = cluster.start("a", &[]);
    assert_eq!(settled(&mut all(), &["HGETALL", "{odd} id"]).texts(), ["f", "v"]);
    assert_eq!(settled(&mut all(), &["DEL", "{odd} id", "before"]), Reply::Int(2));
    assert_eq!((upstream.say("EXISTS before"), a.sessions()), (Reply::Int(0), 0));
}
