//! Multiple choice: the option a model finds likeliest, in each of the published senses.
//!
//! As lm-eval 0.4.13 does in `process_results`. The first of equal maxima wins.

/// The option chosen under each rule, as its place in the list.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// `acc`: by the log-likelihood of the whole option.
    pub by_sum: usize,
    /// `acc_norm`: by log-likelihood for each character. A long option is no longer at a disadvantage.
    pub by_character: usize,
    /// `acc_bytes`: by log-likelihood for each byte of UTF-8.
    pub by_byte: usize,
    /// Softmax of the log-likelihoods.
    pub probabilities: Vec<f64>,
}

/// Chooses among `options`; none if there is none. One log-likelihood belongs to each option.
pub fn choose(options: &[&str], log_likelihoods: &[f64]) -> Option<Choice> {
    assert_eq!(options.len(), log_likelihoods.len(), "every option has its log-likelihood");
    let per = |length: fn(&str) -> usize| -> Vec<f64> {
        let each = options.iter().zip(log_likelihoods);
        each.map(|(option, log_likelihood)| log_likelihood / length(option) as f64).collect()
    };
    let largest = log_likelihoods.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = log_likelihoods.iter().map(|value| (value - largest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    Some(Choice {
        by_sum: first_maximum(log_likelihoods)?,
        by_character: first_maximum(&per(|option| option.chars().count()))?,
        by_byte: first_maximum(&per(str::len))?,
        probabilities: exponentials.iter().map(|value| value / sum).collect(),
    })
}

/// The place of the largest value as `numpy.argmax` finds it: the first one, and what is no number counts as largest.
fn first_maximum(values: &[f64]) -> Option<usize> {
    let is_above = |a: f64, b: f64| !b.is_nan() && (a.is_nan() || a > b);
    (0..values.len()).reduce(|best, idx| if is_above(values[idx], values[best]) { idx } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_options_wins() {
        assert_eq!(choose(&["a", "b"], &[-1.0, -1.0]).unwrap().by_sum, 0);
        assert_eq!(choose(&[], &[]), None);
        assert_eq!(first_maximum(&[1.0, f64::NAN, 2.0, f64::NAN]), Some(1));
    }

    #[test]
    fn characters_and_bytes_differ_beyond_ascii() {
        // Four characters each, five bytes against four.
        let choice = choose(&["uber", "über"], &[-4.0, -4.0]).unwrap();
        assert_eq!((choice.by_character, choice.by_byte), (0, 1));
    }

    #[test]
    fn very_unlikely_options_still_have_probabilities() {
        let choice = choose(&["a", "b"], &[-5000.0, -5000.0]).unwrap();
        assert_eq!(choice.probabilities, [0.5, 0.5]);
    }
}
