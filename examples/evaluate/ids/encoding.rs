//! Lines of text as rows of numbers.

use std::error::Error;

use ndarray::Array2;

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

/// How the fields of a line become numbers.
pub(crate) struct Encoding {
    columns: Vec<Column>,
}

enum Column {
    /// What the field says; if that is not finite, the last number.
    Number(usize, f64),
    /// 1 where the field is this category.
    Category(usize, String),
}

impl Encoding {
    /// From training lines: a column is a number if every field is one. A category the training lines lack is none of them.
    pub(crate) fn fit(header: &[String], lines: &[&[String]]) -> Self {
        let mut columns = Vec::new();
        for (at, _) in header
            .iter()
            .enumerate()
            .filter(|(_, name)| !NOT_FEATURES.contains(&name.as_str()))
        {
            let numbers: Option<Vec<f64>> = lines.iter().map(|line| line[at].parse().ok()).collect();
            match numbers {
                Some(numbers) => {
                    let most = numbers
                        .into_iter()
                        .filter(|number| number.is_finite())
                        .fold(0.0, f64::max);
                    columns.push(Column::Number(at, most));
                }
                None => {
                    let mut known: Vec<&String> = lines.iter().map(|line| &line[at]).collect();
                    known.sort_unstable();
                    known.dedup();
                    columns.extend(known.into_iter().map(|known| Column::Category(at, known.clone())));
                }
            }
        }
        Self { columns }
    }

    pub(crate) fn apply(&self, lines: &[&[String]]) -> Result<Array2<f64>, Box<dyn Error>> {
        let mut values = Vec::with_capacity(lines.len() * self.columns.len());
        for line in lines {
            for column in &self.columns {
                values.push(match column {
                    Column::Number(at, most) => match line[*at].parse::<f64>() {
                        // An infinite rate is that of a flow without duration.
                        Ok(number) if number.is_finite() => number,
                        Ok(number) if number > 0.0 => *most,
                        _ => 0.0,
                    },
                    Column::Category(at, category) => f64::from(u8::from(line[*at] == *category)),
                });
            }
        }
        Ok(Array2::from_shape_vec((lines.len(), self.columns.len()), values)?)
    }
}
