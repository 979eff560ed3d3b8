//! What a run's page shows besides the numbers of its report: all of it lies in the run's folder.

use super::pictures::Losses;

/// What was found beside a report.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    pub losses: Losses,
    /// Pictures that other commands left in the folder: their titles and what they are in SVG.
    pub pictures: Vec<(String, String)>,
    /// The name of the page with the answers, where there is one.
    pub answers: Option<String>,
    /// What the numbers come from: names and values, in words.
    pub facts: Vec<[String; 2]>,
    /// Files as they were given or resolved: title and text.
    pub texts: Vec<[String; 2]>,
}
