//! The commands about a connection itself: handshake, password, database, and what clients ask a server about itself.
//!
//! It never touches a session, a socket or a clock; whether a password is right says a function of the caller, which compares in
//! constant time. The state face keeps one [`Connection`] per client.
//!
//! | needs no password | AUTH, HELLO, QUIT, RESET |
//! |---|---|
//! | after a password | SELECT, PING, ECHO, CLIENT, INFO, CONFIG GET and HELP, OBJECT HELP, COMMAND |
//!
//! Deviations from Redis 7.0: `CLIENT SETINFO` is accepted (7.2 has it, and clients send it), `CONFIG GET` knows few parameters,
//! `CLIENT TRACKING` and what is about other connections do not exist.
//! Invariant: nothing but AUTH and HELLO makes a connection authenticated.

use super::answering::Answering;
use super::events::Classes;
use super::{errors, server};
use crate::wire::resp::{Protocol, Reply, parse_integer};
use bytes::{Bytes, BytesMut};

/// The version of Redis whose behaviour this is.
pub const REDIS_VERSION: &str = "7.0.15";
/// A client's name or library may be this long: it is kept as long as the connection.
const NAME_BYTES_MAX: usize = 1024;

/// A command about the connection with its arguments, of the right number.
pub struct ConnectionCommand {
    kind: Kind,
    args: Vec<Bytes>,
}

impl std::fmt::Debug for ConnectionCommand {
    // The arguments may be a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ConnectionCommand({})", self.name())
    }
}

impl ConnectionCommand {
    /// Its arguments as they came, the name first. They may hold a password.
    pub fn args(&self) -> &[Bytes] {
        &self.args
    }

    /// Whether it is a `CLIENT REPLY`.
    pub fn is_about_replies(&self) -> bool {
        self.kind == Kind::Client && self.args.get(1).is_some_and(|sub| sub.eq_ignore_ascii_case(b"reply"))
    }

    /// The database that it selects, if it is a SELECT that succeeds where there are so many.
    pub fn selected(&self, databases: u8) -> Option<u8> {
        let database = self.args.get(1).filter(|_| self.kind == Kind::Select).and_then(|text| parse_integer(text))?;
        u8::try_from(database).ok().filter(|database| *database < databases)
    }

    /// Redis's error if it has a wrong number of arguments.
    pub fn arity_error(&self) -> Option<Bytes> {
        let arity = KINDS.iter().find(|(_, kind, _)| *kind == self.kind).map_or(-1, |(_, _, arity)| *arity);
        let (wanted, count) = (usize::from(arity.unsigned_abs()), self.args.len());
        let wrong = if arity < 0 { count < wanted } else { count != wanted };
        wrong.then(|| errors::arity(self.name()))
    }

    /// Its name in lower case: a label for metrics.
    pub fn name(&self) -> &'static str {
        KINDS.iter().find(|(_, kind, _)| *kind == self.kind).map_or("connection", |(name, _, _)| name)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Auth,
    Client,
    Command,
    Config,
    Echo,
    Hello,
    Info,
    Object,
    Ping,
    Quit,
    Reset,
    Select,
}

/// Name, kind, arity as in [`table`].
const KINDS: [(&str, Kind, i16); 12] = [
    ("auth", Kind::Auth, -2),
    ("client", Kind::Client, -2),
    ("command", Kind::Command, -1),
    ("config", Kind::Config, -2),
    ("echo", Kind::Echo, 2),
    ("hello", Kind::Hello, -1),
    ("info", Kind::Info, -1),
    ("object", Kind::Object, -2),
    ("ping", Kind::Ping, -1),
    ("quit", Kind::Quit, -1),
    ("reset", Kind::Reset, 1),
    ("select", Kind::Select, 2),
];

/// Takes a command about the connection; anything else is given back.
pub(super) fn parse(name: &[u8], args: Vec<Bytes>) -> Result<ConnectionCommand, Vec<Bytes>> {
    let Some((_, kind, _)) = KINDS.iter().find(|(known, _, _)| name.eq_ignore_ascii_case(known.as_bytes())) else {
        return Err(args);
    };
    // `CONFIG SET` and the like are about the upstream, if there is one.
    let is_ours = |sub: &Bytes| sub.eq_ignore_ascii_case(b"get") || sub.eq_ignore_ascii_case(b"help");
    if *kind == Kind::Config && args.get(1).is_some_and(|sub| !is_ours(sub)) {
        return Err(args);
    }
    Ok(ConnectionCommand { kind: *kind, args })
}

/// Says whether a user and a password belong together.
pub type PasswordCheck<'a> = &'a dyn Fn(&[u8], &[u8]) -> bool;

/// What a connection is told about the server.
#[derive(Clone, Copy)]
pub struct ServerFacts<'a> {
    /// `None`: no password is set, everybody is let in.
    pub password: Option<PasswordCheck<'a>>,
    /// The port of the listener.
    pub port: u16,
    /// For how long it runs, in seconds.
    pub uptime_s: u64,
    /// How many clients it has.
    pub clients: usize,
    /// Which events of keys it tells.
    pub events: Classes,
    /// How many databases it has.
    pub databases: u8,
}

/// What the caller does after the reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    /// Goes on.
    Continue,
    /// Closes the connection when the reply is sent.
    Close,
    /// Forgets what else it holds for the connection, as after connecting anew.
    Reset,
}

/// One client's connection.
#[derive(Clone, PartialEq, Eq)]
pub struct Connection {
    /// The number by which `CLIENT ID` knows it.
    pub id: u64,
    /// What replies are written in.
    pub protocol: Protocol,
    /// The database that `SELECT` chose.
    pub db: u8,
    /// Whether the password was said, or none is set.
    pub authenticated: bool,
    /// Which of its commands are answered.
    pub answering: Answering,
    name: Bytes,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({}, {:?}, db {})", self.id, self.protocol, self.db)
    }
}

impl Connection {
    /// A new connection.
    pub fn new(id: u64, password_is_set: bool) -> Connection {
        Connection {
            id,
            protocol: Protocol::Resp2,
            db: 0,
            authenticated: !password_is_set,
            answering: Answering::default(),
            name: Bytes::new(),
        }
    }

    /// Whether the command may run now; if not, [`errors::NO_AUTH`] is the answer.
    pub fn may_run(&self, command: &ConnectionCommand) -> bool {
        self.authenticated || matches!(command.kind, Kind::Auth | Kind::Hello | Kind::Quit | Kind::Reset)
    }

    /// Runs a command and appends its reply.
    pub fn run(&mut self, command: &ConnectionCommand, facts: ServerFacts<'_>, out: &mut BytesMut) -> After {
        let args = &command.args;
        let mut reply = Reply::new(out, self.protocol);
        // Redis's table lets PING have any number, and only its execution refuses more than one.
        let too_many = command.kind == Kind::Ping && args.len() > 2;
        if let Some(error) = command.arity_error().or_else(|| too_many.then(|| errors::arity("ping"))) {
            reply.error(error);
            return After::Continue;
        }
        if !self.may_run(command) {
            reply.error(errors::NO_AUTH);
            return After::Continue;
        }
        match (command.kind, args.as_slice()) {
            (Kind::Quit, _) => {
                reply.simple("OK");
                return After::Close;
            }
            (Kind::Reset, _) => {
                *self = Connection::new(self.id, facts.password.is_some());
                reply.simple("RESET");
                return After::Reset;
            }
            (Kind::Hello, _) => return self.hello(args, facts, out),
            (Kind::Auth, _) => self.auth(args, facts, &mut reply),
            (Kind::Select, [_, db]) => self.select(db, facts.databases, &mut reply),
            (Kind::Ping, [_, text]) | (Kind::Echo, [_, text]) => reply.bulk(text),
            (Kind::Ping, _) => reply.simple("PONG"),
            (Kind::Client, [_, subcommand, rest @ ..]) => self.client(subcommand, rest, &mut reply),
            (Kind::Info, [_, sections @ ..]) => reply.verbatim(*b"txt", server::info(sections, facts).as_bytes()),
            (Kind::Config | Kind::Object, [_, help]) if help.eq_ignore_ascii_case(b"help") => {
                server::help(command.name(), &mut reply)
            }
            (Kind::Config, [_, help, ..]) if help.eq_ignore_ascii_case(b"help") => reply.error(errors::arity("config|help")),
            (Kind::Config, [_, _, patterns @ ..]) => server::config_get(patterns, facts, &mut reply),
            (Kind::Command, [_, rest @ ..]) => server::listing(rest, &mut reply),
            _ => reply.error(errors::arity(command.name())),
        }
        After::Continue
    }

    fn select(&mut self, db: &[u8], databases: u8, reply: &mut Reply<'_>) {
        match parse_integer(db) {
            // Redis reads it into 32 bits.
            Some(db) if i32::try_from(db).is_err() => {
                reply.error("ERR value is out of range, value must between -2147483648 and 2147483647")
            }
            Some(db) if (0..i64::from(databases)).contains(&db) => {
                self.db = u8::try_from(db).unwrap_or(0);
                reply.simple("OK");
            }
            Some(_) => reply.error("ERR DB index is out of range"),
            None => reply.error(errors::NOT_AN_INTEGER),
        }
    }

    fn auth(&mut self, args: &[Bytes], facts: ServerFacts<'_>, reply: &mut Reply<'_>) {
        match (args, facts.password) {
            ([_, _], None) => reply.error(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
            ),
            ([_, password], Some(_)) => self.log_in(b"default", password, facts, reply),
            ([_, user, password], _) => self.log_in(user, password, facts, reply),
            _ => reply.error(errors::SYNTAX),
        }
    }

    fn log_in(&mut self, user: &[u8], password: &[u8], facts: ServerFacts<'_>, reply: &mut Reply<'_>) {
        if self.is_right(user, password, facts) {
            self.authenticated = true;
            reply.simple("OK");
        } else {
            reply.error(WRONG_PASSWORD);
        }
    }

    fn is_right(&self, user: &[u8], password: &[u8], facts: ServerFacts<'_>) -> bool {
        facts.password.map_or(user == b"default", |check| check(user, password))
    }

    /// `HELLO [2|3 [AUTH user password] [SETNAME name]]`; all of it or nothing, but for the name, as in Redis.
    fn hello(&mut self, args: &[Bytes], facts: ServerFacts<'_>, out: &mut BytesMut) -> After {
        match self.try_hello(args, facts) {
            Err(error) => Reply::new(out, self.protocol).error(error),
            Ok(protocol) => {
                self.protocol = protocol;
                let mut reply = Reply::new(out, protocol);
                reply.map(7);
                for (name, text) in [("server", "redis"), ("version", REDIS_VERSION)] {
                    reply.bulk(name.as_bytes());
                    reply.bulk(text.as_bytes());
                }
                reply.bulk(b"proto");
                reply.integer(if protocol == Protocol::Resp3 { 3 } else { 2 });
                reply.bulk(b"id");
                reply.integer(i64::try_from(self.id).unwrap_or(i64::MAX));
                for (name, text) in [("mode", "standalone"), ("role", "master")] {
                    reply.bulk(name.as_bytes());
                    reply.bulk(text.as_bytes());
                }
                reply.bulk(b"modules");
                reply.array(0);
            }
        }
        After::Continue
    }

    fn try_hello(&mut self, args: &[Bytes], facts: ServerFacts<'_>) -> Result<Protocol, Bytes> {
        let protocol = match args.get(1).map(|version| parse_integer(version)) {
            None => self.protocol,
            Some(None) => return Err("ERR Protocol version is not an integer or out of range".into()),
            Some(Some(2)) => Protocol::Resp2,
            Some(Some(3)) => Protocol::Resp3,
            Some(Some(_)) => return Err("NOPROTO unsupported protocol version".into()),
        };
        let mut options = args.get(2..).unwrap_or_default();
        let mut credentials = None;
        while let [option, rest @ ..] = options {
            options = match rest {
                [user, password, rest @ ..] if option.eq_ignore_ascii_case(b"auth") => {
                    credentials = Some((user, password));
                    rest
                }
                [name, rest @ ..] if option.eq_ignore_ascii_case(b"setname") => {
                    self.set_name(name)?;
                    rest
                }
                _ => return Err([b"ERR Syntax error in HELLO option '", option.as_ref(), b"'"].concat().into()),
            };
        }
        if let Some((user, password)) = credentials {
            if !self.is_right(user, password, facts) {
                return Err(WRONG_PASSWORD.into());
            }
            self.authenticated = true;
        }
        if !self.authenticated {
            return Err(HELLO_WITHOUT_PASSWORD.into());
        }
        Ok(protocol)
    }

    fn set_name(&mut self, name: &Bytes) -> Result<(), Bytes> {
        if name.len() > NAME_BYTES_MAX || name.iter().any(|b| !(b'!'..=b'~').contains(b)) {
            return Err("ERR Client names cannot contain spaces, newlines or special characters.".into());
        }
        self.name = Bytes::copy_from_slice(name);
        Ok(())
    }

    fn client(&mut self, subcommand: &[u8], rest: &[Bytes], reply: &mut Reply<'_>) {
        let lower = subcommand.to_ascii_lowercase();
        let wanted = match lower.as_slice() {
            b"id" | b"getname" | b"help" | b"info" => 0,
            b"setname" | b"no-evict" | b"no-touch" | b"reply" => 1,
            b"setinfo" => 2,
            _ => return reply.error(errors::unknown_subcommand(subcommand, "CLIENT")),
        };
        if rest.len() != wanted {
            return reply.error(errors::arity(&format!("client|{}", String::from_utf8_lossy(&lower))));
        }
        match (lower.as_slice(), rest) {
            (b"id", _) => reply.integer(i64::try_from(self.id).unwrap_or(i64::MAX)),
            (b"help", _) => server::help("client", reply),
            (b"getname", _) if self.name.is_empty() => reply.null(),
            (b"getname", _) => reply.bulk(&self.name),
            (b"info", _) => {
                let resp = if self.protocol == Protocol::Resp3 { 3 } else { 2 };
                let (id, name, db) = (self.id, String::from_utf8_lossy(&self.name), self.db);
                let line = format!("id={id} name={name} db={db} flags=N cmd=client|info user=default resp={resp}\n");
                reply.verbatim(*b"txt", line.as_bytes());
            }
            (b"setname", [name]) => match self.set_name(name) {
                Ok(()) => reply.simple("OK"),
                Err(error) => reply.error(error),
            },
            (b"setinfo", [what, value]) => match what.to_ascii_lowercase().as_slice() {
                b"lib-name" | b"lib-ver" if value.iter().all(|b| (b'!'..=b'~').contains(b)) => reply.simple("OK"),
                b"lib-name" | b"lib-ver" => {
                    let what = String::from_utf8_lossy(what).into_owned();
                    reply.error(format!("ERR {what} cannot contain spaces, newlines or special characters."));
                }
                _ => reply.error([b"ERR Unrecognized option '", what.as_ref(), b"'"].concat()),
            },
            (b"reply", [order]) => match self.answering.order(order) {
                Some(true) => reply.simple("OK"),
                Some(false) => {}
                None => reply.error(errors::SYNTAX),
            },
            (_, [on]) if on.eq_ignore_ascii_case(b"on") || on.eq_ignore_ascii_case(b"off") => reply.simple("OK"),
            _ => reply.error(errors::SYNTAX),
        }
    }
}

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const HELLO_WITHOUT_PASSWORD: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time";

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
