//! What is redirected, in numbers, whichever tool words it.
//!
//! It never asks the kernel. Made from settings that are right; the names of users become numbers here.
//! Invariant: somebody is left alone in every plan, and it is not root.

use crate::redirect::number_of;
use ipnet::IpNet;
use serde_json::{Value, json};
use wayfarer_settings::Settings;

/// IPv4 or IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// The program that words its rules.
    pub(super) fn command(self) -> &'static str {
        match self {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        }
    }
}

/// Connections to one port that are sent to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ports {
    pub(super) from: u16,
    pub(super) to: u16,
}

/// See the head of this file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Plan {
    pub(super) table: String,
    /// Whose connections are left alone.
    pub(super) exempt: u32,
    /// To the upstream.
    pub(super) outbound: Option<Ports>,
    /// To which addresses.
    networks: Vec<IpNet>,
    /// Whose; empty: those of all.
    pub(super) users: Vec<u32>,
    /// To the instance.
    pub(super) inbound: Option<Ports>,
}

impl Plan {
    /// The error says what to do.
    pub(super) fn of(settings: &Settings) -> Result<Plan, String> {
        let redirect = &settings.redirect;
        let Some(user) = redirect.sidecar_user.as_ref().filter(|_| redirect.is_on()) else {
            return Err("nothing is to be redirected; set redirect.outbound or redirect.inbound".to_owned());
        };
        let exempt = number_of(user).map_err(|why| format!("redirect.sidecar_user: {why}"))?;
        if exempt == 0 {
            return Err(format!(
                "redirect.sidecar_user: {user} is root; run the sidecar as a user of its own, and name that one"
            ));
        }
        let users = redirect.service_users.iter().map(|user| number_of(user)).collect::<Result<Vec<u32>, String>>();
        let users = users.map_err(|why| format!("redirect.service_users: {why}"))?;
        if users.contains(&exempt) {
            return Err(
                "redirect.service_users: one of them is the sidecar's user, whose connections are not redirected".to_owned()
            );
        }
        let upstream = settings.redirected_upstream_port().filter(|_| redirect.outbound);
        let instance = settings.app.address.tcp().filter(|_| redirect.inbound);
        Ok(Plan {
            table: redirect.table.clone(),
            exempt,
            outbound: upstream.map(|from| Ports { from, to: redirect.outbound_port }),
            networks: redirect.upstream_networks.clone(),
            users,
            inbound: instance.map(|app| Ports { from: app.port(), to: redirect.inbound_port }),
        })
    }

    /// The networks of one family; `None`: all of it.
    pub(super) fn networks(&self, family: Family) -> Option<Vec<IpNet>> {
        let is_of = |network: &&IpNet| matches!(network, IpNet::V4(_)) == (family == Family::V4);
        let networks: Vec<IpNet> = self.networks.iter().filter(is_of).map(IpNet::trunc).collect();
        let is_all = networks.iter().any(|network| network.prefix_len() == 0);
        (!is_all).then_some(networks)
    }

    /// For people.
    pub(super) fn lines(&self) -> Vec<String> {
        let of = |name: &str, ports: Ports| format!("{name}    connections to port {} arrive at port {}", ports.from, ports.to);
        let outbound = self.outbound.map(|ports| of("outbound", ports));
        let inbound = self.inbound.map(|ports| of("inbound ", ports));
        outbound.into_iter().chain(inbound).collect()
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let ports = |ports: Option<Ports>| ports.map(|ports| json!({ "from_port": ports.from, "to_port": ports.to }));
        let networks: Vec<String> = self.networks.iter().map(ToString::to_string).collect();
        json!({
            "table": self.table,
            "exempt_user": self.exempt,
            "outbound": ports(self.outbound),
            "outbound_networks": networks,
            "outbound_users": self.users,
            "inbound": ports(self.inbound),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::configuration::settings_with;

    /// Of these settings, and a sidecar's user.
    pub(in crate::cli::redirect) fn plan(more: &[&str]) -> Plan {
        Plan::of(&settings_with(&[&["redirect.sidecar_user=10001", "state.upstream=redis://redis"], more].concat())).unwrap()
    }

    #[test]
    fn networks_are_divided_by_family() {
        let of = |networks: &str| {
            let plan = plan(&["redirect.outbound=true", &format!("redirect.upstream_networks={networks}")]);
            Family::BOTH.map(|family| plan.networks(family).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>()))
        };
        assert_eq!(of("0.0.0.0/0,::/0"), [None, None]);
        assert_eq!(of("10.1.2.3/8"), [Some(vec!["10.0.0.0/8".to_owned()]), Some(vec![])]);
        assert_eq!(of("10.0.0.9,::/0"), [Some(vec!["10.0.0.9/32".to_owned()]), None]);
    }

    #[test]
    fn root_is_never_left_alone() {
        let wrong = |more: &[&str]| Plan::of(&settings_with(more)).unwrap_err();
        assert!(wrong(&[]).contains("nothing is to be redirected"));
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
        let other = passwd.lines().find(|line| line.split(':').nth(2) == Some("0") && !line.starts_with("root:"));
        if let Some(name) = other.and_then(|line| line.split(':').next()) {
            assert!(wrong(&["redirect.inbound=true", &format!("redirect.sidecar_user={name}")]).contains("is root"));
        }
        let unknown = wrong(&["redirect.inbound=true", "redirect.sidecar_user=no-such-user"]);
        assert!(unknown.contains("redirect.sidecar_user: no-such-user is not in"), "{unknown}");
    }

    #[test]
    fn people_and_programs_are_told_the_same() {
        let both = plan(&["redirect.outbound=true", "redirect.inbound=true"]);
        assert!(both.lines().iter().any(|line| line.contains("3000 arrive at port 7304")));
        assert_eq!(both.json()["inbound"], json!({ "from_port": 3000, "to_port": 7304 }));
    }
}
