//! What a value looks like, by its type and first bytes.
//!
//! It never keeps or prints a byte of a value. Called for each sampled key; `library` knows which library writes what.
//!
//! | sign | means |
//! |---|---|
//! | JSON object with `cookie`, `_expire`, `__metadata__`, `created` + `session`, `_permanent` … | express, koa, starsessions, aiohttp, Flask |
//! | `\x80\x04`, `\x80\x05` | pickle |
//! | `\x8n`, `\xde`; `\x9n` | msgpack map; array |
//! | `name\|…`, `s:N:"…` | PHP's session text; a serialized string |
//! | `\x04\x08`; `\xac\xed`; `N \xff \x81…` | Ruby Marshal; Java; Go's gob |
//! | fields `creationTime`, `session:creationTime`, `data` + `absexp` | Spring, redisson-tomcat, ASP.NET Core |
//!
//! Invariant: any bytes have a look, and none makes it panic.

/// What a value looks like.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Look {
    ExpressJson,
    FastifyJson,
    KoaJson,
    StarsessionsJson,
    AiohttpJson,
    FlaskJson,
    AxumJson,
    JsonObject,
    MsgpackMap,
    MsgpackArray,
    Pickle4,
    Pickle5,
    PhpText,
    SymfonyText,
    PhpSerialized,
    Marshal,
    Java,
    ScsGob,
    Gob,
    Base64,
    Text,
    Bytes,
    SpringHash,
    TomcatHash,
    AspnetHash,
    Hash,
    OtherType,
}

/// The look of a string of which `head` is the beginning.
pub(super) fn of_string(head: &[u8]) -> Look {
    match head {
        [0x80, 4, ..] => return Look::Pickle4,
        [0x80, 5, ..] => return Look::Pickle5,
        [0x04, 0x08, ..] => return Look::Marshal,
        [0xac, 0xed, ..] => return Look::Java,
        [_, 0xff, 0x81..=0xff, ..] if contains(head, b"Deadline") => return Look::ScsGob,
        [_, 0xff, 0x81..=0xff, ..] => return Look::Gob,
        [0x81..=0x8f, 0xa0..=0xbf | 0xd9, ..] | [0xde, ..] => return Look::MsgpackMap,
        [0x90..=0x9f, ..] => return Look::MsgpackArray,
        [b'{', ..] => return json(head),
        _ => {}
    }
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The head may end within a character.
        Err(error) if error.error_len().is_none() => {
            head.get(..error.valid_up_to()).and_then(|h| std::str::from_utf8(h).ok()).unwrap_or("")
        }
        Err(_) => return if php(head) { Look::PhpText } else { Look::Bytes },
    };
    if text.starts_with("_sf2_") {
        return Look::SymfonyText;
    }
    if php(head) {
        return Look::PhpText;
    }
    if ["s:", "a:"].iter().any(|s| text.starts_with(s))
        && text.get(2..3).is_some_and(|c| c.as_bytes().iter().all(u8::is_ascii_digit))
    {
        return Look::PhpSerialized;
    }
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=\r\n".contains(&byte);
    if text.len() >= 16 && text.bytes().all(base64) { Look::Base64 } else { Look::Text }
}

/// `name|s:…`: a name, a bar, and a letter of PHP's serializer.
fn php(head: &[u8]) -> bool {
    let Some(bar) = head.iter().take(128).position(|byte| *byte == b'|') else { return false };
    let named = head.get(..bar).is_some_and(|name| !name.is_empty() && name.iter().all(|b| b.is_ascii_graphic()));
    let value = head.get(bar.saturating_add(1)..).unwrap_or_default();
    named && matches!(value, [b'a' | b's' | b'i' | b'b' | b'd' | b'O' | b'C', b':', ..] | [b'N', b';', ..])
}

fn json(head: &[u8]) -> Look {
    // Some writers put spaces between names and values.
    let dense: Vec<u8> = head.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let has = |name: &[u8]| contains(&dense, name);
    if !matches!(dense.as_slice(), [b'{', b'"' | b'}', ..]) {
        return Look::Text;
    }
    if dense.starts_with(b"{\"cookie\":{\"expires\"") {
        return Look::FastifyJson;
    }
    match () {
        () if has(b"\"cookie\":{") => Look::ExpressJson,
        () if has(b"\"_expire\"") || has(b"\"_maxAge\"") => Look::KoaJson,
        () if has(b"\"__metadata__\"") => Look::StarsessionsJson,
        () if has(b"\"created\"") && has(b"\"session\"") => Look::AiohttpJson,
        () if has(b"\"_permanent\"") => Look::FlaskJson,
        () if has(b"\"longterm\"") || has(b"\"autoremove\"") => Look::AxumJson,
        () => Look::JsonObject,
    }
}

/// The look of a hash with (at least) these fields.
pub(super) fn of_hash<'a>(fields: impl Iterator<Item = &'a [u8]> + Clone) -> Look {
    let has = |name: &[u8]| fields.clone().any(|field| field == name);
    let starts = |name: &[u8]| fields.clone().any(|field| field.starts_with(name));
    match () {
        () if has(b"absexp") || has(b"sldexp") => Look::AspnetHash,
        () if starts(b"session:") => Look::TomcatHash,
        () if has(b"creationTime") || has(b"lastAccessedTime") || starts(b"sessionAttr:") => Look::SpringHash,
        () => Look::Hash,
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_real_libraries_are_told_apart() {
        for (value, look) in [
            (&b"{\"cookie\":{\"originalMaxAge\":60000,\"httpOnly\":true,\"path\":\"/\"},\"cart\":[1]}"[..], Look::ExpressJson),
            (b"{\"cookie\":{\"expires\":\"2026-11-21T09:00:44.127Z\",\"originalMaxAge\":60000}}", Look::FastifyJson),
            (b"{\"cart\":[1],\"_expire\":1795251643435,\"_maxAge\":60000}", Look::KoaJson),
            (b"{\"cookie\": {\"originalMaxAge\": null, \"path\": \"/\"}, \"n\": 1}", Look::ExpressJson),
            (b"{\"a\": 1, \"__metadata__\": {\"lifetime\": 60}}", Look::StarsessionsJson),
            (b"{\"created\": 1795251579, \"session\": {\"a\": 1}}", Look::AiohttpJson),
            (b"{\"_permanent\": true}", Look::FlaskJson),
            (b"{\"name\":\"al\"}", Look::JsonObject),
            (b"{}", Look::JsonObject),
            (b"{not json", Look::Text),
            (b"\x83\xaa_permanent\xc3\xa4cart\x92\x01\x02\xa4user\xa1u", Look::MsgpackMap),
            (b"\x93\xc4\x10u\xdc\xa9cg\xca8!", Look::MsgpackArray),
            (b"\x80\x04\x95\x19\x00", Look::Pickle4),
            (b"\x80\x05\x95\x19\x00", Look::Pickle5),
            (b"cart|a:2:{i:0;i:1;i:1;i:2;}user|s:1:\"u\";", Look::PhpText),
            (b"_sf2_attributes|a:1:{s:1:\"a\";i:1;}", Look::SymfonyText),
            (b"s:40:\"a:1:{s:6:\"_token\";s:3:\"abc\";}\";", Look::PhpSerialized),
            (b"\x04\x08{\x07I\"\tcart\x06:\x06ET[\x06i\x06", Look::Marshal),
            (b"\xac\xed\x00\x05sr", Look::Java),
            (b"\x0e\xff\x81\x04\x01\x02\xff\x82\x00\x01\x10\x01\x10", Look::Gob),
            (b"BQsDAAAAAQQSfwAAAAVfX3VzZXI=\n", Look::Base64),
            (b"hello, world", Look::Text),
            (b"", Look::Text),
            (b"\xff\xfe\xfd", Look::Bytes),
        ] {
            assert_eq!(of_string(value), look, "{}", String::from_utf8_lossy(value));
        }
        let hash = |fields: &[&'static str]| of_hash(fields.iter().map(|f| f.as_bytes()));
        assert_eq!(hash(&["sessionAttr:cart", "creationTime"]), Look::SpringHash);
        assert_eq!(hash(&["absexp", "sldexp", "data"]), Look::AspnetHash);
        assert_eq!(hash(&["session:creationTime", "cart"]), Look::TomcatHash);
        assert_eq!(hash(&["name"]), Look::Hash);
    }
}
