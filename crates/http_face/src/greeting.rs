//! How a client's connection begins: TLS or not, and which version of HTTP follows.
//!
//! It never looks at a request; behind the PROXY header the first bytes decide. The listener spawns it for each connection.
//!
//! | the face has | the client | follows |
//! |---|---|---|
//! | TLS | agrees on `h2` in the handshake (ALPN) | HTTP/2 |
//! | TLS | agrees on `http/1.1`, or on nothing | HTTP/1 |
//! | no TLS | begins with HTTP/2's preface (prior knowledge, h2c) | HTTP/2 |
//! | no TLS | begins otherwise | HTTP/1 |
//!
//! Without `http2` all is HTTP/1. Invariant: a connection that has not begun ends within `idle_ms_max` and `header_ms_max`, and at
//! once on shutdown.

use crate::client_stream::FirstBytes;
use crate::connection::{self, Bounds, Leaving, Service};
use crate::tls::Tls;
use crate::{http2, names};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What a client sends first if it speaks HTTP/2.
const PREFACE: &[u8; FirstBytes::MAX] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What clients may speak.
#[derive(Clone)]
pub(crate) struct Spoken {
    pub(crate) tls: Option<Tls>,
    pub(crate) http2: bool,
}

/// Serves `stream` until it is closed.
pub(crate) async fn serve(mut stream: TcpStream, service: Service, spoken: Spoken) {
    if let Some(tls) = spoken.tls {
        let Some((stream, is_http2)) = encrypted(&tls, stream, service.bounds, &service.leaving).await else { return };
        return match is_http2 {
            true => http2::serve(stream, FirstBytes::default(), service).await,
            false => connection::serve(stream, FirstBytes::default(), service).await,
        };
    }
    if !spoken.http2 {
        return connection::serve(stream, FirstBytes::default(), service).await;
    }
    match first_bytes(&mut stream, service.bounds, &service.leaving).await {
        Some(first) if first.unread() == PREFACE => http2::serve(stream, first, service).await,
        Some(first) => connection::serve(stream, first, service).await,
        None => {}
    }
}

/// The handshake; `None`: there is nobody to serve.
async fn encrypted(
    tls: &Tls,
    stream: TcpStream,
    bounds: Bounds,
    leaving: &Leaving,
) -> Option<(tokio_rustls::server::TlsStream<TcpStream>, bool)> {
    let mut shutdown = leaving.shutdown.clone();
    let outcome = tokio::select! {
        outcome = timeout(bounds.header, tls.accept(stream)) => outcome,
        _ = shutdown.wait_for(|stop| *stop) => return None,
    };
    match outcome {
        Ok(Ok(accepted)) => return Some(accepted),
        // The text is of the library: names of alerts and versions, nothing that a client has sent.
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake was not finished in time"),
    }
    metrics::counter!(names::TLS_HANDSHAKES_FAILED).increment(1);
    None
}

/// Reads until it is clear whether this is the preface; `None`: there is nobody to serve.
async fn first_bytes(stream: &mut TcpStream, bounds: Bounds, leaving: &Leaving) -> Option<FirstBytes> {
    let mut shutdown = leaving.shutdown.clone();
    let mut first = FirstBytes::default();
    let begun = tokio::select! {
        begun = timeout(bounds.idle, stream.read(first.space())) => begun,
        _ = shutdown.wait_for(|stop| *stop) => return None,
    };
    let Ok(begun) = begun else {
        metrics::counter!(names::IDLE_CLOSED).increment(1);
        return None;
    };
    first.add(begun.ok()?);
    let whole = async {
        loop {
            match first.unread() {
                [] => return None,
                seen if seen.len() == PREFACE.len() || !PREFACE.starts_with(seen) => return Some(()),
                _ => {}
            }
            match stream.read(first.space()).await {
                Ok(count) if count > 0 => first.add(count),
                _ => return None,
            }
        }
    };
    match timeout(bounds.header, whole).await {
        Ok(whole) => whole.map(|()| first),
        Err(_) => {
            metrics::counter!(names::HEADERS_OVERDUE).increment(1);
            None
        }
    }
}
