//! Runs the real program.
#![allow(dead_code)]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use commonplace_node::Channels;
use commonplace_rpc::{Channel, RemoteOptions};

/// What a command did.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// Ended well.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }

    /// Was refused or failed, and said all of this.
    pub fn says(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        let said = format!("{}{}", self.stdout, self.stderr);
        for word in words {
            assert!(said.contains(word), "expected `{word}` in: {said}");
        }
        assert!(!said.contains("panicked"), "{said}");
        self
    }

    /// The lines of standard output as JSON.
    pub fn json(&self) -> Vec<serde_json::Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect()
    }
}

fn com(folder: &Path) -> Command {
    let mut command = bare();
    command.arg("--data-dir").arg(folder);
    command
}

/// The program alone, with none of the settings of whoever runs the tests.
pub fn bare() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_com"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("COM_") {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1");
    command
}

/// Runs `com` over a data folder, by words alone.
pub fn run<A: AsRef<OsStr>>(folder: &Path, arguments: &[A]) -> Done {
    let mut command = com(folder);
    command.args(["--set", "model_dir=/nonexistent"]);
    done(command.args(arguments))
}

/// Runs a command to its end.
pub fn done(command: &mut Command) -> Done {
    let output = command.output().unwrap();
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A server process, ended with this.
pub struct Server {
    child: Child,
    pub address: String,
}

impl Server {
    /// Starts one on a free port and waits until it is ready.
    pub fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[])
    }

    /// The same with further settings.
    pub fn start_with(folder: &Path, settings: &[&str]) -> Self {
        Self::start_in(folder, settings, &[])
    }

    /// The same with variables of the environment.
    pub fn start_in(folder: &Path, settings: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = com(folder);
        command.envs(variables.iter().copied());
        for setting in settings {
            command.args(["--set", setting]);
        }
        let mut child = command
            .args([
                "--set",
                "model_dir=/nonexistent",
                "--json",
                "serve",
                "--listen",
                "127.0.0.1:0",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let hello: serde_json::Value = serde_json::from_str(&line).expect("the server starts");
        Self {
            child,
            address: format!("http://{}", hello["address"].as_str().unwrap()),
        }
    }

    /// Channels to it.
    pub fn channels(&self) -> Channels {
        Channels::all(
            Channel::remote(
                std::slice::from_ref(&self.address),
                // A server that is dead is not waited for.
                &RemoteOptions {
                    patience: std::time::Duration::from_millis(200),
                    ..RemoteOptions::default()
                },
            )
            .unwrap(),
        )
    }

    /// kill -9
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop and gives its exit code.
    pub fn stop(&mut self) -> i32 {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Public data beside the repository, if it is there.
pub fn shared(path: &str) -> Option<PathBuf> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared")
        .join(path);
    if found.exists() {
        return Some(found);
    }
    eprintln!("SKIPPED: {path} is not there");
    None
}

/// Writes a file into a folder and gives its path as text.
pub fn file(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path.display().to_string()
}
