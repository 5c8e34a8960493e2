//! Each deliberate bug of the engine is seen by a scenario: the checks can fail.

use crate::{deaths, doubt, standing, whole};
use std::panic::{AssertUnwindSafe, catch_unwind};
use wayfarer_engine::bugs::{Bug, switch};

fn is_seen(bug: Bug, scenarios: &[fn()]) {
    switch(Some(bug));
    let unseen = scenarios.iter().position(|scenario| catch_unwind(AssertUnwindSafe(scenario)).is_ok());
    switch(None);
    assert_eq!(unseen, None, "{bug:?} is not seen by this scenario");
}

#[test]
fn an_origin_that_asks_instead_of_fencing_is_seen() {
    is_seen(
        Bug::AskInsteadOfFence,
        &[deaths::a_session_that_was_committed_to_a_target_that_died_is_not_answered_for_by_the_origin],
    );
}

#[test]
fn a_commit_without_the_group_condition_is_seen() {
    is_seen(Bug::SkipGroupCondition, &[standing::a_commit_from_a_group_that_was_lost_is_refused]);
}

#[test]
fn an_answer_while_frozen_is_seen() {
    is_seen(Bug::AnswerWhileFrozen, &[whole::at_each_step_one_node_answers_and_between_freeze_and_open_nobody]);
}

#[test]
fn an_epoch_that_is_kept_is_seen() {
    is_seen(
        Bug::ReuseEpochs,
        &[
            doubt::a_commit_that_comes_after_the_fence_is_refused,
            deaths::a_target_that_dies_between_staging_and_commit_leaves_everything_with_the_origin,
        ],
    );
}

#[test]
fn a_lease_from_the_receipt_of_its_renewal_is_seen() {
    is_seen(Bug::LeaseFromReceipt, &[standing::a_renewal_that_is_answered_late_counts_from_its_sending]);
}
