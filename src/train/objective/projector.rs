//! The orthogonal projector on a matrix's columns, which the paper of AsFT writes.
//!
//! Where the columns span everything, as those of a matrix of full row rank do, it is the identity.

use burn::tensor::{DType, Tensor, TensorData};
use rayon::prelude::*;

/// `I − P`, `[out, out]` in f32, where P projects on the columns of `v`; computed in f64 on the processor.
///
/// # Shapes
///
/// - `v`: `[out, in]` in f32
pub(super) fn outside(v: Tensor<2>) -> Tensor<2> {
    let ([n_out, n_in], device) = (v.dims(), v.device());
    let values = v.transpose().try_into_vec_as::<f32>().expect("a device that opened gives its results back");
    let columns: Vec<Vec<f64>> =
        values.chunks(n_out).map(|column| column.iter().map(|x| f64::from(*x)).collect()).collect();
    // As numpy's `matrix_rank` of an f32 matrix: what is shorter is rounding.
    let rounding = n_out.max(n_in) as f64 * f64::from(f32::EPSILON);
    let basis = basis(columns, n_out, rounding);
    let row = |i: usize| {
        let mut row = vec![0.0; n_out];
        if basis.len() < n_out {
            row[i] = 1.0;
            for q in &basis {
                row.iter_mut().zip(q).for_each(|(x, own)| *x -= q[i] * own);
            }
        }
        row.into_iter().map(|x| x as f32).collect::<Vec<f32>>()
    };
    let rows: Vec<f32> = (0..n_out).into_par_iter().flat_map_iter(row).collect();
    Tensor::from_data(TensorData::new(rows, [n_out, n_out]), (&device, DType::F32))
}

/// An orthonormal basis of the space that columns of the length `n_out` span: Gram and Schmidt's, the longest of what is
/// left of the columns first, until that is no longer than `rounding` times the longest column.
fn basis(mut columns: Vec<Vec<f64>>, n_out: usize, rounding: f64) -> Vec<Vec<f64>> {
    let mut basis: Vec<Vec<f64>> = Vec::new();
    let lengths = |columns: &[Vec<f64>]| -> Vec<f64> {
        columns.par_iter().map(|column| dot(column, column).sqrt()).collect()
    };
    let mut least = None;
    while basis.len() < n_out {
        let lengths = lengths(&columns);
        let Some(longest) = (0..lengths.len()).max_by(|a, b| lengths[*a].total_cmp(&lengths[*b])) else {
            break;
        };
        let least = *least.get_or_insert(lengths[longest] * rounding);
        if lengths[longest] <= least {
            break;
        }
        let mut next = columns.swap_remove(longest);
        // What rounding left of the others in it.
        for q in &basis {
            subtract(&mut next, q);
        }
        let length = dot(&next, &next).sqrt();
        for x in &mut next {
            *x /= length;
        }
        columns.par_iter_mut().for_each(|column| subtract(column, &next));
        basis.push(next);
    }
    basis
}

/// Takes the part along `q`, of length one, out of `column`.
fn subtract(column: &mut [f64], q: &[f64]) {
    let along = dot(column, q);
    column.iter_mut().zip(q).for_each(|(x, q)| *x -= along * q);
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu;

    fn of(rows: &[&[f32]]) -> Vec<f32> {
        let (n_out, n_in) = (rows.len(), rows[0].len());
        let v = Tensor::from_data(TensorData::new(rows.concat(), [n_out, n_in]), (&cpu(), DType::F32));
        outside(v).try_into_vec_as::<f32>().unwrap()
    }

    #[test]
    fn what_columns_span_is_taken_out_and_nothing_else() {
        // The line along (3, 4), however often and long it comes.
        let found = of(&[&[3.0, -6.0, 0.0], &[4.0, -8.0, 0.0]]);
        let expected = [0.64, -0.48, -0.48, 0.36];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
        // Full row rank: exactly nothing is left.
        assert_eq!(of(&[&[1.0, 2.0, 3.0], &[0.0, 1e-3, 5.0]]), [0.0; 4]);
        // No columns at all: everything is.
        assert_eq!(of(&[&[0.0], &[0.0]]), [1.0, 0.0, 0.0, 1.0]);
    }
}
