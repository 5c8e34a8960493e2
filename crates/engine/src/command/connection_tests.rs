//! Handshakes and questions about the server, as clients send them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::command::{Parsed, parse};

fn right(user: &[u8], password: &[u8]) -> bool {
    user == b"default" && password == b"pw"
}

fn run(connection: &mut Connection, command: &str, password: bool) -> (String, After) {
    let facts = ServerFacts {
        password: password.then_some(&right),
        port: 6379,
        uptime_s: 1,
        clients: 1,
        events: Classes::NONE,
        databases: 16,
    };
    let args = command.split(' ').map(|w| Bytes::copy_from_slice(w.as_bytes())).collect();
    let Parsed::Connection(command) = parse(args) else { panic!("{command}") };
    let mut out = BytesMut::new();
    let after = connection.run(&command, facts, &mut out);
    (String::from_utf8(out.to_vec()).unwrap().replace("\r\n", " ").trim_end().to_string(), after)
}

#[track_caller]
fn check(password: bool, script: &str) {
    let mut connection = Connection::new(7, password);
    for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let (command, expected) = line.split_once(" → ").unwrap();
        assert_eq!(run(&mut connection, command, password).0, expected, "{command}");
    }
}

#[test]
fn a_handshake_without_password() {
    check(
        false,
        "PING → +PONG
        ping a → $1 a
        PING a b → -ERR wrong number of arguments for 'ping' command
        SELECT 3 → +OK
        select 16 → -ERR DB index is out of range
        SELECT x → -ERR value is not an integer or out of range
        CLIENT SETINFO lib-name x → +OK
        CLIENT SETNAME web → +OK
        CLIENT GETNAME → $3 web
        CLIENT ID → :7
        CLIENT INFO → $63 id=7 name=web db=3 flags=N cmd=client|info user=default resp=2
        CLIENT MAINT_NOTIFICATIONS ON → -ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.
        CLIENT ID x → -ERR wrong number of arguments for 'client|id' command
        CLIENT → -ERR wrong number of arguments for 'client' command
        AUTH x → -ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?
        AUTH default x → +OK
        AUTH a b c → -ERR syntax error
        HELLO 4 → -NOPROTO unsupported protocol version
        HELLO x → -ERR Protocol version is not an integer or out of range
        HELLO 3 FOO → -ERR Syntax error in HELLO option 'FOO'
        HELLO 3 → %7 $6 server $5 redis $7 version $6 7.0.15 $5 proto :3 $2 id :7 $4 mode $10 standalone $4 role $6 master $7 modules *0
        CONFIG GET save → %1 $4 save $0
        CONFIG GET nope → %0
        COMMAND COUNT → :109
        COMMAND INFO nope → *1 _
        RESET → +RESET
        CLIENT GETNAME → $-1"
,
    );
}

#[test]
fn a_stranger_must_say_the_password() {
    check(
        true,
        "PING → -NOAUTH Authentication required.
        INFO → -NOAUTH Authentication required.
        AUTH wrong → -WRONGPASS invalid username-password pair or user is disabled.
        AUTH other pw → -WRONGPASS invalid username-password pair or user is disabled.
        PING → -NOAUTH Authentication required.
        AUTH pw → +OK
        PING → +PONG
        RESET → +RESET
        PING → -NOAUTH Authentication required.",
    );
    let mut connection = Connection::new(1, true);
    assert!(run(&mut connection, "HELLO 3", true).0.starts_with("-NOAUTH HELLO must be called"));
    assert!(run(&mut connection, "HELLO 3 AUTH default no", true).0.starts_with("-WRONGPASS"));
    assert_eq!(connection.protocol, Protocol::Resp2);
    assert!(run(&mut connection, "HELLO 3 AUTH default pw SETNAME me", true).0.starts_with("%7"));
    assert_eq!(run(&mut connection, "CLIENT GETNAME", true).0, "$2 me");
}

#[test]
fn what_ends_a_connection_is_told() {
    let mut connection = Connection::new(1, false);
    assert_eq!(run(&mut connection, "QUIT", false), ("+OK".to_string(), After::Close));
    assert_eq!(run(&mut connection, "RESET", false), ("+RESET".to_string(), After::Reset));
    assert_eq!(run(&mut connection, "PING", false).1, After::Continue);
}

#[test]
fn ready_checks_find_what_they_look_for() {
    let mut connection = Connection::new(1, false);
    let all = run(&mut connection, "INFO", false).0;
    for line in ["redis_version:7.0.15", "loading:0", "role:master", "redis_mode:standalone", "cluster_enabled:0"] {
        assert!(all.contains(line), "{line}");
    }
    let server = run(&mut connection, "info SERVER", false).0;
    assert!(server.contains("redis_version:7.0.15") && !server.contains("role:"));
}

#[test]
fn config_set_is_not_about_this_connection() {
    assert!(
        matches!(parse(vec!["CONFIG".into(), "SET".into(), "a".into(), "b".into()]), Parsed::Foreign(f) if f.keys.is_empty())
    );
}
