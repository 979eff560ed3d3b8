//! Which samples each step sees.

use crate::data::order;

/// A pure function of the seed, so a position is one number.
#[derive(Debug, Clone)]
pub struct Order {
    pub seed: u64,
    pub n_samples: usize,
    pub batch: usize,
}

impl Order {
    /// Steps of one pass over the data; the last one may be smaller.
    pub fn steps_per_epoch(&self) -> usize {
        self.n_samples.div_ceil(self.batch)
    }

    /// The samples of step `step`, counted from 0.
    pub fn samples(&self, step: usize) -> Vec<usize> {
        let (epoch, within) = (step / self.steps_per_epoch(), step % self.steps_per_epoch());
        let order = order(self.seed, epoch, self.n_samples);
        order.into_iter().skip(within * self.batch).take(self.batch).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Order;

    #[test]
    fn an_epoch_sees_every_sample_once() {
        let order = Order { seed: 1, n_samples: 10, batch: 4 };
        assert_eq!(order.steps_per_epoch(), 3);
        for epoch in 0..2 {
            let mut seen: Vec<usize> = (0..3).flat_map(|i| order.samples(epoch * 3 + i)).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..10).collect::<Vec<_>>());
        }
    }
}
