//! Bearer tokens (JWT, RFC 7519 in the compact form of RFC 7515) → one claim.
//!
//! It checks a signature by HMAC when there are secrets, and never `exp` or `aud`: whether the token is still good is the instance's
//! to say. Encrypted tokens have no claims here. A source calls it.
//!
//! Invariant: with secrets only HS256, HS384 and HS512 are taken; above all not `none`, nor a key that the token itself names.

use crate::codec::BASE64_URL;
use crate::signature::{Secrets, SignedWith};
use crate::{TOKEN_BYTES_MAX, Why};
use base64::Engine;
use serde_json::{Map, Value};

/// The claim of that name in the value of an `Authorization` field.
pub(crate) fn claim(field: &[u8], name: &str, secrets: &Secrets) -> Result<Vec<u8>, Why> {
    let field = field.trim_ascii();
    let (scheme, token) = field.split_at_checked(7).ok_or(Why::NotToken)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return Err(Why::NotToken);
    }
    let token = token.trim_ascii();
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Why::TooLong);
    }
    let mut parts = token.split(|&byte| byte == b'.');
    let (Some(header), Some(payload), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(Why::NotToken);
    };
    if !secrets.is_empty() {
        let signed = token.get(..header.len() + 1 + payload.len()).ok_or(Why::NotToken)?;
        let signature = BASE64_URL.decode(signature).map_err(|_| Why::NotBase64)?;
        let with = match object(header)?.get("alg").and_then(Value::as_str) {
            Some("HS256") => SignedWith::Hs256,
            Some("HS384") => SignedWith::Hs384,
            Some("HS512") => SignedWith::Hs512,
            _ => return Err(Why::Algorithm),
        };
        if !secrets.signed(with, signed, &signature) {
            return Err(Why::Forged);
        }
    }
    match object(payload)?.remove(name) {
        Some(Value::String(text)) => Ok(text.into_bytes()),
        Some(Value::Number(number)) if number.is_u64() || number.is_i64() => Ok(number.to_string().into_bytes()),
        _ => Err(Why::Claim),
    }
}

fn object(part: &[u8]) -> Result<Map<String, Value>, Why> {
    let text = BASE64_URL.decode(part).map_err(|_| Why::NotToken)?;
    serde_json::from_slice(&text).map_err(|_| Why::NotToken)
}
