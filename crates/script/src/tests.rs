//! Scripts beside a real `redis-server`, and the bounds that it does not have.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)]

#[path = "../../../tests/harness/redis_server.rs"]
mod redis_server;

use super::*;
use redis_server::RedisServer;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use wayfarer_engine::command::compound::{script_call, targets};
use wayfarer_engine::command::{Executed, encode_request, execute};
use wayfarer_engine::ids::Version;
use wayfarer_engine::session::Session;
use wayfarer_engine::wire::resp::FrameScanner;

const LIMITS: ScriptLimits =
    ScriptLimits { time_max: Duration::from_millis(200), memory_bytes_max: 8 * 1024 * 1024, cache_bytes_max: 3000 };

struct Redis(RedisServer);

impl Redis {
    fn ask(&self, protocol: &str, args: &[Bytes]) -> String {
        let mut stream = TcpStream::connect(self.0.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut out = BytesMut::new();
        encode_request(&["HELLO".into(), Bytes::copy_from_slice(protocol.as_bytes())], &mut out);
        encode_request(args, &mut out);
        stream.write_all(&out).unwrap();
        let mut buffer = BytesMut::new();
        let mut replies = Vec::new();
        while replies.len() < 2 {
            let mut scanner = FrameScanner::new(1 << 24, 1 << 16);
            match scanner.scan(&buffer).unwrap() {
                Some(frame) => replies.push(buffer.split_to(frame.len)),
                None => {
                    let mut piece = [0; 4096];
                    let read = stream.read(&mut piece).unwrap();
                    assert!(read > 0);
                    buffer.extend_from_slice(&piece[..read]);
                }
            }
        }
        String::from_utf8_lossy(&replies[1]).replace("\r\n", "\n")
    }
}

fn eval(text: &str, keys: &[&str], rest: &[&str]) -> Vec<Bytes> {
    let count = keys.len().to_string();
    ["EVAL", text, &count].iter().chain(keys).chain(rest).map(|arg| Bytes::copy_from_slice(arg.as_bytes())).collect()
}

fn ours(scripts: &Arc<Scripts>, session: &mut Session, protocol: Protocol, args: &[Bytes]) -> String {
    let call = script_call(args).unwrap();
    let op = scripts.operation(call, targets(&script_call(args).unwrap().keys));
    let mut out = BytesMut::new();
    let executed = execute(session, &op, 1_700_000_000_000, protocol, &mut out);
    assert!(matches!(executed, Executed::Done { .. }), "{executed:?}");
    String::from_utf8_lossy(&out).replace("\r\n", "\n")
}

const RELEASE: &str = "if redis.call(\"get\",KEYS[1]) == ARGV[1] then return redis.call(\"del\",KEYS[1]) else return 0 end";

#[test]
fn scripts_answer_as_in_redis() {
    let Some(redis) = RedisServer::start(&[]).map(Redis) else { return };
    let scripts = Arc::new(Scripts::new(LIMITS));
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("return 1", &[], &[]),
        ("return 3.99", &[], &[]),
        ("return -3.99", &[], &[]),
        ("return 'x'", &[], &[]),
        ("return true", &[], &[]),
        ("return false", &[], &[]),
        ("return nil", &[], &[]),
        ("return", &[], &[]),
        ("return {1,2,{3,'four'},nil,5}", &[], &[]),
        ("return {ok='fine'}", &[], &[]),
        ("return {err='MY fault'}", &[], &[]),
        ("return redis.status_reply('S')", &[], &[]),
        ("return redis.error_reply('MY fault')", &[], &[]),
        ("return redis.sha1hex('')", &[], &[]),
        ("return {KEYS[1],KEYS[2],ARGV[1],ARGV[2],#KEYS,#ARGV}", &["a", "b"], &["c"]),
        ("return redis.call('set',KEYS[1],ARGV[1])", &["s"], &["v"]),
        ("return redis.call('get',KEYS[1])", &["s"], &[]),
        ("return redis.call('get',KEYS[1])", &["none"], &[]),
        ("return {redis.call('get',KEYS[1])}", &["none"], &[]),
        ("if redis.call('get',KEYS[1]) == false then return 'absent' end", &["none"], &[]),
        ("return redis.call('hmset',KEYS[1],'a',1,'b',2.5,'c','x')", &["h"], &[]),
        ("return redis.call('hgetall',KEYS[1])", &["h"], &[]),
        ("return redis.call('set',KEYS[1],10)", &["n"], &[]),
        ("return redis.call('incrby',KEYS[1],3)", &["n"], &[]),
        ("redis.call('set',KEYS[1],0.1) return redis.call('get',KEYS[1])", &["d"], &[]),
        ("redis.call('set',KEYS[1],1e20) return redis.call('get',KEYS[1])", &["d"], &[]),
        ("redis.call('set',KEYS[1],1/3) return redis.call('get',KEYS[1])", &["d"], &[]),
        ("redis.call('rpush',KEYS[1],-0.5,1e15,123456789012345678,-1e-7,1/0,-1/0,2^53,3.0)", &["numbers"], &[]),
        ("return redis.call('lrange',KEYS[1],0,-1)", &["numbers"], &[]),
        ("return #redis.call('TIME')", &[], &[]),
        ("return type(redis.call('TIME')[1]) .. type(redis.call('time')[2])", &[], &[]),
        ("return redis.call('TIME','x')", &[], &[]),
        ("return redis.call('PING')", &[], &[]),
        ("return redis.call('PING','x')", &[], &[]),
        ("return redis.call('ping','x','y')", &[], &[]),
        ("return redis.call('ECHO','x')", &[], &[]),
        ("return redis.call('ECHO')", &[], &[]),
        ("local t = {} rawset(t,'a','b') return t.a .. tostring(rawset(t,1,2) == t)", &[], &[]),
        ("rawset(KEYS,1,'other') return KEYS", &["k"], &[]),
        ("return redis.pcall('incrby',KEYS[1],3)", &["s"], &[]),
        ("return redis.pcall('incrby',KEYS[1],3).err", &["s"], &[]),
        ("return redis.call('incrby',KEYS[1],3)", &["s"], &[]),
        ("local x = 1\nreturn redis.call('incrby',KEYS[1],3)", &["s"], &[]),
        ("redis.call('set',KEYS[1],'kept') error('boom')", &["s"], &[]),
        ("return redis.call('get',KEYS[1])", &["s"], &[]),
        ("return pcall(function() return redis.call('incr',KEYS[1]) end)", &["s"], &[]),
        ("return nosuch", &[], &[]),
        ("x = 1", &[], &[]),
        ("return (", &[], &[]),
        ("return redis.call('nosuch')", &[], &[]),
        ("return redis.call()", &[], &[]),
        ("return redis.call('get',{})", &["s"], &[]),
        ("return redis.call('get')", &["s"], &[]),
        ("return tostring(os.clock() ~= nil)", &[], &[]),
        ("return type(io)", &[], &[]),
        ("return ('x'):rep(3)", &[], &[]),
        ("return #string.format('%5.1f|%s', 1.25, 'y')", &[], &[]),
        ("local t = {3,1,2} table.sort(t) return t", &[], &[]),
        (RELEASE, &["lock"], &["mine"]),
        ("return redis.call('set',KEYS[1],ARGV[1],'NX','PX',30000)", &["lock"], &["mine"]),
        (RELEASE, &["lock"], &["other"]),
        (RELEASE, &["lock"], &["mine"]),
        (
            "redis.call('hset',KEYS[1],'k',1) redis.call('pexpire',KEYS[1],ARGV[1]) return redis.call('exists',KEYS[1])",
            &["r"],
            &["5000"],
        ),
    ];
    for (protocol, name) in [(Protocol::Resp2, "2"), (Protocol::Resp3, "3")] {
        redis.ask("2", &["FLUSHALL".into()]);
        let mut session = Session::new(Version(0));
        for (text, keys, rest) in cases {
            let args = eval(text, keys, rest);
            let expected = redis.ask(name, &args);
            assert_eq!(ours(&scripts, &mut session, protocol, &args), expected, "{text} {keys:?} {rest:?} RESP{name}");
        }
    }
}

#[test]
fn a_script_is_stopped_at_its_bounds_and_undone() {
    let hurried = Arc::new(Scripts::new(LIMITS));
    // What reaches another bound is not to be stopped for its time, however slow the machine is.
    let patient = Arc::new(Scripts::new(ScriptLimits { time_max: Duration::from_secs(60), ..LIMITS }));
    let mut session = Session::new(Version(0));
    let mut check = |scripts: &Arc<Scripts>, text: &str, expected: &str| {
        let got = ours(scripts, &mut session, Protocol::Resp2, &eval(text, &["s"], &[]));
        assert!(got.starts_with(expected), "{text}: {got}");
    };
    let (long, large) = ("-ERR wayfarer: the script ran too long", "-ERR wayfarer: the script used too much memory");
    check(&hurried, "redis.call('set',KEYS[1],'x') while true do end", long);
    check(&hurried, "redis.call('set',KEYS[1],'x') while true do pcall(function() while true do end end) end", long);
    check(&patient, "redis.call('set',KEYS[1],'x') local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(200000) .. i end", large);
    check(&patient, "redis.call('set',KEYS[1],'x') return ('x'):rep(1e9)", large);
    check(&patient, "return redis.call('exists',KEYS[1])", ":0");
    for escape in [
        "loadstring('x')",
        "load('x')",
        "dofile('x')",
        "require('os')",
        "coroutine.create(print)",
        "setfenv(1,{})",
        "io.open('x')",
        "string.dump(type)",
    ] {
        check(&patient, &format!("return {escape}"), "-ERR user_script:1: ");
    }
    check(&patient, "string.x = 1", "-ERR user_script:1: Attempt to modify");
    check(&patient, "getmetatable('').__index = 1", "-ERR user_script:1: ");
    for guarded in ["string", "table", "math", "redis", "_G"] {
        check(&patient, &format!("rawset({guarded},'x',1)"), "-ERR user_script:1: Attempt to modify a readonly table");
    }
    check(&patient, "local function deep(n) return {deep} end local t = {} for i = 1, 500 do t = {t} end return t", "*1");
}

#[test]
fn texts_are_found_by_their_digests_and_forgotten_at_the_bound() {
    let scripts = Scripts::new(LIMITS);
    let digest = scripts.load(&Bytes::from_static(b"return 1")).unwrap();
    assert_eq!(digest, "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    assert_eq!(scripts.find(digest.to_uppercase().as_bytes()).unwrap(), "return 1");
    assert!(scripts.load(&Bytes::from_static(b"return (")).unwrap_err().starts_with(b"ERR Error compiling script"));
    assert_eq!(sha1hex(RELEASE.as_bytes()).len(), 40);
    scripts.remember(&Bytes::from_static(b"also not ("));
    assert!(scripts.find(sha1hex(b"also not (").as_bytes()).is_none());
    for at in 0..100 {
        scripts.remember(&Bytes::from(format!("return {at} -- {}", "x".repeat(90))));
    }
    assert!(scripts.find(digest.as_bytes()).is_none());
    for at in 0..100 {
        scripts.remember(&Bytes::from(format!("return {at}")));
    }
    assert!(scripts.cache().len() <= 3000 / 256, "short texts cost more than themselves");
    scripts.flush();
    assert!(scripts.find(sha1hex(b"return 1").as_bytes()).is_none());
}

#[test]
fn a_run_finds_the_memory_that_the_last_one_used() {
    let scripts = Arc::new(Scripts::new(ScriptLimits { time_max: Duration::from_secs(20), ..LIMITS }));
    let mut session = Session::new(Version(0));
    // Three quarters of the bound, all of it live at once.
    let text = "local t = {} for i = 1, 60 do t[i] = (KEYS[1]):rep(100000) .. i end return #t";
    for _ in 0..6 {
        assert_eq!(ours(&scripts, &mut session, Protocol::Resp2, &eval(text, &["k"], &["x"])), ":60\n");
        let idle = scripts.idle.lock().unwrap();
        assert!(idle.iter().all(|interpreter| interpreter.used_bytes() <= LIMITS.memory_bytes_max / 8));
        assert_eq!(idle.len(), 1, "it is used again");
    }
    let large = "x".repeat(1_000_000);
    assert_eq!(ours(&scripts, &mut session, Protocol::Resp2, &eval("return 1", &["k"], &[&large, &large])), ":1\n");
    assert!(scripts.idle.lock().unwrap().iter().all(|one| one.used_bytes() <= LIMITS.memory_bytes_max / 8));
}
