//! Redis commands: arguments to a validated operation, and its execution on a [`Session`].
//!
//! It never decides whose key it is (the state face asks its key matcher and fills [`Target`]s in), never reads a clock and
//! never waits: what is missing comes back as [`Missing`], with nothing changed. The state face, the store and the owner of a
//! forwarded operation call it.
//!
//! ```text
//! arguments ─parse─► Connection(command)            answered by connection::Connection
//!                  ► Keyed(Op) ─execute─► Done      reply appended, session changed
//!                  │                    ► Missing   nothing changed: fetch, then execute again
//!                  ► Refused(keys, error)           wrong arguments: the upstream may know better about its own keys
//!                  ► Foreign(keys)                  not executed here
//! ```
//! | file | |
//! |---|---|
//! | [`table`] | one row a command: name, arity, keys, what it may do |
//! | `foreign` | where the keys of Redis's other commands are |
//! | `action` | options of one command to a validated [`Action`] |
//! | `execute`, `keyspace` | what an action needs, then the action; actions on keys of any type |
//! | `strings`, `pieces`, `hashes`, `lists`, `sets`, `sorted_sets`, `ranges` | actions on keys of one type |
//! | [`compound`], `scripts` | transactions, scripts, stamps: several commands as one operation |
//! | `scan`, `sampling` | actions that several types share |
//! | `numbers`, `long_double`, [`glob`] | numbers with fractions and patterns, as Redis reads them |
//! | [`connection`], `server` | commands about the connection itself, and what it is told about the server |
//! | [`errors`] | the texts of Redis |
//! | [`events`] | what subscribers are told of keys |
//!
//! Invariant: an operation either runs whole on values that are here, or changes nothing.

mod action;
pub mod answering;
pub mod compound;
pub mod connection;
pub mod errors;
pub mod events;
mod execute;
mod foreign;
pub mod glob;
mod hashes;
mod keyspace;
mod lists;
mod long_double;
mod numbers;
mod pieces;
mod ranges;
mod sampling;
mod scan;
mod scripts;
mod server;
mod sets;
mod sorted_sets;
mod strings;
pub mod table;

pub use numbers::format_double;

use crate::session::{Layout, Missing, Session};
use crate::wire::resp::{Answer, Protocol};
use action::Action;
use bytes::{Bytes, BytesMut};
use connection::ConnectionCommand;
use events::Events;
use smallvec::SmallVec;
use table::{Join, Row};

/// The longest string, as in Redis; [`Limits`] usually set a lower one.
pub(crate) const STRING_BYTES_MAX: usize = 512 * 1024 * 1024;

/// A key of an operation, as the key matcher knows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// The full name of the key.
    pub key: Bytes,
    /// How its value is divided.
    pub layout: Layout,
    /// Names the variable of layouts that have one.
    pub label: Bytes,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target({} B, {:?})", self.key.len(), self.layout)
    }
}

/// A validated command on keys.
#[derive(Clone)]
pub struct Op {
    row: &'static Row,
    args: Vec<Bytes>,
    action: Action,
    /// In place: nearly all have one.
    targets: SmallVec<[Target; 1]>,
    /// The value that the writer had read, if that is known and its write is to be merged with what others have written since.
    read: Option<Bytes>,
    /// Of an operation that is more than one command; then `action` is not looked at.
    body: Option<std::sync::Arc<compound::Body>>,
}

impl std::fmt::Debug for Op {
    // Keys and values stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Op({}, {} keys)", self.row.name, self.targets.len())
    }
}

impl Op {
    /// The command's name in lower case: a label for metrics.
    pub fn name(&self) -> &'static str {
        self.row.name
    }

    /// Whether it may change something.
    pub fn is_write(&self) -> bool {
        self.row.write
    }

    /// Whether it can only make the session smaller.
    pub fn only_removes(&self) -> bool {
        matches!(self.action, Action::Delete | Action::HashDelete | Action::GetDelete)
    }

    /// Whether it may make its session larger: what Redis refuses where its memory is full.
    pub fn grows(&self) -> bool {
        self.row.may_create || matches!(self.row.name, "copy" | "linsert" | "lmove" | "lset" | "rpoplpush")
    }

    /// Whether it may create a key where there is none: only then a session is born by it.
    pub fn creates(&self) -> bool {
        self.row.may_create && self.action.creates()
    }

    /// Its keys; until the key matcher has spoken their layout is `opaque` and their label empty.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The same, to fill in layouts and labels.
    pub fn targets_mut(&mut self) -> &mut [Target] {
        &mut self.targets
    }

    /// Its arguments as they came, for another node or the upstream.
    pub fn args(&self) -> &[Bytes] {
        &self.args
    }

    /// Its arguments, by someone who has no more use for the operation.
    pub fn into_args(self) -> Vec<Bytes> {
        self.args
    }

    /// How the replies of its parts make one; `None`: its keys must be of one session.
    pub fn join(&self) -> Option<Join> {
        self.row.join
    }

    /// The same command on some of its keys only, by their places in [`Op::targets`]. For commands with [`Op::join`].
    pub fn part(&self, places: &[usize]) -> Op {
        let targets = places.iter().filter_map(|at| self.targets.get(*at).cloned()).collect();
        let mut args: Vec<Bytes> = self.args.iter().take(1).cloned().collect();
        for place in places {
            args.extend_from_slice(self.row.keys.with_its_own(&self.args, *place));
        }
        Op { row: self.row, args, action: self.action.clone(), targets, read: None, body: None }
    }

    /// Whether it gives a key another name; `Some(true)`: only if nothing has that name.
    pub fn renames(&self) -> Option<bool> {
        match self.action {
            Action::Rename { if_none } => Some(if_none),
            _ => None,
        }
    }

    /// Whether its reply is the whole value of its one key.
    pub fn reads_string(&self) -> bool {
        matches!(self.action, Action::Get | Action::GetExpire { .. })
    }

    /// The new value, if it replaces the whole value of its one key whatever that is: such a write can be merged.
    pub fn replaces_string(&self) -> Option<&Bytes> {
        match &self.action {
            Action::Set(set) if set.condition != action::SetIf::New => Some(self.arg(set.value)),
            _ => None,
        }
    }

    /// Whether what somebody has read of its keys' values is worth as much after it: it looks at keys, or changes expiries.
    pub fn leaves_values(&self) -> bool {
        use Action::{Count, Expire, Length, Object, Persist, TimeToLive, Type};
        self.body.is_none() && matches!(self.action, Count | Expire { .. } | Length | Object(_) | Persist | TimeToLive(_) | Type)
    }

    /// Has a write merged, member by member, with what others have written since its writer read `read`
    /// ([`crate::session::layout::merge`]). Does nothing to an operation that cannot be merged.
    pub fn merge_on(&mut self, read: Bytes) {
        if self.replaces_string().is_some() {
            self.read = Some(read);
        }
    }

    /// The value that it is merged on, if it is.
    pub fn merges_on(&self) -> Option<&Bytes> {
        self.read.as_ref()
    }

    /// The bytes of its arguments: what it holds of a receive buffer while it waits.
    pub fn size_bytes(&self) -> usize {
        self.args.iter().chain(&self.read).fold(0, |sum, arg| sum.saturating_add(arg.len()))
    }

    /// Lets go of the receive buffer whose slices its arguments are. For operations that wait. A script has its own from the start.
    pub fn detach(&mut self) {
        if !matches!(self.body.as_deref(), Some(compound::Body::Script(_))) {
            self.args.iter_mut().for_each(|arg| *arg = Bytes::copy_from_slice(arg));
        }
        for target in &mut self.targets {
            (target.key, target.label) = (Bytes::copy_from_slice(&target.key), Bytes::copy_from_slice(&target.label));
        }
    }

    fn compound(row: &'static Row, args: Vec<Bytes>, targets: Vec<Target>, body: compound::Body) -> Op {
        let targets = SmallVec::from_vec(targets);
        Op { row, args, action: Action::Count, targets, read: None, body: Some(std::sync::Arc::new(body)) }
    }

    fn arg(&self, at: usize) -> &Bytes {
        static EMPTY: Bytes = Bytes::new();
        self.args.get(at).unwrap_or(&EMPTY)
    }
}

/// What the arguments of a client are.
#[derive(Debug)]
pub enum Parsed {
    /// About the connection: no key.
    Connection(ConnectionCommand),
    /// An operation on keys that this crate executes.
    Keyed(Op),
    /// A command of the table whose arguments are wrong.
    Refused(Refused),
    /// Any other command.
    Foreign(Foreign),
}

/// A command of the table with wrong arguments. A newer upstream may know more options, so this only binds for session keys.
pub struct Refused {
    /// As they came.
    pub args: Vec<Bytes>,
    /// The keys among them.
    pub keys: Vec<Bytes>,
    /// Redis's error text.
    pub error: Bytes,
}

/// A command that is not executed here.
pub struct Foreign {
    /// As they came.
    pub args: Vec<Bytes>,
    /// What may be a key among them: exact where Redis's command table says, else every argument.
    pub keys: Vec<Bytes>,
    /// Redis's command of this name; `None`: a name that Redis 7 does not know.
    pub name: Option<&'static str>,
}

impl std::fmt::Debug for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Refused({} arguments)", self.args.len())
    }
}

impl std::fmt::Debug for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Foreign({:?}, {} arguments)", self.name, self.args.len())
    }
}

/// Validates a command. `args` holds at least the name.
pub fn parse(args: Vec<Bytes>) -> Parsed {
    // First those on keys, for nearly all are.
    let Some(row) = args.first().and_then(|name| table::row(name)).filter(|row| !is_help(row, &args)) else {
        let name = args.first().cloned().unwrap_or_default();
        let args = match connection::parse(&name, args) {
            Ok(command) => return Parsed::Connection(command),
            Err(args) => args,
        };
        let (name, keys) = foreign::keys(&name, &args);
        return Parsed::Foreign(Foreign { args, keys, name });
    };
    let action = if row.arity_fits(args.len()) { (row.build)(&args) } else { Err(errors::arity(row.name)) };
    let keys = row.keys.of(&args).cloned();
    match action {
        Ok(action) => {
            let targets = keys.map(|key| Target { key, layout: Layout::Opaque, label: Bytes::new() }).collect();
            Parsed::Keyed(Op { row, args, action, targets, read: None, body: None })
        }
        Err(error) => {
            let keys = keys.collect();
            Parsed::Refused(Refused { args, keys, error })
        }
    }
}

/// `OBJECT HELP` is about no key.
fn is_help(row: &Row, args: &[Bytes]) -> bool {
    row.keys == table::Keys::Second && args.len() == 2 && args.get(1).is_some_and(|sub| sub.eq_ignore_ascii_case(b"help"))
}

/// How an execution ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Executed {
    /// The reply is appended.
    Done {
        /// Whether the session has changed. If it is empty now, it has ended.
        wrote: bool,
    },
    /// Nothing is appended and nothing changed.
    Missing(Missing),
}

/// Bounds of an execution.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of one value, at most: what comes as an argument, and what an operation makes of a value that is there.
    pub value_bytes_max: usize,
    /// Whether there is no memory for what makes a session larger.
    pub full: bool,
}

impl Default for Limits {
    /// Those of Redis.
    fn default() -> Limits {
        Limits { value_bytes_max: STRING_BYTES_MAX, full: false }
    }
}

/// Runs `op`, all of whose keys are of this session, at the time `unix_ms`, and appends its reply.
pub fn execute(session: &mut Session, op: &Op, unix_ms: u64, protocol: Protocol, out: &mut BytesMut) -> Executed {
    execute_within(Limits::default(), session, op, unix_ms, protocol, out)
}

/// The same within bounds: what would exceed them is answered with an error and changes nothing.
pub fn execute_within(
    limits: Limits,
    session: &mut Session,
    op: &Op,
    unix_ms: u64,
    protocol: Protocol,
    out: &mut BytesMut,
) -> Executed {
    execute_noting(limits, session, op, unix_ms, protocol, out.into(), &mut Events::default())
}

/// The same; what happens to keys is noted in `events`. Where the answer takes large values apart they are not copied.
pub fn execute_noting(
    limits: Limits,
    session: &mut Session,
    op: &Op,
    unix_ms: u64,
    protocol: Protocol,
    out: Answer<'_>,
    events: &mut Events,
) -> Executed {
    match op.body.as_deref() {
        None => execute::execute((limits, unix_ms, protocol), session, op, out, events),
        Some(body) => compound::run(session, op, body, (limits, unix_ms, protocol), out.bytes, events),
    }
}

/// Appends the reply of `op` where there is no session at all.
pub fn absent_reply(op: &Op, unix_ms: u64, protocol: Protocol, out: &mut BytesMut) {
    // An empty session has nothing that could be missing, so this always answers.
    execute(&mut Session::default(), op, unix_ms, protocol, out);
}

/// Appends the reply to a rename from one session to another. `renamed`: whether it took place; `None`: there is no such key.
pub fn rename_reply(if_none: bool, renamed: Option<bool>, protocol: Protocol, out: &mut BytesMut) {
    let mut reply = crate::wire::resp::Reply::new(out, protocol);
    match renamed {
        None => reply.error(errors::NO_SUCH_KEY),
        Some(renamed) if if_none => reply.integer(i64::from(renamed)),
        Some(_) => reply.simple("OK"),
    }
}

/// Writes `args` as a request, for another node or the upstream.
pub fn encode_request(args: &[Bytes], out: &mut BytesMut) {
    // A request is an array of byte strings: the same in both protocols.
    let mut writer = crate::wire::resp::Reply::new(out, Protocol::Resp2);
    writer.array(args.len());
    args.iter().for_each(|arg| writer.bulk(arg));
}

#[cfg(test)]
mod tests;
