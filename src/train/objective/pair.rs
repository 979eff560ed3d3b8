//! The loss of one pair: of two answers the chosen one is to gain on the rejected one, measured from the base.
//!
//! With `π` a model's log-probability of an answer (the sum over its labels) and `ref` the base's,
//! `z = (π − ref)(chosen) − (π − ref)(rejected)`:
//!
//! - `sigmoid`: `−log σ(βz)`, Rafailov et al., "Direct Preference Optimization", 2023, arXiv 2305.18290, Eq. 7;
//! - `cdpo`: `−(1−ε) log σ(βz) − ε log σ(−βz)`, Mitchell, "A note on DPO with noisy preferences", 2023;
//! - `robust`: `(−(1−ε) log σ(βz) + ε log σ(−βz)) / (1−2ε)`, Chowdhury et al., 2024, arXiv 2403.00409, which can be
//!   negative;
//! - `ipo-sum`: `(z − 1/(2β))²`, Azar et al., 2023, arXiv 2310.12036, Eq. 17; `ipo` is the same with each answer's part
//!   of `z` divided by its number of labels, as TRL has it.

use crate::recipe::{Preference, PreferenceLoss};

/// What is known of the two answers, the chosen one first.
#[derive(Debug, Clone, Copy)]
pub struct Answers {
    /// The model's log-probabilities.
    pub policy: [f64; 2],
    /// The base's.
    pub reference: [f64; 2],
    /// How many labels each has.
    pub n_labels: [usize; 2],
}

/// The loss of a pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairLoss {
    pub loss: f64,
    /// Its derivative by each of the model's log-probabilities.
    pub gradient: [f64; 2],
    /// `β(π − ref)` of each answer, whatever the loss.
    pub rewards: [f64; 2],
}

/// The loss of one pair, in f64.
pub fn loss(preference: &Preference, answers: &Answers) -> PairLoss {
    let Preference { loss, beta, label_smoothing: share } = *preference;
    let Answers { policy, reference, n_labels } = answers;
    let per = |n: usize| if loss == PreferenceLoss::Ipo { 1.0 / n.max(1) as f64 } else { 1.0 };
    let per = n_labels.map(per);
    let gains = [0, 1].map(|i| policy[i] - reference[i]);
    let z = gains[0] * per[0] - gains[1] * per[1];
    let (right, wrong) = (log_sigmoid(beta * z), log_sigmoid(-beta * z));
    // σ(−βz) and σ(βz), of which the derivatives are made.
    let (doubt, belief) = (wrong.exp(), right.exp());
    let (loss, by_z) = match loss {
        PreferenceLoss::Sigmoid => (-right, -beta * doubt),
        PreferenceLoss::Cdpo => {
            (-(1.0 - share) * right - share * wrong, beta * (share * belief - (1.0 - share) * doubt))
        }
        PreferenceLoss::Robust => {
            let n = 1.0 - 2.0 * share;
            let by_z = -beta * ((1.0 - share) * doubt + share * belief);
            ((share * wrong - (1.0 - share) * right) / n, by_z / n)
        }
        PreferenceLoss::Ipo | PreferenceLoss::IpoSum => {
            let off = z - 0.5 / beta;
            (off * off, 2.0 * off)
        }
    };
    PairLoss { loss, gradient: [by_z * per[0], -by_z * per[1]], rewards: gains.map(|gain| beta * gain) }
}

/// `log σ(x)` without overflow.
fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSSES: [PreferenceLoss; 5] = [
        PreferenceLoss::Sigmoid,
        PreferenceLoss::Cdpo,
        PreferenceLoss::Robust,
        PreferenceLoss::Ipo,
        PreferenceLoss::IpoSum,
    ];

    fn of(loss: PreferenceLoss, policy: [f64; 2]) -> PairLoss {
        let preference = Preference { loss, beta: 0.3, label_smoothing: 0.2 };
        super::loss(&preference, &Answers { policy, reference: [-7.0, -5.5], n_labels: [4, 3] })
    }

    #[test]
    fn gradients_are_the_slopes_of_the_loss() {
        const STEP: f64 = 1e-5;
        for loss in LOSSES {
            for policy in [[-6.0, -8.0], [-7.0, -5.5], [-30.0, -2.0]] {
                for i in [0, 1] {
                    let moved = |by: f64| {
                        let mut policy = policy;
                        policy[i] += by;
                        of(loss, policy).loss
                    };
                    let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                    let found = of(loss, policy).gradient[i];
                    // A central difference is off by the square of its step, and by what f64 loses of the losses.
                    assert!(
                        (slope - found).abs() < 1e-7 * found.abs().max(1.0),
                        "{loss:?} {policy:?} {slope} {found}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_model_that_is_still_its_base_has_the_loss_of_a_coin() {
        for loss in &LOSSES[..2] {
            assert!((of(*loss, [-7.0, -5.5]).loss - std::f64::consts::LN_2).abs() < 1e-15);
        }
        let ipo = of(PreferenceLoss::Ipo, [-7.0, -5.5]);
        assert!((ipo.loss - (0.5f64 / 0.3).powi(2)).abs() < 1e-12 && ipo.rewards == [0.0, 0.0]);
    }

    #[test]
    fn what_is_far_off_stays_finite() {
        for loss in LOSSES {
            for policy in [[-1e6, 0.0], [0.0, -1e6]] {
                let found = of(loss, policy);
                assert!(found.loss.is_finite() && found.gradient.iter().all(|g| g.is_finite()), "{loss:?}");
            }
        }
    }
}
