//! What concerns one session alone stays its own: a key that the upstream refuses, a command that names too many keys.

use crate::harness::resp::Reply;
use crate::redis::Redis;
use crate::{cluster, cluster_of, settled, wait_written};

#[test]
fn a_key_that_the_upstream_refuses_does_not_hold_up_the_others() {
    let Some(redis) = Redis::start() else { return };
    let node = cluster(&redis).start("a", &[]);
    let (mut client, mut at_rest) = (node.client(), redis.client());
    for id in ["bad", "good"] {
        assert_eq!(settled(&mut client, &["HSET", &format!("s:{id}"), "critical", "0", "high", "0"]), Reply::Int(2));
    }
    wait_written(&node);
    let only_good = ["ACL", "SETUSER", "default", "resetkeys", "~s:good", "~wf:*", "~j:*", "~lock:*"];
    assert_eq!(at_rest.call(&only_good), Reply::ok());
    assert_eq!(client.say("HSET s:bad high 1"), Reply::Int(0), "goes on here");
    let said = client.say("HSET s:bad critical 1");
    assert!(said.is_try_again() && said.error().contains("answered with an error"), "{said:?}");
    for n in 1..30 {
        assert_eq!(client.call(&["HSET", "s:good", "critical", &n.to_string()]), Reply::Int(0), "confirmed at once");
        assert!(client.say("HSET s:bad critical 2").is_try_again());
    }
    assert_eq!(node.status()["rest"]["upstream_answers"], true, "{}", node.status());
    assert_eq!(at_rest.say("HGET s:good critical"), Reply::text("29"));
    assert_eq!(at_rest.say("ACL SETUSER default allkeys"), Reply::ok());
    wait_written(&node);
    assert_eq!(at_rest.say("HMGET s:bad critical high"), Reply::Array(vec![Reply::text("2"), Reply::text("1")]));
    assert_eq!(settled(&mut client, &["HSET", "s:bad", "critical", "3"]), Reply::Int(0));
}

#[test]
fn a_command_may_name_many_keys_that_do_not_exist_but_not_too_many() {
    let Some(redis) = Redis::start() else { return };
    let keys = r#"[{ pattern = "c:{session}:{variable}", layout = "key" }]"#;
    let node = cluster_of(&redis, keys).start("a", &[]);
    let mut client = node.client();
    assert_eq!(settled(&mut client, &["SET", "c:1:first", "1"]), Reply::ok());
    let words = |verb: &str, count: usize| -> Vec<String> {
        std::iter::once(verb.to_owned()).chain((0..count).map(|n| format!("c:1:{n}"))).collect()
    };
    assert_eq!(client.call(&words("EXISTS", 100)), Reply::Int(0));
    assert_eq!(client.call(&words("MGET", 1000)), Reply::Array(vec![Reply::Nil; 1000]));
    assert_eq!(client.call(&words("DEL", 1024)), Reply::Int(0));
    let refused = client.call(&words("EXISTS", 1025));
    assert!(refused.error().contains("more than 1024 keys"), "{refused:?}");
    assert_eq!(client.say("GET c:1:first"), Reply::text("1"));
}

#[test]
fn clients_and_the_log_are_told_what_the_upstream_answered() {
    let Some(redis) = Redis::start() else { return };
    let node = cluster(&redis).set(&["rest.low_ms=300000"]).start("a", &[]);
    let (mut client, mut at_rest) = (node.client(), redis.client());
    assert_eq!(settled(&mut client, &["HSET", "s:known", "low", "1"]), Reply::Int(1));
    for (order, back, words, logged) in [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "answers OOM", "raise its maxmemory"),
        ("ACL SETUSER default -evalsha", "ACL SETUSER default +@all", "needs EVAL and EVALSHA", "EVAL, EVALSHA, and their keys"),
    ] {
        assert_eq!(at_rest.say(order), Reply::ok());
        for n in 0..40 {
            let said = client.say(&format!("HSET s:new{n} low 1"));
            assert!(said.is_try_again() && said.error().contains(words), "{order}: {said:?}");
        }
        assert_eq!(client.say("HGET s:known low"), Reply::text("1"), "what is here is served");
        let lines = node.log_text().lines().filter(|line| line.contains(logged)).count();
        assert!((1..=10).contains(&lines), "{lines} lines for 40 refusals: {}", node.log_text());
        assert_eq!(at_rest.say(back), Reply::ok());
        assert_eq!(settled(&mut client, &["HSET", "s:new0", "low", "1"]), Reply::Int(1), "{back}");
        assert_eq!(settled(&mut client, &["DEL", "s:new0"]), Reply::Int(1));
    }
}

#[test]
fn an_upstream_without_scripts_is_named_at_the_start() {
    let Some(redis) = Redis::start_with(&["--rename-command", "EVALSHA", "evalsha-of-a-test"]) else { return };
    let node = cluster(&redis).start("a", &[]);
    crate::until("the log", || node.log_text().contains("no session can be used until").then_some(()));
    let said = node.client().say("HSET s:1 low 1");
    assert!(said.is_try_again() && said.error().contains("does not know EVAL or EVALSHA"), "{said:?}");
    assert_eq!(node.client().say("SET other 1"), Reply::ok(), "other keys need none");
}

#[test]
fn clients_do_not_get_at_the_guards_of_sessions() {
    let Some(redis) = Redis::start() else { return };
    let node = cluster(&redis).start("a", &[]);
    let (mut client, mut at_rest) = (node.client(), redis.client());
    assert_eq!(settled(&mut client, &["HSET", "s:1", "critical", "1"]), Reply::Int(1));
    assert_eq!(at_rest.say("EXISTS wf:{s:1}"), Reply::Int(1));
    for command in [
        "DEL wf:{s:1}",
        "MGET other wf:{s:1}",
        "LPUSH wf:{s:1} x",
        "RENAME other wf:{s:1}",
        "OBJECT FREQ wf:{s:1}",
        "EVAL return(1) 1 wf:{s:1}",
        "XADD wf:{s:1} * a b",
    ] {
        assert!(client.say(command).error().contains("guards a session"), "{command}");
    }
    assert_eq!(client.say("MULTI"), Reply::ok());
    assert!(client.say("DEL wf:{s:1}").error().contains("guards a session"));
    assert!(client.say("EXEC").error().starts_with("EXECABORT"));
    assert_eq!(client.say("HSET s:1 critical 2"), Reply::Int(0), "it can still be written");
    assert_eq!(at_rest.say("HGET s:1 critical"), Reply::text("2"));
}
