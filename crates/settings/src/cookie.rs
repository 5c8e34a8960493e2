//! How session libraries write the id of a session in its cookie, and the id that a cookie's value names.
//!
//! It checks no signature (the instance has the secret) and stores nothing. Called by `wayfarer check --cookie`; the HTTP face
//! has a reader of its own for the forms that are codecs ([`CookieForm::codec`]), because it must not allocate.
//!
//! | form | value | id in the key |
//! |---|---|---|
//! | plain | `<id>` | the value |
//! | express | `s:<id>.<signature>`, percent-encoded | between `s:` and the last dot |
//! | signed | `<id>.<signature>`, percent-encoded | before the last dot |
//! | signed-before | 44 characters of base64, then `<id>`, percent-encoded | behind them |
//! | base64 | base64 of `<id>` | decoded |
//! | rack | the public id | hexadecimal SHA-256 of it |
//! | sealed | encrypted, or inside other data | cannot be read |
//!
//! Invariant: an id that comes out is not empty.

use crate::words::{Codec, Word};
use wayfarer_engine::ids::Digest;

/// The length of a base64 HMAC-SHA-256 before the value, as the `cookie` crate of Rust writes it.
const SIGNATURE_CHARS: usize = 44;

/// See the table above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the table at the head of the file says what each is")]
pub enum CookieForm {
    Plain,
    Express,
    Signed,
    SignedBefore,
    Base64,
    Rack,
    Sealed,
}

impl Word for CookieForm {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("plain", Self::Plain),
        ("express", Self::Express),
        ("signed", Self::Signed),
        ("signed-before", Self::SignedBefore),
        ("base64", Self::Base64),
        ("rack", Self::Rack),
        ("sealed", Self::Sealed),
    ];
}

impl From<Codec> for CookieForm {
    fn from(codec: Codec) -> CookieForm {
        match codec {
            Codec::Plain => CookieForm::Plain,
            Codec::Express => CookieForm::Express,
        }
    }
}

impl CookieForm {
    /// The `http.session.codec` with which the HTTP face reads it; `None`: it cannot yet.
    pub fn codec(self) -> Option<Codec> {
        Codec::WORDS.iter().map(|(_, codec)| *codec).find(|codec| CookieForm::from(*codec) == self)
    }

    /// Its name in the table.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, form)| *form == self).map_or("", |(word, _)| word)
    }

    /// The id that `value` names, or what is wrong with the value.
    pub fn id(self, value: &str) -> Result<Vec<u8>, String> {
        let id = match self {
            CookieForm::Plain => value.as_bytes().to_vec(),
            CookieForm::Express => {
                let value = percent_decoded(value)?;
                let Some(signed) = value.strip_prefix("s:") else {
                    return Err("it does not begin with `s:` (or `s%3A`): express-session signs its cookies so".to_owned());
                };
                let Some((id, _)) = signed.rsplit_once('.') else {
                    return Err("the signature is missing: there is no dot behind the id".to_owned());
                };
                id.as_bytes().to_vec()
            }
            CookieForm::Signed => {
                let value = percent_decoded(value)?;
                let Some((id, _)) = value.rsplit_once('.') else {
                    return Err("the signature is missing: there is no dot behind the id".to_owned());
                };
                id.as_bytes().to_vec()
            }
            CookieForm::SignedBefore => {
                let value = percent_decoded(value)?;
                let parts = value.split_at_checked(SIGNATURE_CHARS).filter(|(signature, _)| signature.ends_with('='));
                let Some((_, id)) = parts else {
                    return Err(format!(
                        "the signature is missing: it does not begin with {SIGNATURE_CHARS} characters of base64"
                    ));
                };
                id.as_bytes().to_vec()
            }
            CookieForm::Base64 => base64_decoded(value).ok_or("it is not base64")?,
            CookieForm::Rack if value.is_empty() => Vec::new(),
            CookieForm::Rack => {
                let public = percent_decoded(value)?;
                let digest = Digest::of(public.as_bytes());
                digest.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes()
            }
            CookieForm::Sealed => {
                return Err("the library encrypts it or keeps the id inside other data: it cannot be read".to_owned());
            }
        };
        if id.is_empty() { Err("the id is empty".to_owned()) } else { Ok(id) }
    }
}

fn percent_decoded(value: &str) -> Result<String, String> {
    crate::upstream::percent_decoded(value).ok_or_else(|| "its percent-encoding is broken".to_owned())
}

/// Base64 of either alphabet, with or without padding.
fn base64_decoded(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    if text.len() % 4 == 1 {
        return None;
    }
    let (mut bytes, mut bits, mut count) = (Vec::with_capacity(text.len()), 0u32, 0u32);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_form_gives_the_id_or_what_is_wrong() {
        let id = |form: CookieForm, value: &str| form.id(value).map(|id| String::from_utf8(id).unwrap());
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(id(CookieForm::Plain, "abc"), ok("abc"));
        assert_eq!(id(CookieForm::Express, "s%3Aa-b.sig%2Fx"), ok("a-b"));
        assert_eq!(id(CookieForm::Express, "s:a.b.sig"), ok("a.b"));
        assert!(id(CookieForm::Express, "s%3Aabc").unwrap_err().contains("the signature is missing"));
        assert!(id(CookieForm::Express, "abc.sig").unwrap_err().contains("does not begin with `s:`"));
        assert!(id(CookieForm::Express, "s%3").unwrap_err().contains("percent-encoding"));
        assert!(id(CookieForm::Express, "s:.sig").unwrap_err().contains("empty"));
        assert_eq!(id(CookieForm::Signed, "abc.sig"), ok("abc"));
        assert!(id(CookieForm::Signed, "abc").unwrap_err().contains("signature is missing"));
        assert_eq!(id(CookieForm::SignedBefore, &format!("{}%3Did", "A".repeat(43))), ok("id"));
        assert!(id(CookieForm::SignedBefore, "id").is_err());
        assert_eq!(id(CookieForm::Base64, "NzQ3YjkxYmU"), ok("747b91be"));
        assert_eq!(id(CookieForm::Base64, "YQ=="), ok("a"));
        assert!(id(CookieForm::Base64, "a b").is_err() && id(CookieForm::Base64, "abcde").is_err());
        assert_eq!(id(CookieForm::Rack, "abc"), ok("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
        assert!(id(CookieForm::Sealed, "x").is_err());
        for form in CookieForm::WORDS {
            assert!(form.1.id("").is_err(), "{}", form.0);
        }
    }

    #[test]
    fn the_codecs_of_the_http_face_are_forms() {
        assert_eq!(CookieForm::Express.codec(), Some(Codec::Express));
        assert_eq!((CookieForm::Plain.codec(), CookieForm::Rack.codec()), (Some(Codec::Plain), None));
    }
}
