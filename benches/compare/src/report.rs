//! What was measured, as a table with ratios and goals, and as JSON.
//!
//! It never measures. A figure is the median of its runs; a ratio is that of the medians. Figures of one call belong together and
//! are not compared with those of another.
//!
//! Invariant: a goal that was not measured is never shown as met.

use crate::servers::Kind;
use std::collections::BTreeMap;

/// What a ratio must be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// Shown for the reader.
    None,
}

impl Goal {
    fn is_met(self, ratio: f64) -> Option<bool> {
        match self {
            Goal::AtMost(limit) => Some(ratio <= limit),
            Goal::AtLeast(limit) => Some(ratio >= limit),
            Goal::None => None,
        }
    }

    fn text(self) -> String {
        match self {
            Goal::AtMost(limit) => format!("<= {limit}"),
            Goal::AtLeast(limit) => format!(">= {limit}"),
            Goal::None => String::new(),
        }
    }
}

/// One figure of one test.
struct Row {
    test: String,
    unit: &'static str,
    /// Whom the product is compared with, and what the ratio to each must be.
    goals: Vec<(&'static str, Goal)>,
    /// What each run found, in the order in which they were first given.
    runs: Vec<(&'static str, Vec<f64>)>,
}

impl Row {
    fn median(&self, name: &str) -> Option<f64> {
        self.runs.iter().find(|(kind, _)| *kind == name).and_then(|(_, runs)| median(runs))
    }

    /// The ratios to those it is compared with that were measured.
    fn ratios(&self) -> Vec<(&'static str, f64, Goal)> {
        let Some(mine) = self.median(Kind::Wayfarer.name()) else { return Vec::new() };
        let of = |(peer, goal): &(&'static str, Goal)| {
            self.median(peer).filter(|theirs| *theirs > 0.0).map(|theirs| (*peer, mine / theirs, *goal))
        };
        self.goals.iter().filter_map(of).collect()
    }

    fn goal_text(&self) -> String {
        let mut texts: Vec<String> = self.goals.iter().map(|(_, goal)| goal.text()).filter(|text| !text.is_empty()).collect();
        texts.dedup();
        texts.join(", ")
    }
}

/// All of them, in the order in which they were first given.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
}

/// The middle one, or the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
    Some((sorted.get(low)? + sorted.get(high)?) / 2.0)
}

impl Report {
    /// Adds what one run found; the goal is that beside Redis, with either setting, and beside a smaller size.
    pub fn add(&mut self, test: &str, unit: &'static str, goal: Goal, kind: &'static str, value: f64) {
        let peers = [Kind::Redis.name(), Kind::RedisListpack.name(), LESS];
        self.add_beside(test, unit, &peers.map(|peer| (peer, goal)), kind, value);
    }

    /// Adds what one run found, with a goal beside each of those that are compared with.
    pub fn add_beside(&mut self, test: &str, unit: &'static str, goals: &[(&'static str, Goal)], kind: &'static str, value: f64) {
        let at = self.rows.iter().position(|row| row.test == test && row.unit == unit).unwrap_or_else(|| {
            self.rows.push(Row { test: test.to_owned(), unit, goals: goals.to_vec(), runs: Vec::new() });
            self.rows.len() - 1
        });
        let runs = &mut self.rows[at].runs;
        match runs.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, found)) => found.push(value),
            None => runs.push((kind, vec![value])),
        }
    }

    /// Prints the table; true if every goal that was measured is met.
    pub fn print(&self) -> bool {
        let (mut all, mut shown) = (true, Vec::new());
        for row in &self.rows {
            let mut kinds: Vec<&str> = row.runs.iter().map(|(kind, _)| *kind).collect();
            // The product is the last column, whoever had the first turn.
            kinds.sort_by_key(|kind| *kind == Kind::Wayfarer.name());
            if kinds != shown {
                let heads: String = kinds.iter().map(|kind| format!(" {kind:>14}")).collect();
                println!("\n{:<28} {:<11}{heads}   ratios", "test", "unit");
                shown = kinds;
            }
            let figure = |value: f64| if value >= 100.0 { format!(" {value:>14.0}") } else { format!(" {value:>14.2}") };
            let figures: String = shown.iter().filter_map(|kind| row.median(kind)).map(figure).collect();
            let mut text = Vec::new();
            for (_, ratio, goal) in row.ratios() {
                let met = goal.is_met(ratio);
                all &= met != Some(false);
                let mark = met.map_or("", |met| if met { " met" } else { " NOT MET" });
                text.push(format!("{ratio:.2}{mark}"));
            }
            println!("{:<28} {:<11}{figures}   {}  {}", row.test, row.unit, text.join(", "), row.goal_text());
        }
        all
    }

    /// All medians, runs and ratios.
    pub fn json(&self) -> serde_json::Value {
        let rows = self.rows.iter().map(|row| {
            let medians: BTreeMap<_, _> = row.runs.iter().map(|(kind, runs)| (kind, median(runs))).collect();
            let runs: BTreeMap<_, _> = row.runs.iter().map(|(kind, runs)| (kind, runs)).collect();
            let ratios: Vec<_> = row
                .ratios()
                .into_iter()
                .map(|(peer, ratio, goal)| serde_json::json!({"to": peer, "ratio": ratio, "goal": goal.text(), "met": goal.is_met(ratio)}))
                .collect();
            serde_json::json!({"test": row.test, "unit": row.unit, "goal": row.goal_text(), "medians": medians, "runs": runs,
                "ratios": ratios})
        });
        serde_json::Value::Array(rows.collect())
    }
}

/// The first figure of a row that compares the product with itself at a smaller size.
pub const LESS: &str = "smaller";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_goals() {
        assert_eq!((median(&[]), median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0])), (None, Some(2.0), Some(2.5)));
        let mut report = Report::default();
        for (kind, value) in [("redis", 2.0), ("wayfarer", 1.0), ("wayfarer", 3.0), ("wayfarer", 1.8)] {
            report.add("t", "u", Goal::AtMost(0.9), kind, value);
        }
        assert!(report.print());
        report.add("t", "u", Goal::AtMost(0.9), "redis-listpack", 1.9);
        assert!(!report.print(), "one of two ratios is not met");
        assert_eq!(report.json()[0]["ratios"][0]["met"], true);
    }
}
