/// A neighbour: which distinct row, how far away, and how many equal rows it stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Neighbour {
    pub(crate) row: usize,
    pub(crate) distance: f64,
    pub(crate) count: usize,
}

/// The nearest so many rows seen so far, by squared distance, equal ones counted each.
pub(super) struct Nearest {
    k: usize,
    /// A training row that looks for others than itself.
    asking: Option<usize>,
    /// In order of distance, then number; their counts without the last are below `k`.
    found: Vec<Neighbour>,
    counted: usize,
    /// Nothing farther can be among the nearest.
    limit: f64,
}

impl Nearest {
    pub(super) fn new(k: usize, asking: Option<usize>) -> Self {
        Self {
            k,
            asking,
            found: Vec::with_capacity(k + 1),
            counted: 0,
            limit: f64::INFINITY,
        }
    }

    pub(super) fn restart(&mut self, asking: Option<usize>) {
        self.asking = asking;
        self.found.clear();
        self.counted = 0;
        self.limit = f64::INFINITY;
    }

    /// Squared distance beyond which rows need not be offered.
    pub(super) const fn limit(&self) -> f64 {
        self.limit
    }

    #[inline]
    pub(super) fn offer(&mut self, row: usize, squared: f64, count: usize) {
        if squared > self.limit {
            return;
        }
        self.insert(row, squared, count);
    }

    fn insert(&mut self, row: usize, squared: f64, count: usize) {
        let count = count - usize::from(self.asking == Some(row));
        if count == 0 {
            return;
        }
        let after =
            |known: &Neighbour| known.distance > squared || (known.distance == squared && known.row > row);
        let mut place = self.found.len();
        while place > 0 && after(&self.found[place - 1]) {
            place -= 1;
        }
        if place == self.found.len() && self.counted >= self.k {
            return;
        }
        self.found.insert(
            place,
            Neighbour {
                row,
                distance: squared,
                count,
            },
        );
        self.counted += count;
        while let Some(last) = self.found.last()
            && self.counted - last.count >= self.k
        {
            self.counted -= last.count;
            self.found.pop();
        }
        if self.counted >= self.k
            && let Some(last) = self.found.last()
        {
            self.limit = last.distance;
        }
    }

    /// The neighbours, with distances, not squares, and counts that add up to `k` if there are so many rows.
    pub(super) fn finish(&mut self) -> &[Neighbour] {
        if let Some(last) = self.found.last_mut()
            && self.counted > self.k
        {
            last.count -= self.counted - self.k;
            self.counted = self.k;
        }
        for neighbour in &mut self.found {
            neighbour.distance = neighbour.distance.sqrt();
        }
        &self.found
    }
}

/// The squared distance of two rows, always added up in the same order.
#[inline]
pub(crate) fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest = a.remainder().iter().zip(b.remainder());
    let mut sums = [0.0; 4];
    let rest: f64 = rest.map(|(a, b)| (a - b) * (a - b)).sum();
    for (a, b) in a.zip(b) {
        for lane in 0..4 {
            let apart = a[lane] - b[lane];
            sums[lane] += apart * apart;
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}
