//! HMACs of cookies and tokens: whether one of the secrets made a signature.
//!
//! It compares in constant time, and with every secret, so that the time tells neither how much of a signature is right nor which
//! secret made it. It never shows a secret. The codecs and the tokens call it.
//!
//! | signed with | signature | by |
//! |---|---|---|
//! | base64 | base64 of HMAC-SHA-256, without padding | `cookie-signature` (express-session), `@fastify/cookie` |
//! | HS256, HS384, HS512 | bytes of the HMAC | JWT |
//!
//! Invariant: without secrets everything counts as signed, for then the instance alone can know.

use crate::SECRETS_MAX;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha384, Sha512};
use std::fmt;
use subtle::{Choice, ConstantTimeEq};

/// How something is signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SignedWith {
    Base64,
    Hs256,
    Hs384,
    Hs512,
}

/// The secrets of a source: the newest signs, all are accepted.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secrets(Vec<Vec<u8>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "…" })
    }
}

impl Secrets {
    /// Accepts what any of `secrets` has signed; those beyond [`SECRETS_MAX`] are not tried.
    pub fn new(secrets: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Secrets {
        Secrets(secrets.into_iter().map(Into::into).take(SECRETS_MAX).collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them made `signature` of `message`; true without secrets.
    pub(crate) fn signed(&self, with: SignedWith, message: &[u8], signature: &[u8]) -> bool {
        let any = self.0.iter().fold(Choice::from(0), |found, secret| found | matches(with, secret, message, signature));
        self.0.is_empty() || bool::from(any)
    }
}

fn matches(with: SignedWith, secret: &[u8], message: &[u8], signature: &[u8]) -> Choice {
    match with {
        SignedWith::Base64 => {
            let right = hmac::<Hmac<Sha256>>(secret, message).map(|mac| STANDARD_NO_PAD.encode(mac)).unwrap_or_default();
            right.as_bytes().ct_eq(signature)
        }
        SignedWith::Hs256 => hmac::<Hmac<Sha256>>(secret, message).unwrap_or_default().ct_eq(signature),
        SignedWith::Hs384 => hmac::<Hmac<Sha384>>(secret, message).unwrap_or_default().ct_eq(signature),
        SignedWith::Hs512 => hmac::<Hmac<Sha512>>(secret, message).unwrap_or_default().ct_eq(signature),
    }
}

/// `None` cannot happen, for an HMAC takes a key of any length; a signature is compared with nothing then.
fn hmac<M: Mac + KeyInit>(secret: &[u8], message: &[u8]) -> Option<Vec<u8>> {
    let mut mac = <M as KeyInit>::new_from_slice(secret).ok()?;
    mac.update(message);
    Some(mac.finalize().into_bytes().to_vec())
}
