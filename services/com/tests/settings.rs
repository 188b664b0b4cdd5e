//! `docs/settings.md` is made from the settings' own comments and `com config dump`; this keeps it complete.
//! `make settings` (or `UPDATE_DOCS=1` for this test) writes it anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

const HEAD: &str = "# Settings

Made from the sources by `make settings`; a test keeps it complete. A setting is given in a file (`--config FILE`,
TOML), as an environment variable (`COM_` and the path in capitals, parts joined by `__`:
`COM_JOURNAL__QUEUE_APPENDS`), or by a flag (`--set journal.queue_appends=2000`); flags win over the environment, the
environment over the file. An unknown setting stops the program, wherever it comes from. `com config dump` prints
those in force, as a file. `COM_SERVER`, `COM_CONFIG`, `COM_KEY` and `COM_TOKEN` stand for the flags `--server`, `--config`,
`--key` and `--token`.
";

/// The public fields of a struct: name, type, comment.
type Fields = Vec<(String, String, String)>;

/// Every struct with public fields, by crate and name.
#[derive(Default)]
struct Structs(BTreeMap<(String, String), Fields>);

impl Structs {
    fn read(root: &Path) -> Self {
        let mut structs = Self::default();
        for part in ["libs", "services"] {
            for entry in std::fs::read_dir(root.join(part)).unwrap() {
                let folder = entry.unwrap().path();
                let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
                let mut sources = Vec::new();
                sources_in(&folder.join("src"), &mut sources);
                for source in sources {
                    structs.read_source(&name, &std::fs::read_to_string(source).unwrap());
                }
            }
        }
        structs
    }

    fn read_source(&mut self, package: &str, source: &str) {
        let mut inside: Option<(String, Fields)> = None;
        let mut comment: Vec<&str> = Vec::new();
        for line in source.lines() {
            let text = line.trim();
            if let Some(rest) = text.strip_prefix("///") {
                comment.push(rest.trim());
                continue;
            }
            if let Some(name) = line.strip_prefix("pub struct ") {
                let name = name.strip_suffix(" {").map(str::to_owned);
                inside = name.map(|name| (name, Vec::new()));
            } else if line == "}" {
                if let Some((name, fields)) = inside.take() {
                    self.0.insert((package.to_owned(), name), fields);
                }
            } else if let Some((_, fields)) = &mut inside
                && let Some((name, kind)) =
                    text.strip_prefix("pub ").and_then(|f| f.split_once(": "))
            {
                let kind = kind.trim_end_matches(',').to_owned();
                fields.push((name.to_owned(), kind, comment.join(" ")));
            }
            if !text.starts_with("#[") {
                comment.clear();
            }
        }
    }

    /// The struct that a field's type names, with the crate it is in.
    fn resolve(&self, package: &str, kind: &str) -> Option<(&(String, String), &Fields)> {
        let kind = kind
            .strip_prefix("Option<")
            .map_or(kind, |k| k.trim_end_matches('>'));
        let package = match kind.strip_prefix("commonplace_") {
            Some(path) => path.split("::").next().unwrap(),
            None => package,
        };
        let name = kind.rsplit("::").next().unwrap();
        let own = self.0.get_key_value(&(package.to_owned(), name.to_owned()));
        // What is imported is named without its crate; the name is then taken where it is the only one.
        let mut everywhere = self.0.iter().filter(|((_, known), _)| known == name);
        own.or_else(|| everywhere.next().filter(|_| everywhere.next().is_none()))
    }
}

fn sources_in(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources_in(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The page, one table for each part of the tree.
struct Page<'a> {
    structs: &'a Structs,
    text: String,
    keys: Vec<String>,
}

impl Page<'_> {
    fn section(&mut self, path: &str, comment: &str, at: (&str, &Fields), defaults: &Value) {
        let (package, fields) = at;
        let title = if path.is_empty() { "The whole" } else { path };
        write!(self.text, "\n## {title}\n\n").unwrap();
        if !comment.is_empty() {
            write!(self.text, "{comment}\n\n").unwrap();
        }
        let mut parts = Vec::new();
        let mut rows = String::new();
        for (name, kind, comment) in fields {
            let key = [path, name].join(".").trim_start_matches('.').to_owned();
            assert!(!comment.is_empty(), "`{key}` has no comment");
            let default = &defaults[name];
            match self.structs.resolve(package, kind) {
                Some(found) => parts.push((key, comment.clone(), found, default.clone())),
                None => {
                    let default = match default {
                        Value::Null => "none".to_owned(),
                        Value::String(text) if text.is_empty() => "empty".to_owned(),
                        Value::String(text) => format!("`{text}`"),
                        other => format!("`{other}`"),
                    };
                    let comment = comment.replace('|', "\\|");
                    writeln!(rows, "| `{key}` | {default} | {comment} |").unwrap();
                    self.keys.push(key);
                }
            }
        }
        if !rows.is_empty() {
            write!(
                self.text,
                "| setting | default | what it is |\n| --- | --- | --- |\n{rows}"
            )
            .unwrap();
        }
        for (key, comment, (place, fields), default) in parts {
            self.section(&key, &comment, (&place.0, fields), &default);
        }
    }
}

/// The paths of all values that are set.
fn leaves(path: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let path = [path, name].join(".");
                leaves(path.trim_start_matches('.'), value, found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

#[test]
fn every_setting_is_on_its_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dump = common::done(
        common::bare()
            .args(["--json", "config", "dump"])
            .env("HOME", "~")
            .env_remove("XDG_DATA_HOME")
            .env_remove("XDG_CACHE_HOME"),
    );
    let defaults = dump.ok().json().remove(0);
    let structs = Structs::read(&root);
    let (place, fields) = structs
        .resolve("node", "NodeOptions")
        .expect("the tree's root");
    let mut page = Page {
        structs: &structs,
        text: HEAD.to_owned(),
        keys: Vec::new(),
    };
    page.section("", "", (&place.0, fields), &defaults);

    let mut set = Vec::new();
    leaves("", &defaults, &mut set);
    for key in &set {
        assert!(page.keys.contains(key), "no comment was found for `{key}`");
    }
    assert!(set.len() > 30, "{set:?}");

    let file = root.join("docs/settings.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &page.text).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == page.text,
        "docs/settings.md is not as the sources say: run `make settings`"
    );
}
