//! How a framework writes the id of a session: value → the id that stands in the library's keys.
//!
//! It knows no place: the same value may come in a cookie or a header. It compares signatures through `signature` alone. A source
//! calls it.
//!
//! | codec | value | id | of several cookies |
//! |---|---|---|---|
//! | plain | `<id>` | the value | first |
//! | express | `s:<id>.<signature>`, percent-encoded | between `s:` and the last dot | first |
//! | fastify | `<id>.<signature>`, percent-encoded (also Flask-Session's signer) | before the last dot | first |
//! | spring | base64 of `<id>` | decoded | first |
//! | rack | the public id | hexadecimal SHA-256 of it (the keys have `2::` before it) | first |
//! | django | 8 or more letters and digits | the value | last |
//! | php | letters, digits, `,` and `-`, up to 256, percent-encoded | the value | first |
//! | tower | 44 characters of base64, then `<id>`, percent-encoded | behind them | first |
//!
//! Of several cookies of one name each framework takes the one in the last column, even if it is malformed; so it decides here too.
//! Invariant: whatever a framework would not accept as an id is refused, as far as that can be known without its secrets.

use crate::Why;
use crate::signature::{Secrets, SignedWith};
use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// See the table at the head of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[allow(missing_docs, reason = "the table at the head of the file says what each is")]
pub enum Codec {
    Plain,
    Express,
    Spring,
    Rack,
    Django,
    Php,
    Fastify,
    Tower,
}

/// The length of a base64 HMAC-SHA-256 with its padding, as the `cookie` crate of Rust writes it before the value.
const SIGNATURE_CHARS: usize = 44;
/// The shortest key that Django takes for one.
const DJANGO_CHARS_MIN: usize = 8;
/// The longest id of PHP.
const PHP_CHARS_MAX: usize = 256;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
pub(crate) const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

impl Codec {
    /// Whether a secret can check what is written so.
    pub fn is_signed(self) -> bool {
        matches!(self, Codec::Express | Codec::Fastify)
    }

    /// Whether the framework takes the last of several cookies of one name.
    pub(crate) fn last_wins(self) -> bool {
        self == Codec::Django
    }

    /// The id that `value` names.
    pub(crate) fn id<'a>(self, value: Cow<'a, [u8]>, secrets: &Secrets) -> Result<Cow<'a, [u8]>, Why> {
        match self {
            Codec::Plain => Ok(value),
            Codec::Express => {
                let value = percent_decoded(value)?;
                let signed = part(value, |value| value.strip_prefix(b"s:"), Why::NotExpress)?;
                unsigned(signed, secrets)
            }
            Codec::Fastify => unsigned(percent_decoded(value)?, secrets),
            Codec::Spring => BASE64.decode(&value).map(Cow::Owned).map_err(|_| Why::NotBase64),
            Codec::Rack => {
                let public = percent_decoded(value)?;
                if public.is_empty() {
                    return Err(Why::Empty);
                }
                Ok(Cow::Owned(hexadecimal(&Sha256::digest(&public))))
            }
            Codec::Django => {
                let right = value.len() >= DJANGO_CHARS_MIN && value.iter().all(u8::is_ascii_alphanumeric);
                if right { Ok(value) } else { Err(Why::Shape) }
            }
            Codec::Php => {
                let value = percent_decoded(value)?;
                let right = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b',' | b'-');
                if value.len() <= PHP_CHARS_MAX && value.iter().all(right) { Ok(value) } else { Err(Why::Shape) }
            }
            Codec::Tower => {
                let signature_ends = |value: &[u8]| value.get(SIGNATURE_CHARS - 1) == Some(&b'=');
                let behind = |value: &'_ [u8]| signature_ends(value).then_some(SIGNATURE_CHARS);
                let value = percent_decoded(value)?;
                let from = behind(&value).ok_or(Why::Unsigned)?;
                part(value, |value| value.get(from..), Why::Unsigned)
            }
        }
    }
}

/// `<id>.<signature>` → id. An id may have dots, a signature has none.
fn unsigned<'a>(value: Cow<'a, [u8]>, secrets: &Secrets) -> Result<Cow<'a, [u8]>, Why> {
    let dot = value.iter().rposition(|&byte| byte == b'.').ok_or(Why::Unsigned)?;
    let (id, signature) = value.split_at_checked(dot).ok_or(Why::Unsigned)?;
    let signature = signature.strip_prefix(b".").filter(|text| !text.is_empty()).ok_or(Why::Unsigned)?;
    if !secrets.signed(SignedWith::Base64, id, signature) {
        return Err(Why::Forged);
    }
    part(value, |value| value.get(..dot), Why::Unsigned)
}

/// A part of `value`, without a copy where that is possible.
fn part<'a>(value: Cow<'a, [u8]>, take: impl Fn(&[u8]) -> Option<&[u8]>, why: Why) -> Result<Cow<'a, [u8]>, Why> {
    match value {
        Cow::Borrowed(value) => take(value).map(Cow::Borrowed),
        Cow::Owned(value) => take(&value).map(|part| Cow::Owned(part.to_vec())),
    }
    .ok_or(why)
}

/// `%XX` → byte. A broken escape, and a result that is not UTF-8, are refused: `decodeURIComponent` refuses both.
pub(crate) fn percent_decoded(value: Cow<'_, [u8]>) -> Result<Cow<'_, [u8]>, Why> {
    if !value.contains(&b'%') {
        return Ok(value);
    }
    let mut decoded = Vec::with_capacity(value.len());
    let mut bytes = value.iter().copied();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(hex).ok_or(Why::PercentEncoding);
                digit()? << 4 | digit()?
            }
            other => other,
        });
    }
    match std::str::from_utf8(&decoded) {
        Ok(_) => Ok(Cow::Owned(decoded)),
        Err(_) => Err(Why::PercentEncoding),
    }
}

/// The value of one hexadecimal digit.
fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn hexadecimal(bytes: &[u8]) -> Vec<u8> {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
