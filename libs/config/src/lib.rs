//! Where settings come from: defaults < file < environment < flags. The only crate that reads the world.
//!
//! A setting is a field of some `Options`; the whole is one serialisable struct. A file is TOML. An
//! environment variable is `COM_` and the path in capitals, parts joined by `__`: `COM_JOURNAL__QUEUE_APPENDS`
//! is `journal.queue_appends`. A flag is a path and a value. An unknown key fails, wherever it comes from: one that
//! was misspelt must not be lost in silence.

mod list;

use std::path::{Path, PathBuf};

use figment::error::{Actual, Kind};
use figment::providers::{Env, Format, Serialized, Toml};
use figment::{Figment, Source};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use list::list;

/// Environment variables that belong to the command line and are not settings.
const NOT_SETTINGS: [&str; 4] = ["server", "config", "key", "token"];
/// What the name of an environment variable that is a setting starts with.
const PREFIX: &str = "COM_";

/// Settings could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A named file is not there.
    #[error("configuration file `{}` cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// A key is unknown or a value does not fit. One line for each problem: key, where it came from, problem.
    #[error("{}", .0.join("\n"))]
    Wrong(Vec<String>),
    /// The settings cannot be printed.
    #[error("settings cannot be printed")]
    Dump(#[from] toml::ser::Error),
}

/// One setting given on the command line: its path, for example `journal.queue_appends`, and its value.
pub type Flag = (String, String);

/// Reads settings. `file`: must exist when given. `flags`: as given, later ones win.
/// Error: an unknown key or a value that does not fit, with where it came from.
pub fn load<T>(file: Option<&Path>, flags: &[Flag]) -> Result<T, ConfigError>
where
    T: Serialize + DeserializeOwned + Default,
{
    let mut figment = Figment::from(Serialized::defaults(T::default()));
    if let Some(path) = file {
        std::fs::metadata(path).map_err(|cause| ConfigError::File {
            path: path.to_owned(),
            cause,
        })?;
        figment = figment.merge(Toml::file_exact(path));
    }
    figment = figment.merge(Env::prefixed(PREFIX).ignore(&NOT_SETTINGS).split("__"));
    for (path, value) in flags {
        // Values are read as TOML would: numbers and true/false as such, all else as text.
        let value: figment::value::Value = value.parse().unwrap_or_else(|never| match never {});
        figment = figment.merge(Serialized::global(path, value));
    }
    let described =
        |errors: figment::Error| errors.into_iter().map(|e| describe(&e, flags)).collect();
    figment
        .extract()
        .map_err(|errors| ConfigError::Wrong(described(errors)))
}

/// One problem: where the setting was given, its key, what is wrong, what was expected.
fn describe(error: &figment::Error, flags: &[Flag]) -> String {
    let key = error.path.join(".");
    let origin = origin(error, &key, flags);
    let problem = match &error.kind {
        Kind::UnknownField(_, expected) => {
            format!("no such setting, expected one of {}", expected.join(", "))
        }
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            format!("expected {}, found {}", noun(expected), plain(found))
        }
        Kind::UnknownVariant(found, expected) => {
            format!("expected one of {}, found {found}", expected.join(", "))
        }
        other => other.to_string(),
    };
    if key.is_empty() {
        return format!("{origin}: {problem}");
    }
    format!("setting `{key}` from {origin}: {problem}")
}

/// Where a setting was given, as its giver wrote it.
fn origin(error: &figment::Error, key: &str, flags: &[Flag]) -> String {
    let metadata = error.metadata.as_ref();
    match metadata.and_then(|metadata| metadata.source.as_ref()) {
        Some(Source::File(path)) => format!("file {}", path.display()),
        Some(Source::Code(_)) => {
            let flag = flags.iter().rev().find(|(path, _)| is_under(path, key));
            flag.map_or_else(
                || "the defaults".to_owned(),
                |(path, _)| format!("--set {path}"),
            )
        }
        _ => {
            let path = |name: &str| name.strip_prefix(PREFIX).map(path_of);
            let mut names: Vec<String> = std::env::vars_os()
                .filter_map(|(name, _)| name.into_string().ok())
                .filter(|name| path(name).is_some_and(|path| is_under(&path, key)))
                .collect();
            names.sort();
            let name = names.into_iter().next();
            let name = name.unwrap_or_else(|| format!("{PREFIX}{}", variable_of(key)));
            format!("the environment variable {name}")
        }
    }
}

fn is_under(path: &str, key: &str) -> bool {
    path.strip_prefix(key)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn path_of(variable: &str) -> String {
    variable.to_lowercase().replace("__", ".")
}

fn variable_of(key: &str) -> String {
    key.to_uppercase().replace('.', "__")
}

/// What people call a type of Rust.
fn noun(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" | "bool" => "true or false",
        other => other,
    }
}

fn plain(found: &Actual) -> String {
    match found {
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        Actual::Str(value) => format!("`{value}`"),
        other => other.to_string(),
    }
}

/// All settings as a TOML file that would give the same settings.
pub fn dump<T: Serialize>(settings: &T) -> Result<String, ConfigError> {
    Ok(toml::to_string_pretty(settings)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Settings {
        listen: String,
        journal: Inner,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Inner {
        events: u32,
    }

    #[test]
    fn a_list_may_be_one_text() {
        #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct Lists {
            #[serde(deserialize_with = "list")]
            names: Vec<String>,
            #[serde(deserialize_with = "list")]
            ports: std::collections::BTreeSet<String>,
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("com.toml");
        std::fs::write(&file, "names = ['a', 'b']\n").unwrap();
        let lists: Lists = load(Some(&file), &[flag("ports", "y, x,")]).unwrap();
        assert_eq!(lists.names, ["a", "b"]);
        assert_eq!(lists.ports.into_iter().collect::<Vec<_>>(), ["x", "y"]);
        let wrong = load::<Lists>(None, &[flag("names", "3")]).unwrap_err();
        assert!(wrong.to_string().contains("a text with commas"), "{wrong}");
    }

    fn flag(path: &str, value: &str) -> Flag {
        (path.into(), value.into())
    }

    #[test]
    fn file_then_flags() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("com.toml");
        std::fs::write(&file, "listen = 'a'\n[journal]\nevents = 3\n").unwrap();
        let settings: Settings = load(Some(&file), &[flag("journal.events", "9")]).unwrap();
        assert_eq!(
            settings,
            Settings {
                listen: "a".into(),
                journal: Inner { events: 9 }
            }
        );
        let again = folder.path().join("dump.toml");
        std::fs::write(&again, dump(&settings).unwrap()).unwrap();
        assert_eq!(load::<Settings>(Some(&again), &[]).unwrap(), settings);
    }

    #[test]
    fn unknown_keys_and_wrong_values_name_the_key() {
        let wrong = |path: &str, value: &str, expected: &str| {
            let error = load::<Settings>(None, &[flag(path, value)]).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        wrong(
            "journal.evnts",
            "9",
            "setting `journal.evnts` from --set journal.evnts: no such setting, expected one of events",
        );
        wrong(
            "bogus.x",
            "1",
            "setting `bogus` from --set bogus.x: no such setting, expected one of listen, journal",
        );
        wrong(
            "journal.events",
            "many",
            "setting `journal.events` from --set journal.events: expected a whole number from 0, found `many`",
        );
        let error = load::<Settings>(Some(Path::new("/nowhere/com.toml")), &[])
            .unwrap_err()
            .to_string();
        assert!(error.contains("/nowhere/com.toml"), "{error}");
    }
}
