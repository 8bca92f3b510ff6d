use amoskys_core::BoxError;

/// Why a forest could not be fitted, or rows not be scored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IsolationForestError {
    /// A parameter is out of range.
    #[error("{parameter} is {value}, but must be {range}")]
    Parameter {
        /// Name of the parameter.
        parameter: &'static str,
        /// What it was set to.
        value: usize,
        /// What it may be.
        range: &'static str,
    },
    /// The values are not a table.
    #[error("{values} values do not make whole rows of {columns} columns (1 to 65535)")]
    Shape {
        /// How many values there are.
        values: usize,
        /// How many columns they should have.
        columns: usize,
    },
    /// There is too little to fit on.
    #[error("a forest needs two rows at least, and there are {rows}")]
    Empty {
        /// How many rows there are.
        rows: usize,
    },
    /// The rows have another number of columns than the training data.
    #[error("the forest was fitted on {expected} columns, and the rows have {found}")]
    Columns {
        /// Columns of the training data.
        expected: usize,
        /// Columns of the rows.
        found: usize,
    },
    /// linfa refused the data set.
    #[error("the data set cannot be used")]
    Dataset {
        /// Its own error.
        source: BoxError,
    },
}
