//! The server as a process: killed without warning, started again, with peers.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{Dice, World, both, plain, qdrant};

struct Process {
    child: Child,
    address: String,
}

impl Process {
    fn start(data: &Path, listen: &str, peers: &[String]) -> Self {
        for _ in 0..200 {
            let mut child = Command::new(env!("CARGO_BIN_EXE_commonplace-qdrant-server"))
                .arg("--data")
                .arg(data)
                .args(["--listen", listen])
                .args(peers.iter().flat_map(|peer| ["--peers", peer]))
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap())
                .read_line(&mut line)
                .unwrap();
            if !line.trim().is_empty() {
                let address = line.trim().to_owned();
                return Self { child, address };
            }
            child.wait().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("the server does not start on {listen}");
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_killed_while_it_is_written_to_ends_without_drift() {
    let mut world = World::start().await;
    let mut store = Process::start(&world.path("store"), "127.0.0.1:0", &[]);
    let address = store.address.clone();
    let outside = world.outside(qdrant(vec![store.url()])).await;
    let mut dice = Dice(29);
    for _ in 0..4 {
        // Killed with writes under way: nobody waits for them.
        world.grow("one", &mut dice, 30).await;
        store.kill();
        world.grow("one", &mut dice, 5).await;
        store = Process::start(&world.path("store"), &address, &[]);
    }
    outside.stored("one").await;
    let checked = outside.check("one", false).await;
    assert!(checked.expected > 200, "{checked:?}");
    assert_eq!(
        (
            checked.missing_count,
            checked.different_count,
            checked.extra_count
        ),
        (0, 0, 0)
    );
    let local = world.local().await;
    let asked = both("one", "flaky login");
    assert_eq!(
        plain(outside.search(&asked).await),
        plain(local.search(&asked).await)
    );
    world.stop(vec![local, outside]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_was_away_copies_what_it_missed() {
    let mut world = World::start().await;
    let mut first = Process::start(&world.path("first"), "127.0.0.1:0", &[]);
    let mut second = Process::start(&world.path("second"), "127.0.0.1:0", &[first.url()]);
    let mut dice = Dice(31);
    // Writes go to the second, which passes them on.
    let outside = world.outside(qdrant(vec![second.url()])).await;
    world.grow("one", &mut dice, 20).await;
    outside.stored("one").await;
    first.kill();
    world.grow("one", &mut dice, 20).await;
    outside.stored("one").await;
    first = Process::start(&world.path("first"), &first.address, &[second.url()]);
    outside.index.shutdown().await;
    second.kill();
    // The first alone holds everything.
    let outside = world.outside(qdrant(vec![first.url()])).await;
    outside.stored("one").await;
    let checked = outside.check("one", false).await;
    assert_eq!(
        (
            checked.missing_count,
            checked.different_count,
            checked.extra_count
        ),
        (0, 0, 0)
    );
    world.stop(vec![outside]).await;
}
