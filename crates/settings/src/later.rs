//! Settings that are no settings yet.
//!
//! It is read where an unknown key is found, through [`crate::table`]. Invariant: none of them is in the table (a test).

/// Settings that later versions will know, with what to do until then.
pub static NOT_YET: &[(&str, &str)] = &[
    ("cluster.tls", "nodes of this version talk over loopback only; remove it"),
    ("policy.variable[].when", "rules of this version go by name only; remove it"),
    ("policy.impact_function", "impact comes from `impact` alone; remove it"),
    ("app.compatible", "sessions move between all versions of the service; remove it"),
    ("state.rest_after_ms", "write rest.after_ms"),
    ("cluster.role", "every node of this version owns sessions; remove it"),
    ("cluster.zone", "zones are not used yet; remove it"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_of_them_is_a_setting() {
        assert!(NOT_YET.iter().all(|(key, _)| crate::table::setting(key).is_none()));
    }
}
