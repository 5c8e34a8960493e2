//! What was measured, as a table with ratios and goals, and as JSON.
//!
//! It never measures. A figure is the median of its runs; a ratio is that of the medians. Figures of one call belong together and
//! are not compared with those of another.
//!
//! Invariant: a goal that was not measured is never shown as met.

use crate::servers::{KINDS, Kind};
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
    goal: Goal,
    runs: BTreeMap<&'static str, Vec<f64>>,
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
    /// Adds what one run found.
    pub fn add(&mut self, test: &str, unit: &'static str, goal: Goal, kind: &'static str, value: f64) {
        let at = self.rows.iter().position(|row| row.test == test && row.unit == unit).unwrap_or_else(|| {
            self.rows.push(Row { test: test.to_owned(), unit, goal, runs: BTreeMap::new() });
            self.rows.len() - 1
        });
        self.rows[at].runs.entry(kind).or_default().push(value);
    }

    /// The ratios of one row to the two settings of Redis, or of the second of two figures to the first.
    fn ratios(row: &Row) -> Vec<(&'static str, f64)> {
        let of = |name: &str| row.runs.get(name).and_then(|runs| median(runs));
        let mut ratios = Vec::new();
        if let Some(mine) = of(Kind::Wayfarer.name()) {
            for peer in [Kind::Redis, Kind::RedisListpack] {
                ratios.extend(of(peer.name()).filter(|v| *v > 0.0).map(|theirs| (peer.name(), mine / theirs)));
            }
            ratios.extend(of(LESS).filter(|v| *v > 0.0).map(|less| (LESS, mine / less)));
        }
        ratios
    }

    /// Prints the table; true if every goal that was measured is met.
    pub fn print(&self) -> bool {
        println!("\n{:<26} {:<11} {:>12} {:>15} {:>10}   ratios", "test", "unit", "redis", "redis-listpack", "wayfarer");
        let mut all = true;
        for row in &self.rows {
            let [redis, listpack, mine] = KINDS.map(|kind| {
                let found = row.runs.get(kind.name()).and_then(|runs| median(runs));
                found.map_or("-".to_owned(), |value| if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") })
            });
            let mut text = Vec::new();
            for (_, ratio) in Self::ratios(row) {
                let met = row.goal.is_met(ratio);
                all &= met != Some(false);
                let mark = met.map_or("", |met| if met { " met" } else { " NOT MET" });
                text.push(format!("{ratio:.2}{mark}"));
            }
            let goal = row.goal.text();
            println!("{:<26} {:<11} {redis:>12} {listpack:>15} {mine:>10}   {}  {goal}", row.test, row.unit, text.join(", "));
        }
        all
    }

    /// All medians, runs and ratios.
    pub fn json(&self) -> serde_json::Value {
        let rows = self.rows.iter().map(|row| {
            let medians: BTreeMap<_, _> = row.runs.iter().map(|(kind, runs)| (kind, median(runs))).collect();
            let ratios: Vec<_> = Self::ratios(row)
                .into_iter()
                .map(|(peer, ratio)| serde_json::json!({"to": peer, "ratio": ratio, "met": row.goal.is_met(ratio)}))
                .collect();
            serde_json::json!({"test": row.test, "unit": row.unit, "goal": row.goal.text(), "medians": medians, "runs": row.runs,
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
