//! Tokens of its own that a training brings: those of a guard.

/// Tokens whose rows are learned even where embedding and head are frozen, and the labels among them.
#[derive(Debug, Clone, PartialEq)]
pub struct Marks {
    pub rows: Vec<u32>,
    /// Whose loss counts `weight` times.
    pub labels: [u32; 2],
    pub weight: f64,
}
