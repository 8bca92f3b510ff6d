//! The little linear algebra that a group of series needs.

/// The inverse of a symmetric positive definite matrix, row by row, by its Cholesky factor. `None` if it is not positive
/// definite.
pub(crate) fn inverse(matrix: &[f64], n: usize) -> Option<Vec<f64>> {
    let mut factor = vec![0.0; n * n];
    for row in 0..n {
        for column in 0..=row {
            let known: f64 = (0..column)
                .map(|k| factor[row * n + k] * factor[column * n + k])
                .sum();
            let rest = matrix[row * n + column] - known;
            factor[row * n + column] = if row == column {
                if !(rest > 0.0 && rest.is_finite()) {
                    return None;
                }
                rest.sqrt()
            } else {
                rest / factor[column * n + column]
            };
        }
    }
    let mut inverse = vec![0.0; n * n];
    let mut solution = vec![0.0; n];
    for unit in 0..n {
        for row in 0..n {
            let known: f64 = (0..row).map(|k| factor[row * n + k] * solution[k]).sum();
            let right = if row == unit { 1.0 } else { 0.0 };
            solution[row] = (right - known) / factor[row * n + row];
        }
        for row in (0..n).rev() {
            let known: f64 = (row + 1..n).map(|k| factor[k * n + row] * solution[k]).sum();
            solution[row] = (solution[row] - known) / factor[row * n + row];
        }
        for (row, value) in solution.iter().enumerate() {
            inverse[row * n + unit] = *value;
        }
    }
    Some(inverse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_times_its_inverse_is_the_identity() {
        let n = 7;
        let entry = |row: usize, column: usize| {
            0.8_f64.powi(row.abs_diff(column) as i32) + if row == column { 0.1 } else { 0.0 }
        };
        let matrix: Vec<f64> = (0..n * n).map(|at| entry(at / n, at % n)).collect();
        let inverse = inverse(&matrix, n).unwrap();
        for at in 0..n * n {
            let (row, column) = (at / n, at % n);
            let product: f64 = (0..n)
                .map(|k| matrix[row * n + k] * inverse[k * n + column])
                .sum();
            let identity = if row == column { 1.0 } else { 0.0 };
            assert!((product - identity).abs() < 1e-12, "{row} {column} {product}");
        }
        assert_eq!(super::inverse(&[1.0, 2.0, 2.0, 1.0], 2), None);
        assert_eq!(super::inverse(&[f64::NAN], 1), None);
    }
}
