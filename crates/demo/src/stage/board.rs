//! What the nodes said last: their status and their moves, kept also when they are gone.
//!
//! It changes nothing at a node. The run adds nodes and starts the watch; the display and the report read. The number of moves
//! that it keeps is bounded; what is beyond is counted.
//! Invariant: a node's entry holds the latest status that it gave, and each of its moves once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::stage::admin::{AdminClient, MoveSide, Status};
use crate::stage::node::LastWords;
use crate::world::Background;

const WATCH_EVERY: Duration = Duration::from_millis(200);
const MOVES_MAX: usize = 400_000;
/// Answers about moves that are asked for at a time.
const PAGES_MAX: usize = 64;

/// A node as it was last seen.
#[derive(Debug, Clone)]
pub struct View {
    /// Where to ask it.
    pub admin: SocketAddr,
    /// Its last status.
    pub status: Status,
    /// Its moves.
    pub moves: Vec<MoveSide>,
    /// Moves that were too many to keep.
    pub moves_dropped: u64,
    /// Whether it has ended.
    pub gone: bool,
    last_move: u64,
}

impl View {
    /// Adds what is new and says whether there was any.
    fn add(&mut self, moves: Vec<MoveSide>) -> bool {
        let before = self.last_move;
        for entry in moves {
            if entry.seq <= self.last_move {
                continue;
            }
            self.last_move = entry.seq;
            if self.moves.len() < MOVES_MAX {
                self.moves.push(entry);
            } else {
                self.moves_dropped += 1;
            }
        }
        self.last_move > before
    }
}

/// The board.
#[derive(Debug, Default)]
pub struct Board(Mutex<BTreeMap<String, View>>);

impl Board {
    /// All nodes by name; never hold it across an await.
    pub fn views(&self) -> MutexGuard<'_, BTreeMap<String, View>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a node.
    pub fn add(&self, name: &str, admin: SocketAddr) {
        let view = View { admin, status: Status::default(), moves: Vec::new(), moves_dropped: 0, gone: false, last_move: 0 };
        self.views().insert(name.to_owned(), view);
    }

    /// A node has ended; `words` is what it said last.
    pub fn gone(&self, name: &str, words: Option<LastWords>) {
        if let Some(view) = self.views().get_mut(name) {
            view.gone = true;
            if let Some(words) = words {
                view.add(words.moves);
                view.status = words.status;
            }
        }
    }

    /// Asks every node once. A node that does not answer keeps its last entry.
    pub async fn refresh(&self, admin: &AdminClient) {
        let asked: Vec<(String, SocketAddr, u64)> = {
            let views = self.views();
            let alive = views.iter().filter(|(_, view)| !view.gone);
            alive.map(|(name, view)| (name.clone(), view.admin, view.last_move)).collect()
        };
        for (name, address, mut after) in asked {
            let status = admin.status(address).await;
            if let (Ok(status), Some(view)) = (status, self.views().get_mut(&name).filter(|view| !view.gone)) {
                view.status = status;
            }
            // A node tells a limited number of moves at a time.
            for _ in 0..PAGES_MAX {
                let Ok(page) = admin.moves(address, after).await else { break };
                let mut views = self.views();
                let Some(view) = views.get_mut(&name).filter(|view| !view.gone) else { break };
                if !view.add(page.moves) {
                    break;
                }
                after = view.last_move;
            }
        }
    }

    /// Asks the nodes again and again, as long as the returned value lives.
    pub fn watch(self: &Arc<Self>, admin: AdminClient) -> Background {
        let board = Arc::clone(self);
        Background::start(async move {
            let mut beat = tokio::time::interval(WATCH_EVERY);
            loop {
                beat.tick().await;
                board.refresh(&admin).await;
            }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::stage::admin::Side;

    #[test]
    fn a_move_counts_once_and_last_words_complete_the_view() {
        let board = Board::default();
        board.add("a", "127.0.0.1:1".parse().unwrap());
        let entry = |seq| MoveSide {
            seq,
            handover: "1-1".into(),
            session: "00".into(),
            side: Side::Origin,
            at_unix_us: 1,
            outcome: "committed".into(),
        };
        board.views().get_mut("a").unwrap().add(vec![entry(1), entry(2)]);
        let status = Status { sessions: 3, ..Status::default() };
        board.gone("a", Some(LastWords { status, moves: vec![entry(1), entry(2), entry(3)] }));
        let views = board.views();
        let view = views.get("a").unwrap();
        assert_eq!((view.moves.len(), view.status.sessions, view.gone), (3, 3, true));
    }
}
