//! A connection that has subscribed or monitors: everything that comes from the upstream is the client's, until nothing is
//! subscribed any more.
//!
//! It never counts replies: one `SUBSCRIBE` has several. [`super::upstream`] shows it what comes, [`super::dispatch`] what the
//! client sends.
//!
//! ```text
//!           ┌──────────────── the token comes: something is subscribed ◄───────────────┐
//!  ──► Through ─ SUBSCRIBE, UNSUBSCRIBE … and behind it PING with a token ─────────► Asked ─ the token: nothing is ─► ended
//! ```
//! Replies come in the order of commands, so what the upstream says before it answers the token is all that there is to say of
//! the command before. Commands of the client wait meanwhile. After MONITOR only RESET ends it, as in Redis.
//! Invariant: a tunnel begins and ends where no reply is under way, so none is taken for a message.

use super::Sessions;
use super::connection::Client;
use super::sifting::Sifting;
use super::subscriptions::Channels;
use wayfarer_engine::command::Parsed;
use wayfarer_engine::wire::resp::Protocol;

const NOT_IN_TUNNEL: &str = "ERR wayfarer: this connection is subscribed at the upstream; use another one for other commands";
impl<S: Sessions> Client<S> {
    /// A command of a client in a tunnel. Given back while it is not known whether the tunnel has ended.
    pub(super) fn in_tunnel(&mut self, command: Parsed) -> Option<Parsed> {
        match command {
            Parsed::Connection(command) if matches!(command.name(), "quit" | "reset") => {
                // Redis forgets all subscriptions; the connection to it goes with them.
                self.tunnel = false;
                (self.channels, self.sifting) = (Channels::default(), Sifting::default());
                self.about_connection(&command);
            }
            command if self.link.as_ref().is_some_and(|link| link.is_asked()) => return Some(command),
            // What it is told of channels is no reply; and in RESP2 nothing but a few commands is allowed here.
            Parsed::Connection(command) if command.is_about_replies() && self.connection.protocol == Protocol::Resp3 => {
                self.about_connection(&command);
            }
            Parsed::Connection(command) if command.name() == "ping" && self.connection.answering.is_silent() => {}
            Parsed::Connection(command) if command.name() == "ping" => {
                self.link.iter_mut().for_each(|link| link.send_through(command.args()));
            }
            Parsed::Foreign(command) if self.must_be_told(&command) => return Some(Parsed::Foreign(command)),
            Parsed::Foreign(command)
                if !command.keys.iter().any(|key| self.face.understanding.keys.is_session(self.connection.db, key)) =>
            {
                self.link.iter_mut().for_each(|link| link.send_through(&command.args));
            }
            _ => self.error(NOT_IN_TUNNEL),
        }
        None
    }
}
