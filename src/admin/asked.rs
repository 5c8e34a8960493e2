//! What a request to the admin interface asks for in its query, or a refusal as JSON, like all other answers.
//!
//! It knows no parameter. Called by axum before a handler is.
//! Invariant: a query that cannot be read reaches no handler.

use axum::Json;
use axum::extract::{FromRequestParts, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// The parameters of a query.
pub(super) struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Asked<T>, Response> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(asked)) => Ok(Asked(asked)),
            Err(error) => {
                let why = BTreeMap::from([("error", error.body_text())]);
                Err((StatusCode::BAD_REQUEST, Json(why)).into_response())
            }
        }
    }
}
