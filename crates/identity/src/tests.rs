//! Each place and codec on values that are right, and on values that are nearly so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use http::HeaderValue;

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    map
}

fn of(source: &Source, target: &str, fields: &[(&'static str, &str)]) -> Result<String, Why> {
    let headers = headers(fields);
    let id = source.of_request(Asked { target: target.as_bytes(), headers: &headers })?;
    Ok(String::from_utf8_lossy(&id).into_owned())
}

fn cookie(codec: Codec) -> Source {
    Source::new(Place::Cookie("sid".to_owned()), codec)
}

fn check(codec: Codec, fields: &[&str], expected: Result<&str, Why>) {
    let fields: Vec<_> = fields.iter().map(|field| ("cookie", *field)).collect();
    assert_eq!(of(&cookie(codec), "/", &fields), expected.map(str::to_owned), "{codec:?} {fields:?}");
}

#[test]
fn plain() {
    for (fields, id) in [
        (&["sid=abc"][..], "abc"),
        (&["theme=dark; sid=abc; x=y"], "abc"),
        (&["theme=dark", "sid=abc"], "abc"),
        (&["sid=\"abc\""], "abc"),
        (&["sid=\""], "\""),
        (&["  sid =  abc  "], "abc"),
        (&["sid=a=b=="], "a=b=="),
        (&["sid=first; sid=second"], "first"),
        (&["sid=first", "sid=second"], "first"),
        (&["sid=a%20b"], "a%20b"),
    ] {
        check(Codec::Plain, fields, Ok(id));
    }
    for nothing in ["", ";", ";;=;", "sid", "SID=abc", "xsid=abc", "sidx=abc", "=sid", "a=sid=b"] {
        check(Codec::Plain, &[nothing], Err(Why::NotThere));
    }
    check(Codec::Plain, &["sid="], Err(Why::Empty));
    check(Codec::Plain, &["sid=\"\""], Err(Why::Empty));
    check(Codec::Plain, &[], Err(Why::NotThere));
}

#[test]
fn express_and_fastify() {
    for (field, id) in [
        ("sid=s%3Aabc.c2ln", "abc"),
        ("sid=s%3aabc.c2%2Bln%2F", "abc"),
        ("sid=s:abc.c2ln", "abc"),
        ("sid=\"s:abc.c2ln\"", "abc"),
        ("sid=s%3Aa.b.c2ln", "a.b"),
        ("sid=s%3A%C3%A9.c2ln", "é"),
    ] {
        check(Codec::Express, &[field], Ok(id));
    }
    for (field, why) in [
        ("sid=abc", Why::NotExpress),
        ("sid=s%3A", Why::Unsigned),
        ("sid=s%3Aabc", Why::Unsigned),
        ("sid=s%3Aabc.", Why::Unsigned),
        ("sid=s%3A.c2ln", Why::Empty),
        ("sid=j%3A%7B%7D", Why::NotExpress),
        ("sid=s%3", Why::PercentEncoding),
        ("sid=s%", Why::PercentEncoding),
        ("sid=s%3Aabc.%zz", Why::PercentEncoding),
        ("sid=s%3A%ff.c2ln", Why::PercentEncoding),
        ("sid=S%3Aabc.c2ln", Why::NotExpress),
        // The first of the name decides, also when it is malformed.
        ("sid=broken; sid=s%3Aabc.c2ln", Why::NotExpress),
    ] {
        check(Codec::Express, &[field], Err(why));
    }
    check(Codec::Fastify, &["sid=a.b.c2ln"], Ok("a.b"));
    check(Codec::Fastify, &["sid=abc"], Err(Why::Unsigned));
}

#[test]
fn the_other_frameworks() {
    check(Codec::Spring, &["sid=NzQ3YjkxYmU"], Ok("747b91be"));
    check(Codec::Spring, &["sid=YQ=="], Ok("a"));
    check(Codec::Spring, &["sid=a b"], Err(Why::NotBase64));
    check(Codec::Spring, &["sid=abcde"], Err(Why::NotBase64));
    check(Codec::Rack, &["sid=abc"], Ok("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
    check(Codec::Rack, &["sid="], Err(Why::Empty));
    check(Codec::Django, &["sid=abcdefgh; sid=12345678"], Ok("12345678"));
    check(Codec::Django, &["sid=abcdefg"], Err(Why::Shape));
    check(Codec::Django, &["sid=abcdefgh:"], Err(Why::Shape));
    check(Codec::Php, &["sid=ab-c%2Cd"], Ok("ab-c,d"));
    check(Codec::Php, &["sid=../etc"], Err(Why::Shape));
    check(Codec::Php, &[&format!("sid={}", "a".repeat(257))], Err(Why::Shape));
    check(Codec::Tower, &[&format!("sid={}%3Did", "A".repeat(43))], Ok("id"));
    check(Codec::Tower, &["sid=id"], Err(Why::Unsigned));
}

#[test]
fn limits() {
    let longest = "x".repeat(ID_BYTES_MAX);
    check(Codec::Plain, &[&format!("sid={longest}")], Ok(&longest));
    check(Codec::Plain, &[&format!("sid={longest}x")], Err(Why::TooLong));
    check(Codec::Express, &[&format!("sid=s%3A{longest}.c2ln")], Ok(&longest));
    check(Codec::Express, &[&format!("sid=s%3A{longest}x.c2ln")], Err(Why::TooLong));
    check(Codec::Express, &[&format!("sid=s%3Aabc.{}", "x".repeat(VALUE_BYTES_MAX))], Err(Why::TooLong));
    check(Codec::Plain, &[&format!("{}sid=abc", "a=b;".repeat(PARTS_MAX - 1))], Ok("abc"));
    check(Codec::Plain, &[&format!("{}sid=abc", "a=b;".repeat(PARTS_MAX))], Err(Why::NotThere));
    let query = Source::new(Place::Query("sid".to_owned()), Codec::Plain);
    assert_eq!(of(&query, &format!("/?{}sid=abc", "a&".repeat(PARTS_MAX - 1)), &[]), Ok("abc".to_owned()));
    assert_eq!(of(&query, &format!("/?{}sid=abc", "a&".repeat(PARTS_MAX)), &[]), Err(Why::NotThere));
    let token = format!("Bearer {}", "x".repeat(TOKEN_BYTES_MAX + 1));
    let bearer = Source::new(Place::Bearer("sid".to_owned()), Codec::Plain);
    assert_eq!(of(&bearer, "/", &[("authorization", &token)]), Err(Why::TooLong));
}

#[test]
fn one_of_several_secrets_must_have_signed() {
    let signed = |secrets: &[&str], field: &str| {
        let source = Source { secrets: Secrets::new(secrets.iter().copied()), ..cookie(Codec::Express) };
        of(&source, "/", &[("cookie", field)])
    };
    let right = express_signed("abc", "old one");
    assert_eq!(signed(&["new one", "old one"], &right), Ok("abc".to_owned()));
    assert_eq!(signed(&["new one"], &right), Err(Why::Forged));
    assert_eq!(signed(&["old one"], &right.replace("abc", "abd")), Err(Why::Forged));
    assert_eq!(signed(&["old one"], &right[..right.len() - 1]), Err(Why::Forged));
    assert_eq!(signed(&[], &right.replace("abc", "abd")), Ok("abd".to_owned()));
    assert!(!format!("{:?}", Secrets::new(["old one"])).contains("old"));
}

/// As `cookie-signature` signs; that it does is what the recorded cookies show.
fn express_signed(id: &str, secret: &str) -> String {
    use base64::Engine;
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(id.as_bytes());
    let signature = base64::engine::general_purpose::STANDARD_NO_PAD.encode(mac.finalize().into_bytes());
    format!("sid=s%3A{id}.{}", signature.replace('+', "%2B").replace('/', "%2F"))
}

#[test]
fn headers_queries_and_paths() {
    let header = Source::new(Place::Header(HeaderName::from_static("x-session")), Codec::Plain);
    assert_eq!(of(&header, "/", &[("x-session", " abc ")]), Ok("abc".to_owned()));
    assert_eq!(of(&header, "/", &[]), Err(Why::NotThere));
    let query = Source::new(Place::Query("sid".to_owned()), Codec::Plain);
    for (target, id) in [("/a?sid=abc", "abc"), ("/?x=1&sid=a%2Fb&sid=2", "a/b"), ("/?xsid=1&sid=?", "?")] {
        assert_eq!(of(&query, target, &[]), Ok(id.to_owned()), "{target}");
    }
    for target in ["/sid=abc", "/?sid", "/?SID=abc", "/?", "/"] {
        assert_eq!(of(&query, target, &[]), Err(Why::NotThere), "{target}");
    }
    let path = |template: &str| Source::new(Place::Path(PathTemplate::parse(template).unwrap()), Codec::Plain);
    for (template, target, id) in [
        ("/s/{session}", "/s/abc", Ok("abc")),
        ("/s/{session}", "/s/abc/cart?x=/s/", Ok("abc")),
        ("/s/{session}", "/s/a%2Fb", Ok("a/b")),
        ("/s/{session}", "/s/", Err(Why::Empty)),
        ("/s/{session}", "/s", Err(Why::NotThere)),
        ("/s/{session}", "/t/abc", Err(Why::NotThere)),
        ("/s/{session}", "s/abc", Err(Why::NotThere)),
        ("/{any}/u-{session}.html", "/en/u-abc.html", Ok("abc")),
        ("/{any}/u-{session}.html", "/en/u-.htm", Err(Why::NotThere)),
        (";jsessionid={session}", "/cart;x=1;jsessionid=abc/y?jsessionid=no", Ok("abc")),
        (";jsessionid={session}", "/cart?;jsessionid=abc", Err(Why::NotThere)),
    ] {
        assert_eq!(of(&path(template), target, &[]), id.map(str::to_owned), "{template} {target}");
    }
    for wrong in [
        "",
        "/",
        "/s",
        "s/{session}",
        "/{session}/{session}",
        "/{any}x/{session}",
        "/{x}/{session}",
        ";{session}",
        ";a/b={session}",
    ] {
        assert!(PathTemplate::parse(wrong).is_err(), "{wrong}");
    }
    assert!(PathTemplate::parse(&format!("{}/{{session}}", "/a".repeat(32))).is_err());
}

/// The example of RFC 7515, appendix A.1: HS256, and claims over two lines.
const RFC_TOKEN: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
    cGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const RFC_KEY: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";

#[test]
fn claims_of_tokens() {
    use base64::Engine;
    let key = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(RFC_KEY).unwrap();
    let claim = |name: &str, secrets: &[&[u8]], field: &str| {
        let source = Source {
            secrets: Secrets::new(secrets.iter().copied()),
            ..Source::new(Place::Bearer(name.to_owned()), Codec::Plain)
        };
        of(&source, "/", &[("authorization", field)])
    };
    let right = format!("Bearer {RFC_TOKEN}");
    assert_eq!(claim("iss", &[], &right), Ok("joe".to_owned()));
    assert_eq!(claim("iss", &[b"other", &key], &format!("bearer  {RFC_TOKEN} ")), Ok("joe".to_owned()));
    assert_eq!(claim("exp", &[&key], &right), Ok("1300819380".to_owned()));
    assert_eq!(claim("iss", &[b"other"], &right), Err(Why::Forged));
    assert_eq!(claim("sub", &[&key], &right), Err(Why::Claim));
    assert_eq!(claim("http://example.com/is_root", &[&key], &right), Err(Why::Claim));
    let none = format!("Bearer eyJhbGciOiJub25lIn0.{}.", RFC_TOKEN.split('.').nth(1).unwrap());
    assert_eq!(claim("iss", &[&key], &none), Err(Why::Algorithm));
    for wrong in ["Bearer", "Bearer a.b", "Bearer a.b.c.d", "Bearer a.!.c", "Bearer a.bm8.c", "Basic YWJj", "Bearer é.é.é"] {
        assert!(claim("iss", &[], wrong).is_err(), "{wrong}");
    }
    let deep = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(format!("{{\"a\":{}", "[".repeat(4000)));
    assert_eq!(claim("iss", &[], &format!("Bearer a.{deep}.c")), Err(Why::NotToken));
}

#[test]
fn the_first_source_that_names_one_decides() {
    let header = Source::new(Place::Header(HeaderName::from_static("x-session")), Codec::Plain);
    let identity = Identity::new(vec![cookie(Codec::Express), header]);
    let of = |fields: &[(&'static str, &str)]| {
        let headers = headers(fields);
        identity.of_request(Asked { target: b"/", headers: &headers }).map(|id| String::from_utf8_lossy(&id).into_owned())
    };
    assert_eq!(of(&[("cookie", "sid=s:a.b"), ("x-session", "h")]).as_deref(), Some("a"));
    assert_eq!(of(&[("cookie", "sid=broken"), ("x-session", "h")]).as_deref(), Some("h"));
    assert_eq!(of(&[]), None);
    assert_eq!(Identity::new(vec![cookie(Codec::Plain); 100]).sources().len(), SOURCES_MAX);
}

#[test]
fn answers_tell_of_new_sessions_and_of_their_end() {
    let header = Source::new(Place::Header(HeaderName::from_static("x-session")), Codec::Plain);
    let identity = Identity::new(vec![cookie(Codec::Express), header]);
    let learned = |fields: &[(&'static str, &str)]| match identity.of_answer(&headers(fields)) {
        None => "nothing".to_owned(),
        Some(Learned::Ended) => "ended".to_owned(),
        Some(Learned::Has(id)) => format!("has {}", String::from_utf8_lossy(&id)),
    };
    let set = |value: &str| learned(&[("set-cookie", value)]);
    assert_eq!(set("sid=s%3Aabc.c2ln; Path=/; HttpOnly"), "has abc");
    assert_eq!(set("sid=s%3Aabc.c2ln; Max-Age=3600"), "has abc");
    assert_eq!(set("sid=; Path=/"), "ended");
    assert_eq!(set("sid=s%3Aabc.c2ln; max-age=0"), "ended");
    assert_eq!(set("sid=s%3Aabc.c2ln; Max-Age=-1"), "ended");
    assert_eq!(set("sid=deleted; expires=Thu, 01-Jan-1970 00:00:01 GMT"), "ended");
    assert_eq!(set("other=s%3Aabc.c2ln"), "nothing");
    assert_eq!(set("sid=broken"), "nothing");
    assert_eq!(learned(&[("set-cookie", "sid=s:a.b"), ("set-cookie", "x=y"), ("set-cookie", "sid=s:c.d")]), "has c");
    assert_eq!(learned(&[("x-session", "h")]), "has h");
    assert_eq!(learned(&[("x-session", "")]), "ended");
    let many: Vec<_> = std::iter::repeat_n(("set-cookie", "a=b"), SET_COOKIES_MAX).chain([("set-cookie", "sid=s:a.b")]).collect();
    assert_eq!(learned(&many), "nothing");
}
