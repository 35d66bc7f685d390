//! Settings from a file and the environment, with errors that name the key.
//!
//! Keys are flat. A key `data_dir` is `data_dir = …` in a TOML file and, with the
//! prefix `APP_`, `APP_DATA_DIR` in the environment, which wins. A key that is
//! not a field of the settings is an error in either place: a misspelt one would
//! otherwise be ignored without a word. No error shows a value, since a value may
//! be a secret.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use config::{Config, Environment, File, FileFormat, Map, Source as _, Value};
use serde::{
    Deserialize,
    de::{Deserializer, Error as _, Visitor, value::MapDeserializer},
    forward_to_deserialize_any,
};

mod setting;

use setting::{Fault, Setting};

/// How similar two keys must be for one to be suggested for the other.
const NEAR: f64 = 0.75;

/// Where settings come from.
pub struct Source<'a> {
    /// A file that someone asked for: it must be there.
    pub file: Option<PathBuf>,
    /// The file to read where none was asked for; it may be missing.
    pub default_file: &'a Path,
    /// What names of ours in the environment begin with, such as `APP_`.
    pub prefix: &'a str,
    /// Names with our prefix that belong to other programs; one that ends in `_`
    /// stands for all names that begin with it.
    pub foreign: &'a [&'a str],
    /// The environment; see [`process_environment`].
    pub environment: Vec<(OsString, OsString)>,
}

/// The environment of this process, for [`Source::environment`].
#[must_use]
pub fn process_environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

/// Why settings could not be loaded. None of them shows a value.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("read configuration file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("read configuration file {}: {position}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line and column, as far as they are known.
        position: String,
    },
    /// Some keys are not known.
    #[error("use the configuration: {}", list(.0))]
    Unknown(Vec<UnknownKey>),
    /// A value is not of the kind that its key needs.
    #[error("use the configuration: {setting} must be {expected}")]
    Invalid {
        /// The key, as it is written where it was set.
        setting: String,
        /// What would be accepted.
        expected: String,
    },
    /// A value was refused by the type of its key.
    #[error("use the configuration: {setting} is refused: {reason}")]
    Refused {
        /// The key, as it is written where it was set.
        setting: String,
        /// What the type says, unless it quotes the value.
        reason: String,
    },
    /// A key without a default is set nowhere.
    #[error("use the configuration: {key} is not set (in the environment: {variable})")]
    Missing {
        /// The key.
        key: &'static str,
        /// The name it has in the environment.
        variable: String,
    },
}

/// A key that nobody reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKey {
    /// The key, as it is written where it was set.
    pub setting: String,
    /// The known key that was probably meant.
    pub meant: Option<String>,
}

impl fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not a known key", self.setting)?;
        self.meant.iter().try_for_each(|meant| write!(f, " (did you mean {meant}?)"))
    }
}

fn list(keys: &[UnknownKey]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Loads settings: the file, then the environment over it.
///
/// `T` is a struct with named fields, without `flatten`; defaults are up to its
/// `serde` attributes. A variable that is set but empty counts as not set.
///
/// # Errors
///
/// See [`ConfigError`]. All unknown keys are told at once.
pub fn load<T: for<'de> Deserialize<'de>>(source: Source<'_>) -> Result<T, ConfigError> {
    let known = fields_of::<T>();
    let (path, file) = read_file(&source)?;
    let names = Names { prefix: source.prefix, file: path.as_deref(), known };
    let (variables, mut unknown) = names.sort_out(&source)?;
    unknown.extend(
        file.keys().filter(|key| !known.contains(&key.as_str())).map(|key| names.unknown_in_file(key)),
    );
    if !unknown.is_empty() {
        return Err(ConfigError::Unknown(unknown));
    }
    let merged = merge(file, variables).map_err(|_| ConfigError::Refused {
        setting: "the configuration".to_owned(),
        reason: "its sources cannot be merged".to_owned(),
    })?;
    let settings = merged.into_iter().map(|(key, value)| {
        let name = names.of(&key, &value);
        (key, Setting::new(name, value))
    });
    T::deserialize(MapDeserializer::new(settings)).map_err(|fault| match fault {
        Fault::At(error) => error,
        Fault::Missing(key) => ConfigError::Missing { key, variable: names.variable(key) },
        Fault::Expected(_) | Fault::Said(_) => ConfigError::Refused {
            setting: "the configuration".to_owned(),
            reason: "its values do not fit together".to_owned(),
        },
    })
}

/// Reads the file, which is empty where it may be missing.
fn read_file(source: &Source<'_>) -> Result<(Option<PathBuf>, Map<String, Value>), ConfigError> {
    let path = source.file.as_deref().unwrap_or(source.default_file);
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if source.file.is_none() && error.kind() == io::ErrorKind::NotFound => {
            return Ok((None, Map::new()));
        }
        Err(error) => return Err(ConfigError::File { path: path.to_owned(), source: error }),
    };
    let table = File::from_str(&text, FileFormat::Toml).collect().map_err(|error| {
        // The parser quotes the line, which may hold a secret. Its first line only
        // tells the place.
        let said = error.to_string();
        let position = said.lines().next().filter(|line| line.starts_with("TOML parse error at line"));
        ConfigError::Syntax {
            path: path.to_owned(),
            position: position.unwrap_or("not valid TOML").to_owned(),
        }
    })?;
    Ok((Some(path.to_owned()), table))
}

/// Lays the variables over the file.
fn merge(
    file: Map<String, Value>,
    variables: HashMap<String, String>,
) -> Result<Map<String, Value>, config::ConfigError> {
    // The variables have lost their prefix already: left to itself the library
    // would skip names it cannot make sense of, and we want to hear of them.
    let environment = Environment::default().source(Some(variables.into_iter().collect()));
    let mut builder = Config::builder();
    for (key, value) in file {
        builder = builder.set_default(key, value)?;
    }
    builder.add_source(environment).build()?.cache.into_table()
}

/// How keys are called in the file and in the environment.
struct Names<'a> {
    prefix: &'a str,
    file: Option<&'a Path>,
    known: &'static [&'static str],
}

impl Names<'_> {
    /// The variable that sets `key`.
    fn variable(&self, key: &str) -> String {
        format!("{}{}", self.prefix, key.to_uppercase())
    }

    /// The name of a key as it is written where `value` came from.
    fn of(&self, key: &str, value: &Value) -> String {
        match (value.origin(), self.file) {
            (None, Some(file)) => format!("{key} in {}", file.display()),
            _ => self.variable(key),
        }
    }

    /// Takes from the environment what is ours: known keys with their values, and
    /// the names that nobody knows, sorted.
    fn sort_out(
        &self,
        source: &Source<'_>,
    ) -> Result<(HashMap<String, String>, Vec<UnknownKey>), ConfigError> {
        let keys: BTreeMap<String, &str> = self.known.iter().map(|key| (self.variable(key), *key)).collect();
        let mut ours = HashMap::new();
        let mut unknown = Vec::new();
        for (name, value) in &source.environment {
            let name = name.to_string_lossy();
            if !name.starts_with(self.prefix)
                || source.foreign.iter().any(|foreign| is_foreign(&name, foreign))
            {
                continue;
            }
            let Some(key) = keys.get(name.as_ref()) else {
                unknown.push(self.unknown_variable(&name));
                continue;
            };
            let Some(value) = value.to_str() else {
                let expected = "Unicode text".to_owned();
                return Err(ConfigError::Invalid { setting: name.into_owned(), expected });
            };
            if !value.is_empty() {
                ours.insert((*key).to_owned(), value.to_owned());
            }
        }
        unknown.sort_by(|one, other| one.setting.cmp(&other.setting));
        Ok((ours, unknown))
    }

    fn unknown_variable(&self, name: &str) -> UnknownKey {
        let key = name.strip_prefix(self.prefix).unwrap_or(name);
        UnknownKey { setting: name.to_owned(), meant: self.nearest(key).map(|key| self.variable(key)) }
    }

    fn unknown_in_file(&self, key: &str) -> UnknownKey {
        let file = self.file.unwrap_or(Path::new("the file"));
        UnknownKey {
            setting: format!("{key} in {}", file.display()),
            meant: self.nearest(key).map(ToOwned::to_owned),
        }
    }

    fn nearest(&self, key: &str) -> Option<&'static str> {
        let key = key.to_lowercase().replace('-', "_");
        let near = |known: &&'static str| (strsim::normalized_damerau_levenshtein(&key, known), *known);
        let best = self.known.iter().map(near).max_by(|one, other| one.0.total_cmp(&other.0))?;
        (best.0 >= NEAR).then_some(best.1)
    }
}

fn is_foreign(name: &str, foreign: &str) -> bool {
    name == foreign || (foreign.ends_with('_') && name.starts_with(foreign))
}

/// The names of the fields of `T`, which `serde` tells to whoever is asked for
/// one.
fn fields_of<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    let fields = Cell::new([].as_slice());
    // It always fails: there is nothing to make a `T` from.
    let _ = T::deserialize(Probe(&fields));
    fields.get()
}

struct Probe<'a>(&'a Cell<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.set(fields);
        self.deserialize_any(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("only asking"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests;
