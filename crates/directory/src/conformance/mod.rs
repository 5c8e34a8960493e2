//! What every backend of the directory must keep, as cases that a backend's tests run against real instances of it.
//!
//! It knows no backend: a test gives it a [`Store`] that opens instances. A case panics when the backend is wrong. Each backend
//! has one test file with `conformance_suite!(…)`, which makes a test of each case.
//!
//! | file | cases |
//! |---|---|
//! | `locations` | compare-and-set, refusals, conditions, epochs, batches |
//! | `members` | registration, leases, fencing, leaving, proof of death |
//! | `modes` | the mode, its confirmation, claims that compare it |
//! | `together` | several instances and tasks: counter, linearizable history, watch |
//! | [`history`] | the checker of such a history |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a suite of tests: it fails by panicking, and starts tasks of its own"
)]

pub mod history;
mod locations;
mod members;
mod modes;
mod together;

pub use locations::*;
pub use members::*;
pub use modes::*;
pub use together::*;

use std::future::Future;
use std::time::Duration;
use wayfarer_engine::directory::{
    Compare, Directory, MemberDraft, NextEpoch, Outcome, Placement, Registration, Role, Transaction, View, Write,
};
use wayfarer_engine::ids::{Epoch, GroupId, Incarnation, SessionId};

/// How long a case waits for something that must happen.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// One empty store, and the ways into it.
pub trait Store: Send + Sync + 'static {
    /// One process's access.
    type Instance: Directory + 'static;

    /// Another instance on the same store, as another process would open it.
    fn open(&self) -> impl Future<Output = Self::Instance> + Send;

    /// Does to `instance` what the end of its process would do. `false`: this backend has no proof of death.
    fn end_process(&self, instance: &Self::Instance) -> bool;
}

/// Makes a test of each case of the suite; `$store` is an expression that makes an empty [`Store`].
#[macro_export]
macro_rules! conformance_suite {
    ($store:expr) => {
        $crate::conformance_suite!(@cases $store;
            a_location_is_set_only_by_its_right_key, a_refusal_carries_the_placement, a_group_must_have_this_owner_and_epoch,
            an_incarnation_must_be_alive, all_or_nothing_is_written, two_sessions_change_together, one_fresh_epoch_serves_a_whole_transaction,
            an_epoch_can_be_kept, any_bytes_are_an_id, handovers_come_back, a_location_can_be_forgotten,
            a_big_batch_is_one_transaction, an_empty_transaction_tells_the_counter,
            registration_shows_in_the_view, a_name_belongs_to_one_living_member, a_fenced_name_is_free,
            a_dead_process_is_proven_dead, nobody_is_proven_dead_without_a_record, fencing_loses_groups_in_one_transaction,
            a_fenced_member_never_renews, a_fenced_member_stays_fenced, a_member_leaves, a_renewal_ends_standing_still, renewals_are_counted, states_are_kept,
            a_mode_changes_once_a_generation, a_mode_waits_for_every_living_member, a_claim_in_another_mode_is_refused,
            what_a_member_disowns_is_its_own,
            numbers_are_never_given_out_twice, a_reopened_store_continues_the_counter, writes_are_read_at_once,
            concurrent_counters_lose_nothing, a_history_is_linearizable, batches_overlap_without_tearing,
            a_watch_sees_other_instances, a_watch_begins_with_the_present,
        );
    };
    (@cases $store:expr; $($case:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::conformance::$case(&$store).await;
            }
        )*
    };
}

/// A draft with this name.
pub fn draft(name: &str) -> MemberDraft {
    MemberDraft {
        name: name.to_owned(),
        control: "127.0.0.1:7300".to_owned(),
        zone: "z1".to_owned(),
        app_name: "shop".to_owned(),
        app_version: "1.4.2".to_owned(),
        role: Role::Owner,
        hint: format!("{name}:8080"),
        requests: format!("{name}:8081"),
    }
}

/// Registers `name` with one group.
pub async fn member(directory: &impl Directory, name: &str) -> (Incarnation, GroupId, Epoch) {
    let Registration { incarnation, groups } = directory.register(draft(name), 1).await.expect("the name is free");
    assert_eq!(groups.len(), 1, "one group was asked for");
    (incarnation, groups[0].0, groups[0].1)
}

fn session(name: &str) -> SessionId {
    SessionId::copy_of(name.as_bytes())
}

fn is(name: &str, is: Option<(GroupId, Epoch)>) -> Compare {
    Compare::Location { session: session(name), is }
}

fn place(name: &str, group: GroupId, epoch: NextEpoch) -> Write {
    Write::Place { session: session(name), group, epoch, last: None, depends: Vec::new() }
}

async fn transact(directory: &impl Directory, compare: Vec<Compare>, write: Vec<Write>) -> Outcome {
    directory.transact(Transaction { compare, write }).await.expect("the directory answers")
}

/// Performs it and returns the epoch; panics if it is refused.
async fn applied(directory: &impl Directory, compare: Vec<Compare>, write: Vec<Write>) -> Epoch {
    match transact(directory, compare, write).await {
        Outcome::Applied { epoch } => epoch,
        Outcome::Refused { found } => panic!("refused, found {found:?}"),
    }
}

/// Performs it and returns what was found; panics if it is applied.
async fn refused(directory: &impl Directory, compare: Vec<Compare>, write: Vec<Write>) -> Placement {
    match transact(directory, compare, write).await {
        Outcome::Applied { epoch } => panic!("applied at {epoch:?}, but must be refused"),
        Outcome::Refused { found } => found,
    }
}

/// Puts a session that has no location yet.
async fn born(directory: &impl Directory, name: &str, group: GroupId) -> Epoch {
    applied(directory, vec![is(name, None)], vec![place(name, group, NextEpoch::Fresh)]).await
}

async fn read(directory: &impl Directory, name: &str) -> Placement {
    directory.read(session(name)).await.expect("the directory answers")
}

async fn view(directory: &impl Directory) -> View {
    directory.view().await.expect("the directory answers")
}
