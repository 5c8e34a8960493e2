//! Reproducible draws: the same seed and labels give the same numbers on every machine.
//!
//! Not for secrets. Called by the model (sizes), the value bodies and the schedule. The generator is SplitMix64 (Steele, Lea,
//! Flood 2014): `state += 0x9E37…; z = state; z = (z ^ z>>30)·0xBF58…; z = (z ^ z>>27)·0x94D0…; z ^ z>>31`.
//! Invariant: a draw depends on the seed and on the number of draws before it, never on time.

/// A SplitMix64 generator.
#[derive(Debug, Clone)]
pub struct Draws(u64);

impl Draws {
    /// A generator for one purpose: `labels` separate the purposes under one seed.
    pub fn new(seed: u64, labels: &[u64]) -> Self {
        let mut state = mix(seed);
        for label in labels {
            state = mix(state ^ mix(label.wrapping_add(GOLDEN)));
        }
        Self(state)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix_only(self.0)
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Uniform in `0..bound` (0 when `bound` is 0).
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias of a modulus is below 2^-50 for the small bounds used here.
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(value: u64) -> u64 {
    mix_only(value.wrapping_add(GOLDEN))
}

fn mix_only(value: u64) -> u64 {
    let z = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::Draws;

    #[test]
    fn the_same_labels_give_the_same_draws_and_others_do_not() {
        let take = |labels: &[u64]| {
            let mut draws = Draws::new(7, labels);
            (0..8).map(|_| draws.next_u64()).collect::<Vec<_>>()
        };
        assert_eq!(take(&[1, 2]), take(&[1, 2]));
        assert_ne!(take(&[1, 2]), take(&[2, 1]));
        assert_ne!(take(&[1]), take(&[1, 0]));
    }

    #[test]
    fn unit_stays_in_its_range_and_is_spread_evenly() {
        let mut draws = Draws::new(1, &[]);
        let values: Vec<f64> = (0..10_000).map(|_| draws.unit()).collect();
        assert!(values.iter().all(|value| (0.0..1.0).contains(value)));
        let mean = values.iter().sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "mean {mean}");
    }
}
