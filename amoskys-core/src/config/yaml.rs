//! Files: a YAML mapping of sections, each a mapping of keys to single values.
//!
//! What a plain value means is decided by its setting, not by YAML: `no` is not a boolean where a name is
//! expected, and `1e3` is no number of bytes.

use std::path::Path;

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::error::{ConfigError, Origin, cut};
use super::keys::{find, keys, nearest};

/// The largest file that is read, in bytes. Ours have a few hundred.
const MAX_BYTES: usize = 1 << 20;

/// Lists and mappings in one another beyond this are read no further: the time that the parser takes for them grows with the
/// square of how many are open.
const MAX_DEPTH: usize = 64;

/// A setting in a file.
pub(super) struct Entry {
    /// Its place in the table of settings.
    pub(super) key: usize,
    pub(super) value: String,
    pub(super) line: usize,
}

/// Reads the settings of a file. What is wrong goes to `errors`; the rest is still given.
pub(super) fn read(text: &str, file: &Path, errors: &mut Vec<ConfigError>) -> Vec<Entry> {
    let mut reader = Reader {
        file,
        errors,
        entries: Vec::new(),
        lines: Vec::new(),
    };
    if text.len() > MAX_BYTES {
        let reason = format!("the file has {} bytes, {MAX_BYTES} are allowed", text.len());
        reader.wrong(1, reason);
        return Vec::new();
    }
    reader.read(text);
    reader.entries
}

struct Reader<'a> {
    file: &'a Path,
    errors: &'a mut Vec<ConfigError>,
    entries: Vec<Entry>,
    /// Names that were there, with their lines.
    lines: Vec<(String, usize)>,
}

/// Where in the file the reader is.
enum Place {
    /// Before the mapping of sections.
    Start,
    /// Expects the name of a section.
    Sections,
    /// Expects the mapping of a section; its name, if it is known and new.
    Section(Option<String>),
    /// Expects the name of a key in a section.
    Keys(Option<String>),
    /// Expects the value of a setting, if it is known and new.
    Value(Option<String>, Option<usize>),
    /// After the mapping of sections.
    End,
}

impl Reader<'_> {
    fn read(&mut self, text: &str) {
        let mut place = Place::Start;
        // How deep the reader is in something that has been refused.
        let mut refused = 0usize;
        for event in Parser::new_from_str(text) {
            let (event, line) = match event {
                Ok((event, span)) => (event, span.start.line()),
                Err(error) => {
                    return self.wrong(
                        error.marker().line(),
                        format!("this is not YAML: {}", error.info()),
                    );
                }
            };
            match event {
                Event::MappingStart(..) | Event::SequenceStart(..) if refused >= MAX_DEPTH => {
                    return self.wrong(line, "lists or mappings lie in one another too deep");
                }
                Event::MappingStart(..) | Event::SequenceStart(..) if refused > 0 => refused += 1,
                Event::MappingEnd | Event::SequenceEnd if refused > 0 => refused -= 1,
                _ if refused > 0 => {}
                Event::Alias(_) => return self.wrong(line, "aliases are not supported"),
                Event::MappingStart(..) => match self.open_mapping(place, line) {
                    (next, true) => place = next,
                    (next, false) => (place, refused) = (next, 1),
                },
                Event::SequenceStart(..) => {
                    self.wrong(line, "a list is not expected here");
                    (place, refused) = (after_value(place), 1);
                }
                Event::MappingEnd => {
                    place = match place {
                        Place::Keys(_) => Place::Sections,
                        _ => Place::End,
                    };
                }
                Event::Scalar(text, style, ..) => {
                    let plain = style == ScalarStyle::Plain;
                    let is_null = plain && ["", "~", "null", "Null", "NULL"].contains(&&*text);
                    place = self.scalar(place, &text, is_null, line);
                }
                Event::DocumentStart(_) if matches!(place, Place::End) => {
                    return self.wrong(line, "a second document is not expected");
                }
                _ => {}
            }
        }
    }

    /// The place in the mapping, and whether one is expected here.
    fn open_mapping(&mut self, place: Place, line: usize) -> (Place, bool) {
        match place {
            Place::Start => (Place::Sections, true),
            Place::Section(section) => (Place::Keys(section), true),
            Place::Value(..) => {
                self.wrong(
                    line,
                    "a mapping is not expected here: the setting has a single value",
                );
                (after_value(place), false)
            }
            Place::Sections | Place::Keys(_) | Place::End => {
                self.wrong(line, "a mapping cannot be a key");
                (after_key(place), false)
            }
        }
    }

    fn scalar(&mut self, place: Place, text: &str, is_null: bool, line: usize) -> Place {
        match place {
            Place::Start => {
                if !is_null {
                    self.wrong(line, "a mapping of sections is expected");
                }
                Place::End
            }
            Place::Sections => Place::Section(self.section(text, line)),
            Place::Section(section) => {
                if let (Some(section), false) = (section, is_null) {
                    self.wrong(
                        line,
                        format!("a mapping of the settings of {section} is expected"),
                    );
                }
                Place::Sections
            }
            Place::Keys(section) => {
                let key = section.as_ref().and_then(|section| self.key(section, text, line));
                Place::Value(section, key)
            }
            Place::Value(section, key) => {
                // No value is as if the line were not there.
                if let (Some(key), false) = (key, is_null) {
                    self.entries.push(Entry {
                        key,
                        value: text.to_owned(),
                        line,
                    });
                }
                Place::Keys(section)
            }
            Place::End => Place::End,
        }
    }

    fn section(&mut self, name: &str, line: usize) -> Option<String> {
        let sections = || {
            keys()
                .iter()
                .filter_map(|key| Some(key.name().split_once('.')?.0))
        };
        if !sections().any(|section| section == name) {
            let nearest = nearest(name, sections()).unwrap_or_default();
            let nearest = format!("the section {nearest}");
            let origin = self.origin(line);
            self.errors.push(ConfigError::unknown(name, nearest, origin));
            return None;
        }
        self.is_new(name, line).then(|| name.to_owned())
    }

    fn key(&mut self, section: &str, name: &str, line: usize) -> Option<usize> {
        let name = format!("{section}.{}", cut(name));
        let Some(key) = find(&name) else {
            let nearest = nearest(&name, keys().iter().map(|key| key.name())).unwrap_or_default();
            let origin = self.origin(line);
            self.errors.push(ConfigError::unknown(&name, nearest, origin));
            return None;
        };
        self.is_new(&name, line).then_some(key)
    }

    fn is_new(&mut self, name: &str, line: usize) -> bool {
        if let Some((_, first_line)) = self.lines.iter().find(|(seen, _)| seen == name) {
            let (key, first_line, origin) = (name.to_owned(), *first_line, self.origin(line));
            self.errors.push(ConfigError::Repeated {
                key,
                first_line,
                origin,
            });
            return false;
        }
        self.lines.push((name.to_owned(), line));
        true
    }

    fn wrong(&mut self, line: usize, reason: impl Into<String>) {
        let origin = self.origin(line);
        self.errors.push(ConfigError::form(reason, origin));
    }

    fn origin(&self, line: usize) -> Origin {
        Origin::File {
            file: self.file.to_owned(),
            line,
        }
    }
}

/// The place after something that is no value was refused as one, or as a key.
fn after_value(place: Place) -> Place {
    match place {
        Place::Start | Place::End => Place::End,
        Place::Sections | Place::Keys(_) => after_key(place),
        Place::Section(_) => Place::Sections,
        Place::Value(section, _) => Place::Keys(section),
    }
}

/// The place after something that cannot be a key was refused: its value is passed over.
fn after_key(place: Place) -> Place {
    match place {
        Place::Sections => Place::Section(None),
        Place::Keys(section) => Place::Value(section, None),
        other => other,
    }
}
