//! What a client says about channels: SUBSCRIBE and its sisters, PUBLISH, PUBSUB, and which events are told.
//!
//! It never waits: what the members are told or asked is an operation in a lane. Called by [`super::dispatch`] for these commands,
//! by [`super::connection`] for what has come for a subscriber.
//!
//! | | without an upstream | with one |
//! |---|---|---|
//! | SUBSCRIBE, PSUBSCRIBE, … | served here, among all members | the upstream's ([`super::tunnel`]); names that may be about keys are noted here too |
//! | PUBLISH, PUBSUB | all members | relayed |
//! | CONFIG GET, SET notify-keyspace-events | the cluster's | relayed, and what it is there is the cluster's |
//! | key events of sessions | from their owners | from their owners; of those at rest the upstream's, sifted ([`super::sifting`]) |
//!
//! Before the first name that may be about keys the members hear that this node listens: SUBSCRIBE waits for that.
//! In RESP2 a subscribed client may say nothing else, as in Redis.
//! Invariant: a message never stands before the reply to the subscription that it is for.

use super::Sessions;
use super::asking::EVENTS;
use super::connection::Client;
use super::transaction::Then;
use crate::bus::{Message, Of, Overflow, SUBSCRIPTIONS_MAX, Subscriber, concerns_keys, question};
use crate::replies::{Out, Unit};
use bytes::{Bytes, BytesMut};
use wayfarer_engine::command::{Foreign, Parsed, errors};
use wayfarer_engine::ids::SessionId;
use wayfarer_engine::wire::resp::{Protocol, Reply};

/// No more messages are taken from the mailbox while so many bytes wait to be written: what waits there is bounded and counted.
const WRITE_BYTES: usize = 64 * 1024;

/// Whether the members know that this client listens to keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Told {
    #[default]
    No,
    Waiting,
    Yes,
}

/// A client's part in channels.
#[derive(Default)]
pub(super) struct Channels {
    subscriber: Option<Subscriber>,
    told: Told,
}

impl Channels {
    /// Channels and patterns that it has subscribed to here.
    pub(super) fn count(&self) -> usize {
        self.subscriber.as_ref().map_or(0, Subscriber::count)
    }

    /// Whether it has a mailbox.
    pub(super) fn listens(&self) -> bool {
        self.subscriber.is_some()
    }

    /// Whether its mailbox is to be looked at.
    pub(super) fn takes(&self, unwritten_bytes: usize) -> bool {
        self.subscriber.is_some() && unwritten_bytes < WRITE_BYTES
    }

    /// Waits for something in the mailbox, if it is to be taken, or for too much in it.
    pub(super) async fn ready(&self, takes: bool) {
        let Some(subscriber) = &self.subscriber else { return std::future::pending().await };
        tokio::select! {
            () = subscriber.ready(), if takes => {}
            () = subscriber.overflow() => {}
        }
    }
}

/// What a command does to subscriptions: whether it adds, and to what.
fn subscription(command: &Foreign) -> Option<(bool, Of)> {
    match command.name? {
        "subscribe" => Some((true, Of::Channel)),
        "psubscribe" => Some((true, Of::Pattern)),
        "unsubscribe" => Some((false, Of::Channel)),
        "punsubscribe" => Some((false, Of::Pattern)),
        _ => None,
    }
}

impl<S: Sessions> Client<S> {
    /// Whether the command is about channels and answered here.
    pub(super) fn is_about_channels(&self, command: &Foreign) -> bool {
        let here =
            matches!(command.name, Some("subscribe" | "psubscribe" | "unsubscribe" | "punsubscribe" | "publish" | "pubsub"));
        (here && !self.has_upstream()) || (command.name == Some("config") && self.sets_events(&command.args))
    }

    /// One of these commands. Given back if it has to wait.
    pub(super) fn about_channels(&mut self, command: Foreign) -> Option<Foreign> {
        if let Some((adds, of)) = subscription(&command) {
            if self.replies.slots() > 0 || self.must_be_told(&command) {
                return Some(command);
            }
            let names = command.args.get(1..).unwrap_or_default();
            if adds {
                self.subscribe(of, names)
            } else {
                self.unsubscribe(of, names)
            }
            return None;
        }
        match (command.name.unwrap_or_default(), command.args.as_slice()) {
            ("publish", [_, channel, message]) => {
                let arguments = [Bytes::from_static(b"publish"), channel.clone(), message.clone()];
                self.ask_cluster(question::question(arguments));
            }
            ("pubsub", [_, subcommand, rest @ ..]) => self.pubsub(subcommand, rest),
            ("config", args) => self.config_set(args),
            (name, _) => self.error(errors::arity(name)),
        }
        None
    }

    fn subscriber(&mut self) -> &mut Subscriber {
        let bytes_max = self.face.state.output_bytes_max;
        self.channels.subscriber.get_or_insert_with(|| Subscriber::new(self.face.bus.clone(), bytes_max))
    }

    /// Whether a command must wait until the members know that somebody listens to keys here; then they are told.
    pub(super) fn must_be_told(&mut self, command: &Foreign) -> bool {
        let Some((true, of)) = subscription(command) else { return false };
        let names = command.args.get(1..).unwrap_or_default();
        if self.channels.told == Told::Yes || !names.iter().any(|name| concerns_keys(of, name)) {
            return false;
        }
        if self.channels.told == Told::No {
            let Some(number) = self.subscriber().listen() else {
                self.channels.told = Told::Yes;
                return false;
            };
            self.channels.told = Told::Waiting;
            let bus = self.face.bus.clone();
            self.slow.spawn(async move {
                bus.until_told(number).await;
                (SessionId(Bytes::new()), Unit::NOBODYS, Bytes::new())
            });
            if self.has_upstream() && !self.tunnel {
                // What it tells of sessions at rest, the owners tell of theirs.
                self.changes.insert(Unit::NOBODYS, Then::LearnEvents(None));
                let words = ["CONFIG", "GET", EVENTS].map(|word| Bytes::from_static(word.as_bytes()));
                self.send(&words, Unit::NOBODYS);
            }
        }
        true
    }

    /// The members know it, or did not answer.
    pub(super) fn were_told(&mut self) {
        self.channels.told = Told::Yes;
    }

    fn subscribe(&mut self, of: Of, names: &[Bytes]) {
        let name = if of == Of::Channel { "subscribe" } else { "psubscribe" };
        if names.is_empty() {
            return self.error(errors::arity(name));
        }
        for channel in names {
            if !self.subscriber().add(of, channel) {
                return self.error(format!("ERR wayfarer: a connection has at most {SUBSCRIPTIONS_MAX} subscriptions"));
            }
            self.say_count(name, Some(channel));
        }
    }

    fn unsubscribe(&mut self, of: Of, names: &[Bytes]) {
        let name = if of == Of::Channel { "unsubscribe" } else { "punsubscribe" };
        let all = || self.channels.subscriber.as_ref().map(|subscriber| subscriber.all(of)).unwrap_or_default();
        let names = if names.is_empty() { all() } else { names.to_vec() };
        if names.is_empty() {
            self.say_count(name, None);
        }
        for channel in &names {
            self.channels.subscriber.iter_mut().for_each(|subscriber| subscriber.remove(of, channel));
            self.say_count(name, Some(channel));
        }
        self.forget_if_done();
    }

    /// Without a subscription there is nothing to keep.
    fn forget_if_done(&mut self) {
        if self.channels.count() == 0 {
            (self.channels.subscriber, self.channels.told) = (None, Told::No);
        }
    }

    fn say_count(&mut self, name: &str, channel: Option<&Bytes>) {
        // No reply is due before it, and it comes to a client that wants none as well (`CLIENT REPLY`).
        let reply = &mut Reply::new(self.replies.out.tail(), self.connection.protocol);
        push(reply, 3);
        reply.bulk(name.as_bytes());
        match channel {
            Some(channel) => reply.bulk(channel),
            None => reply.null(),
        }
        reply.count(self.channels.count());
    }

    /// Whether the client may say nothing but these few commands now.
    pub(super) fn is_listening_only(&self) -> bool {
        self.connection.protocol == Protocol::Resp2 && !self.has_upstream() && self.channels.count() > 0
    }

    /// A command of a client that may only listen. Given back if it has to wait.
    pub(super) fn while_listening(&mut self, command: Parsed) -> Option<Parsed> {
        match command {
            Parsed::Connection(command) if command.name() == "ping" && command.args().len() <= 2 => {
                let text = command.args().get(1).cloned().unwrap_or_default();
                self.replies.write(self.connection.protocol, |reply| {
                    reply.array(2);
                    reply.bulk(b"pong");
                    reply.bulk(&text);
                });
            }
            Parsed::Connection(command) if command.name() == "quit" => self.about_connection(&command),
            Parsed::Connection(command) if command.name() == "reset" => {
                if self.replies.slots() > 0 {
                    return Some(Parsed::Connection(command));
                }
                self.about_connection(&command);
            }
            Parsed::Foreign(command) if subscription(&command).is_some() => {
                return self.about_channels(command).map(Parsed::Foreign);
            }
            Parsed::Foreign(command) if command.name.is_none() => self.error(errors::unknown_command(&command.args)),
            Parsed::Refused(refused) => self.error(&refused.error),
            Parsed::Foreign(command) => self.not_now(command.name.unwrap_or_default(), &command.args),
            Parsed::Keyed(op) => self.not_now(op.name(), op.args()),
            Parsed::Connection(command) => self.not_now(command.name(), command.args()),
        }
        None
    }

    fn not_now(&mut self, name: &str, args: &[Bytes]) {
        let has_parts = [
            "acl", "client", "cluster", "command", "config", "function", "latency", "memory", "module", "object", "pubsub",
            "script", "slowlog",
        ];
        let sub = args.get(1).filter(|_| has_parts.contains(&name)).map(|sub| String::from_utf8_lossy(sub).to_ascii_lowercase());
        let name = sub.map_or_else(|| name.to_owned(), |sub| format!("{name}|{sub}"));
        self.error(format!(
            "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
        ));
    }

    /// The upstream has said that something is subscribed, or is no more.
    pub(super) fn subscribed_upstream(&mut self, adds: bool, of: Of, name: &Bytes) {
        if !concerns_keys(of, name) {
            return;
        }
        if adds {
            self.subscriber().add(of, name);
        } else {
            self.channels.subscriber.iter_mut().for_each(|subscriber| subscriber.remove(of, name));
            self.forget_if_done();
        }
    }

    /// Writes what has come for it. `Err`: it was too slow.
    pub(super) fn take_news(&mut self) -> Result<(), Overflow> {
        let Some(subscriber) = &self.channels.subscriber else { return Ok(()) };
        for message in subscriber.take()? {
            write_message(&message, self.connection.protocol, self.replies.out.tail());
        }
        Ok(())
    }
}

/// The head of what comes unasked.
fn push(reply: &mut Reply<'_>, len: usize) {
    match reply.protocol() {
        Protocol::Resp2 => reply.array(len),
        Protocol::Resp3 => reply.raw(format!(">{len}\r\n").as_bytes()),
    }
}

fn write_message(message: &Message, protocol: Protocol, out: &mut BytesMut) {
    let mut reply = Reply::new(out, protocol);
    match &message.pattern {
        None => {
            push(&mut reply, 3);
            reply.bulk(b"message");
        }
        Some(pattern) => {
            push(&mut reply, 4);
            reply.bulk(b"pmessage");
            reply.bulk(pattern);
        }
    }
    reply.bulk(&message.channel);
    reply.bulk(&message.payload);
}
