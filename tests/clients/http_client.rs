//! An HTTP client with a pool of connections to each sidecar, as browsers and balancers have, with a cookie a session.
//!
//! It never repeats a request. Invariant: every request ends, with its answer or with a sentence that says what failed.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

/// No request may take longer, holds included.
const REQUEST_MAX: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub struct HttpClient {
    pool: Pool<HttpConnector, Full<Bytes>>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// `name=value` of the first Set-Cookie.
    pub cookie: Option<String>,
    /// `name=value` of each.
    pub cookies: Vec<String>,
    /// `null` if it is not JSON; then the text is in [`Answer::text`].
    pub json: Value,
    pub text: String,
}

impl Default for HttpClient {
    fn default() -> HttpClient {
        HttpClient { pool: Pool::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http() }
    }
}

impl HttpClient {
    pub async fn get(&self, to: SocketAddr, path: &str, cookie: &str) -> Result<Answer, String> {
        self.send(to, "GET", path, cookie, Bytes::new()).await
    }

    pub async fn post(&self, to: SocketAddr, path: &str, cookie: &str, body: Bytes) -> Result<Answer, String> {
        self.send(to, "POST", path, cookie, body).await
    }

    async fn send(&self, to: SocketAddr, method: &str, path: &str, cookie: &str, body: Bytes) -> Result<Answer, String> {
        let mut request = http::Request::builder().method(method).uri(format!("http://{to}{path}"));
        if !cookie.is_empty() {
            request = request.header("cookie", cookie);
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/octet-stream");
        }
        let request = request.body(Full::new(body)).map_err(|e| format!("{method} {path}: {e}"))?;
        let exchange = async {
            let answer = self.pool.request(request).await.map_err(|e| format!("{method} {to}{path}: {e:?}"))?;
            let status = answer.status().as_u16();
            let set = answer.headers().get_all("set-cookie").iter();
            let cookies: Vec<String> = set.filter_map(|c| Some(c.to_str().ok()?.split(';').next()?.to_owned())).collect();
            let cookie = cookies.first().cloned();
            let body = answer.into_body().collect().await.map_err(|e| format!("{method} {to}{path}: body: {e:?}"))?.to_bytes();
            let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let text = if json.is_null() { String::from_utf8_lossy(&body).chars().take(200).collect() } else { String::new() };
            Ok(Answer { status, cookie, cookies, json, text })
        };
        let late = |_| Err(format!("{method} {to}{path}: no answer within {} s", REQUEST_MAX.as_secs()));
        tokio::time::timeout(REQUEST_MAX, exchange).await.unwrap_or_else(late)
    }
}

impl Answer {
    /// The answer if its status is 200.
    pub fn ok(self) -> Result<Answer, String> {
        if self.status == 200 { Ok(self) } else { Err(format!("status {}: {} {}", self.status, self.json, self.text)) }
    }
}

/// `%XX` for every byte that is not a letter or digit.
pub fn escaped(text: &str) -> String {
    text.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// The bytes of a base64 text with padding; `None` if it is none.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| match b {
        b'A'..=b'Z' => Some(u32::from(b - b'A')),
        b'a'..=b'z' => Some(u32::from(b - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(b - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut bytes = Vec::new();
    for four in text.as_bytes().chunks(4) {
        let digits = four.iter().take_while(|b| **b != b'=').copied().map(digit).collect::<Option<Vec<u32>>>()?;
        let joined = digits.iter().fold(0, |sum, d| sum << 6 | d) << (6 * (4 - digits.len()));
        bytes.extend(joined.to_be_bytes().into_iter().skip(1).take(digits.len() * 6 / 8));
    }
    Some(bytes)
}

#[test]
fn base64_is_read() {
    let of = |text| from_base64(text).unwrap();
    assert_eq!((of(""), of("AA=="), of("//8="), of("AAEC/f7/")), (vec![], vec![0], vec![255, 255], vec![0, 1, 2, 253, 254, 255]));
    assert_eq!(from_base64("A*=="), None);
}
