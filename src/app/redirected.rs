//! Transparent mode: the listeners for what rules redirect to here, and the faces behind them.
//!
//! It decides nothing that is not a setting. `start` binds before the node registers, `faces` opens when it has its lease: until then clients
//! wait in the listeners' queues.
//! Invariant: nothing is listened for by a process whose own connections the rules would redirect to it.

use super::faces::{Faces, furnished};
use super::told::http_settings;
use super::{StartError, arrivals::Arrivals, cannot};
use crate::redirect::{Addresses, Gate, Known, Listeners, runs_as};
use crate::state_face::StateFace;
use crate::upstream::Dialer;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::sync::watch;
use wayfarer_http_face::{self as http, PassKey};
use wayfarer_settings::{ListenAt, Settings, State};

/// Bound listeners, one a direction that is on.
pub(super) struct Redirected {
    outbound: Option<Listeners>,
    inbound: Option<Listeners>,
}

/// Listens where the settings say, if this process may.
pub(super) fn bind(settings: &Settings) -> Result<Redirected, StartError> {
    let redirect = &settings.redirect;
    if let Some(user) = redirect.sidecar_user.as_ref().filter(|_| redirect.is_on()) {
        runs_as(user).map_err(cannot("[redirect] sidecar_user"))?;
    }
    let listen = |is_on: bool, at, port: u16, setting: &str| {
        let listeners = is_on.then(|| Listeners::bind(at, port)).transpose();
        listeners.map_err(cannot(format!("[redirect] {setting} cannot listen on port {port}")))
    };
    Ok(Redirected {
        outbound: listen(redirect.outbound, Addresses::Loopback, redirect.outbound_port, "outbound_port")?,
        inbound: listen(redirect.inbound, Addresses::All, redirect.inbound_port, "inbound_port")?,
    })
}

/// The state face for the service's connections to the upstream. Who connects there signs in as there.
pub(super) fn open_outbound(
    faces: &mut Faces,
    redirected: &mut Redirected,
    settings: &Settings,
    arrivals: &Arrivals,
    dialer: Option<&Arc<Dialer>>,
    stop: &watch::Sender<bool>,
) -> Result<(), StartError> {
    let Some((listeners, dialer)) = redirected.outbound.take().zip(dialer) else { return Ok(()) };
    let upstream = dialer.upstream();
    let port = settings.redirected_upstream_port().unwrap_or_default();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let known = Known::new(dialer.clone());
    let (gate, handed) = Gate::outbound(listeners, known, settings.state.connections_max);
    let state = State { listen: ListenAt::Tcp(address), password: upstream.password.clone(), ..settings.state.clone() };
    let face = StateFace::handed(address, handed, state, Some(dialer.clone()), arrivals.operations.clone());
    let face = face.map_err(cannot("[redirect] outbound cannot be served"))?.with_user(upstream.user.as_deref());
    let face = furnished(face, arrivals);
    let (for_gate, for_face) = (stop.subscribe(), stop.subscribe());
    faces.state_tasks.spawn(async move { gate.run(for_gate).await });
    faces.state_tasks.spawn(async move { face.run(for_face).await });
    tracing::info!(port = settings.redirect.outbound_port, "state face for connections that are redirected");
    Ok(())
}

/// The HTTP face for connections to the instance's port.
pub(super) fn open_inbound(
    faces: &mut Faces,
    redirected: &mut Redirected,
    settings: &Settings,
    arrivals: &Arc<Arrivals>,
    key: Option<PassKey>,
    stop: &watch::Sender<bool>,
) -> Result<(), StartError> {
    let Some((listeners, app)) = redirected.inbound.take().zip(settings.app.address.tcp()) else { return Ok(()) };
    let (gate, handed) = Gate::inbound(listeners, app.port(), settings.http.connections_max);
    let told = http::HttpFaceSettings { listen: app, ..http_settings(settings, key) };
    let face = http::handed(handed, told, arrivals.clone()).map_err(cannot("[redirect] inbound cannot be served"))?;
    let for_gate = stop.subscribe();
    faces.http_tasks.spawn(async move { gate.run(for_gate).await });
    tracing::info!(port = settings.redirect.inbound_port, "http face for connections that are redirected");
    faces.run(face, stop);
    Ok(())
}
