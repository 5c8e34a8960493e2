//! The faces that clients, instances and other members' requests come to: bound, told what they need, and run.
//!
//! It decides nothing that is not a setting. Called by `start`, once before the node registers and once when it has its lease.
//! Invariant: the state face is open before the HTTP face, for what comes through that one needs it.

use super::arrivals::Arrivals;
use super::redirected::{Redirected, open_inbound, open_outbound};
use super::start::listen;
use super::told::{http_settings, requests_settings};
use super::{StartError, cannot};
use crate::operations::Operations;
use crate::state_face::{self, StateFace};
use crate::upstream::Dialer;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use wayfarer_http_face::{self as http, PassKey};
use wayfarer_settings::{ListenAt, Settings, State};

/// The faces are bound when the node has its lease; that their ports are taken is found out before it registers.
pub(super) async fn faces_can_listen(settings: &Settings) -> Result<(), StartError> {
    for (setting, place, _) in settings.state.faces().filter(|_| settings.state.enabled) {
        state_face::can_listen(place).await.map_err(cannot(no_state_face(setting, place)))?;
    }
    if settings.http.enabled {
        drop(listen(settings.http.listen, "[http]").await?);
    }
    Ok(())
}

/// What cannot be, named by its setting.
fn no_state_face(setting: &str, place: &ListenAt) -> String {
    format!("[{}] cannot listen on {place}", setting.strip_suffix(".listen").unwrap_or(setting))
}

/// What clients and instances talk to.
pub(super) struct Faces {
    pub(super) state_place: Option<ListenAt>,
    pub(super) state_tasks: JoinSet<()>,
    /// Of each HTTP face.
    pub(super) http_draining: Vec<http::Draining>,
    pub(super) http_tasks: JoinSet<()>,
}

/// Where other members' requests come, if they do, and what shows that they are theirs.
pub(super) struct Requests {
    pub(super) listener: TcpListener,
    pub(super) key: PassKey,
}

/// Opens the faces that are enabled, the state face first: what comes through the other one needs it.
pub(super) async fn open_faces(
    settings: &Settings,
    arrivals: Arrivals,
    requests: Option<Requests>,
    mut redirected: Redirected,
    dialer: Option<Arc<Dialer>>,
    stop_http: &watch::Sender<bool>,
    stop_state: &watch::Sender<bool>,
) -> Result<Faces, StartError> {
    let (state_tasks, http_tasks) = (JoinSet::new(), JoinSet::new());
    let mut faces = Faces { state_place: None, state_tasks, http_draining: Vec::new(), http_tasks };
    if settings.state.enabled {
        for (setting, place, keys) in settings.state.faces() {
            let state = State { listen: place.clone(), keys: keys.clone(), ..settings.state.clone() };
            let face = StateFace::bind(state, dialer.clone(), arrivals.operations.clone()).await;
            let face = face.map_err(cannot(no_state_face(setting, place)))?;
            let place = face.place().map_err(cannot("[state] the listener has no address"))?;
            faces.state_place.get_or_insert(place);
            let face = furnished(face, &arrivals);
            let stopping = stop_state.subscribe();
            faces.state_tasks.spawn(async move { face.run(stopping).await });
        }
        open_outbound(&mut faces, &mut redirected, settings, &arrivals, dialer.as_ref(), stop_state)?;
    }
    if settings.http.enabled {
        let arrivals = Arc::new(arrivals);
        let public = http_settings(settings, requests.as_ref().map(|requests| requests.key.clone()));
        let face = http::bind(public, arrivals.clone())
            .await
            .map_err(cannot(format!("[http] cannot listen on {}", settings.http.listen)))?;
        tracing::info!(address = %face.local_addr(), app = %settings.app.address, "http face");
        faces.run(face, stop_http);
        let key = requests.as_ref().map(|requests| requests.key.clone());
        open_inbound(&mut faces, &mut redirected, settings, &arrivals, key, stop_http)?;
        if let Some(Requests { listener, key }) = requests {
            let face = http::bind_to(listener, requests_settings(settings, key), arrivals);
            let face = face.map_err(cannot("[http] forward_listen cannot be served"))?;
            tracing::info!(address = %face.local_addr(), "http face for requests of other members");
            faces.run(face, stop_http);
        }
    }
    Ok(faces)
}

/// What each state face is told beside its settings.
pub(super) fn furnished(face: StateFace<Operations>, arrivals: &Arrivals) -> StateFace<Operations> {
    let operations = &arrivals.operations;
    let face = face.with_bus(operations.bus().clone()).with_merging(arrivals.flights.clone());
    let face = face.with_passage(operations.passage().clone());
    if operations.at_rest().is_some() { face.with_hidden(crate::rest::PREFIX) } else { face }
}

impl Faces {
    pub(super) fn run(&mut self, face: http::HttpFace, stop: &watch::Sender<bool>) {
        self.http_draining.push(face.draining());
        let stopping = stop.subscribe();
        self.http_tasks.spawn(async move {
            let closed = face.run(stopping).await;
            if closed.cut_off > 0 {
                tracing::warn!(connections = closed.cut_off, "requests in flight were cut off");
            }
        });
    }
}
