//! For which place a request of the admin interface is: what its `Host` says.
//!
//! It decides nothing else, and needs no setting: the interface listens on the loopback alone, so its names are addresses and
//! `localhost`. Layers of [`super::router`] and [`super::probe_router`].
//!
//! | `Host` | answer |
//! |---|---|
//! | none, or several, in HTTP/1.1 | 400, as the standard asks |
//! | a name that somebody else may have given to this address | 421, but for the probe listener |
//!
//! Invariant: a page whose name was turned to the loopback after a browser loaded it (DNS rebinding) reads nothing here.

use axum::Json;
use axum::extract::Request;
use axum::http::{StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::collections::BTreeMap;
use std::net::IpAddr;

fn refused(status: StatusCode, error: &str) -> Response {
    (status, Json(BTreeMap::from([("error", error)]))).into_response()
}

/// Lets a request pass that names its host as HTTP/1.1 wants it.
pub(super) async fn named_once(request: Request, next: Next) -> Response {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    let fits = if request.version() == Version::HTTP_11 { hosts == 1 } else { hosts <= 1 };
    if !fits {
        return refused(StatusCode::BAD_REQUEST, "a request of HTTP/1.1 has one Host header: send the address of this interface");
    }
    next.run(request).await
}

/// Lets a request pass that is for an address or for `localhost`.
pub(super) async fn of_this_machine(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    if !host.is_none_or(|host| host.to_str().is_ok_and(is_of_this_machine)) {
        return refused(
            StatusCode::MISDIRECTED_REQUEST,
            "this interface is not known by the name in Host: ask it by its address, or as localhost",
        );
    }
    next.run(request).await
}

/// Whether a `Host` is an address or `localhost`, with a port or without.
fn is_of_this_machine(host: &str) -> bool {
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    if let Some((ip, rest)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return ip.parse::<std::net::Ipv6Addr>().is_ok() && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        Some(_) => return false,
        None => host,
    };
    name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_are_names_of_this_machine() {
        for host in ["127.0.0.1", "127.0.0.1:7301", "localhost", "LocalHost:1", "[::1]", "[::1]:7301", "10.0.0.7:80"] {
            assert!(is_of_this_machine(host), "{host}");
        }
        for host in
            ["", ":80", "evil.example", "evil.example:80", "localhost:http", "[::1", "[evil]:80", "[::1]x", "127.0.0.1.evil"]
        {
            assert!(!is_of_this_machine(host), "{host}");
        }
    }
}
