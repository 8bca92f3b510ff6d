//! `docs/configuration.md` lists every setting as the table in the code has it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fmt::Write as _;
use std::path::PathBuf;

use amoskys_core::config::keys;

const HEAD: &str = "\
# Configuration

This page is made from the table of settings in `amoskys-core/src/config/keys.rs`.

A setting is a key in a section of a YAML file:

```yaml
log:
  path: /var/lib/amoskys
  budget_bytes: 2GiB
batch:
  linger: 20ms
```

or an environment variable, `AMOSKYS_SECTION_KEY`, or set by the program that uses the library. Code wins over the
environment, which wins over the file, which wins over the defaults.

- Lengths of time are a number and `us`, `ms`, `s`, `min`, `h` or `d`; a bare number is seconds.
- Numbers of bytes are a whole number and `B`, `KiB`, `MiB`, `GiB`, `TiB`, or `kB`, `MB`, `GB`, `TB` (powers of
  1000); a bare number is bytes.
- Paths are relative to the working directory of the process.
- A key without a value is as if it were not there. Unknown keys, and unknown variables that begin with `AMOSKYS_`,
  are errors. All errors are reported at once.
";

const FORMER: &str = "
## Variables of the predecessor

They still work, with a warning. Where the new variable is set too, it wins.

| variable | use instead |
|---|---|
";

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md")
}

fn reference() -> String {
    let mut page = HEAD.to_owned();
    let mut section = "";
    for key in keys() {
        let (its_section, name) = key.name().split_once('.').unwrap();
        if its_section != section {
            section = its_section;
            write!(
                page,
                "\n## {section}\n\n| key, variable | default | allowed | what it is |\n|---|---|---|---|\n"
            )
            .unwrap();
        }
        let default = key
            .default_value()
            .map_or_else(|| "none".to_owned(), |value| format!("`{value}`"));
        writeln!(
            page,
            "| `{name}`<br>`{}` | {default} | {} | {} |",
            key.variable(),
            key.allowed(),
            key.about()
        )
        .unwrap();
    }
    page.push_str(FORMER);
    for key in keys() {
        if let Some(former) = key.former_variable() {
            writeln!(page, "| `{former}` | `{}` |", key.variable()).unwrap();
        }
    }
    page
}

#[test]
fn the_page_is_current() {
    // A packaged crate comes without it.
    let Ok(page) = std::fs::read_to_string(path()) else {
        assert!(
            !path().parent().unwrap().exists(),
            "docs/configuration.md is missing"
        );
        return;
    };
    assert!(
        page == reference(),
        "docs/configuration.md is not current; write it anew with: \
         cargo test -p amoskys-core --test config_reference -- --ignored"
    );
}

#[test]
#[ignore = "writes the page"]
fn write_the_page() {
    std::fs::write(path(), reference()).unwrap();
}
