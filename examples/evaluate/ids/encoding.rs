//! Lines of text as rows of numbers.

use std::collections::BTreeMap;
use std::error::Error;

use csv::StringRecord;
use ndarray::Array2;

use crate::table::number;

/// Columns that tell the answer, or where a row comes from.
const NOT_FEATURES: [&str; 7] = [
    "label",
    "attack",
    "attack_cat",
    "family",
    "difficulty",
    "id",
    "source",
];

/// Categories of a column that get a number of their own: the commonest.
const MOST_CATEGORIES: usize = 256;
/// A column of words that has more of them than this, and more than half as many as lines, names the lines.
const NAMES: usize = 1000;

/// How the fields of a line become numbers.
pub(crate) struct Encoding {
    columns: Vec<Column>,
}

enum Column {
    /// What the field says; if that is infinite, the last number, and if it says nothing, 0.
    Number(usize, f64),
    /// 1 where the field is this category.
    Category(usize, String),
}

/// Whether a column is a feature, whatever the case of its name.
pub(crate) fn is_feature(name: &str) -> bool {
    !NOT_FEATURES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

impl Encoding {
    /// From training lines: a column is a number if every field is one or says that there is none. A category the training lines
    /// lack is none of them.
    pub(crate) fn fit(header: &[String], lines: &[&StringRecord]) -> Result<Self, Box<dyn Error>> {
        let mut columns = Vec::new();
        for (at, name) in header.iter().enumerate().filter(|(_, name)| is_feature(name)) {
            let numbers: Option<Vec<f64>> = lines.iter().map(|line| number(&line[at])).collect();
            if let Some(numbers) = numbers {
                let finite = numbers.into_iter().filter(|number| number.is_finite());
                columns.push(Column::Number(at, finite.fold(0.0, f64::max)));
                continue;
            }
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for line in lines {
                *counts.entry(&line[at]).or_default() += 1;
            }
            if counts.len() > NAMES && counts.len() * 2 > lines.len() {
                eprintln!("column {name} names the rows and is left out");
                continue;
            }
            let mut known: Vec<(&str, usize)> = counts.into_iter().collect();
            known.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
            known.truncate(MOST_CATEGORIES);
            known.sort_unstable();
            columns.extend(
                known
                    .into_iter()
                    .map(|(name, _)| Column::Category(at, name.to_owned())),
            );
        }
        if columns.is_empty() {
            return Err("there is no column to learn from".into());
        }
        Ok(Self { columns })
    }

    pub(crate) fn apply(&self, lines: &[&StringRecord]) -> Result<Array2<f64>, Box<dyn Error>> {
        let mut values = Vec::with_capacity(lines.len() * self.columns.len());
        for line in lines {
            for column in &self.columns {
                values.push(match column {
                    Column::Number(at, most) => match number(&line[*at]) {
                        // An infinite rate is that of a flow without duration.
                        Some(number) if number.is_finite() => number,
                        Some(number) if number > 0.0 => *most,
                        _ => 0.0,
                    },
                    Column::Category(at, category) => f64::from(u8::from(line[*at] == **category)),
                });
            }
        }
        Ok(Array2::from_shape_vec((lines.len(), self.columns.len()), values)?)
    }

    /// Fields that were numbers in training and are words here, which count as 0: how many, and the first of them.
    pub(crate) fn words(&self, lines: &[&StringRecord]) -> Option<(usize, usize, usize)> {
        let numbers = self.columns.iter().filter_map(|column| match column {
            Column::Number(at, _) => Some(*at),
            Column::Category(..) => None,
        });
        let mut found: Option<(usize, usize, usize)> = None;
        for at in numbers {
            for (row, line) in lines.iter().enumerate() {
                if number(&line[at]).is_none() {
                    let (count, ..) = found.get_or_insert((0, row, at));
                    *count += 1;
                }
            }
        }
        found
    }
}
