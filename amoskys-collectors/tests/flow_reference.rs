//! `docs/flow.md` defines every column of a flow's row, and no other.
#![cfg(feature = "flow")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use amoskys_collectors::flow::{Columns, RowFormat, RowWriter};

/// The page; `None` outside the repository, because a packaged crate does not contain it.
fn page() -> Option<String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    if !root.join("docs").exists() {
        eprintln!("skipped: there is no docs/ beside this crate");
        return None;
    }
    Some(std::fs::read_to_string(root.join("docs/flow.md")).expect("docs/flow.md"))
}

/// The columns that the first cells of the page's tables name, in order.
fn documented(page: &str) -> Vec<&str> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.flat_map(|row| {
        let names = row.split(" | ").next().unwrap_or_default();
        names.split(", ").map(|name| name.trim_matches('`'))
    })
    .collect()
}

#[test]
fn every_column_is_defined_once_and_nothing_else_is() {
    let Some(page) = page() else { return };
    let rows = RowWriter::with_columns(Vec::new(), RowFormat::Csv, Columns::All).expect("a header");
    let header = String::from_utf8(rows.into_inner().expect("the header")).expect("text");
    let columns: Vec<&str> = header.trim_end().split(',').collect();
    assert!(columns.len() > 180, "{header}");
    let documented = documented(&page);
    let set = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    let missing: Vec<String> = set(&columns).difference(&set(&documented)).cloned().collect();
    assert!(missing.is_empty(), "docs/flow.md does not define {missing:?}");
    let unknown: Vec<String> = set(&documented).difference(&set(&columns)).cloned().collect();
    assert!(
        unknown.is_empty(),
        "docs/flow.md defines {unknown:?}, which are no columns"
    );
    assert_eq!(documented.len(), columns.len(), "a column is defined twice");
}

/// A row that says nothing about its unit or meaning would still name its column.
#[test]
fn every_row_says_unit_and_meaning() {
    let Some(page) = page() else { return };
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert!(cells.len() >= 3, "{row}");
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{row}");
    }
}
