use std::collections::BTreeMap;

/// Most bytes of a text.
const MAX_TEXT: usize = 4 << 10;
/// Most attributes.
const MAX_ATTRIBUTES: usize = 8;
/// Marks a secret key in PEM form.
const SECRET: &str = "PRIVATE KEY-----";

/// A decision: who did what to what, and what came of it. Texts of more than 4 KiB are cut, and secret keys in PEM form are
/// withheld.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub(super) actor: String,
    pub(super) action: String,
    pub(super) object: String,
    pub(super) outcome: String,
    pub(super) reason: String,
    pub(super) attributes: BTreeMap<String, String>,
}

impl Entry {
    /// Who did what to what, and what came of it: `success`, `denied`, `failure`.
    #[must_use]
    pub fn new(actor: &str, action: &str, object: &str, outcome: &str) -> Self {
        Self {
            actor: fit(actor),
            action: fit(action),
            object: fit(object),
            outcome: fit(outcome),
            reason: String::new(),
            attributes: BTreeMap::new(),
        }
    }

    /// Why.
    #[must_use]
    pub fn reason(mut self, reason: &str) -> Self {
        self.reason = fit(reason);
        self
    }

    /// Something else, under a name. At most eight; more are left out.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: &str) -> Self {
        if self.attributes.len() < MAX_ATTRIBUTES {
            self.attributes.insert(cut(name, 256), fit(value));
        }
        self
    }
}

fn fit(text: &str) -> String {
    if text.contains(SECRET) {
        return "[withheld: it holds a secret key]".to_owned();
    }
    cut(text, MAX_TEXT)
}

fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most)
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    format!("{}…", &text[..end])
}
