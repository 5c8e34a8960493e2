//! A relay before a real Redis that can hold back what a node sends and deliver it later, as a network does: also after the
//! sender has been paused, or is gone.
//!
//! It never changes, drops or reorders a byte. Its threads end with their connections, the listener with the gate.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

#[derive(Default)]
struct State {
    holds: bool,
    is_over: bool,
    /// What has come from nodes while the gate held, in the order of arrival.
    held: Vec<u8>,
    /// Connections that wait with held bytes.
    waiting: usize,
    /// Bytes that Redis has answered since the gate was opened last.
    answered: usize,
}

#[derive(Clone, Default)]
struct Shared(Arc<(Mutex<State>, Condvar)>);

/// The relay.
pub struct Gate {
    address: SocketAddr,
    shared: Shared,
}

impl Gate {
    /// An open gate before the Redis on this port.
    #[allow(clippy::disallowed_methods, reason = "a relay is threads; they end with their connections")]
    pub fn before(redis_port: u16) -> Gate {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let gate = Gate { address: listener.local_addr().unwrap(), shared: Shared::default() };
        let shared = gate.shared.clone();
        std::thread::spawn(move || {
            while let Ok((node, _)) = listener.accept() {
                if shared.0.0.lock().unwrap().is_over {
                    return;
                }
                let redis = TcpStream::connect(("127.0.0.1", redis_port)).unwrap();
                let (back, forth) = (shared.clone(), shared.clone());
                let (from, to) = (redis.try_clone().unwrap(), node.try_clone().unwrap());
                std::thread::spawn(move || relay(from, to, |bytes| back.0.0.lock().unwrap().answered += bytes.len()));
                std::thread::spawn(move || relay(node, redis, |bytes| forth.pass(bytes)));
            }
        });
        gate
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on nothing reaches Redis.
    pub fn hold(&self) {
        self.shared.0.0.lock().unwrap().holds = true;
    }

    /// Whether these bytes are among those that are held back.
    pub fn holds_back(&self, bytes: &[u8]) -> bool {
        self.shared.0.0.lock().unwrap().held.windows(bytes.len()).any(|part| part == bytes)
    }

    /// Delivers what was held back.
    pub fn open(&self) {
        let (state, changed) = &*self.shared.0;
        let mut state = state.lock().unwrap();
        (state.holds, state.answered) = (false, 0);
        changed.notify_all();
    }

    /// Whether all that was held back is delivered, and Redis has answered something since.
    pub fn is_delivered(&self) -> bool {
        let state = self.shared.0.0.lock().unwrap();
        state.waiting == 0 && state.answered > 0
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.0.0.lock().unwrap().is_over = true;
        self.open();
        // Wakes the listener, so that it sees that it is over.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    /// Returns when these bytes may go on.
    fn pass(&self, bytes: &[u8]) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        if !state.holds {
            return;
        }
        state.held.extend(bytes);
        state.waiting += 1;
        state = changed.wait_while(state, |state| state.holds).unwrap();
        state.waiting -= 1;
    }
}

/// Bytes from one side to the other until either closes.
fn relay(mut from: TcpStream, mut to: TcpStream, mut before: impl FnMut(&[u8])) {
    let mut bytes = [0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        before(&bytes[..count]);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    // Either may be closed already.
    let _ = (from.shutdown(Shutdown::Read), to.shutdown(Shutdown::Write));
}
