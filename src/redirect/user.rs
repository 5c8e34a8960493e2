//! Users and their numbers: rules name numbers, people names.
//!
//! It never asks a directory service: what is not in [`PASSWD`] must be given as a number. The rules are written by it, and the start asks
//! it as whom this process runs.
//! Invariant: the user whose connections are left alone is never root, under whatever name.

use std::fs;

/// Who is there.
const PASSWD: &str = "/etc/passwd";
/// It is the number of nobody.
const NO_UID: u32 = u32::MAX;

/// The number of a user; the error says what to do.
pub fn number_of(user: &str) -> Result<u32, String> {
    if user.bytes().all(|byte| byte.is_ascii_digit()) {
        return user.parse().ok().filter(|uid| *uid != NO_UID).ok_or_else(|| format!("{user} is not the number of a user"));
    }
    let text =
        fs::read_to_string(PASSWD).map_err(|error| format!("{PASSWD} cannot be read ({error}): give the user's number"))?;
    number_in(&text, user)
        .ok_or_else(|| format!("{user} is not in {PASSWD}: give the user's number, as `id -u {user}` prints it"))
}

fn number_in(passwd: &str, user: &str) -> Option<u32> {
    let mut lines = passwd.lines().map(|line| line.split(':'));
    lines.find_map(|mut line| (line.next() == Some(user)).then(|| line.nth(1)?.parse().ok()).flatten())
}

/// Whether this process runs as the user whose connections are not redirected; the error says what to do.
pub fn runs_as(user: &str) -> Result<(), String> {
    let (wanted, own) = (number_of(user)?, rustix::process::geteuid().as_raw());
    if wanted == 0 {
        return Err(format!("{user} is root: run the sidecar as a user of its own, and name that one"));
    }
    if wanted != own {
        let why = format!(
            "this process runs as user {own} and not as {user} ({wanted}): its own connections would be redirected to it"
        );
        return Err(format!("{why}; start it as that user, for instance by setpriv --reuid {wanted}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_number() {
        let passwd = "root:x:0:0:root:/:/bin/sh\nwayfarer:x:10001:10001::/:/bin/false\nbroken:x\n";
        assert_eq!((number_in(passwd, "wayfarer"), number_in(passwd, "root")), (Some(10001), Some(0)));
        assert_eq!((number_in(passwd, "way"), number_in(passwd, "broken"), number_in(passwd, "10001")), (None, None, None));
        assert_eq!((number_of("10001"), number_of("root")), (Ok(10001), Ok(0)));
        for wrong in ["4294967295", "99999999999", "no.such-user"] {
            assert!(number_of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_sidecar_must_run_as_its_user() {
        let own = rustix::process::geteuid().as_raw();
        assert!(runs_as("root").is_err_and(|why| why.contains("is root")));
        assert!(runs_as(&own.wrapping_add(1).to_string()).is_err_and(|why| why.contains("--reuid")));
        assert_eq!(runs_as(&own.to_string()).is_ok(), own != 0);
    }
}
