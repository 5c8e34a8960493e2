//! The visitors of a fleet: requests that are due at a steady rate, whatever the fleet does (open loop).
//!
//! They never know what answers them. Latency counts from when a request was due, so that a fleet that stalls is not asked less. An
//! answer that is not 200 ends the measurement with an error.
//!
//! | of ten requests | the shop |
//! |---|---|
//! | seven | reads three variables of the session |
//! | three | read them, write one of them, and count the page |

use crate::clock::{now, pause};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Requests under way at once, at most.
const AT_ONCE: usize = 32;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a cart.
const CART_BYTES: usize = 1200;
const HEAD_END: &[u8] = b"\r\n\r\n";

/// How requests find an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Balancer {
    RoundRobin,
    Sticky,
}

impl Balancer {
    pub fn name(self) -> &'static str {
        match self {
            Balancer::RoundRobin => "round robin",
            Balancer::Sticky => "sticky cookie",
        }
    }

    fn door(self, doors: &[u16], request: u64, session: usize) -> usize {
        match self {
            Balancer::RoundRobin => request as usize % doors.len(),
            Balancer::Sticky => session % doors.len(),
        }
    }
}

/// What is asked.
#[derive(Clone, Copy)]
pub struct Visit {
    /// Requests a second.
    pub rate: u64,
    pub sessions: usize,
    pub balancer: Balancer,
    pub seconds: f64,
    /// Another one has other sessions ask at other times.
    pub turn: u64,
}

/// What they waited for their answers.
pub struct Found {
    pub requests: u64,
    pub p50_us: f64,
    pub p99_us: f64,
}

/// Everybody logs in.
pub fn log_in(doors: &[u16], sessions: usize, balancer: Balancer) -> Result<(), String> {
    let mut streams: Vec<Option<TcpStream>> = doors.iter().map(|_| None).collect();
    for session in 0..sessions {
        let door = balancer.door(doors, session as u64, session);
        let target =
            format!("/login?n=1&w=user:1:300,csrf:1:48,locale:1:32,flags:1:600,cart:1:{CART_BYTES},history:1:8000,recs_1:1:9000");
        ask(&mut streams[door], doors[door], "POST", &target, session)?;
    }
    Ok(())
}

/// Visits a fleet.
pub fn run(doors: &[u16], visit: &Visit) -> Result<Found, String> {
    let (next, latencies, start) = (AtomicU64::new(0), Mutex::new(Vec::new()), now() + Duration::from_millis(50));
    let all = (visit.rate as f64 * visit.seconds) as u64;
    let outcomes: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let one = || visitor(doors, visit, (&next, all), start, &latencies);
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a visitor broke off".to_owned()))).collect()
    });
    outcomes.into_iter().collect::<Result<(), String>>()?;
    let mut latencies = latencies.into_inner().map_err(|_| "a visitor broke off".to_owned())?;
    latencies.sort_unstable();
    let part = |p: f64| latencies.get((latencies.len() as f64 * p) as usize).copied().map_or(0.0, f64::from);
    Ok(Found { requests: latencies.len() as u64, p50_us: part(0.50), p99_us: part(0.99) })
}

fn visitor(
    doors: &[u16],
    visit: &Visit,
    (next, all): (&AtomicU64, u64),
    start: Instant,
    latencies: &Mutex<Vec<u32>>,
) -> Result<(), String> {
    let mut streams: Vec<Option<TcpStream>> = doors.iter().map(|_| None).collect();
    let mut mine = Vec::new();
    loop {
        let request = next.fetch_add(1, Ordering::Relaxed);
        if request >= all {
            break;
        }
        let due = start + Duration::from_secs_f64(request as f64 / visit.rate as f64);
        pause(due.saturating_duration_since(now()));
        // Neighbours in time are not neighbours in number.
        let draw = (request + visit.turn * all).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        let session = draw as usize % visit.sessions;
        let door = visit.balancer.door(doors, request, session);
        if draw / visit.sessions as u64 % 10 < 7 {
            ask(&mut streams[door], doors[door], "GET", "/read?r=user,locale,cart", session)?;
        } else {
            let target = format!("/cart_add?r=user,locale,cart&n=1&w=cart:{}:{CART_BYTES}", request + 2);
            ask(&mut streams[door], doors[door], "POST", &target, session)?;
        }
        mine.push(u32::try_from((now() - due).as_micros()).unwrap_or(u32::MAX));
    }
    latencies.lock().map_err(|_| "a visitor broke off".to_owned())?.extend(mine);
    Ok(())
}

/// One request over a kept connection; its answer must be 200.
fn ask(stream: &mut Option<TcpStream>, port: u16, method: &str, target: &str, session: usize) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("an instance does not answer: {error}");
    if stream.is_none() {
        let new = TcpStream::connect(("127.0.0.1", port)).map_err(failed)?;
        new.set_nodelay(true).and_then(|()| new.set_read_timeout(Some(PATIENCE))).map_err(failed)?;
        *stream = Some(new);
    }
    let Some(to) = stream.as_mut() else { return Err("no connection".to_owned()) };
    let text = format!("{method} {target} HTTP/1.1\r\nHost: shop\r\nCookie: sid={session:032x}\r\nContent-Length: 0\r\n\r\n");
    to.write_all(text.as_bytes()).map_err(failed)?;
    let mut answer = Vec::with_capacity(2048);
    let mut piece = [0; 2048];
    loop {
        match to.read(&mut piece).map_err(failed)? {
            0 => return Err("an instance has closed a connection".to_owned()),
            length => answer.extend_from_slice(&piece[..length]),
        }
        if let Some(length) = length_of(&answer)?
            && answer.len() >= length
        {
            break;
        }
    }
    if answer.starts_with(b"HTTP/1.1 200 ") {
        return Ok(());
    }
    Err(format!("unexpected: {}", String::from_utf8_lossy(&answer)))
}

/// How long the whole answer is; `None`: its head is not here yet.
fn length_of(answer: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = answer.windows(HEAD_END.len()).position(|bytes| bytes == HEAD_END) else { return Ok(None) };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let length = length.ok_or_else(|| format!("an answer without a length: {head}"))?;
    Ok(Some(end + HEAD_END.len() + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_to_their_ends() {
        let head = "HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\nx: y";
        assert_eq!(length_of(head.as_bytes()), Ok(None));
        assert_eq!(length_of(format!("{head}\r\n\r\nab").as_bytes()), Ok(Some(head.len() + 9)));
        assert!(length_of(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn a_sticky_session_has_one_door() {
        let doors = [1, 2, 3];
        assert_eq!([0, 1, 2, 3].map(|request| Balancer::RoundRobin.door(&doors, request, 7)), [0, 1, 2, 0]);
        assert_eq!([0, 1, 2, 3].map(|request| Balancer::Sticky.door(&doors, request, 7)), [1; 4]);
    }
}
