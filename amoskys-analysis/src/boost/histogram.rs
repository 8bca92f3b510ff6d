//! Sums of the derivatives of the loss, by bin.

use std::ops::{Add, Sub};

use super::bins::{Binned, BinnedColumn};

/// Histograms of fewer entries are summed in four copies: rows that follow each other in one entry need not wait for it.
const NARROW: usize = 8;
const COPIES: usize = 4;
/// Looking up a row of a list costs so much more than taking the next row of a node.
const LIST_COST: usize = 3;

/// What a set of rows adds up to: in whole numbers, so that no order of adding changes anything.
///
/// The first word holds the gradients, and the count in its lowest bits; the second the second derivatives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums([i64; 2]);

/// How derivatives become whole numbers, and back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    count_bits: u32,
    gradient: f64,
    hessian: f64,
}

impl Add for Sums {
    type Output = Self;

    #[inline]
    fn add(self, other: Self) -> Self {
        Self([self.0[0] + other.0[0], self.0[1] + other.0[1]])
    }
}

impl Sub for Sums {
    type Output = Self;

    #[inline]
    fn sub(self, other: Self) -> Self {
        Self([self.0[0] - other.0[0], self.0[1] - other.0[1]])
    }
}

impl Scale {
    /// For sums over so many rows, below 2^24, of gradients from -1 to 1 and second derivatives from 0 to 1.
    pub(super) fn new(rows: usize) -> Self {
        let count_bits = usize::BITS - rows.leading_zeros();
        Self {
            count_bits,
            gradient: (1_i64 << (62 - 2 * count_bits)) as f64,
            hessian: (1_i64 << (62 - count_bits).min(52)) as f64,
        }
    }

    pub(super) fn one(self, gradient: f64, hessian: f64) -> Sums {
        let gradient = (gradient * self.gradient).round() as i64;
        Sums([(gradient << self.count_bits) + 1, (hessian * self.hessian) as i64])
    }

    #[inline]
    pub(super) fn count(self, sums: Sums) -> usize {
        (sums.0[0] & ((1 << self.count_bits) - 1)) as usize
    }

    #[inline]
    pub(super) fn gradient(self, sums: Sums) -> f64 {
        (sums.0[0] >> self.count_bits) as f64 / self.gradient
    }

    #[inline]
    pub(super) fn hessian(self, sums: Sums) -> f64 {
        sums.0[1] as f64 / self.hessian
    }
}

impl Sums {
    #[inline]
    pub(super) fn is_empty(self) -> bool {
        // A count of zero comes with sums of zero.
        self.0 == [0; 2]
    }
}

/// The rows of a node.
pub(super) struct Members<'a> {
    pub(super) order: &'a [u32],
    /// Their sums, in this order.
    pub(super) sums: &'a [Sums],
    pub(super) total: Sums,
    /// The node each row of the table is in, and which one this is.
    pub(super) nodes: &'a [u16],
    pub(super) node: u16,
    /// The sums of each row of the table.
    pub(super) all: &'a [Sums],
}

/// Fills the histograms of some columns, which follow each other from `first` on; `into` is where they are.
pub(super) fn fill(table: &Binned, columns: &[u32], members: &Members<'_>, first: usize, into: &mut [Sums]) {
    for &column in columns {
        let column = column as usize;
        let into = &mut into[table.starts[column] - first..table.starts[column + 1] - first];
        into.fill(Sums::default());
        fill_column(&table.columns[column], members, into);
    }
}

fn fill_column(column: &BinnedColumn, members: &Members<'_>, into: &mut [Sums]) {
    let bins = column.bins.as_slice();
    match &column.others {
        Some((largest, others)) if others.len() * LIST_COST < members.order.len() => {
            let mut rest = members.total;
            for &row in others {
                let row = row as usize;
                if members.nodes[row] == members.node {
                    let sums = members.all[row];
                    let entry = &mut into[usize::from(bins[row])];
                    *entry = *entry + sums;
                    rest = rest - sums;
                }
            }
            into[usize::from(*largest)] = rest;
        }
        _ if into.len() <= NARROW => {
            let mut copies = [[Sums::default(); NARROW]; COPIES];
            let order = members.order.chunks_exact(COPIES);
            let sums = members.sums.chunks_exact(COPIES);
            let rest = order.remainder().iter().zip(sums.remainder());
            for (rows, sums) in order.zip(sums) {
                for (copy, (row, sums)) in copies.iter_mut().zip(rows.iter().zip(sums)) {
                    let entry = &mut copy[usize::from(bins[*row as usize]) % NARROW];
                    *entry = *entry + *sums;
                }
            }
            for (row, sums) in rest {
                let entry = &mut copies[0][usize::from(bins[*row as usize]) % NARROW];
                *entry = *entry + *sums;
            }
            for copy in copies {
                for (entry, sums) in into.iter_mut().zip(copy) {
                    *entry = *entry + sums;
                }
            }
        }
        _ => {
            for (row, sums) in members.order.iter().zip(members.sums) {
                let entry = &mut into[usize::from(bins[*row as usize])];
                *entry = *entry + *sums;
            }
        }
    }
}

/// Takes one child's histograms off their parent's, which leaves the other child's.
pub(super) fn subtract(table: &Binned, columns: &[u32], child: &[Sums], parent: &mut [Sums]) {
    for &column in columns {
        let range = table.starts[column as usize]..table.starts[column as usize + 1];
        for (entry, sums) in parent[range.clone()].iter_mut().zip(&child[range]) {
            *entry = *entry - *sums;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_keep_their_parts_apart() {
        for rows in [3_usize, 1000, (1 << 24) - 1] {
            let scale = Scale::new(rows);
            let mut sums = Sums::default();
            for _ in 0..rows {
                sums = sums + scale.one(-1.0, 0.25);
            }
            assert_eq!(scale.count(sums), rows);
            assert_eq!(scale.gradient(sums), -(rows as f64));
            assert_eq!(scale.hessian(sums), rows as f64 / 4.0);
            let one = scale.one(0.3, 0.21);
            let part = sums + one - sums;
            assert!((scale.gradient(part) - 0.3).abs() < 1e-3 && (scale.hessian(part) - 0.21).abs() < 1e-6);
            assert_eq!(part - one, Sums::default());
        }
    }
}
