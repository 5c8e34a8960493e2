//! What messages, transactions and handovers are called in the log of a run.
//!
//! It never changes anything. Session ids are shown here: they are those of the simulation.

use wayfarer_engine::directory::{Compare, NextEpoch, Transaction, Write};
use wayfarer_engine::ids::HandoverId;
use wayfarer_engine::node::message::Message;

/// An origin's fence: a fresh epoch without a change of owner.
pub(crate) fn is_fence(transaction: &Transaction) -> bool {
    let (Some(Compare::Location { is: Some((from, _)), .. }), Some(Write::Place { group, epoch: NextEpoch::Fresh, .. })) =
        (transaction.compare.first(), transaction.write.first())
    else {
        return false;
    };
    from == group
}

/// The handover that a commit brings about.
pub(crate) fn commit_of(transaction: &Transaction) -> Option<HandoverId> {
    match transaction.write.first() {
        Some(Write::Place { last, epoch: NextEpoch::Fresh, .. }) if !is_fence(transaction) => *last,
        _ => None,
    }
}

pub(crate) fn describe(transaction: &Transaction) -> String {
    let write = |w: &Write| match w {
        Write::Place { session, group, epoch, last, depends } => {
            let depends: Vec<String> = depends.iter().map(|h| name_of_handover(*h)).collect();
            let last = last.map_or_else(|| "none".into(), name_of_handover);
            format!("place {} in g{} {epoch:?} last {last} depends {depends:?}", String::from_utf8_lossy(&session.0), group.0)
        }
        Write::Forget { session } => format!("forget {}", String::from_utf8_lossy(&session.0)),
        other => format!("{other:?}"),
    };
    transaction.write.iter().map(write).collect::<Vec<_>>().join(", ")
}

pub(crate) fn name_of_handover(handover: HandoverId) -> String {
    format!("H{}.{}", handover.origin.0.0, handover.serial)
}

pub(crate) fn name_of(message: &Message) -> String {
    use Message as M;
    match message {
        M::Propose { handover, session, .. } => {
            format!("propose {} of {}", name_of_handover(*handover), String::from_utf8_lossy(&session.0))
        }
        M::Accept { handover, .. } => format!("accept {}", name_of_handover(*handover)),
        M::Reject { handover, reason } => format!("reject {} {reason:?}", name_of_handover(*handover)),
        M::PreCopy { handover, .. } => format!("pre-copy {}", name_of_handover(*handover)),
        M::PreCopied { handover } => format!("pre-copied {}", name_of_handover(*handover)),
        M::Stage { handover, .. } => format!("stage {}", name_of_handover(*handover)),
        M::Committed { handover } => format!("committed {}", name_of_handover(*handover)),
        M::Promised { handover } => format!("promised {}", name_of_handover(*handover)),
        M::Abort { handover } => format!("abort {}", name_of_handover(*handover)),
        M::Fetch { request, handover, .. } => format!("fetch {} of {}", request.0, name_of_handover(*handover)),
        M::Fetched { request, values } => format!("fetched {}: {} values", request.0, values.iter().flatten().count()),
        M::Confirm { handover } => format!("confirm {}", name_of_handover(*handover)),
        M::Arrival { .. } => "arrival".into(),
    }
}
