//! The rules in the words of iptables: two chains of their own in the table nat, and a jump to each; for IPv4 and IPv6 apart.
//!
//! It runs nothing. What `iptables -t nat -S` lists comes in, what `iptables-restore --noflush` reads goes out: one transaction.
//!
//! | chain | from |
//! |---|---|
//! | `NAME_out` | the first rule of OUTPUT: connections of this machine |
//! | `NAME_in` | the first rule of PREROUTING: those of others |
//!
//! Only the first packet of a connection is looked at (`--syn`), as `nft` says why.
//! Invariant: a chain of others is changed by nothing but the jump to one of these.

use super::plan::{Family, Plan};

/// Each hook, with what is behind the name of its chain.
const HOOKS: [(&str, &str); 2] = [("OUTPUT", "out"), ("PREROUTING", "in")];

fn chain(table: &str, end: &str) -> String {
    format!("{table}_{end}")
}

/// What stands behind `-A`, `-I` or `-D` and the hook.
fn jump(table: &str, end: &str) -> String {
    format!("-p tcp -j {}", chain(table, end))
}

/// The rules, with their chain before them, as `-A` takes them.
fn rules(plan: &Plan, family: Family) -> Vec<String> {
    let [out, into] = HOOKS.map(|(_, end)| chain(&plan.table, end));
    let mut rules = vec![format!("{out} -m owner --uid-owner {} -j RETURN", plan.exempt)];
    if let Some(ports) = plan.inbound {
        for chain in [&out, &into] {
            let to = format!("--dport {} -m addrtype --dst-type LOCAL -j REDIRECT --to-ports {}", ports.from, ports.to);
            rules.push(format!("{chain} -p tcp --syn {to}"));
        }
    }
    if let Some(ports) = plan.outbound {
        let networks = match plan.networks(family) {
            None => vec![String::new()],
            Some(networks) => networks.iter().map(|network| format!("-d {network} ")).collect(),
        };
        let users = match plan.users.as_slice() {
            [] => vec![String::new()],
            users => users.iter().map(|user| format!("-m owner --uid-owner {user} ")).collect(),
        };
        for network in &networks {
            for user in &users {
                let to = format!("--dport {} {user}-j REDIRECT --to-ports {}", ports.from, ports.to);
                rules.push(format!("{out} {network}-p tcp --syn {to}"));
            }
        }
    }
    rules
}

fn jumps(table: &str, listed: &str, end: &str) -> usize {
    let wanted = chain(table, end);
    let hook = HOOKS.iter().find(|(_, of)| *of == end).map_or("", |(hook, _)| *hook);
    let is_ours = |line: &&str| {
        line.strip_prefix("-A ").is_some_and(|rule| rule.starts_with(hook)) && line.ends_with(&format!("-j {wanted}"))
    };
    listed.lines().map(str::trim_end).filter(is_ours).count()
}

fn has_chain(table: &str, listed: &str, end: &str) -> bool {
    let wanted = format!("-N {}", chain(table, end));
    listed.lines().any(|line| line.trim_end() == wanted)
}

/// Whether anything of theirs is there.
pub(super) fn is_there(table: &str, listed: &str) -> bool {
    HOOKS.iter().any(|(_, end)| has_chain(table, listed, end) || jumps(table, listed, end) > 0)
}

/// Makes them hold, whatever of this name was there.
pub(super) fn script(plan: &Plan, family: Family, listed: &str) -> String {
    let mut text = "*nat\n".to_owned();
    // A chain that is declared is made, or emptied.
    HOOKS.iter().for_each(|(_, end)| text.push_str(&format!(":{} - [0:0]\n", chain(&plan.table, end))));
    rules(plan, family).iter().for_each(|rule| text.push_str(&format!("-A {rule}\n")));
    for (hook, end) in HOOKS.iter().filter(|(_, end)| jumps(&plan.table, listed, end) == 0) {
        text.push_str(&format!("-I {hook} 1 {}\n", jump(&plan.table, end)));
    }
    text.push_str("COMMIT\n");
    text
}

/// For people, and for other tools.
pub(super) fn printed(plan: &Plan) -> String {
    let of = |family: Family| format!("# {}-restore --noflush\n{}", family.command(), script(plan, family, ""));
    Family::BOTH.map(of).concat()
}

/// Takes them away; `None`: there are none.
pub(super) fn removal(table: &str, listed: &str) -> Option<String> {
    if !is_there(table, listed) {
        return None;
    }
    let mut text = "*nat\n".to_owned();
    for (hook, end) in HOOKS {
        let delete = format!("-D {hook} {}\n", jump(table, end));
        text.push_str(&delete.repeat(jumps(table, listed, end)));
    }
    for (_, end) in HOOKS.iter().filter(|(_, end)| has_chain(table, listed, end)) {
        let chain = chain(table, end);
        text.push_str(&format!("-F {chain}\n-X {chain}\n"));
    }
    text.push_str("COMMIT\n");
    Some(text)
}

/// What is not there of all that should be. The listing words rules in another way, so they are counted.
pub(super) fn missing(plan: &Plan, family: Family, listed: &str) -> Option<String> {
    let wanted = rules(plan, family);
    for (hook, end) in HOOKS {
        if jumps(&plan.table, listed, end) == 0 {
            return Some(format!("{hook} {}", jump(&plan.table, end)));
        }
        let of = format!("{} ", chain(&plan.table, end));
        let there = listed.lines().filter(|line| line.strip_prefix("-A ").is_some_and(|rule| rule.starts_with(&of))).count();
        if let Some(rule) = wanted.iter().filter(|rule| rule.starts_with(&of)).nth(there) {
            return Some(rule.clone());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::plan;
    use super::*;

    const LISTED: &str = "-P PREROUTING ACCEPT\n-P OUTPUT ACCEPT\n-N wayfarer_in\n-N wayfarer_out\n-N wayfarer_b_out\n\
        -A PREROUTING -p tcp -j wayfarer_in\n-A OUTPUT -p tcp -j wayfarer_out\n-A OUTPUT -p tcp -j wayfarer_b_out\n\
        -A wayfarer_in -p tcp -m tcp --dport 3000 -m addrtype --dst-type LOCAL -j REDIRECT --to-ports 7304\n\
        -A wayfarer_out -m owner --uid-owner 10001 -j RETURN\n\
        -A wayfarer_out -p tcp -m tcp --dport 3000 -m addrtype --dst-type LOCAL -j REDIRECT --to-ports 7304\n\
        -A wayfarer_out -p tcp -m tcp --dport 6379 -j REDIRECT --to-ports 7303\n";

    #[test]
    fn the_rules_of_a_family() {
        let plan = plan(&[
            "redirect.outbound=true",
            "redirect.inbound=true",
            "redirect.upstream_networks=10.0.0.0/8,::/0",
            "redirect.service_users=7,8",
        ]);
        let wanted = "*nat\n:wayfarer_out - [0:0]\n:wayfarer_in - [0:0]
-A wayfarer_out -m owner --uid-owner 10001 -j RETURN
-A wayfarer_out -p tcp --syn --dport 3000 -m addrtype --dst-type LOCAL -j REDIRECT --to-ports 7304
-A wayfarer_in -p tcp --syn --dport 3000 -m addrtype --dst-type LOCAL -j REDIRECT --to-ports 7304
-A wayfarer_out -d 10.0.0.0/8 -p tcp --syn --dport 6379 -m owner --uid-owner 7 -j REDIRECT --to-ports 7303
-A wayfarer_out -d 10.0.0.0/8 -p tcp --syn --dport 6379 -m owner --uid-owner 8 -j REDIRECT --to-ports 7303
-I OUTPUT 1 -p tcp -j wayfarer_out
-I PREROUTING 1 -p tcp -j wayfarer_in
COMMIT\n";
        assert_eq!(script(&plan, Family::V4, ""), wanted);
        assert!(!script(&plan, Family::V4, LISTED).contains("-I "), "what jumps there already");
        assert!(script(&plan, Family::V6, "").contains("-A wayfarer_out -p tcp --syn --dport 6379 -m owner --uid-owner 7 -j"));
        assert!(printed(&plan).contains("# ip6tables-restore --noflush\n*nat\n"));
    }

    #[test]
    fn only_these_are_removed() {
        assert_eq!(removal("wayfarer", "-P OUTPUT ACCEPT\n-A OUTPUT -p tcp -j wayfarer_b_out\n"), None);
        let text = removal("wayfarer", &format!("{LISTED}-A OUTPUT -p tcp -j wayfarer_out\n")).unwrap_or_default();
        let wanted = "*nat\n-D OUTPUT -p tcp -j wayfarer_out\n-D OUTPUT -p tcp -j wayfarer_out\n-D PREROUTING -p tcp -j wayfarer_in\n\
            -F wayfarer_out\n-X wayfarer_out\n-F wayfarer_in\n-X wayfarer_in\nCOMMIT\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn what_is_missing_is_named() {
        let plan = plan(&["redirect.outbound=true", "redirect.inbound=true"]);
        assert_eq!(missing(&plan, Family::V4, LISTED), None);
        for line in LISTED.lines().filter(|line| line.starts_with("-A ") && !line.contains("_b_")) {
            let without = LISTED.replace(&format!("{line}\n"), "");
            assert!(missing(&plan, Family::V4, &without).is_some(), "{line}");
        }
    }
}
