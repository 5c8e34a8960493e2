//! The result of the demonstration: one table, one JSON object, and whether all is well.
//!
//! It measures nothing. Called by the run at its end, whatever that is. Latencies count from due times. `bytes_total` is what a second run of the
//! same seed moved with a plan that carries everything.
//! Invariant: `failures` is empty exactly if the exit code is 0.

use std::fmt::Write as _;

use serde::Serialize;

use crate::percentile::Durations;
use crate::run::Outcome;
use crate::stage::moves::Pause;
use crate::users::ledger::{Phase, Record};

/// Version of the JSON's schema; fields are only ever added under the same number.
pub const SCHEMA_VERSION: u32 = 2;

/// With fewer sessions moved than this it is chance whether a page happens to read a variable before it has come by itself, so
/// that none was fetched on access says nothing. With more, it means that fetching on access does not work.
const SESSIONS_MOVED_TO_TELL: u64 = 50;

/// With more of the machine's time than this in other hands, in percent, times say little of the nodes.
const OTHERS_PERCENT_TO_TELL: f64 = 10.0;

/// What the figures of pauses are of.
const PAUSE_IS: &str = "of each move: the longest request that met it, from its due time; if none did, its freeze";

/// What `--json` writes. Times in milliseconds, sizes in bytes.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names are the documentation of the JSON; the table explains them in words")]
pub struct Report {
    pub schema_version: u32,
    pub ok: bool,
    pub failures: Vec<String>,
    pub seed: u64,
    pub seconds: f64,
    pub users: u32,
    pub max_variable_bytes: Option<u32>,
    pub requests: u64,
    pub errors: u64,
    pub error_reasons: std::collections::BTreeMap<String, u64>,
    pub lost_writes: u64,
    pub stale_reads: u64,
    pub wrong_values: u64,
    pub late: u64,
    pub undispatched: u64,
    pub sessions: u64,
    pub sessions_moved: u64,
    pub moves: u64,
    pub moves_aborted: u64,
    pub moves_one_sided: u64,
    pub moves_without_request: u64,
    pub variables_fetched_late: u64,
    pub variables_fetched_on_access: u64,
    pub bytes_eager: u64,
    pub bytes_late: u64,
    pub bytes_total: u64,
    pub moves_reference: u64,
    pub bytes_eager_percent_of_total: Option<f64>,
    pub pause_is: &'static str,
    pub pause_ms_p50: Option<f64>,
    pub pause_ms_p99: Option<f64>,
    pub pause_ms_max: Option<f64>,
    pub moves_met: u64,
    pub pause_met_ms_p50: Option<f64>,
    pub pause_met_ms_p99: Option<f64>,
    pub pauses_longest: Vec<Pause>,
    pub freeze_ms_p50: Option<f64>,
    pub freeze_ms_p99: Option<f64>,
    pub first_after_ms_p50: Option<f64>,
    pub first_after_ms_p99: Option<f64>,
    pub latency_ms_p50_before: Option<f64>,
    pub latency_ms_p99_before: Option<f64>,
    pub latency_ms_p50_during: Option<f64>,
    pub latency_ms_p99_during: Option<f64>,
    pub latency_ms_p50_after: Option<f64>,
    pub latency_ms_p99_after: Option<f64>,
    pub machine_own_percent: Option<f64>,
    pub machine_others_percent: Option<f64>,
    pub machine_stolen_percent: Option<f64>,
    pub faults: Vec<String>,
}

/// What the user asked for, for the record.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Seed of both runs.
    pub seed: u64,
    /// Virtual users.
    pub users: u32,
    /// The limit on the size of a variable, if there is one.
    pub variable_bytes_max: Option<u32>,
}

impl Report {
    /// Of the run and of the run for reference.
    pub fn new(asked: Asked, outcome: &Outcome, reference: &Outcome) -> Self {
        let mut report = Self::of(asked, outcome, reference);
        report.failures = failures(asked, outcome, reference);
        report.ok = report.failures.is_empty();
        report
    }

    /// Of runs that did not come to their end, and why: what was measured until then, judged by nothing but that.
    pub fn unfinished(asked: Asked, outcome: &Outcome, reference: &Outcome, why: &str) -> Self {
        Self { failures: vec![why.to_owned()], ..Self::of(asked, outcome, reference) }
    }

    /// The figures, not judged yet.
    fn of(asked: Asked, outcome: &Outcome, reference: &Outcome) -> Self {
        let counts = outcome.ledger.counts();
        let latencies = |phase| latencies(&counts.records, phase);
        let (before, during, after) = (latencies(Phase::Before), latencies(Phase::During), latencies(Phase::After));
        let pauses = Durations::of(outcome.moves.pauses_us.clone());
        let met = Durations::of(outcome.moves.met_us.clone());
        let freezes = Durations::of(outcome.moves.freezes_us.clone());
        let firsts = Durations::of(outcome.moves.firsts_us.clone());
        let bytes_total = reference.bytes_eager;
        let percent = (bytes_total > 0).then(|| (outcome.bytes_eager as f64 / bytes_total as f64 * 1000.0).round() / 10.0);
        Self {
            schema_version: SCHEMA_VERSION,
            ok: false,
            failures: Vec::new(),
            seed: asked.seed,
            seconds: (outcome.seconds * 10.0).round() / 10.0,
            users: asked.users,
            max_variable_bytes: asked.variable_bytes_max,
            requests: counts.records.len() as u64,
            errors: counts.errors,
            error_reasons: counts.reasons.clone(),
            lost_writes: counts.lost_writes,
            stale_reads: counts.stale_reads,
            wrong_values: counts.wrong_values,
            late: counts.late,
            undispatched: counts.undispatched,
            sessions: counts.sessions.len() as u64,
            sessions_moved: outcome.moves.sessions_moved,
            moves: outcome.moves.moves,
            moves_aborted: outcome.moves.aborted,
            moves_one_sided: outcome.moves.one_sided,
            moves_without_request: outcome.moves.without_request,
            variables_fetched_late: outcome.fetched_late,
            variables_fetched_on_access: outcome.fetched_on_access,
            bytes_eager: outcome.bytes_eager,
            bytes_late: outcome.bytes_late,
            bytes_total,
            moves_reference: reference.moves.moves,
            bytes_eager_percent_of_total: percent,
            pause_is: PAUSE_IS,
            pause_ms_p50: pauses.percentile_ms(50.0),
            pause_ms_p99: pauses.percentile_ms(99.0),
            pause_ms_max: pauses.max_ms(),
            moves_met: outcome.moves.met_us.len() as u64,
            pause_met_ms_p50: met.percentile_ms(50.0),
            pause_met_ms_p99: met.percentile_ms(99.0),
            pauses_longest: outcome.moves.longest.clone(),
            freeze_ms_p50: freezes.percentile_ms(50.0),
            freeze_ms_p99: freezes.percentile_ms(99.0),
            first_after_ms_p50: firsts.percentile_ms(50.0),
            first_after_ms_p99: firsts.percentile_ms(99.0),
            latency_ms_p50_before: before.percentile_ms(50.0),
            latency_ms_p99_before: before.percentile_ms(99.0),
            latency_ms_p50_during: during.percentile_ms(50.0),
            latency_ms_p99_during: during.percentile_ms(99.0),
            latency_ms_p50_after: after.percentile_ms(50.0),
            latency_ms_p99_after: after.percentile_ms(99.0),
            machine_own_percent: outcome.machine.map(|shares| shares.own),
            machine_others_percent: outcome.machine.map(|shares| shares.others),
            machine_stolen_percent: outcome.machine.map(|shares| shares.stolen),
            faults: counts.samples.clone(),
        }
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (name, value, meaning) in self.outcome_rows().into_iter().chain(self.time_rows()) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {name:<22} {value:>16}   {meaning}");
        }
        self.remarks(&mut text);
        text
    }

    /// What became of requests, sessions and bytes.
    fn outcome_rows(&self) -> Vec<Row> {
        let share = self.bytes_eager_percent_of_total.map_or_else(String::new, |percent| format!("{percent} % of the next line"));
        let by = format!("by {} users in {} sessions, {} s", self.users, self.sessions, self.seconds);
        let late = format!("{} / {}", self.late, self.undispatched);
        let fetched =
            format!("variables that came after their session, {} of them on first access", self.variables_fetched_on_access);
        vec![
            row("requests", self.requests, by),
            row("errors", self.errors, "every status but 200 counts"),
            row("lost writes", self.lost_writes, "acknowledged, and not there at the end"),
            row("stale reads", self.stale_reads, "older than what had been acknowledged or read"),
            row("wrong values", self.wrong_values, "bytes that nobody wrote"),
            row("late / undispatched", late, "requests that left over 10 ms late / not at all"),
            row("sessions moved", self.sessions_moved, format!("in {} moves; {} aborted", self.moves, self.moves_aborted)),
            row("fetched late", self.variables_fetched_late, fetched),
            row("bytes eager", self.bytes_eager, format!("before sessions answered at their new place: {share}")),
            row("bytes total", self.bytes_total, format!("the same, carrying everything ({} moves)", self.moves_reference)),
            row(
                "bytes late",
                self.bytes_late,
                "after that; what moves twice is fetched twice, so eager + late may exceed the total",
            ),
        ]
    }

    /// How long things took.
    fn time_rows(&self) -> Vec<Row> {
        let ms = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.1}"));
        let both = |p50, p99| format!("{} / {}", ms(p50), ms(p99));
        let met = format!("the same of the {} moves that a request met", self.moves_met);
        let latency = "latency of requests, from their due times";
        vec![
            row("pause p50 / p99 ms", both(self.pause_ms_p50, self.pause_ms_p99), PAUSE_IS),
            row("met p50 / p99 ms", both(self.pause_met_ms_p50, self.pause_met_ms_p99), met),
            row(
                "freeze p50 / p99 ms",
                both(self.freeze_ms_p50, self.freeze_ms_p99),
                "from frozen at the old node to open at the new one",
            ),
            row(
                "first p50 / p99 ms",
                both(self.first_after_ms_p50, self.first_after_ms_p99),
                "first request after each move, which pays for what it has to fetch",
            ),
            row("before p50 / p99 ms", both(self.latency_ms_p50_before, self.latency_ms_p99_before), latency),
            row("during p50 / p99 ms", both(self.latency_ms_p50_during, self.latency_ms_p99_during), latency),
            row("after p50 / p99 ms", both(self.latency_ms_p50_after, self.latency_ms_p99_after), latency),
        ]
    }

    /// Reasons, faults, and whether all is well.
    fn remarks(&self, text: &mut String) {
        for (reason, count) in &self.error_reasons {
            let _ = writeln!(text, "  error, {count} times: {reason}");
        }
        for fault in &self.faults {
            let _ = writeln!(text, "  fault at {fault}");
        }
        if self.variables_fetched_on_access == 0 && self.sessions_moved < SESSIONS_MOVED_TO_TELL {
            let _ = writeln!(
                text,
                "  Remark: nothing was fetched on first access; below {SESSIONS_MOVED_TO_TELL} sessions moved, that is chance."
            );
        } else if self.variables_fetched_on_access == 0 && self.max_variable_bytes.is_some() {
            text.push_str(
                "  Remark: nothing was fetched on first access: such small variables come by themselves before that.\n",
            );
        }
        if let (Some(others), Some(stolen)) = (self.machine_others_percent, self.machine_stolen_percent)
            && others + stolen > OTHERS_PERCENT_TO_TELL
        {
            let _ = writeln!(
                text,
                "  Remark: others had this machine too (processes {others} %, its host {stolen} % of the time): times say little."
            );
        }
        if self.ok {
            text.push_str("  All well: no error, no lost write, no stale read.\n");
        }
        for failure in &self.failures {
            let _ = writeln!(text, "  FAILED: {failure}");
        }
    }
}

/// Name, value and meaning of one line of the table.
type Row = (&'static str, String, String);

fn row(name: &'static str, value: impl ToString, meaning: impl Into<String>) -> Row {
    (name, value.to_string(), meaning.into())
}

fn latencies(records: &[Record], phase: Phase) -> Durations {
    let of_phase = records.iter().filter(|record| record.phase == phase);
    Durations::of(of_phase.map(|record| u64::try_from(record.done_us.saturating_sub(record.due_us)).unwrap_or(0)).collect())
}

/// Every reason why the demonstration has failed, in words.
fn failures(asked: Asked, outcome: &Outcome, reference: &Outcome) -> Vec<String> {
    let mut failures = Vec::new();
    for (which, run) in [("", outcome), (" in the run for reference", reference)] {
        let counts = run.ledger.counts();
        for (count, what) in [
            (counts.errors, "requests failed"),
            (counts.lost_writes, "acknowledged writes were lost"),
            (counts.stale_reads, "reads were stale"),
            (counts.wrong_values, "values were wrong"),
            (counts.undispatched, "requests were due and never sent: the machine, or the service, is too slow"),
        ] {
            if count > 0 {
                failures.push(format!("{count} {what}{which}"));
            }
        }
        failures.extend(run.problems.iter().map(|problem| format!("{problem}{which}")));
        if run.moves.moves == 0 {
            failures.push(format!("no session moved{which}"));
        }
    }
    // Small variables all come by themselves before anybody reads them.
    let waits_for_access = asked.variable_bytes_max.is_none();
    if outcome.fetched_on_access == 0 && outcome.moves.sessions_moved >= SESSIONS_MOVED_TO_TELL && waits_for_access {
        failures.push("no variable was fetched late, on its first access".into());
    }
    failures
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::stage::machine::Shares;
    use crate::stage::moves::MoveFigures;

    fn outcome(eager: u64) -> Outcome {
        let moves = MoveFigures {
            moves: 3,
            sessions_moved: 2,
            pauses_us: vec![1000, 3000],
            freezes_us: vec![500],
            ..MoveFigures::default()
        };
        Outcome {
            bytes_eager: eager,
            bytes_late: 9,
            fetched_late: 4,
            fetched_on_access: 2,
            moves,
            seconds: 24.04,
            ..Outcome::default()
        }
    }

    const ASKED: Asked = Asked { seed: 1, users: 2, variable_bytes_max: None };

    #[test]
    fn all_is_well_only_without_any_failure() {
        let report = Report::new(ASKED, &outcome(10), &outcome(100));
        assert!(report.ok, "{:?}", report.failures);
        assert_eq!((report.bytes_total, report.bytes_eager_percent_of_total), (100, Some(10.0)));
        assert!(report.table().contains("All well"));

        let mut bad = outcome(10);
        bad.fetched_on_access = 0;
        bad.moves.sessions_moved = SESSIONS_MOVED_TO_TELL;
        bad.ledger.counts().stale_reads = 2;
        bad.problems.push("node a left sessions behind".into());
        let report = Report::new(ASKED, &bad, &outcome(100));
        assert!(!report.ok);
        assert_eq!(
            report.failures,
            ["2 reads were stale", "node a left sessions behind", "no variable was fetched late, on its first access"]
        );
        assert!(report.table().contains("FAILED: 2 reads were stale"));
        let small = Report::new(Asked { variable_bytes_max: Some(64), ..ASKED }, &bad, &outcome(100));
        assert_eq!(small.failures.len(), 2, "{:?}", small.failures);
        let still = Report::new(ASKED, &Outcome { moves: MoveFigures::default(), ..outcome(1) }, &outcome(1));
        assert_eq!(still.failures, ["no session moved"]);
    }

    #[test]
    fn few_moves_without_a_fetch_on_access_are_a_remark_and_no_failure() {
        let few = Outcome { fetched_on_access: 0, ..outcome(10) };
        let report = Report::new(ASKED, &few, &outcome(100));
        assert!(report.ok, "{:?}", report.failures);
        assert!(report.table().contains("Remark: nothing was fetched on first access"));
        assert!(!Report::new(ASKED, &outcome(10), &outcome(100)).table().contains("Remark"));
    }

    #[test]
    fn a_machine_that_others_use_is_a_remark() {
        let run = |others, stolen| {
            let machine = Some(Shares { own: 40.0, others, stolen });
            Report::new(ASKED, &Outcome { machine, ..outcome(10) }, &outcome(100))
        };
        assert!(run(7.5, 3.0).table().contains("processes 7.5 %, its host 3 %"), "{}", run(7.5, 3.0).table());
        assert!(!run(5.0, 1.0).table().contains("Remark"));
        assert_eq!(serde_json::to_value(run(5.0, 1.0)).unwrap()["machine_own_percent"], 40.0);
    }

    #[test]
    fn the_json_has_the_promised_fields() {
        let json = serde_json::to_value(Report::new(ASKED, &outcome(10), &outcome(100))).unwrap();
        for name in [
            "schema_version",
            "requests",
            "errors",
            "lost_writes",
            "stale_reads",
            "sessions",
            "sessions_moved",
            "variables_fetched_late",
            "bytes_eager",
            "bytes_late",
            "bytes_total",
            "pause_ms_p50",
            "pause_ms_p99",
            "seed",
            "seconds",
            "latency_ms_p50_before",
            "latency_ms_p99_before",
            "latency_ms_p50_during",
            "latency_ms_p99_during",
            "latency_ms_p50_after",
            "latency_ms_p99_after",
        ] {
            assert!(json.get(name).is_some(), "{name}");
        }
    }
}
