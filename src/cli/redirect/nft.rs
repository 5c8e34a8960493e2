//! The rules in the words of nft: one table of their own, for IPv4 and IPv6 together.
//!
//! It runs nothing. The text stands for itself: `nft -f` reads it, and reading it twice is the same as once.
//!
//! Its chains come before those of others at the usual priority of -100 (kube-proxy, Docker), so that the destination is still the one that the
//! service has asked for. A connection that another nat rule has changed before is left as it is.
//! Invariant: the first rule of the chain for connections of this machine leaves the sidecar's alone.

use super::plan::{Family, Plan};

/// Before the others'.
const PRIORITY: i32 = -110;
/// The first packet of a connection. Where the kernel has followed no connections before, it takes the next packet of one that was open for
/// the first, which would break it.
const OPENING: &str = "tcp flags & (fin | syn | rst | ack) == syn";
/// With what a rule begins, behind its comment's quote, in what nft lists.
const COMMENT: &str = "wayfarer ";

/// The rules of a chain, each with the comment by which it is found again.
fn rules(plan: &Plan) -> [(&'static str, Vec<String>); 2] {
    let mut number = 0;
    let mut rule = |text: String| {
        number += 1;
        format!("{text} comment \"{COMMENT}{number}\"")
    };
    let (mut output, mut prerouting) = (Vec::new(), Vec::new());
    output.push(rule(format!("meta skuid {} return", plan.exempt)));
    if let Some(ports) = plan.inbound {
        let text = format!("fib daddr type local {OPENING} tcp dport {} counter redirect to :{}", ports.from, ports.to);
        output.push(rule(text.clone()));
        prerouting.push(rule(text));
    }
    if let Some(ports) = plan.outbound {
        let whose = match set(&plan.users) {
            Some(users) => format!("meta skuid {users} "),
            None => String::new(),
        };
        for family in Family::BOTH {
            let (protocol, name) = if family == Family::V4 { ("ipv4", "ip") } else { ("ipv6", "ip6") };
            let to = match plan.networks(family) {
                None => format!("meta nfproto {protocol}"),
                Some(networks) => match set(&networks) {
                    Some(networks) => format!("{name} daddr {networks}"),
                    None => continue,
                },
            };
            output.push(rule(format!("{whose}{to} {OPENING} tcp dport {} counter redirect to :{}", ports.from, ports.to)));
        }
    }
    [("output", output), ("prerouting", prerouting)]
}

/// `{ 1, 2 }`; `None`: of nothing.
fn set<T: ToString>(of: &[T]) -> Option<String> {
    let all: Vec<String> = of.iter().map(ToString::to_string).collect();
    (!all.is_empty()).then(|| format!("{{ {} }}", all.join(", ")))
}

/// Makes them hold, whatever of this name was there. The table is made first, for one that is not there cannot be deleted.
pub(super) fn script(plan: &Plan) -> String {
    let mut text = format!("{}table inet {} {{\n", removal(&plan.table), plan.table);
    for (hook, rules) in rules(plan).iter().filter(|(_, rules)| !rules.is_empty()) {
        text.push_str(&format!("\tchain {hook} {{\n\t\ttype nat hook {hook} priority {PRIORITY}; policy accept;\n"));
        rules.iter().for_each(|rule| text.push_str(&format!("\t\t{rule}\n")));
        text.push_str("\t}\n");
    }
    text.push_str("}\n");
    text
}

/// Takes them away, if there are any.
pub(super) fn removal(table: &str) -> String {
    format!("table inet {table}\ndelete table inet {table}\n")
}

/// The first rule that is not in what nft lists of the table, which words some of them in another way.
pub(super) fn missing(plan: &Plan, listed: &str) -> Option<String> {
    let all = rules(plan).into_iter().flat_map(|(_, rules)| rules);
    let comment = |rule: &str| rule.split_once(" comment ").map(|(_, comment)| comment.to_owned()).unwrap_or_default();
    all.into_iter().find(|rule| !listed.lines().any(|line| line.trim_end().ends_with(&comment(rule))))
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::plan;
    use super::*;

    #[test]
    fn both_directions() {
        let plan = plan(&["redirect.outbound=true", "redirect.inbound=true"]);
        let wanted = "table inet wayfarer\ndelete table inet wayfarer\ntable inet wayfarer {
	chain output {
		type nat hook output priority -110; policy accept;
		meta skuid 10001 return comment \"wayfarer 1\"
		fib daddr type local tcp flags & (fin | syn | rst | ack) == syn tcp dport 3000 counter redirect to :7304 comment \"wayfarer 2\"
		meta nfproto ipv4 tcp flags & (fin | syn | rst | ack) == syn tcp dport 6379 counter redirect to :7303 comment \"wayfarer 4\"
		meta nfproto ipv6 tcp flags & (fin | syn | rst | ack) == syn tcp dport 6379 counter redirect to :7303 comment \"wayfarer 5\"
	}
	chain prerouting {
		type nat hook prerouting priority -110; policy accept;
		fib daddr type local tcp flags & (fin | syn | rst | ack) == syn tcp dport 3000 counter redirect to :7304 comment \"wayfarer 3\"
	}
}
";
        assert_eq!(script(&plan), wanted);
        assert_eq!(missing(&plan, wanted), None);
        let without = wanted.replace("comment \"wayfarer 5\"", "");
        assert!(missing(&plan, &without).is_some_and(|rule| rule.contains("ipv6")));
    }

    #[test]
    fn outbound_connections_of_some_to_some() {
        let networks = "redirect.upstream_networks=10.0.0.0/8,192.168.7.9";
        let plan = plan(&["redirect.outbound=true", "redirect.service_users=1001,1002", networks, "redirect.table=wayfarer_b"]);
        let text = script(&plan);
        let rule =
            format!("meta skuid {{ 1001, 1002 }} ip daddr {{ 10.0.0.0/8, 192.168.7.9/32 }} {OPENING} tcp dport 6379 counter");
        assert!(text.contains(&rule) && text.contains("table inet wayfarer_b {") && !text.contains("ip6"), "{text}");
        assert!(!text.contains("prerouting"), "{text}");
    }
}
