//! Commands to go on with, as they can be pasted: the running program, and the flags that say where.

use std::path::{Path, PathBuf};

use crate::cli::Global;

/// The running program as a shell finds it: `com` when `PATH` leads to it, else its path.
pub fn program() -> String {
    let Ok(running) = std::env::current_exe() else {
        return "com".into();
    };
    let on_path = std::env::var_os("PATH").is_some_and(|folders| {
        let found = std::env::split_paths(&folders)
            .map(|folder| folder.join("com"))
            .find(|file| file.is_file());
        found.is_some_and(|file| same_file(&file, &running))
    });
    if on_path {
        return "com".into();
    }
    let here = std::env::current_dir().unwrap_or_default();
    let short = running.strip_prefix(here).unwrap_or(&running);
    quoted(&short.display().to_string())
}

fn same_file(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| -> Option<PathBuf> { std::fs::canonicalize(path).ok() };
    real(one).is_some() && real(one) == real(other)
}

/// A command that works where the present one does: server or data folder, configuration, settings, project.
/// `rest`: what follows them, as a shell takes it.
pub fn command(global: &Global, rest: &str) -> String {
    let mut words = vec![program()];
    let mut flag = |name: &str, value: &str| words.extend([name.to_owned(), quoted(value)]);
    match (&global.server, &global.data_dir) {
        (Some(server), _) => flag("--server", server),
        (None, Some(folder)) => flag("--data-dir", &folder.display().to_string()),
        (None, None) => {}
    }
    if let Some(file) = &global.config {
        flag("--config", &file.display().to_string());
    }
    for (key, value) in &global.settings {
        flag("--set", &format!("{key}={value}"));
    }
    if global.project != "default" {
        flag("--project", &global.project);
    }
    words.push(rest.to_owned());
    words.join(" ")
}

/// A word as a shell takes it for one.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,@%+~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn check(arguments: &[&str], expected: &str) {
        let line = [&["com"], arguments, &["health"]].concat();
        let global = Cli::parse_from(line).global;
        let given = command(&global, "verify p.json");
        let rest = given.strip_prefix(&format!("{} ", program())).unwrap();
        assert_eq!(rest, expected);
    }

    #[test]
    fn a_command_repeats_the_flags_that_say_where() {
        check(&["--data-dir", "a b"], "--data-dir 'a b' verify p.json");
        check(
            &["--server", "localhost:1", "--project", "shop", "--json"],
            "--server http://localhost:1 --project shop verify p.json",
        );
        check(
            &["--data-dir", "d", "--set", "model_dir=/m"],
            "--data-dir d --set model_dir=/m verify p.json",
        );
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_split_them() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("target/release/com"), "target/release/com");
        assert_eq!(quoted(""), "''");
    }
}
