//! One fault after another under load: nothing acknowledged is lost, nothing happens twice, no pack is wrong, and
//! no call outlasts its deadline. Calls may fail meanwhile; what they fail with, and how long it takes until the
//! mesh serves again, stands in a table, which is also written to `target/faults.md`.
//!
//! `COM_FAULT_SECONDS` is how long each fault lasts: 0.5 by default. That a request is delivered twice is not a fault
//! of its own: TCP does not do it; callers do, after "reset after commit".

#![recursion_limit = "256"]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod stores;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use commonplace_node::{Channels, Role, default_model_dir};
use commonplace_proto::common::EventDraft;
use commonplace_proto::ingest::IngestEventsRequest;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::retrieval::RetrieveRequest;
use commonplace_proto::retrieval::retrieval_service_client::RetrievalServiceClient;
use commonplace_rpc::context;
use commonplace_testkit::Server;
use commonplace_tests::load::{Account, Audit, Load, STRICT, audit, open};
use commonplace_tests::mesh::{Form, Mesh, MeshBuilder, Target};
use commonplace_tests::proxy::{Direction, Rule};
use stores::Cluster;
use tokio::task::block_in_place;

/// Of each call of the load.
const DEADLINE: Duration = Duration::from_secs(2);
/// By when a healed mesh must serve again.
const RECOVERY: Duration = Duration::from_secs(60);

fn lasting() -> Duration {
    let set = std::env::var("COM_FAULT_SECONDS").ok();
    let seconds = set.and_then(|text| text.parse().ok()).unwrap_or(0.5);
    Duration::from_secs_f64(seconds)
}

/// What one fault came to.
struct Row {
    form: String,
    fault: String,
    recovery: Duration,
    calls: usize,
    failed: usize,
    longest: Duration,
}

/// The rows of all tests of this program; each that adds some writes the table anew.
static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

fn report(rows: Vec<Row>) {
    let mut all = ROWS.lock().unwrap();
    all.extend(rows);
    let mut table = String::from(
        "| form | fault | serves again after | calls | failed | longest call |\n|---|---|---:|---:|---:|---:|\n",
    );
    for row in all.iter() {
        writeln!(
            table,
            "| {} | {} | {:.2} s | {} | {} | {:.2} s |",
            row.form,
            row.fault,
            row.recovery.as_secs_f64(),
            row.calls,
            row.failed,
            row.longest.as_secs_f64()
        )
        .unwrap();
    }
    println!("{table}");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    std::fs::write(target.join("faults.md"), table).unwrap();
}

/// A mesh under faults.
struct Trial {
    name: &'static str,
    mesh: Mesh,
    rows: Vec<Row>,
    /// A number for each load, so that their events differ.
    next: usize,
}

impl Trial {
    async fn start(name: &'static str, builder: MeshBuilder) -> Self {
        let mesh = builder.start().await;
        open(&mesh.channels()).await;
        Self {
            name,
            mesh,
            rows: Vec::new(),
            next: 0,
        }
    }

    /// Does `fault` under load, lets it last, undoes it with `heal`, and waits until the mesh serves again.
    async fn fault(
        &mut self,
        what: &str,
        fault: impl AsyncFnOnce(&mut Mesh),
        heal: impl AsyncFnOnce(&mut Mesh),
    ) {
        self.next += 1;
        let load = Load {
            per_second: 40,
            clients: 2,
            deadline: DEADLINE,
            mix: STRICT,
            label: format!("{}-{}", self.name, self.next),
        };
        let running = load.start(|| self.mesh.channels());
        tokio::time::sleep(Duration::from_millis(300)).await;
        fault(&mut self.mesh).await;
        tokio::time::sleep(lasting()).await;
        let healing = Instant::now();
        heal(&mut self.mesh).await;
        let channels = self.mesh.channels();
        served(&channels, &format!("{}-{}", self.name, self.next)).await;
        let recovery = healing.elapsed();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let account = running.stop().await;
        self.check(what, &account).await;
        self.rows.push(Row {
            form: self.name.into(),
            fault: what.into(),
            recovery,
            calls: account.done.len(),
            failed: account.failed(),
            longest: account.quantile(1.0),
        });
    }

    async fn check(&self, what: &str, account: &Account) {
        let audit = audit(&self.mesh.channels(), account, 5).await;
        let failures = account.failures();
        assert_eq!(audit, Audit::default(), "{what}: {failures:#?}");
        assert!(!account.written().is_empty(), "{what}: {failures:#?}");
        let late = account.late();
        assert!(late.is_empty(), "{what}: {:#?}", late.first());
        println!("{what}: {failures:#?}");
    }

    /// Ends the mesh, then adds what was measured to the table.
    fn end(self) {
        drop(self.mesh);
        report(self.rows);
    }
}

/// Waits until the mesh takes an event and makes a pack that knows of it.
async fn served(channels: &Channels, label: &str) {
    let started = Instant::now();
    let mut ingest = IngestServiceClient::new(channels.ingest.clone());
    let mut retrieval = RetrievalServiceClient::new(channels.retrieval.clone());
    let event = EventDraft {
        artifact_type: "bug".into(),
        title: format!("is it over? {label}"),
        ..Default::default()
    };
    let events = IngestEventsRequest {
        events: vec![event],
        ..Default::default()
    };
    let retrieve = RetrieveRequest {
        query: format!("is it over? {label}"),
        durable: true,
        ..Default::default()
    };
    let mut both = async || {
        context::with_deadline(DEADLINE, async {
            ingest.ingest_events(events.clone()).await?;
            let pack = retrieval
                .retrieve(retrieve.clone())
                .await?
                .into_inner()
                .pack;
            Ok::<_, tonic::Status>(pack.is_some_and(|pack| !pack.items.is_empty()))
        })
        .await
    };
    loop {
        match both().await {
            Ok(known) => return assert!(known, "the pack knows of the event"),
            Err(status) => assert!(started.elapsed() < RECOVERY, "{status:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const WAYS: [(Role, Role); 6] = [
    (Role::Gateway, Role::Ingest),
    (Role::Gateway, Role::Retrieval),
    (Role::Ingest, Role::Journal),
    (Role::Index, Role::Journal),
    (Role::Retrieval, Role::Index),
    (Role::Retrieval, Role::Policy),
];

async fn kills(trial: &mut Trial) {
    for (role, replica) in trial.mesh.members() {
        let kill = async |mesh: &mut Mesh| mesh.kill9(role, replica);
        let start = async |mesh: &mut Mesh| {
            mesh.start(role, replica).await;
        };
        trial.fault(&format!("kill -9 {role}"), kill, start).await;
    }
}

/// A rule on the way from one role to another, one way after another.
async fn on_the_ways(trial: &mut Trial, what: &str, ways: &[(Role, Role)], rule: Rule) {
    for (caller, called) in ways {
        let target = Target::Role(*called, 0);
        let break_it = async |mesh: &mut Mesh| mesh.fault(Some(*caller), target, rule);
        let heal = async |mesh: &mut Mesh| mesh.heal();
        let what = format!("{what}, {caller} to {called}");
        trial.fault(&what, break_it, heal).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_each_role() {
    let mut trial = Trial::start("sqlite", Mesh::builder(Form::PerRole)).await;
    kills(&mut trial).await;
    trial.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_and_resets() {
    let builder = Mesh::builder(Form::PerRole).proxied();
    let mut trial = Trial::start("sqlite, proxies", builder).await;
    on_the_ways(&mut trial, "partition", &WAYS[1..5], Rule::BlackHole).await;
    let dropped = Rule::DropAnswers(Duration::from_millis(100));
    on_the_ways(&mut trial, "reset after commit", &WAYS[..3], dropped).await;
    let cut = Rule::ResetAfter(Direction::ToServer, 2_000);
    on_the_ways(&mut trial, "reset within a request", &WAYS[2..3], cut).await;
    let cut = Rule::ResetAfter(Direction::ToClient, 2_000);
    on_the_ways(&mut trial, "reset within an answer", &WAYS[1..2], cut).await;
    on_the_ways(&mut trial, "refused", &WAYS[2..3], Rule::Refuse).await;
    let slow = Rule::Delay(Duration::from_millis(150));
    on_the_ways(&mut trial, "150 ms slower", &WAYS[3..5], slow).await;
    on_the_ways(&mut trial, "20 kB/s", &WAYS[3..4], Rule::Bandwidth(20_000)).await;
    trial.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_stands_still() {
    let mut trial = Trial::start("sqlite", Mesh::builder(Form::PerRole)).await;
    for role in [Role::Journal, Role::Index, Role::Retrieval] {
        let pause = async |mesh: &mut Mesh| mesh.pause(role, 0);
        let resume = async |mesh: &mut Mesh| mesh.resume(role, 0);
        trial.fault(&format!("SIGSTOP {role}"), pause, resume).await;
    }
    trial.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_rotated() {
    let mut trial = Trial::start("sqlite, mTLS", Mesh::builder(Form::PerRole).tls()).await;
    // Files are looked at every second.
    let rotate = async |mesh: &mut Mesh| {
        let certificates = mesh.certificates().unwrap();
        certificates.rotate(Duration::from_millis(1_500)).await;
    };
    trial
        .fault("new authority and certificates", rotate, async |_| {})
        .await;
    assert_eq!(trial.rows[0].failed, 0, "no call fails for it");
    let restart = async |mesh: &mut Mesh| {
        mesh.restart(Role::Ingest, 0).await;
    };
    trial
        .fault("restart under the new authority", restart, async |_| {})
        .await;
    trial.end();
}

/// A mesh over stores of its own, with a proxy on every way to them.
struct Shared {
    database: Server,
    vectors: Cluster,
    trial: Trial,
}

impl Shared {
    async fn start(name: &'static str) -> Self {
        let database = block_in_place(|| Server::start(&[]));
        let vectors = Cluster::start(3).await;
        let builder = Mesh::builder(Form::PerRole)
            .postgres(&stores::database(&database).await)
            .proxied();
        // Without a model there are no vectors to lose.
        let builder = match default_model_dir().join("model.safetensors").is_file() {
            true => builder.model().qdrant(&vectors.urls()),
            false => builder,
        };
        let trial = Trial::start(name, builder).await;
        Self {
            database,
            vectors,
            trial,
        }
    }

    /// The whole server goes and comes back, by `end`.
    async fn database_goes(&mut self, what: &str, end: impl Fn(&Server)) {
        let database = &self.database;
        let go = async |_: &mut Mesh| block_in_place(|| end(database));
        let come = async |_: &mut Mesh| {
            let started = Instant::now();
            block_in_place(|| database.start_again());
            println!("{what}: the server itself took {:.2?}", started.elapsed());
        };
        self.trial.fault(what, go, come).await;
    }

    /// A rule on every way to some stores.
    async fn cut_off(&mut self, what: &str, targets: &[Target], rule: Rule) {
        let cut =
            async |mesh: &mut Mesh| targets.iter().for_each(|to| mesh.fault_before(*to, rule));
        let heal = async |mesh: &mut Mesh| mesh.heal();
        self.trial.fault(what, cut, heal).await;
    }

    /// Servers of the vector store go as by a crash, and come back.
    async fn vectors_go(&mut self, what: &str, numbers: &[usize]) {
        let vectors = std::sync::Mutex::new(&mut self.vectors);
        let go = async |_: &mut Mesh| {
            let mut vectors = vectors.lock().unwrap();
            numbers.iter().for_each(|number| vectors.stop(*number));
        };
        let come = async |_: &mut Mesh| {
            let mut vectors = vectors.lock().unwrap();
            let start = async {
                for number in numbers {
                    vectors.start_again(*number).await;
                }
            };
            block_in_place(|| tokio::runtime::Handle::current().block_on(start));
        };
        self.trial.fault(what, go, come).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_each_role_over_shared_stores() {
    let mut shared = Shared::start("postgres, qdrant").await;
    kills(&mut shared.trial).await;
    shared.trial.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_and_comes_back() {
    let mut shared = Shared::start("postgres, qdrant: database").await;
    shared
        .database_goes("PostgreSQL crashes", Server::crash)
        .await;
    shared
        .database_goes("PostgreSQL is restarted", Server::stop)
        .await;
    let database = [Target::Database];
    shared
        .cut_off("partition, all to PostgreSQL", &database, Rule::BlackHole)
        .await;
    shared
        .cut_off("refused, all to PostgreSQL", &database, Rule::Refuse)
        .await;
    let dropped = Rule::DropAnswers(Duration::from_millis(100));
    shared
        .cut_off("reset after commit, PostgreSQL", &database, dropped)
        .await;
    for role in [Role::Journal, Role::Policy, Role::Retrieval] {
        let cut = async |mesh: &mut Mesh| mesh.fault(Some(role), database[0], Rule::BlackHole);
        let heal = async |mesh: &mut Mesh| mesh.heal();
        let what = format!("partition, {role} to PostgreSQL");
        shared.trial.fault(&what, cut, heal).await;
    }
    shared.trial.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vector_store_that_goes_and_comes_back() {
    if !default_model_dir().join("model.safetensors").is_file() {
        eprintln!(
            "SKIPPED: without the embedding model there are no vectors; run `com model pull`"
        );
        return;
    }
    let mut shared = Shared::start("postgres, qdrant: vectors").await;
    shared.vectors_go("one Qdrant server crashes", &[0]).await;
    shared
        .vectors_go("all Qdrant servers crash", &[0, 1, 2])
        .await;
    let all = [0, 1, 2].map(Target::Vectors);
    shared
        .cut_off(
            "partition, index to one Qdrant server",
            &all[..1],
            Rule::BlackHole,
        )
        .await;
    shared
        .cut_off("partition, index to Qdrant", &all, Rule::BlackHole)
        .await;
    assert!(shared.vectors.searches() > 0, "candidates came from there");
    shared.trial.end();
}

/// A small file system of its own; gone with this.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=12m", "tmpfs"])
            .arg(folder.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("SKIPPED: a full disk needs the right to mount");
        }
        mounted.then_some(Self(folder))
    }

    /// Takes all space that is left, until [`Small::free`].
    fn fill(&self) {
        let mut ballast = std::fs::File::create(self.0.path().join("ballast")).unwrap();
        let piece = [0x5a; 4_096];
        while std::io::Write::write_all(&mut ballast, &piece).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.path().join("ballast")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

async fn full_disk(role: Role) {
    let Some(small) = Small::mount() else { return };
    let data = small.0.path().join("data");
    let builder = Mesh::builder(Form::PerRole).place(role, 0, &data);
    let mut trial = Trial::start("sqlite", builder).await;
    let what = format!("full disk, {role}");
    trial
        .fault(&what, async |_| small.fill(), async |_| small.free())
        .await;
    trial.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_journal() {
    full_disk(Role::Journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_index() {
    full_disk(Role::Index).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_retrieval() {
    full_disk(Role::Retrieval).await;
}
