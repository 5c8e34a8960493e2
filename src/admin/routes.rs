//! What was learned of routes: how many there are, which are looked at most often, and what is known of the one that is asked for.
//!
//! It shows no path and no name of a variable. A path may hold what is private wherever ids stand as words, and how many sessions it was
//! seen with does not tell; so routes are shown as numbers, which nobody can turn back, and who asks for a path is told what became of
//! that one. Called by the router.

use super::Admin;
use super::asked::Asked;
use crate::routing::learned::{ROUTES_MAX, Shown};
use crate::routing::template::template;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Routes that are listed.
const LISTED_MAX: usize = 100;

/// For which request it is asked.
#[derive(Deserialize)]
pub(super) struct Which {
    method: Option<String>,
    path: Option<String>,
}

/// A route.
#[derive(Serialize)]
struct Listed {
    /// Its number, in hexadecimal digits: the same as long as this process lives.
    route: String,
    /// Requests that were looked at; newer ones count more.
    requests: u32,
    /// Variables that are fetched before its requests ask; none: it is not known well enough.
    variables: Option<usize>,
}

impl From<Shown> for Listed {
    fn from(shown: Shown) -> Listed {
        Listed { route: format!("{:016x}", shown.route), requests: shown.runs, variables: shown.variables }
    }
}

/// All that is shown.
#[derive(Serialize)]
pub(super) struct Answer {
    known: usize,
    most: usize,
    routes: Vec<Listed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<Found>,
}

/// What was asked for.
#[derive(Serialize)]
struct Found {
    /// The route of the path that was asked for.
    template: String,
    #[serde(flatten)]
    listed: Listed,
}

/// `GET /api/v1/routes?method=GET&path=/cart/17`.
pub(super) async fn show(State(admin): State<Arc<Admin>>, Asked(asked): Asked<Which>) -> Json<Answer> {
    let (routes, known) = admin.routes.shown(LISTED_MAX);
    let asked = asked.path.map(|path| {
        let method = asked.method.as_deref().unwrap_or("GET");
        let listed = admin.routes.one(admin.routes.route(method, &path)).into();
        Found { template: template(method, &path), listed }
    });
    Json(Answer { known, most: ROUTES_MAX, routes: routes.into_iter().map(Listed::from).collect(), asked })
}
