use super::IsolationForestError;

/// A table of numbers, row by row in one piece of memory.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    values: &'a [f64],
    columns: usize,
}

impl<'a> Rows<'a> {
    /// A table of so many columns.
    ///
    /// # Errors
    ///
    /// [`IsolationForestError::Shape`] if there are no columns, more than 65 535, or the values do not fill whole
    /// rows.
    pub fn new(values: &'a [f64], columns: usize) -> Result<Self, IsolationForestError> {
        if columns == 0 || columns > usize::from(u16::MAX) || !values.len().is_multiple_of(columns) {
            return Err(IsolationForestError::Shape {
                values: values.len(),
                columns,
            });
        }
        Ok(Self { values, columns })
    }

    /// Number of rows.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.values.len() / self.columns
    }

    /// Whether there are no rows.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Number of columns.
    #[must_use]
    pub const fn columns(&self) -> usize {
        self.columns
    }

    /// One row.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    #[must_use]
    pub fn row(&self, at: usize) -> &'a [f64] {
        &self.values[at * self.columns..(at + 1) * self.columns]
    }

    /// A table whose shape was checked before.
    #[cfg(feature = "linfa")]
    pub(crate) const fn of_columns(values: &'a [f64], columns: usize) -> Self {
        Self { values, columns }
    }

    /// All values, row by row.
    #[cfg(feature = "linfa")]
    pub(crate) const fn values(&self) -> &'a [f64] {
        self.values
    }

    /// The rows in pieces of at most so many.
    pub(crate) fn pieces(self, rows: usize) -> impl Iterator<Item = Rows<'a>> {
        self.values
            .chunks(rows.max(1) * self.columns)
            .map(move |values| Rows {
                values,
                columns: self.columns,
            })
    }
}
