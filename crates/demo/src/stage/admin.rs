//! Asks a node over its admin interface.
//!
//! It keeps nothing and retries nothing. Called by the board, which polls, and by the run, which rebalances and drains.
//! Invariant: an answer is bounded in bytes and in time.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde::de::DeserializeOwned;

const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(120);

/// How many handovers ended how.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Handovers {
    /// With the session at its target.
    pub committed: u64,
    /// With the session where it was.
    pub aborted: u64,
    /// Before anything moved.
    pub refused: u64,
    /// Not yet.
    pub in_progress: u64,
}

/// Bytes that crossed the control channel.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Crossed {
    /// Before sessions answered at their new place, manifests included.
    pub eager: u64,
    /// After that.
    pub late: u64,
}

/// The part of a node's status that the demo shows.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    /// What the node is doing: accepting, draining, …
    pub state: String,
    /// Sessions that it owns.
    pub sessions: u64,
    /// Handovers in which it was the origin or the target.
    pub handovers: Handovers,
    /// Bytes that it sent.
    pub bytes: Crossed,
    /// Variables that came after their session, whether somebody read them or not.
    pub variables_fetched_late: u64,
    /// Those of them that somebody read before they had come.
    pub variables_fetched_on_access: u64,
    /// Residuals that it keeps.
    pub residuals: u64,
}

/// On which side of a move a node was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// It gave the session away; the time is that of the freeze.
    Origin,
    /// It took the session; the time is that of its opening.
    Target,
}

/// One side of one move of one session.
#[derive(Debug, Clone, Deserialize)]
pub struct MoveSide {
    /// Number of the entry at its node.
    pub seq: u64,
    /// Id of the handover.
    pub handover: String,
    /// The session as it is shown: a keyed hash.
    pub session: String,
    /// Which side.
    pub side: Side,
    /// When, as wall time in microseconds.
    pub at_unix_us: i64,
    /// `committed` or `aborted`.
    pub outcome: String,
}

/// The moves after a number.
#[derive(Debug, Default, Deserialize)]
pub struct Moves {
    /// In order.
    pub moves: Vec<MoveSide>,
    /// The last number that the node has given.
    pub last: u64,
}

/// What a rebalance did.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
pub struct Rebalanced {
    /// Sessions that moved.
    pub moved: u64,
    /// Sessions that did not.
    pub failed: u64,
}

/// A client of the admin interfaces.
#[derive(Clone)]
pub struct AdminClient(Client<HttpConnector, Empty<Bytes>>);

impl Default for AdminClient {
    fn default() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }
}

impl AdminClient {
    /// Whether the node is ready.
    pub async fn ready(&self, admin: SocketAddr) -> bool {
        matches!(self.ask(admin, Method::GET, "/readyz", QUESTION_TIMEOUT).await, Ok((StatusCode::OK, _)))
    }

    /// Its status.
    pub async fn status(&self, admin: SocketAddr) -> Result<Status, String> {
        self.ask_json(admin, Method::GET, "/api/v1/status", QUESTION_TIMEOUT).await
    }

    /// The moves after number `after`.
    pub async fn moves(&self, admin: SocketAddr, after: u64) -> Result<Moves, String> {
        self.ask_json(admin, Method::GET, &format!("/api/v1/moves?after={after}"), QUESTION_TIMEOUT).await
    }

    /// Shares the sessions out; answers when that is done.
    pub async fn rebalance(&self, admin: SocketAddr) -> Result<Rebalanced, String> {
        self.ask_json(admin, Method::POST, "/api/v1/rebalance", REBALANCE_TIMEOUT).await
    }

    /// Tells the node to give its sessions away and end; answers at once.
    pub async fn drain(&self, admin: SocketAddr) -> Result<(), String> {
        match self.ask(admin, Method::POST, "/drain", QUESTION_TIMEOUT).await? {
            (status, _) if status.is_success() => Ok(()),
            (status, body) => Err(refusal("/drain", status, &body)),
        }
    }

    async fn ask_json<T: DeserializeOwned>(
        &self,
        admin: SocketAddr,
        method: Method,
        path: &str,
        within: Duration,
    ) -> Result<T, String> {
        let (status, body) = self.ask(admin, method, path, within).await?;
        if !status.is_success() {
            return Err(refusal(path, status, &body));
        }
        serde_json::from_slice(&body).map_err(|error| format!("{path}: {error}"))
    }

    async fn ask(&self, admin: SocketAddr, method: Method, path: &str, within: Duration) -> Result<(StatusCode, Bytes), String> {
        let request = Request::builder().method(method).uri(format!("http://{admin}{path}")).body(Empty::new());
        let request = request.map_err(|error| format!("{path}: {error}"))?;
        let exchange = async {
            let response = self.0.request(request).await.map_err(|error| format!("{path}: {error}"))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            Ok((status, body.map_err(|error| format!("{path}: {error}"))?.to_bytes()))
        };
        tokio::time::timeout(within, exchange).await.map_err(|_| format!("{path}: no answer in {} s", within.as_secs()))?
    }
}

fn refusal(path: &str, status: StatusCode, body: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 300;
    let text = String::from_utf8_lossy(body.get(..body.len().min(SHOWN_BYTES_MAX)).unwrap_or_default()).into_owned();
    format!("{path}: {status}: {}", text.trim())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_additions_ignored() {
        let status: Status = serde_json::from_str(
            r#"{"node":"a","state":"accepting","ready":true,"sessions":7,"missing_variables":0,
                "handovers":{"committed":3,"aborted":0,"refused":1,"in_progress":2},"bytes":{"eager":10,"late":20},
                "variables_fetched_late":5,"residuals":1,"members":[{"name":"a","state":"accepting","sessions":7}]}"#,
        )
        .unwrap();
        assert_eq!((status.sessions, status.handovers.committed, status.bytes.eager), (7, 3, 10));
        let moves: Moves = serde_json::from_str(
            r#"{"moves":[{"seq":1,"handover":"12-7","session":"0011223344556677","side":"origin","at_unix_us":17,"outcome":"committed"}],"last":1}"#,
        )
        .unwrap();
        assert!(moves.moves.iter().all(|side| side.side == Side::Origin));
    }
}
