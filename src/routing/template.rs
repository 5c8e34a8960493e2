//! The route of a request: its method and path with every part that looks like an id collapsed.
//!
//! It never sees a query, a header or a body; it is pure. The routes that are learned are kept by what this makes of them.
//!
//! | part of a path | becomes |
//! |---|---|
//! | digits, a UUID, eight hexadecimal digits and more | `{}` |
//! | four digits in a row; 16 characters and more with a digit among them; more than [`WORD_BYTES_MAX`] | `{}` |
//! | anything but letters, digits and `-._~` (an encoded byte, an `@`) | `{}` |
//! | any other: a word | the word |
//!
//! What follows [`PARTS_MAX`] parts counts as one `{}`. Invariant: two paths that differ only in such parts have one route.

/// Longest part that counts as a word.
const WORD_BYTES_MAX: usize = 48;
/// Parts of a path that are looked at.
const PARTS_MAX: usize = 12;
/// What stands for an id.
const ID: &str = "{}";
/// Methods that have routes of their own; the others share one.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The route of a request, as text: `GET /cart/{}/items`.
pub fn template(method: &str, path: &str) -> String {
    let mut text = String::with_capacity(method.len() + path.len() + 1);
    text.push_str(METHODS.iter().find(|known| **known == method).unwrap_or(&"*"));
    text.push(' ');
    for (n, part) in parts(path).enumerate() {
        if n == PARTS_MAX {
            text.push('/');
            text.push_str(ID);
            break;
        }
        text.push('/');
        text.push_str(if is_id(part) { ID } else { part });
    }
    text
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    let path = path.split(['?', ';', '#']).next().unwrap_or_default();
    path.strip_prefix('/').unwrap_or(path).split('/')
}

fn is_id(part: &str) -> bool {
    let bytes = part.as_bytes();
    let has_digit = bytes.iter().any(u8::is_ascii_digit);
    let digits_in_a_row = bytes.split(|byte| !byte.is_ascii_digit()).map(<[u8]>::len).max().unwrap_or(0);
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let is_hex = bytes.len() >= 8
        && bytes.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-')
        && (has_digit || bytes.len() >= 16);
    let is_number = has_digit && digits_in_a_row == bytes.len();
    let is_token = bytes.len() >= 16 && has_digit;
    is_number || is_hex || digits_in_a_row >= 4 || is_token || bytes.len() > WORD_BYTES_MAX || !bytes.iter().all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_collapse_and_words_stay() {
        for (path, route) in [
            ("/", "GET /"),
            ("/cart", "GET /cart"),
            ("/cart/", "GET /cart/"),
            ("/cart/17/items/4?page=2", "GET /cart/{}/items/{}"),
            ("/cart;jsessionid=1", "GET /cart"),
            ("/api/v1/orders", "GET /api/v1/orders"),
            ("/orders/4bf92f35-77b3-4da6-a3ce-929d0e0e4736", "GET /orders/{}"),
            ("/o/deadbeef", "GET /o/deadbeef"),
            ("/o/deadbee0", "GET /o/{}"),
            ("/o/deadbeefdeadbeef", "GET /o/{}"),
            ("/o/A1", "GET /o/A1"),
            ("/o/order-20240131", "GET /o/{}"),
            ("/o/dGhlIHNhbXBsZSBub25jZQ", "GET /o/{}"),
            ("/static/jquery.min.js", "GET /static/jquery.min.js"),
            ("/u/a%20b", "GET /u/{}"),
            ("/u/a@b.example", "GET /u/{}"),
            ("/terms-and-conditions-of-sale", "GET /terms-and-conditions-of-sale"),
            ("*", "GET /{}"),
        ] {
            assert_eq!(template("GET", path), route);
        }
        assert_eq!(template("PROPFIND", "/a"), "* /a");
        assert_eq!(template("GET", &format!("/{}", "a".repeat(49))), "GET /{}");
    }

    #[test]
    fn a_route_has_a_bound() {
        let long = template("GET", &"/a".repeat(10_000));
        assert_eq!(long, format!("GET {}/{{}}", "/a".repeat(PARTS_MAX)));
        assert_ne!(template("GET", "/a"), template("POST", "/a"));
    }
}
