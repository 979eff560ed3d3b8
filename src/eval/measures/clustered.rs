//! Standard errors of means whose values are not all of one draw: repeated samples of a prompt, tasks of a group.

/// The standard error of the mean of all values, where those of one cluster are not independent.
///
/// Miller, "Adding Error Bars to Evals", 2024, arXiv 2411.00640, with the correction for few clusters that
/// `inspect_ai` applies. None below two clusters, where upstream prints 0.
pub fn clustered_error(clusters: &[Vec<f64>]) -> Option<f64> {
    // Upstream makes clusters from the values that name them: one without values does not exist.
    let clusters: Vec<_> = clusters.iter().filter(|values| !values.is_empty()).collect();
    let n: usize = clusters.iter().map(|values| values.len()).sum();
    let mean = clusters.iter().flat_map(|values| values.iter()).sum::<f64>() / n as f64;
    let deviation = |values: &[f64]| values.iter().map(|value| value - mean).sum::<f64>();
    let squares: f64 = clusters.iter().map(|values| deviation(values).powi(2)).sum();
    let n_clusters = clusters.len() as f64;
    (n_clusters > 1.0).then(|| (squares * n_clusters / (n_clusters - 1.0)).sqrt() / n as f64)
}

/// One task of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Task {
    pub n: usize,
    pub mean: f64,
    /// None where the task has a single item.
    pub standard_error: Option<f64>,
}

/// A group's mean and standard error, each with the tasks weighted by their items and with all tasks alike.
///
/// As lm-eval 0.4.13: `weight_by_size` true and false.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Group {
    pub weighted_mean: f64,
    pub unweighted_mean: f64,
    /// Of the weighted mean; none if a task has none. It pools the variance inside the tasks only: differences
    /// between the tasks' means do not widen it.
    pub pooled_error: Option<f64>,
    /// Of the unweighted mean; none if a task has none.
    pub unweighted_error: Option<f64>,
}

impl Group {
    /// None if there is no item.
    pub fn of(tasks: &[Task]) -> Option<Self> {
        let n_tasks = tasks.len() as f64;
        let n = tasks.iter().map(|task| task.n).sum::<usize>() as f64;
        if n == 0.0 {
            return None;
        }
        let errors: Option<Vec<f64>> = tasks.iter().map(|task| task.standard_error).collect();
        let pooled = |errors: &Vec<f64>| {
            let squares = tasks.iter().zip(errors);
            let squares = squares.map(|(task, error)| (task.n as f64 - 1.0) * error * error * task.n as f64);
            (squares.sum::<f64>() / (n - n_tasks) / n).sqrt()
        };
        let unweighted = |errors: &Vec<f64>| errors.iter().map(|e| e * e).sum::<f64>().sqrt() / n_tasks;
        Some(Self {
            weighted_mean: tasks.iter().map(|task| task.mean * task.n as f64).sum::<f64>() / n,
            unweighted_mean: tasks.iter().map(|task| task.mean).sum::<f64>() / n_tasks,
            pooled_error: errors.as_ref().map(pooled).filter(|error| error.is_finite()),
            unweighted_error: errors.as_ref().map(unweighted),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_of_one_are_plain_values() {
        let clusters: Vec<Vec<f64>> = [1.0, 0.0, 0.0, 1.0, 1.0].map(|value| vec![value]).to_vec();
        // Deviation of 3 in 5 over the root of 5.
        assert!((clustered_error(&clusters).unwrap() - (0.3_f64 / 5.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn one_cluster_says_nothing_about_others() {
        assert_eq!(clustered_error(&[vec![1.0, 0.0, 1.0], vec![]]), None);
        assert_eq!(clustered_error(&[]), None);
    }

    #[test]
    fn tasks_of_one_size_weigh_alike() {
        let task = |mean, error| Task { n: 50, mean, standard_error: Some(error) };
        let group = Group::of(&[task(0.2, 0.05), task(0.6, 0.07)]).unwrap();
        assert!((group.weighted_mean - group.unweighted_mean).abs() < 1e-12);
        assert!((group.pooled_error.unwrap() - group.unweighted_error.unwrap()).abs() < 1e-12);
        let single = Task { n: 1, mean: 1.0, standard_error: None };
        assert_eq!(Group::of(&[task(0.2, 0.05), single]).unwrap().pooled_error, None);
        assert_eq!(Group::of(&[]), None);
    }
}
