//! `docs/features.md` lists the features that there are.
//!
//! `AMOSKYS_BLESS=1 cargo test -p amoskys-features --test feature_reference` writes the list anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use amoskys_features::extract::{FeatureReference, reference};

const BEGIN: &str = "<!-- The list below is generated from the code. -->\n";

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/features.md")
}

fn list() -> String {
    let mut text = String::new();
    let catalogs = reference();
    let all: usize = catalogs.iter().map(|catalog| catalog.features.len()).sum();
    writeln!(text, "{all} features in {} catalogs.\n", catalogs.len()).expect("a string takes it");
    for catalog in &catalogs {
        let count = catalog.features.len();
        writeln!(text, "### {} ({count})\n", catalog.name).expect("a string takes it");
        writeln!(text, "- About: {}", catalog.entity).expect("a string takes it");
        writeln!(text, "- Events: {}", catalog.events).expect("a string takes it");
        writeln!(text, "- Window: {}\n", catalog.window).expect("a string takes it");
        text.push_str("| name | type | unit | range | formula |\n|---|---|---|---|---|\n");
        for feature in &catalog.features {
            let FeatureReference {
                name,
                kind,
                unit,
                formula,
                ..
            } = feature;
            let formula = formula.replace('|', "\\|");
            writeln!(
                text,
                "| `{name}` | {} | {unit} | {} | {formula} |",
                kind.as_str(),
                range(feature)
            )
            .expect("a string takes it");
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn range(feature: &FeatureReference) -> String {
    match feature.range {
        (f64::NEG_INFINITY, f64::INFINITY) => "any".to_owned(),
        (low, f64::INFINITY) => format!("≥ {low}"),
        (low, high) => format!("{low} to {high}"),
    }
}

#[test]
fn the_page_lists_what_the_code_computes() {
    let text = std::fs::read_to_string(page()).expect("docs/features.md");
    let (head, listed) = text.split_once(BEGIN).expect("the mark before the list");
    if std::env::var_os("AMOSKYS_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(page(), format!("{head}{BEGIN}\n{}", list())).unwrap();
        return;
    }
    assert!(
        listed.trim_start() == list(),
        "docs/features.md is not up to date; see the head of this test"
    );
}

#[test]
fn there_are_at_least_five_hundred_and_each_is_described() {
    let mut names = BTreeSet::new();
    for catalog in reference() {
        let mut own = BTreeSet::new();
        for feature in &catalog.features {
            let FeatureReference {
                name, formula, range, ..
            } = feature;
            assert!(own.insert(name.clone()), "{}.{name} is there twice", catalog.name);
            assert!(
                !formula.is_empty() && range.0 < range.1,
                "{}.{name}",
                catalog.name
            );
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            assert!(name.bytes().all(plain), "{name}");
        }
        // A feature that several catalogs have counts once.
        names.extend(own);
    }
    assert!(names.len() >= 500, "{}", names.len());
}
