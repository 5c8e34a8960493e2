//! A relay that makes a way longer: it passes connections on, and every byte later than it came.
//!
//! It never looks at what it passes on, and keeps its order. A fleet puts one before its Redis, and one before each control listener.
//!
//! ```text
//!  client ─► reader ─(due time, bytes)─► writer: waits until it is due ─► server, and the same back
//! ```
//! Bounds: [`QUEUED_MAX`] pieces of [`PIECE_BYTES`] a way; then the reader waits, and with it whoever sends. Its threads end with their
//! connections, and these with the processes at both ends; the listener's ends with the program.

use crate::clock::{now, pause};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Pieces that wait for their time.
const QUEUED_MAX: usize = 256;
/// What is read at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Passes what comes at a free port on to another, and says at which.
pub fn start(to: u16, one_way: Duration) -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| format!("no port for a relay: {e}"))?;
    let port = listener.local_addr().map_err(|e| format!("a relay without an address: {e}"))?.port();
    thread(move || {
        for client in listener.incoming().flatten() {
            // Nobody there (yet): whoever came is told by the end of its connection.
            if let Ok(server) = TcpStream::connect(("127.0.0.1", to))
                && let Err(error) = join(&client, &server, one_way)
            {
                eprintln!("a relay drops a connection: {error}");
            }
        }
    })?;
    Ok(port)
}

fn join(client: &TcpStream, server: &TcpStream, one_way: Duration) -> Result<(), String> {
    for (from, to) in [(client, server), (server, client)] {
        to.set_nodelay(true).map_err(|e| e.to_string())?;
        let (from, to) = (from.try_clone().map_err(|e| e.to_string())?, to.try_clone().map_err(|e| e.to_string())?);
        let (queue, queued) = sync_channel(QUEUED_MAX);
        thread(move || read(from, &queue, one_way))?;
        thread(move || write(to, &queued))?;
    }
    Ok(())
}

/// Until the sender is done, or nobody takes it any more.
fn read(mut from: TcpStream, queue: &SyncSender<(Instant, Vec<u8>)>, one_way: Duration) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        if queue.send((now() + one_way, piece[..length].to_vec())).is_err() {
            return;
        }
    }
}

fn write(mut to: TcpStream, queued: &Receiver<(Instant, Vec<u8>)>) {
    for (due, piece) in queued {
        pause(due.saturating_duration_since(now()));
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    // Who listens has heard all; an error means that it has gone before.
    drop(to.shutdown(Shutdown::Write));
}

#[allow(clippy::disallowed_methods, reason = "the one place of this program that starts threads but for its visitors")]
fn thread(run: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let started = std::thread::Builder::new().name("relay".to_owned()).stack_size(128 * 1024).spawn(run);
    started.map(drop).map_err(|e| format!("no thread for a relay: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_whole_in_order_and_later() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = start(server.local_addr().unwrap().port(), Duration::from_millis(30)).unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let sent: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
        let (begun, mut other) = (now(), server.accept().unwrap().0);
        client.write_all(&sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        other.read_to_end(&mut got).unwrap();
        assert!(got == sent && begun.elapsed() >= Duration::from_millis(30));
        other.write_all(b"back").unwrap();
        drop(other);
        let mut back = Vec::new();
        client.read_to_end(&mut back).unwrap();
        assert_eq!(back, b"back");
    }
}
