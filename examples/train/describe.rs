//! Says what is inside a model file.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;

use amoskys_analysis::model::{ModelFile, SiteModel, TableModel};

use crate::fit::{CATEGORIES, SETTINGS};

/// Features that are named; the rest is counted.
const MOST_FEATURES: usize = 12;

pub(crate) fn print(file: &ModelFile) -> Result<(), Box<dyn Error>> {
    let mut out = String::new();
    describe(file, "", &mut out)?;
    // Whoever reads may have seen enough.
    std::io::stdout().write_all(out.as_bytes()).ok();
    Ok(())
}

fn describe(file: &ModelFile, indent: &str, out: &mut String) -> Result<(), Box<dyn Error>> {
    let mut line = |name: &str, value: &str| out.push_str(&format!("{indent}{name:14} {value}\n"));
    line("model", &format!("{} {}", file.name, file.version));
    line("digest", &file.model_ref()?.digest.to_string());
    let schema = &file.schema;
    line(
        "schema",
        &format!(
            "{}, {} features, {}",
            schema.name(),
            schema.len(),
            schema.digest()
        ),
    );
    let mut names: Vec<&str> = schema
        .features()
        .iter()
        .map(|feature| feature.name.as_str())
        .collect();
    let more = names.len().saturating_sub(MOST_FEATURES);
    names.truncate(MOST_FEATURES);
    let more = if more > 0 {
        format!(", and {more} more")
    } else {
        String::new()
    };
    line("features", &format!("{}{more}", names.join(", ")));
    if !file.transforms.is_empty() {
        let kinds: Vec<&str> = file
            .transforms
            .iter()
            .map(|transform| transform.kind.as_str())
            .collect();
        line("transforms", &kinds.join(", "));
    }
    line("parts", &file.parts().collect::<Vec<_>>().join(", "));
    let origin = &file.origin;
    line(
        "trained on",
        &format!("{} rows, digest {}", origin.training_rows, origin.training_data),
    );
    line("seed", &origin.seed.to_string());
    let settings: Option<BTreeMap<String, String>> = file.part(SETTINGS)?;
    for (name, value) in settings.into_iter().flatten() {
        line(&name, &value);
    }
    let categories: Option<BTreeMap<String, Vec<String>>> = file.part(CATEGORIES)?;
    for (column, known) in categories.into_iter().flatten() {
        let (count, mut known) = (known.len(), known);
        known.truncate(MOST_FEATURES);
        line(
            "categories",
            &format!(
                "{column}: {count} with a feature of their own: {}",
                known.join(", ")
            ),
        );
    }
    for (name, value) in &origin.metrics {
        line("measured", &format!("{name} {value:.4}"));
    }
    if let Ok(model) = TableModel::load(file, &|kind, bytes| Ok(amoskys_features::load(kind, bytes)?)) {
        line("threshold", &format!("{}", model.threshold().0));
    }
    let Ok(site) = SiteModel::of_file(file) else {
        return Ok(());
    };
    if let Some(baseline) = site.baseline() {
        let (events, seconds) = (baseline.events(), baseline.seconds());
        line(
            "baseline",
            &format!("{events} events over {seconds:.0} s of event time"),
        );
    }
    if let Some(sequences) = site.sequences() {
        line(
            "sequences",
            &format!("alarms above {:.4}", sequences.threshold().0),
        );
    }
    if site.windows().iter().all(|windows| windows == file) {
        return Ok(());
    }
    for windows in site.windows() {
        out.push('\n');
        describe(windows, &format!("{indent}  "), out)?;
    }
    Ok(())
}
