//! A `redis-server` of a test, as the upstream: started on a free port, ended with the test.
//!
//! It is asked by a plain client: what that sees is what the library would see without Wayfarer.

use crate::harness::redis_server::RedisServer;
use crate::harness::{free_port, resp::Client};

pub struct Redis(RedisServer);

impl Redis {
    /// `None`, with the reason said, if there is no `redis-server`.
    pub fn start() -> Option<Redis> {
        Redis::start_with(&[])
    }

    /// The same with these arguments more.
    pub fn start_with(more: &[&str]) -> Option<Redis> {
        RedisServer::start_on(free_port(), more).map(Redis)
    }

    pub fn port(&self) -> u16 {
        self.0.port
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.0.address()
    }

    pub fn client(&self) -> Client {
        Client::to(self.0.address())
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.0.pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }
}
