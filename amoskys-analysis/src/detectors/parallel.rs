//! Work on rows, spread over threads so that the result does not depend on how many there are.

use std::num::NonZeroUsize;
use std::ops::Range;

use crate::iforest::Rows;

/// Below so many rows, starting a thread costs more than it saves.
const WORTH_A_THREAD: usize = 64;

/// Fills a number for each row. `fill` gets consecutive rows and their places.
pub(crate) fn fill_rows(
    rows: Rows<'_>,
    threads: NonZeroUsize,
    fill: impl Fn(Rows<'_>, &mut [f64]) + Sync,
) -> Vec<f64> {
    let mut scores = vec![0.0; rows.len()];
    let share = rows.len().div_ceil(threads.get()).max(WORTH_A_THREAD);
    if share >= rows.len() {
        fill(rows, &mut scores);
        return scores;
    }
    let fill = &fill;
    std::thread::scope(|scope| {
        for (piece, scores) in rows.pieces(share).zip(scores.chunks_mut(share)) {
            scope.spawn(move || fill(piece, scores));
        }
    });
    scores
}

/// Makes so many things in order; each thread makes a range of them.
pub(crate) fn in_parts<T: Send>(
    count: usize,
    threads: NonZeroUsize,
    make: impl Fn(Range<usize>) -> Vec<T> + Sync,
) -> Vec<T> {
    let share = count.div_ceil(threads.get()).max(1);
    if share >= count {
        return make(0..count);
    }
    let make = &make;
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..count)
            .step_by(share)
            .map(|start| scope.spawn(move || make(start..(start + share).min(count))))
            .collect();
        let join = |part: std::thread::ScopedJoinHandle<'_, Vec<T>>| match part.join() {
            Ok(made) => made,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        parts.into_iter().flat_map(join).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_in_order() {
        for threads in [1, 2, 3, 50] {
            let threads = NonZeroUsize::new(threads).unwrap();
            assert_eq!(
                in_parts(10, threads, |part| part.collect()),
                (0..10).collect::<Vec<_>>()
            );
            assert!(in_parts(0, threads, |part| part.collect()).is_empty());
            let values: Vec<f64> = (0..500).map(f64::from).collect();
            let rows = Rows::new(&values, 2).unwrap();
            let sums = fill_rows(rows, threads, |piece, sums| {
                for (at, sum) in sums.iter_mut().enumerate() {
                    *sum = piece.row(at).iter().sum();
                }
            });
            assert!(
                sums.iter()
                    .enumerate()
                    .all(|(at, sum)| *sum == (4 * at + 1) as f64)
            );
        }
    }
}
