//! One `com serve`.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use commonplace_node::Role;

use super::guard::Guard;

/// Lines of a log that are printed when a test fails.
const LOG_LINES: usize = 60;

/// `com`, beside the program that runs now. Panics, with the next step, when it is not there.
pub fn program() -> PathBuf {
    let own = std::env::current_exe().expect("this program has a path");
    // A test lies in target/debug/deps, a program in target/debug.
    let folders = own.ancestors().skip(1).take(2);
    let mut places = folders.map(|folder| folder.join("com"));
    places.find(|place| place.is_file()).unwrap_or_else(|| {
        panic!(
            "there is no `com` beside {}; build it with `cargo build -p commonplace-com`, or run \
             `make test`, which does",
            own.display()
        )
    })
}

/// A process of the mesh, running or not.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: String,
    /// What it is started with.
    pub(crate) arguments: Vec<String>,
    pub(crate) folder: PathBuf,
    /// The port for calls.
    pub(crate) listen: String,
    /// The port for probes.
    pub(crate) health: String,
    /// From its start until it served, the last time.
    pub(crate) start_up: Option<Duration>,
    child: Option<(Child, Instant)>,
    guard: Arc<Guard>,
    core: Option<u32>,
}

impl Process {
    /// `ports`: for calls and for probes.
    pub(crate) fn new(
        name: String,
        arguments: Vec<String>,
        folder: PathBuf,
        ports: [String; 2],
    ) -> Self {
        let [listen, health] = ports;
        Self {
            name,
            arguments,
            folder,
            listen,
            health,
            start_up: None,
            child: None,
            guard: Guard::shared(),
            core: None,
        }
    }

    /// Runs it on one core only.
    pub(crate) fn on_core(mut self, core: Option<u32>) -> Self {
        self.core = core;
        self
    }

    /// Starts it, without waiting.
    pub(crate) fn spawn(&mut self) {
        assert!(
            self.child.is_none() || self.ended().is_some(),
            "{} runs already",
            self.name
        );
        std::fs::create_dir_all(&self.folder).expect("folders can be made");
        let said = File::create(self.said()).expect("files can be made");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .expect("files can be made");
        let mut command = match self.core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.arg("--cpu-list").arg(core.to_string());
                command.arg(program());
                command
            }
            None => Command::new(program()),
        };
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("COM_") {
                command.env_remove(name);
            }
        }
        let child = command
            .args(&self.arguments)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(said)
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("com can be run");
        self.guard.watch(child.id());
        self.child = Some((child, Instant::now()));
    }

    /// Waits until it says that it serves. Panics if it ends before, or does not in time.
    pub(crate) async fn serving(&mut self, patience: Duration) {
        let started = self.child.as_ref().expect("it was started").1;
        while !std::fs::read_to_string(self.said()).is_ok_and(|text| text.ends_with('\n')) {
            if let Some(status) = self.ended() {
                self.print_log();
                panic!("{} ended before it served: {status}", self.name);
            }
            if started.elapsed() > patience {
                self.print_log();
                panic!("{} does not serve after {patience:?}", self.name);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.start_up = Some(started.elapsed());
    }

    pub(crate) async fn serves(&self, role: Role) -> bool {
        self.child.is_some() && super::healthy(&self.health, role).await
    }

    /// kill -9
    pub(crate) fn kill(&mut self) {
        if let Some((mut child, _)) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
            self.guard.forget(child.id());
        }
    }

    /// SIGTERM; panics unless it ends well.
    pub(crate) async fn stop(&mut self, patience: Duration) {
        if self.child.is_none() {
            return;
        }
        self.signal("TERM");
        let asked = Instant::now();
        let status = loop {
            if let Some(status) = self.ended() {
                break status;
            }
            if asked.elapsed() > patience {
                self.print_log();
                panic!("{} does not stop", self.name);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        if !status.success() {
            self.print_log();
            panic!("{} did not stop well: {status}", self.name);
        }
    }

    /// Whether it ended by itself.
    fn ended(&mut self) -> Option<ExitStatus> {
        let (child, _) = self.child.as_mut()?;
        let status = child.try_wait().ok().flatten()?;
        self.guard.forget(child.id());
        self.child = None;
        Some(status)
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let (child, _) = self
            .child
            .as_ref()
            .unwrap_or_else(|| panic!("{} does not run", self.name));
        let pid = child.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "kill -{name} {}",
            self.name
        );
    }

    /// Resident bytes, while it runs.
    pub(crate) fn rss(&self) -> Option<u64> {
        let (child, _) = self.child.as_ref()?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes << 10)
    }

    pub(crate) fn print_log(&self) {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
        eprintln!("--- {}\n{}", self.name, last.join("\n"));
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn said(&self) -> PathBuf {
        self.folder.join("said")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Copies a folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            false => std::fs::copy(entry.path(), &target).map(|_| ())?,
        }
    }
    Ok(())
}
