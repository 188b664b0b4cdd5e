//! Where settings come from: defaults < file < environment < flags. The only crate that reads the world.
//!
//! A setting is a field of some `Options`; the whole is one serialisable struct. A file is TOML. An
//! environment variable is `COM_` and the path in capitals, parts joined by `__`: `COM_JOURNAL__GROUP_EVENTS`
//! is `journal.group_events`. A flag is a path and a value. An unknown key fails, wherever it comes from.

mod list;

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use list::list;

/// Environment variables that belong to the command line and are not settings.
const NOT_SETTINGS: [&str; 4] = ["server", "config", "model_dir", "json"];

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
    /// A key is unknown or a value does not fit. One line for each problem: key, problem, where it came from.
    #[error("{}", .0.join("\n"))]
    Wrong(Vec<String>),
    /// The settings cannot be printed.
    #[error("settings cannot be printed")]
    Dump(#[from] toml::ser::Error),
}

/// One setting given on the command line: its path, for example `journal.group_events`, and its value.
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
    figment = figment.merge(Env::prefixed("COM_").ignore(&NOT_SETTINGS).split("__"));
    for (path, value) in flags {
        // Values are read as TOML would: numbers and true/false as such, all else as text.
        let value: figment::value::Value = value.parse().unwrap_or_else(|never| match never {});
        figment = figment.merge(Serialized::global(path, value));
    }
    figment
        .extract()
        .map_err(|errors| ConfigError::Wrong(errors.into_iter().map(|e| describe(&e)).collect()))
}

fn describe(error: &figment::Error) -> String {
    let key = if error.path.is_empty() {
        String::new()
    } else {
        format!("`{}`: ", error.path.join("."))
    };
    let origin = error
        .metadata
        .as_ref()
        .map(|metadata| match &metadata.source {
            Some(source) => format!(" (from {source})"),
            None => format!(" (from {})", metadata.name),
        });
    format!("{key}{}{}", error.kind, origin.unwrap_or_default())
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
        let error = load::<Settings>(None, &[flag("journal.evnts", "9")])
            .unwrap_err()
            .to_string();
        assert!(error.contains("evnts"), "{error}");
        let error = load::<Settings>(None, &[flag("journal.events", "many")])
            .unwrap_err()
            .to_string();
        assert!(error.contains("journal.events"), "{error}");
        let error = load::<Settings>(Some(Path::new("/nowhere/com.toml")), &[])
            .unwrap_err()
            .to_string();
        assert!(error.contains("/nowhere/com.toml"), "{error}");
    }
}
