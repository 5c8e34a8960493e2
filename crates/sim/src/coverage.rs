//! Counts what happened in a run, so that a simulator in which nothing happens is noticed.
//!
//! It never influences a run. Filled by the world, asserted by the tests over many seeds, printed by the program.

use std::fmt;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// See the head of this file.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Coverage { $($(#[$doc])* pub $name: u64,)* }

        impl Coverage {
            /// Adds the counts of another run.
            pub fn add(&mut self, other: &Coverage) { $(self.$name += other.$name;)* }

            /// Each count with its name.
            pub fn all(&self) -> Vec<(&'static str, u64)> { vec![$((stringify!($name), self.$name)),*] }
        }
    };
}

counters! {
    /// Events.
    events,
    /// Operations that were answered with a result.
    answered,
    /// Operations that certainly did not happen.
    failed,
    /// Operations of which the client does not know whether they happened.
    unknown,
    /// Operations that ran at an owner for another node.
    forwarded,
    /// Reads of a variable that was declared lost.
    read_lost,
    /// Handovers that opened at their target.
    commits,
    /// Handovers that ended where they began.
    aborts,
    /// Handovers whose target gave up.
    declines,
    /// Fences of an origin in doubt that were applied.
    fences_won,
    /// Fences of an origin in doubt that were refused.
    fences_lost,
    /// Transactions that were applied after their outcome had been reported as unknown.
    applied_late,
    /// Variables that came late.
    fetches,
    /// Variables declared lost.
    lost_variables,
    /// Sessions that were lost with their owner.
    lost_sessions,
    /// Sessions born.
    births,
    /// Sessions ended.
    ends,
    /// Operations that ran, but whose node had no lease to say so.
    lapses,
    /// Drains that ended with an empty node.
    drains,
    /// Gifts that ended.
    gifts,
    /// Processes that ended without warning.
    crashes,
    /// Pauses of a process.
    pauses,
    /// Members that were fenced after their process had ended.
    fenced_dead,
    /// Members that were fenced without proof.
    fenced_unproven,
    /// Processes that learned that they are fenced.
    heard_of_fence,
    /// Residuals that ended.
    residuals_ended,
    /// Loads from the upstream.
    loads,
    /// Stores in the upstream.
    stores,
    /// Loads and stores that the upstream refused for a later owner or batch.
    stale_stores,
    /// Loads of keys that an open session had not known of.
    reaches,
    /// Keys that had expired in the upstream, unknown to their owner.
    vanished,
    /// Keys that became another session's.
    renames,
    /// Times that a session was to move, so that two are at one place.
    meetings,
    /// Sessions that were at rest and opened.
    check_outs,
    /// Sessions that went to rest with something in them.
    check_ins,
    /// Changes of the mode that operators ordered.
    modes_ordered,
    /// Times that everybody had confirmed and the mode went on.
    modes_reached,
    /// Changes of the mode that were taken back for somebody who did not confirm.
    modes_taken_back,
    /// Operations that went straight to the upstream.
    direct,
    /// Operations that waited for a change of the mode.
    held,
    /// Times that a crash cost writes that were not due.
    rolled_back,
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: Vec<String> = self.all().into_iter().map(|(name, count)| format!("{name} {count}")).collect();
        f.write_str(&text.join(", "))
    }
}
