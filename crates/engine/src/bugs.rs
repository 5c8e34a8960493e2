//! Deliberate bugs in the production transitions, so that the checks can be seen to find them.
//!
//! Compiled only with the feature `bugs` (tests and the simulator); without it [`on`] is a constant `false` and costs nothing.
//! No code path of the product turns one on.

/// One switch a bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// An origin in doubt reads the directory instead of fencing.
    AskInsteadOfFence,
    /// The commit does not check that both groups still have their owners.
    SkipGroupCondition,
    /// A frozen session answers.
    AnswerWhileFrozen,
    /// Commit and fence keep the epoch.
    ReuseEpochs,
    /// A lease counts from the receipt of its renewal.
    LeaseFromReceipt,
    /// The upstream does not look at the guard of a key.
    GuardIgnored,
    /// A check-in removes the record before the upstream has everything.
    CheckInBeforeFlush,
    /// The outcomes of a batch are booked in the order of the books, not of the batch.
    OutcomesOfOtherKeys,
    /// A claim does not compare the mode in which it was made.
    ClaimInAnyMode,
    /// A member confirms that nothing of it is under way to the upstream without having waited for that.
    ConfirmUnderWay,
    /// A member confirms that it has no session any more while it still has some.
    ConfirmUnsettled,
    /// The two halves of a rename are two steps: the key leaves one session before it is in the other.
    RenameInHalves,
}

impl Bug {
    /// Every one.
    pub const ALL: [Bug; 12] = [
        Bug::AskInsteadOfFence,
        Bug::SkipGroupCondition,
        Bug::AnswerWhileFrozen,
        Bug::ReuseEpochs,
        Bug::LeaseFromReceipt,
        Bug::GuardIgnored,
        Bug::CheckInBeforeFlush,
        Bug::OutcomesOfOtherKeys,
        Bug::ClaimInAnyMode,
        Bug::ConfirmUnderWay,
        Bug::ConfirmUnsettled,
        Bug::RenameInHalves,
    ];
}

#[cfg(any(test, feature = "bugs"))]
thread_local! {
    static PRESENT: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether the bug is switched on in this thread.
#[cfg(any(test, feature = "bugs"))]
pub fn on(bug: Bug) -> bool {
    PRESENT.with(|p| p.get() == Some(bug))
}

/// Never, in the product.
#[cfg(not(any(test, feature = "bugs")))]
#[inline(always)]
pub const fn on(_: Bug) -> bool {
    false
}

/// Switches to one bug, or to none, in this thread.
#[cfg(any(test, feature = "bugs"))]
pub fn switch(bug: Option<Bug>) {
    PRESENT.with(|p| p.set(bug));
}
