//! Percentiles of whole lists, by nearest rank: the p-th percentile is the smallest value that at least p % do not exceed.
//!
//! It interpolates nothing and drops nothing. Called by the display and the report. Unit in: microseconds; out: milliseconds.
//! Invariant: a percentile is one of the values.

/// A sorted list of durations.
#[derive(Debug, Default, Clone)]
pub struct Durations(Vec<u64>);

impl Durations {
    /// Takes durations in microseconds, in any order.
    pub fn of(mut values_us: Vec<u64>) -> Self {
        values_us.sort_unstable();
        Self(values_us)
    }

    /// The `percent`-th percentile in milliseconds; nothing of an empty list.
    pub fn percentile_ms(&self, percent: f64) -> Option<f64> {
        let rank = (percent / 100.0 * self.0.len() as f64).ceil().max(1.0) as usize;
        self.0.get(rank.min(self.0.len()).checked_sub(1)?).map(|us| *us as f64 / 1000.0)
    }

    /// The largest in milliseconds.
    pub fn max_ms(&self) -> Option<f64> {
        self.percentile_ms(100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Durations;

    #[test]
    fn the_nearest_rank_is_a_value_of_the_list() {
        let list = Durations::of((1..=100).rev().map(|ms| ms * 1000).collect());
        for (percent, expected) in [(0.0, 1.0), (1.0, 1.0), (50.0, 50.0), (50.1, 51.0), (99.0, 99.0), (100.0, 100.0)] {
            assert_eq!(list.percentile_ms(percent), Some(expected), "{percent}");
        }
        assert_eq!(Durations::of(vec![7000]).percentile_ms(99.0), Some(7.0));
        assert_eq!(Durations::default().percentile_ms(50.0), None);
    }
}
