//! Runs nft and iptables, and says what to do where that fails.
//!
//! It words no rule. Nothing of a configuration but the name of the rules stands among the arguments; the rules go in by standard input.
//! Invariant: a failure names the program, what it said, and a remedy.

use super::plan::Family;
use std::fmt;
use std::io::{self, Write};
use std::process::{Command, Stdio};

/// The capability that changes rules, by its bit.
const CAP_NET_ADMIN: u64 = 12;
/// Seconds that iptables waits for another that changes rules.
const LOCK_S: &str = "10";
/// The longest part of what a program says that is passed on, in characters.
const SAID_CHARS_MAX: usize = 1000;

/// Why it failed, with a remedy.
#[derive(Debug)]
pub(super) struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const AS_ROOT: &str = "run it as root, or give it CAP_NET_ADMIN (securityContext.capabilities.add: [NET_ADMIN])";

/// Without the right to, tools fail with words that do not say which right it is.
pub(super) fn may_change_rules() -> Result<(), Failure> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    match has_net_admin(&status) {
        Some(false) => Err(Failure(format!("the rules of this network namespace are not this process's to change; {AS_ROOT}"))),
        // Where the kernel does not say, the tool will.
        Some(true) | None => Ok(()),
    }
}

fn has_net_admin(status: &str) -> Option<bool> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let bits = u64::from_str_radix(effective.trim(), 16).ok()?;
    Some(bits & (1 << CAP_NET_ADMIN) != 0)
}

/// Runs a program to its end, with this input; what it printed. Programs of administrators may not be in the path of others.
pub(super) fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, Failure> {
    let attempt = |place: &str| -> io::Result<std::process::Output> {
        let mut child = Command::new(place)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(input.as_bytes()) {
                // It ended before it had read all, and will say why.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        child.wait_with_output()
    };
    let output = match attempt(program) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => attempt(&format!("/usr/sbin/{program}")),
        output => output,
    };
    let output = output.map_err(|error| cannot_run(program, &error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said.trim().chars().take(SAID_CHARS_MAX).collect();
    Err(Failure(format!("{program} failed ({}): {said}; {}", output.status, remedy(program, &said))))
}

fn cannot_run(program: &str, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::NotFound {
        let (package, other) = if program == "nft" { ("nftables", "iptables") } else { ("iptables", "nft") };
        return Failure(format!("{program} is not here; install it (apt-get install {package}), or use --tool {other}"));
    }
    Failure(format!("{program} cannot be run: {error}"))
}

fn remedy(program: &str, said: &str) -> &'static str {
    if ["not permitted", "ermission denied"].iter().any(|words| said.contains(words)) {
        return AS_ROOT;
    }
    match program {
        "nft" => "the kernel must have nftables with nat (nf_tables, nft_nat, nft_redir, nft_fib_inet); else use --tool iptables",
        _ => "the kernel must have the table nat with REDIRECT, owner and addrtype; else use --tool nft",
    }
}

/// What nft lists of a table; `None`: it is not there.
pub(super) fn nft_table(table: &str) -> Result<Option<String>, Failure> {
    let tables = run("nft", &["list", "tables", "inet"], "")?;
    if !tables.lines().any(|line| line.trim_end() == format!("table inet {table}")) {
        return Ok(None);
    }
    run("nft", &["list", "table", "inet", table], "").map(Some)
}

/// Those that this machine speaks.
pub(super) fn families() -> impl Iterator<Item = Family> {
    let has_v6 = std::path::Path::new("/proc/net/if_inet6").exists();
    Family::BOTH.into_iter().filter(move |family| *family == Family::V4 || has_v6)
}

pub(super) fn iptables_listing(family: Family) -> Result<String, Failure> {
    run(family.command(), &["-w", LOCK_S, "-t", "nat", "-S"], "")
}

pub(super) fn iptables_restore(family: Family, script: &str) -> Result<(), Failure> {
    run(&format!("{}-restore", family.command()), &["-w", LOCK_S, "--noflush"], script).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_to_change_rules_is_seen() {
        assert_eq!(has_net_admin("CapPrm:\t0000000000000000\nCapEff:\t0000000000001000\n"), Some(true));
        assert_eq!(has_net_admin("CapEff:\t00000000a80425fb\n"), Some(false));
        assert_eq!(has_net_admin("CapEff:\tx\n"), None);
        assert_eq!(has_net_admin(""), None);
    }

    #[test]
    fn a_failure_says_what_to_do() {
        let why = |program, arguments: &[&str]| {
            run(program, arguments, "").err().map(|failure| failure.to_string()).unwrap_or_default()
        };
        assert!(why("no-such-tool", &[]).contains("no-such-tool is not here; install it"));
        let said = why("sh", &["-c", "echo Operation not permitted >&2; exit 3"]);
        assert!(said.contains("exit status: 3): Operation not permitted; run it as root"), "{said}");
        assert_eq!(run("cat", &[], "rules").ok().as_deref(), Some("rules"));
    }
}
