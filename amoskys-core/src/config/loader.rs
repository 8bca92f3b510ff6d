use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use super::error::{ConfigError, ConfigErrors, Origin, Warning};
use super::keys::{Key, NO_SETTINGS, PREFIX, find, keys, nearest};
use super::sections::Config;
use super::yaml;

/// Collects settings from files, the environment and code, in this order, in whatever order they are named.
/// Nothing is read before [`load`](Self::load).
///
/// Paths in settings are taken as they are, relative to the working directory of the process.
#[derive(Default)]
#[must_use]
pub struct Loader {
    files: Vec<Source>,
    environment: Vec<(OsString, OsString)>,
    code: Vec<(String, String)>,
    adjust: Vec<Adjust>,
}

type Adjust = Box<dyn FnOnce(&mut Config) + Send>;

enum Source {
    File { path: PathBuf, must_exist: bool },
    Text { text: String, name: PathBuf },
}

/// Settings that can be used.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What should be changed, though it works. They have been logged as well.
    pub warnings: Vec<Warning>,
}

impl Loader {
    /// Reads a YAML file, which must exist. Of several files, the later wins.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(Source::File {
            path: path.into(),
            must_exist: true,
        });
        self
    }

    /// Reads a YAML file, if it exists.
    pub fn file_if_present(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(Source::File {
            path: path.into(),
            must_exist: false,
        });
        self
    }

    /// Reads YAML text, for example one that is built into a program. `name` stands for the file in errors.
    pub fn yaml(mut self, text: impl Into<String>, name: impl Into<PathBuf>) -> Self {
        self.files.push(Source::Text {
            text: text.into(),
            name: name.into(),
        });
        self
    }

    /// Uses these environment variables: those that begin with `AMOSKYS_`, and those of the predecessor.
    pub fn environment<N, V>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        self.environment.extend(variables);
        self
    }

    /// Uses the environment variables of this process, as they are now.
    pub fn process_environment(self) -> Self {
        self.environment(std::env::vars_os())
    }

    /// Sets a setting by name, in the form it has in a file, for example from a command line.
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.code.push((key.into(), value.into()));
        self
    }

    /// Changes the settings in code, after all else.
    pub fn adjust(mut self, adjust: impl FnOnce(&mut Config) + Send + 'static) -> Self {
        self.adjust.push(Box::new(adjust));
        self
    }

    /// Reads everything and checks it. Values that a later source replaces are not checked.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, at once.
    pub fn load(self) -> Result<Loaded, ConfigErrors> {
        let mut settings = Settings::default();
        for source in self.files {
            settings.read_file(source);
        }
        settings.read_environment(self.environment);
        for (name, value) in self.code {
            match find(&name) {
                Some(key) => settings.put(key, value, Origin::Code),
                None => settings.unknown(&name),
            }
        }
        let Settings {
            values,
            warnings,
            mut errors,
        } = settings;

        let mut config = Config::default();
        for (index, (text, origin)) in values {
            let key = &keys()[index];
            match key.kind.parse(&text).filter(|value| key.kind.allows(value)) {
                Some(value) => (key.set)(&mut config, value),
                None => errors.push(ConfigError::value(key, &text, origin)),
            }
        }
        let before = config.clone();
        self.adjust.into_iter().for_each(|adjust| adjust(&mut config));
        let changed = keys()
            .iter()
            .filter(|key| (key.value)(&before) != (key.value)(&config));
        errors.extend(changed.filter_map(|key| check(key, &config)));

        if !errors.is_empty() {
            return Err(ConfigErrors(errors));
        }
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        Ok(Loaded { config, warnings })
    }
}

impl std::fmt::Debug for Loader {
    /// Without the environment, which may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader")
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

/// Checks settings that were changed in code.
pub(super) fn validate(config: &Config) -> Result<(), ConfigErrors> {
    let errors: Vec<_> = keys().iter().filter_map(|key| check(key, config)).collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ConfigErrors(errors))
    }
}

fn check(key: &Key, config: &Config) -> Option<ConfigError> {
    let value = (key.value)(config)?;
    let wrong = !key.kind.allows(&value);
    wrong.then(|| ConfigError::value(key, &key.kind.show(&value), Origin::Code))
}

/// Values as text, by their place in the table, with their origin.
#[derive(Default)]
struct Settings {
    values: BTreeMap<usize, (String, Origin)>,
    warnings: Vec<Warning>,
    errors: Vec<ConfigError>,
}

impl Settings {
    fn put(&mut self, key: usize, value: String, origin: Origin) {
        self.values.insert(key, (value, origin));
    }

    fn unknown(&mut self, name: &str) {
        let nearest = nearest(name, keys().iter().map(Key::name)).unwrap_or_default();
        self.errors
            .push(ConfigError::unknown(name, nearest, Origin::Code));
    }

    fn read_file(&mut self, source: Source) {
        let (text, file) = match source {
            Source::Text { text, name } => (text, name),
            Source::File { path, must_exist } => match std::fs::read_to_string(&path) {
                Ok(text) => (text, path),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => return,
                Err(error) => {
                    let source = Arc::new(error);
                    return self.errors.push(ConfigError::Read { file: path, source });
                }
            },
        };
        for entry in yaml::read(&text, &file, &mut self.errors) {
            let origin = Origin::File {
                file: file.clone(),
                line: entry.line,
            };
            self.put(entry.key, entry.value, origin);
        }
    }

    fn read_environment(&mut self, variables: Vec<(OsString, OsString)>) {
        // Sorted, so that errors come in the same order each time.
        let variables: BTreeMap<OsString, OsString> = variables.into_iter().collect();
        let variables = variables
            .iter()
            .filter_map(|(name, value)| Some((name.to_str()?, value)));
        let (ours, others): (Vec<_>, Vec<_>) = variables.partition(|(name, _)| name.starts_with(PREFIX));

        for (variable, value) in others {
            let former = keys()
                .iter()
                .position(|key| key.former_variable() == Some(variable));
            let Some(index) = former else { continue };
            let (key, instead) = (&keys()[index], keys()[index].variable());
            let ignored = ours.iter().any(|(name, _)| *name == instead);
            if let Some(variable) = key.former_variable() {
                self.warnings.push(Warning::Deprecated {
                    variable,
                    instead,
                    ignored,
                });
            }
            if !ignored {
                self.put_variable(index, variable, value);
            }
        }
        for (variable, value) in ours {
            if NO_SETTINGS.contains(&variable) {
                continue;
            }
            match keys().iter().position(|key| key.variable() == variable) {
                Some(index) => self.put_variable(index, variable, value),
                None => {
                    let known: Vec<String> = keys().iter().map(Key::variable).collect();
                    let nearest = nearest(variable, known.iter().map(String::as_str)).unwrap_or_default();
                    let origin = Origin::Environment {
                        variable: variable.to_owned(),
                    };
                    self.errors.push(ConfigError::unknown(variable, nearest, origin));
                }
            }
        }
    }

    fn put_variable(&mut self, key: usize, variable: &str, value: &OsString) {
        let origin = Origin::Environment {
            variable: variable.to_owned(),
        };
        match value.to_str() {
            Some(value) => self.put(key, value.to_owned(), origin),
            None => self
                .errors
                .push(ConfigError::value(&keys()[key], &value.to_string_lossy(), origin)),
        }
    }
}
