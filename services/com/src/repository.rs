//! What a git repository is called in output and in events.

use std::path::Path;
use std::process::Command;

/// Where a repository lies for everybody: the address it came from, or else its absolute path.
pub fn name(path: &Path) -> String {
    let asked = |arguments: &[&str]| {
        let mut git = Command::new("git");
        let output = git.arg("-C").arg(path).args(arguments).output().ok()?;
        let told = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !told.is_empty()).then_some(told)
    };
    let absolute = || std::fs::canonicalize(path).map(|path| path.display().to_string());
    asked(&["config", "--get", "remote.origin.url"])
        .map(|address| without_secrets(&address))
        .or_else(|| asked(&["rev-parse", "--show-toplevel"]))
        .or_else(|| absolute().ok())
        .unwrap_or_else(|| path.display().to_string())
}

/// An address without the password in it. Over HTTP the user's name goes too: tokens stand in its place.
fn without_secrets(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else {
        // `git@host:path` holds no password.
        return address.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let Some((user, host)) = authority.rsplit_once('@') else {
        return address.to_owned();
    };
    let name = user.split(':').next().unwrap_or_default();
    match scheme.to_ascii_lowercase().as_str() {
        "ssh" | "git+ssh" | "ssh+git" => format!("{scheme}://{name}@{host}{path}"),
        _ => format!("{scheme}://{host}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_shows_a_password() {
        let check = |address: &str, expected: &str| assert_eq!(without_secrets(address), expected);
        let same = |address: &str| check(address, address);
        check(
            "https://ann:s3cr@t@git.example/a/b.git",
            "https://git.example/a/b.git",
        );
        check("https://t0ken@git.example/a@b", "https://git.example/a@b");
        check("HTTPS://x:y@git.example", "HTTPS://git.example");
        check(
            "ssh://git:s3cret@git.example:22/a",
            "ssh://git@git.example:22/a",
        );
        same("git@git.example:a/b.git");
        same("https://git.example/a@b/c");
        same("/srv/git/a.git");
        same("file:///srv/git/a:b@c.git");
    }

    #[test]
    fn a_repository_is_called_by_its_address_without_the_password() {
        let folder = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| {
            let status = Command::new("git")
                .arg("-C")
                .arg(folder.path())
                .args(arguments)
                .status();
            assert!(status.unwrap().success());
        };
        git(&["init", "--quiet"]);
        git(&[
            "remote",
            "add",
            "origin",
            "https://ann:s3cret@git.example/a",
        ]);
        assert_eq!(name(folder.path()), "https://git.example/a");
    }
}
