//! Ends processes whose owner is gone: a shell that waits for the end of its input, which it shares with us.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// `+ PID` and `- PID`, one a line, are what is to be ended; the end of the input is the moment.
const SCRIPT: &str = r#"
pids=
while read -r sign pid; do
    case $sign in
        +) pids="$pids $pid" ;;
        -) left=
           for each in $pids; do [ "$each" = "$pid" ] || left="$left $each"; done
           pids=$left ;;
    esac
done
for pid in $pids; do kill -KILL "$pid"; done 2>/dev/null
"#;

/// The guard of this process.
#[derive(Debug)]
pub(crate) struct Guard {
    orders: Mutex<ChildStdin>,
    _shell: Child,
}

impl Guard {
    /// The one guard that all meshes of this process share.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: LazyLock<Arc<Guard>> = LazyLock::new(|| Arc::new(Guard::start()));
        SHARED.clone()
    }

    fn start() -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // A group of its own: Ctrl-C must not end it before it did its work.
            .process_group(0)
            .spawn()
            .expect("sh can be run");
        let orders = shell.stdin.take().expect("it was asked for");
        Self {
            orders: Mutex::new(orders),
            _shell: shell,
        }
    }

    /// From now on this process ends with ours.
    pub(crate) fn watch(&self, pid: u32) {
        self.order(&format!("+ {pid}\n"));
    }

    /// It has ended; its number may belong to another.
    pub(crate) fn forget(&self, pid: u32) {
        self.order(&format!("- {pid}\n"));
    }

    fn order(&self, line: &str) {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders
            .write_all(line.as_bytes())
            .expect("the guard lives as long as we do");
    }
}
