//! Applies a model to a table.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use amoskys_analysis::eval::{Alarms, auroc, average_precision};
use amoskys_analysis::model::TableModel;

use crate::fit::SETTINGS;
use crate::table::{CATEGORY, Table};

/// Rows that are scored at once.
const BLOCK: usize = 4096;

pub(crate) fn run(
    model: &Path,
    csv: &Path,
    output: Option<&Path>,
    threads: NonZeroUsize,
) -> Result<(), Box<dyn Error>> {
    let file = crate::load(model)?;
    let settings: BTreeMap<String, String> = file.part(SETTINGS)?.unwrap_or_default();
    let mut model = TableModel::load(&file, &|kind, bytes| Ok(amoskys_features::load(kind, bytes)?))?;
    let table = Table::read(csv)?;
    let schema = Arc::new(model.schema().clone());
    let vectors = table.vectors(&schema)?;
    let out: Box<dyn Write> = match output {
        Some(path) => {
            let file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
            Box::new(BufWriter::new(file))
        }
        None => Box::new(std::io::stdout().lock()),
    };
    let mut out = csv::Writer::from_writer(out);
    out.write_record(["line", "score", "probability", "alarm", "because"])?;
    let mut all = Vec::with_capacity(vectors.len());
    for (block, vectors) in vectors.chunks(BLOCK).enumerate() {
        for (at, score) in model.score(vectors, threads)?.into_iter().enumerate() {
            let score = score.ok_or("a transform of the model dropped a row")?;
            all.push(score);
            let row = block * BLOCK + at;
            let alarm = model.threshold().is_alarm(score);
            let because = if alarm {
                because(&mut model, &table, row, &vectors[at])?
            } else {
                String::new()
            };
            let probability = model.calibration().probability(score);
            let written = out.write_record([
                table.line(row).to_string(),
                score.to_string(),
                format!("{probability:.6}"),
                u8::from(alarm).to_string(),
                because,
            ]);
            if let Err(error) = written {
                return match error.kind() {
                    // Whoever reads has seen enough.
                    csv::ErrorKind::Io(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
                    _ => Err(error.into()),
                };
            }
        }
    }
    out.flush()?;
    let threshold = model.threshold().0;
    let alarms = all.iter().filter(|score| **score > threshold).count();
    eprintln!("{} rows, {alarms} alarms", all.len());
    if let Some(label) = settings.get("label")
        && let Ok(column) = table.column(label)
    {
        let labels = table.labels(column)?;
        let counts = Alarms::count(&all, &labels, threshold);
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
        eprintln!(
            "by column {label}: auroc {}, average precision {}, recall {}, false alarms {}",
            number(auroc(&all, &labels)),
            number(average_precision(&all, &labels)),
            number(counts.recall()),
            number(counts.false_positive_rate()),
        );
    }
    Ok(())
}

/// The features that made the score, with their values as the table has them and what each adds to the log-odds.
fn because(
    model: &mut TableModel,
    table: &Table,
    row: usize,
    vector: &amoskys_core::FeatureVector,
) -> Result<String, Box<dyn Error>> {
    let judgement = model.judge(vector, 0.0)?;
    let mut parts = Vec::new();
    for evidence in judgement.into_iter().flat_map(|judgement| judgement.evidence) {
        let name = evidence.feature.as_str();
        let unit = vector
            .schema
            .index_of(name)
            .map(|at| &vector.schema.features()[at].unit);
        let value = match unit {
            Some(unit) if unit == CATEGORY => table.rows[row][table.column(name)?].to_owned(),
            _ => evidence.value.to_string(),
        };
        parts.push(format!("{name}={value} ({:+.2})", evidence.contribution));
    }
    Ok(parts.join("; "))
}
