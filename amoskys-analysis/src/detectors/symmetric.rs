//! Eigenvalues and eigenvectors of a symmetric matrix.
//!
//! Householder reflections bring the matrix to three diagonals, implicit QL steps to one (Golub and Van Loan, Matrix
//! Computations, 8.3). Written out because the order of every sum must stay what it is.

/// An eigenvalue that is smaller than this share of the largest is rounding.
pub(super) const ROUNDING: f64 = 1e-12;

/// Steps for one eigenvalue at most. Two or three are usual.
const STEPS: usize = 100;

/// Eigenvalues in falling order, and their eigenvectors row by row. The sign of a vector makes its largest component
/// positive. The matrix is given row by row; only its symmetry is relied on.
pub(super) fn eigen(matrix: &[f64], size: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut diagonal, mut beside, mut vectors) = three_diagonals(matrix.to_vec(), size);
    one_diagonal(&mut diagonal, &mut beside, &mut vectors);
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|&a, &b| diagonal[b].total_cmp(&diagonal[a]));
    let mut sorted = Vec::with_capacity(size * size);
    for &at in &order {
        let vector = &vectors[at * size..(at + 1) * size];
        let largest = vector.iter().fold(0.0_f64, |largest, value| {
            if value.abs() > largest.abs() {
                *value
            } else {
                largest
            }
        });
        sorted.extend(
            vector
                .iter()
                .map(|value| if largest < 0.0 { -value } else { *value }),
        );
    }
    (order.into_iter().map(|at| diagonal[at]).collect(), sorted)
}

/// The diagonal, the one beside it (its last entry unused), and the vectors of the change of basis row by row.
fn three_diagonals(mut a: Vec<f64>, size: usize) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let mut beside = vec![0.0; size];
    // Each reflection with twice the inverse of its squared length.
    let mut reflections: Vec<(Vec<f64>, f64)> = Vec::new();
    for k in 0..size.saturating_sub(1) {
        let rest = k + 1;
        let mut v: Vec<f64> = (rest..size).map(|row| a[row * size + k]).collect();
        let length = dot(&v, &v).sqrt();
        if v.len() == 1 || length == 0.0 {
            beside[k] = v[0];
            reflections.push((v, 0.0));
            continue;
        }
        beside[k] = -length.copysign(v[0]);
        v[0] -= beside[k];
        let factor = 2.0 / dot(&v, &v);
        let mut w: Vec<f64> = (rest..size)
            .map(|row| factor * dot(&a[row * size + rest..(row + 1) * size], &v))
            .collect();
        let half = factor / 2.0 * dot(&v, &w);
        w.iter_mut().zip(&v).for_each(|(w, v)| *w -= half * v);
        for row in rest..size {
            let (vr, wr) = (v[row - rest], w[row - rest]);
            let entries = a[row * size + rest..(row + 1) * size].iter_mut();
            for ((entry, v), w) in entries.zip(&v).zip(&w) {
                *entry -= vr * w + wr * v;
            }
        }
        reflections.push((v, factor));
    }
    let diagonal = (0..size).map(|at| a[at * size + at]).collect();
    // The transpose of the product of all reflections, from the last one back: row operations become column ones.
    a.fill(0.0);
    (0..size).for_each(|at| a[at * size + at] = 1.0);
    for (k, (v, factor)) in reflections.iter().enumerate().rev() {
        let rest = k + 1;
        for row in rest..size {
            let entries = &mut a[row * size + rest..(row + 1) * size];
            let amount = factor * dot(entries, v);
            entries
                .iter_mut()
                .zip(v)
                .for_each(|(entry, v)| *entry -= amount * v);
        }
    }
    (diagonal, beside, a)
}

fn one_diagonal(diagonal: &mut [f64], beside: &mut [f64], vectors: &mut [f64]) {
    let size = diagonal.len();
    let largest = diagonal
        .iter()
        .chain(beside.iter())
        .fold(0.0_f64, |most, value| most.max(value.abs()));
    let nothing = f64::EPSILON * largest;
    for first in 0..size {
        for _ in 0..STEPS {
            let last = (first..size - 1)
                .find(|&at| beside[at].abs() <= nothing)
                .unwrap_or(size - 1);
            if last == first {
                break;
            }
            step(diagonal, beside, vectors, first, last);
        }
    }
}

/// One implicit QL step on the block from `first` to `last`.
fn step(diagonal: &mut [f64], beside: &mut [f64], vectors: &mut [f64], first: usize, last: usize) {
    let size = diagonal.len();
    let slope = (diagonal[first + 1] - diagonal[first]) / (2.0 * beside[first]);
    let shift = beside[first] / (slope + 1.0_f64.hypot(slope).copysign(slope));
    let mut g = diagonal[last] - diagonal[first] + shift;
    let (mut sine, mut cosine, mut carried) = (1.0, 1.0, 0.0);
    for at in (first..last).rev() {
        let f = sine * beside[at];
        let b = cosine * beside[at];
        let radius = f.hypot(g);
        beside[at + 1] = radius;
        if radius == 0.0 {
            // The block falls apart here.
            diagonal[at + 1] -= carried;
            beside[last] = 0.0;
            return;
        }
        (sine, cosine) = (f / radius, g / radius);
        g = diagonal[at + 1] - carried;
        let turned = (diagonal[at] - g) * sine + 2.0 * cosine * b;
        carried = sine * turned;
        diagonal[at + 1] = g + carried;
        g = cosine * turned - b;
        let (upper, lower) = vectors[at * size..(at + 2) * size].split_at_mut(size);
        for (upper, lower) in upper.iter_mut().zip(lower) {
            (*upper, *lower) = (cosine * *upper - sine * *lower, sine * *upper + cosine * *lower);
        }
    }
    diagonal[first] -= carried;
    beside[first] = g;
    beside[last] = 0.0;
}

/// A sum in four lanes.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    let mut sums = [0.0; 4];
    for (a, b) in a.zip(b) {
        for lane in 0..4 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(matrix: &[f64], size: usize) -> Result<(), TestCaseError> {
        let (values, vectors) = eigen(matrix, size);
        let scale = matrix
            .iter()
            .fold(1e-300_f64, |most, value| most.max(value.abs()));
        prop_assert!(values.windows(2).all(|pair| pair[0] >= pair[1]));
        for at in 0..size {
            let vector = &vectors[at * size..(at + 1) * size];
            for row in 0..size {
                let product = dot(&matrix[row * size..(row + 1) * size], vector);
                prop_assert!((product - values[at] * vector[row]).abs() < 1e-12 * scale * size as f64);
            }
            for other in 0..size {
                let product = dot(vector, &vectors[other * size..(other + 1) * size]);
                prop_assert!((product - f64::from(u8::from(at == other))).abs() < 1e-12 * size as f64);
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn vectors_belong_to_their_values(half in proptest::collection::vec(prop_oneof![-9.0..9.0_f64, Just(0.0), Just(1.0)], 64), size in 1_usize..9) {
            let mut matrix = vec![0.0; size * size];
            for row in 0..size {
                for column in 0..size {
                    matrix[row * size + column] = half[row * 8 + column] + half[column * 8 + row];
                }
            }
            check(&matrix, size)?;
        }
    }

    #[test]
    fn degenerate_matrices() {
        for size in [1, 2, 5, 40] {
            check(&vec![1.0; size * size], size).unwrap();
            check(&vec![0.0; size * size], size).unwrap();
            let identity: Vec<f64> = (0..size * size)
                .map(|at| f64::from(u8::from(at / size == at % size)))
                .collect();
            check(&identity, size).unwrap();
        }
    }
}
