//! Every (state × event) of both tables, as a snapshot: a change of a transition is a change of this text.

use super::{origin, target};
use std::fmt::Write;

#[test]
fn transition_tables() {
    use origin::{Event as OE, State as OS};
    use target::{Event as TE, State as TS};
    let mut text = String::from("origin\n");
    for state in [OS::Proposed, OS::PreCopying, OS::Preparing, OS::Frozen, OS::Fencing, OS::Gone, OS::Aborted, OS::Forgotten] {
        for event in [
            OE::Accepted,
            OE::AcceptedAll,
            OE::Rejected,
            OE::PreCopied,
            OE::Prepared,
            OE::Cancelled,
            OE::NotSent,
            OE::Late,
            OE::Committed,
            OE::Promised,
            OE::FenceWon,
            OE::FoundCommitted,
            OE::FoundAnother,
            OE::FenceUnknown,
        ] {
            let (to, action) = origin::step(state, event);
            let _ = writeln!(text, "{state:?} × {event:?} → {to:?} · {action:?}");
        }
    }
    text.push_str("target\n");
    for state in [TS::Accepted, TS::Replicating, TS::Committing, TS::Open, TS::Refused, TS::Promised] {
        for event in [
            TE::PreCopy,
            TE::Staged,
            TE::Replicated,
            TE::Unfit,
            TE::Aborted,
            TE::Late,
            TE::Applied,
            TE::FoundOurs,
            TE::Refused,
            TE::Unknown,
        ] {
            let (to, action) = target::step(state, event);
            let _ = writeln!(text, "{state:?} × {event:?} → {to:?} · {action:?}");
        }
    }
    insta::assert_snapshot!(text);
}
