//! One request on its way through the exchange: what is known of it so far.
//!
//! It decides nothing. Pingora keeps it for the exchange, from the header to the last byte of the answer. Invariant: a session that was
//! announced for a request is told of its end exactly once, however it ends.

use crate::connection::Arrival;
use crate::{Came, Ended, Member, Run, Sessions};
use std::sync::Arc;
use std::time::Instant;

/// See the head of this file.
pub(crate) struct Request {
    /// Of its connection.
    pub(crate) arrival: Option<Arc<Arrival>>,
    pub(crate) begun: Instant,
    /// Whether nothing was wrong with its header.
    pub(crate) is_admitted: bool,
    /// The session that it names.
    pub(crate) session: Option<Vec<u8>>,
    pub(crate) announced: Option<Announced>,
    pub(crate) came: Came,
    /// The member that it goes to, instead of to the instance.
    pub(crate) at: Option<Member>,
    /// Whether that member has given it back: nothing of it has come to an instance.
    pub(crate) is_given_back: bool,
    /// Whether it may become a WebSocket.
    pub(crate) asks_for_websocket: bool,
    /// Whether its session is one that its answer has given.
    pub(crate) is_learned: bool,
    /// Bytes of its body so far.
    pub(crate) body_bytes: u64,
    pub(crate) is_websocket: bool,
    /// Of request and trace, as the instance got them.
    pub(crate) ids: Option<(String, String)>,
}

impl Request {
    /// One of which nothing is known.
    pub(crate) fn begun(begun: Instant) -> Request {
        Request {
            arrival: None,
            begun,
            is_admitted: false,
            session: None,
            announced: None,
            came: Came::Directly,
            at: None,
            is_given_back: false,
            asks_for_websocket: false,
            is_learned: false,
            body_bytes: 0,
            is_websocket: false,
            ids: None,
        }
    }
}

/// A session that was announced: tells of the end of its request.
pub(crate) struct Announced {
    sessions: Arc<dyn Sessions>,
    session: Vec<u8>,
    ended: Option<Ended>,
    pub(crate) answered: bool,
}

impl Announced {
    /// Announces it.
    pub(crate) fn of(sessions: Arc<dyn Sessions>, session: Vec<u8>, run: Run<'_>) -> Announced {
        let ended = sessions.arriving(&session, run);
        Announced { sessions, session, ended, answered: false }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        if let Some(ended) = self.ended.take() {
            ended();
        }
        self.sessions.left(&self.session, self.answered);
    }
}
