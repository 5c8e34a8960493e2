//! The users' HTTP client: one request to the shop, as a browser would send it, and its answer.
//!
//! It never retries: a second try would hide the error that the demonstration counts. Connections are kept alive and pooled.
//! Called by the virtual users. Invariant: `Ok` means status 200 and an answer that could be read to its end.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::model::{COUNTER, Route, Variable};
use crate::shop::SESSION_COOKIE;
use crate::users::session::{Answer, Seen};

const ANSWER_BYTES_MAX: usize = 64 * 1024;
const REASON_BYTES_MAX: usize = 80;
/// A user gives up on an answer after this.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// A client of the shop at one address.
#[derive(Clone)]
pub struct ShopClient {
    http: Client<HttpConnector, Empty<Bytes>>,
    shop: SocketAddr,
}

impl ShopClient {
    /// A client with connections of its own.
    pub fn new(shop: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build(connector);
        Self { http, shop }
    }

    /// Sends one request. The error is a short reason without anything private in it.
    pub async fn send(&self, sid: &str, route: Route, query: &str) -> Result<Answer, String> {
        match tokio::time::timeout(TIMEOUT, self.exchange(sid, route, query)).await {
            Ok(outcome) => outcome,
            Err(_) => Err("no answer in time".into()),
        }
    }

    async fn exchange(&self, sid: &str, route: Route, query: &str) -> Result<Answer, String> {
        let method = if route == Route::Read { Method::GET } else { Method::POST };
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{}?{query}", self.shop, route.path()))
            .header(header::COOKIE, format!("{SESSION_COOKIE}={sid}"))
            .body(Empty::new())
            .map_err(|error| format!("request: {error}"))?;
        let response = self.http.request(request).await.map_err(|error| format!("connection: {error}"))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|_| "answer cut short".to_owned())?.to_bytes();
        let text = String::from_utf8_lossy(&body);
        if status != http::StatusCode::OK {
            let reason: String = text.chars().filter(|c| !c.is_control()).take(REASON_BYTES_MAX).collect();
            return Err(format!("{} {reason}", status.as_u16()));
        }
        parse(&text).ok_or_else(|| "an answer that is none of the shop's".to_owned())
    }
}

/// The query that tells the shop what to read and write.
pub fn query(reads: &[Variable], writes: &[(Variable, u64, usize)], counts: bool) -> String {
    let reads: Vec<String> = reads.iter().map(|variable| variable.name()).collect();
    let writes: Vec<String> =
        writes.iter().map(|(variable, sequence, bytes)| format!("{}:{sequence}:{bytes}", variable.name())).collect();
    format!("r={}&w={}&n={}", reads.join(","), writes.join(","), u8::from(counts))
}

fn parse(text: &str) -> Option<Answer> {
    let mut answer = Answer::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let (name, second) = (words.next()?, words.next()?);
        match (name, second) {
            (COUNTER, hits) => answer.hits = Some(hits.parse().ok()?),
            ("unknown", count) => answer.unknown = count.parse().ok()?,
            ("removed", _) => {}
            (name, "-") => {
                answer.values.insert(Variable::parse(name)?, Seen::Absent);
            }
            (name, sequence) => {
                let digest = u64::from_str_radix(words.nth(1)?, 16).ok()?;
                answer.values.insert(Variable::parse(name)?, Seen::Value(sequence.parse().ok(), digest));
            }
        }
    }
    Some(answer)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_line_by_line() {
        let answer = parse("user 3 200 00000000000000ff\ncart -\nchat ? 4 0a\nhits 12\nunknown 2\n").unwrap();
        let variable = |name| Variable::named(name, 0).unwrap();
        assert_eq!(answer.values.get(&variable("user")), Some(&Seen::Value(Some(3), 255)));
        assert_eq!(answer.values.get(&variable("cart")), Some(&Seen::Absent));
        assert_eq!(answer.values.get(&variable("chat")), Some(&Seen::Value(None, 10)));
        assert_eq!((answer.hits, answer.unknown), (Some(12), 2));
        for text in ["user", "user 3 200", "nobody -", "hits x", "user 3 200 zz"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_query_names_reads_writes_and_the_count() {
        let variable = |name| Variable::named(name, 3).unwrap();
        let text = query(&[variable("user"), variable("recs")], &[(variable("cart"), 4, 900)], true);
        assert_eq!(text, "r=user,recs_3&w=cart:4:900&n=1");
    }
}
