use amoskys_core::BoxError;

/// Why a detector could not be fitted, or rows not be scored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DetectorError {
    /// A parameter is out of range.
    #[error("{parameter} is {value}, but must be {range}")]
    Parameter {
        /// Name of the parameter.
        parameter: &'static str,
        /// What it was set to.
        value: f64,
        /// What it may be.
        range: &'static str,
    },
    /// A value is NaN or infinite. Impute or drop it first: what a missing value should count as is for the caller to say.
    #[error("row {row}, column {column} is {value}, but detectors need finite numbers")]
    NotFinite {
        /// Its row, from 0.
        row: usize,
        /// Its column, from 0.
        column: usize,
        /// What it is.
        value: f64,
    },
    /// There is too little to fit on.
    #[error("{needed} rows are needed at least, and there are {rows}")]
    TooFew {
        /// How many are needed.
        needed: usize,
        /// How many there are.
        rows: usize,
    },
    /// There is more than can be fitted on. Draw a sample.
    #[error("{most} rows are allowed at most, and there are {rows}")]
    TooMany {
        /// How many are allowed.
        most: usize,
        /// How many there are.
        rows: usize,
    },
    /// There are more columns than can be fitted on. Choose among them, or project them.
    #[error("{most} columns are allowed at most, and there are {columns}")]
    TooWide {
        /// How many are allowed.
        most: usize,
        /// How many there are.
        columns: usize,
    },
    /// There are more rows than labels, or fewer.
    #[error("{rows} rows have {labels} labels")]
    Labels {
        /// Number of rows.
        rows: usize,
        /// Number of labels.
        labels: usize,
    },
    /// Only one of the two labels occurs.
    #[error("anomalies and other rows are needed, and there is only one kind")]
    OneKind,
    /// There are more classes than can be told apart.
    #[error("there are classes 0 to {} at most, and one is {class}", most - 1)]
    Classes {
        /// How many there can be.
        most: usize,
        /// The highest.
        class: usize,
    },
    /// Classes are numbered without a gap, and no row is of this one.
    #[error("no row is of class {class}, but some are of a higher one")]
    NoRows {
        /// The first that does not occur.
        class: usize,
    },
    /// The matrix has no columns, or more than 65 535.
    #[error("a table has 1 to 65535 columns, not {columns}")]
    Shape {
        /// How many it has.
        columns: usize,
    },
    /// The rows have another number of columns than the training data.
    #[error("the detector was fitted on {expected} columns, and the rows have {found}")]
    Columns {
        /// Columns of the training data.
        expected: usize,
        /// Columns of the rows.
        found: usize,
    },
    /// A detector that this one is made of failed.
    #[error("{part} failed")]
    Part {
        /// Which one.
        part: &'static str,
        /// Why.
        source: BoxError,
    },
    /// linfa refused the data set.
    #[error("the data set cannot be used")]
    Dataset {
        /// Its own error.
        source: BoxError,
    },
}

impl From<linfa::Error> for DetectorError {
    fn from(error: linfa::Error) -> Self {
        Self::Dataset {
            source: Box::new(error),
        }
    }
}
