//! The mode of the cluster: shown, and ordered by an operator.
//!
//! It decides nothing: the engine's table says what an order changes, a transaction changes it for all members, and their nodes
//! confirm it. Called by the router.

use super::asked::Asked;
use super::{Admin, stopping, view::ModeStatus};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use wayfarer_engine::directory::{DirectoryError, Outcome};
use wayfarer_engine::ids::Incarnation;
use wayfarer_engine::mode::{Event, Goal, Phase, unconfirmed};

/// An order is given again when the mode has changed meanwhile, so often at most.
const TRIES_MAX: usize = 8;

fn word_of(goal: Goal) -> &'static str {
    match goal {
        Goal::Own => "own",
        Goal::Observe => "observe",
    }
}

impl Admin {
    /// The mode as this member sees it, with what members said of their sessions.
    pub(super) fn mode_of(&self, loads: &BTreeMap<Incarnation, (String, Option<u64>)>) -> ModeStatus {
        let view = self.driver.standing().borrow().view.clone();
        let mode = view.mode;
        let changing = matches!(mode.phase, Phase::Settling | Phase::Parking { .. });
        ModeStatus {
            mode: mode.phase.word().to_owned(),
            goal: word_of(mode.phase.goal()).to_owned(),
            generation: mode.generation,
            owned_sessions: loads.values().filter_map(|(_, sessions)| *sessions).sum(),
            unconfirmed: if changing { unconfirmed(&view).map(str::to_owned).collect() } else { Vec::new() },
            note: view.mode_note.clone(),
        }
    }

    /// Orders a mode; nothing to do is fine.
    async fn order_mode(&self, goal: Goal) -> Result<(), DirectoryError> {
        for _ in 0..TRIES_MAX {
            let mode = self.directory.view().await?.mode;
            if mode.phase.goal() == goal {
                break;
            }
            let Some(change) = mode.change(Event::Ordered(goal), String::new()) else { break };
            if let Outcome::Applied { .. } = self.directory.transact(change).await? {
                tracing::info!(
                    goal = word_of(goal),
                    generation = mode.generation + 1,
                    "an operator changes the mode of the cluster"
                );
                break;
            }
        }
        Ok(())
    }
}

pub(super) async fn show(State(admin): State<Arc<Admin>>) -> Json<ModeStatus> {
    let loads = admin.rebalancer.loads().await;
    Json(admin.mode_of(&loads))
}

#[derive(Deserialize)]
pub(super) struct To {
    to: String,
}

pub(super) async fn order(State(admin): State<Arc<Admin>>, Asked(To { to }): Asked<To>) -> Response {
    let error = |status, why: String| (status, Json(BTreeMap::from([("error", why)]))).into_response();
    let goal = match to.as_str() {
        "own" => Goal::Own,
        "observe" => Goal::Observe,
        other => return error(StatusCode::BAD_REQUEST, format!("{other:?} is no mode; own and observe are")),
    };
    if !admin.has_rest {
        let why =
            "this node has no upstream where sessions could be: set [state] upstream, and leave [rest] enabled on, on all nodes";
        return error(StatusCode::CONFLICT, why.to_owned());
    }
    let before = admin.driver.standing().borrow().view.mode.generation;
    match admin.order_mode(goal).await {
        Ok(()) => {}
        Err(why) => return error(StatusCode::SERVICE_UNAVAILABLE, format!("{why}; the mode may change yet")),
    }
    // What is answered shows the order: whoever waits for its end must not see the end of an earlier one.
    let mut standing = admin.driver.standing();
    let seen = standing.wait_for(|s| s.view.mode.generation > before || s.view.mode.phase.goal() == goal).await;
    if seen.map(drop).is_err() {
        return stopping();
    }
    (StatusCode::ACCEPTED, show(State(admin)).await).into_response()
}
