//! What it costs to run each role in a process of its own: retrieval over loopback, memory, time to start.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use commonplace_node::{Channels, Role};
use commonplace_proto::index::GetStatusRequest;
use commonplace_proto::index::index_service_client::IndexServiceClient;
use commonplace_proto::ingest::IngestEventsRequest;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::retrieval::RetrieveRequest;
use commonplace_proto::retrieval::retrieval_service_client::RetrievalServiceClient;
use commonplace_rpc::{Channel, server};
use commonplace_tests::mesh::{Form, Mesh, MeshBuilder};

use crate::corpus;
use crate::parts;
use crate::report::{Report, Times};

const GROUP: &str = "mesh";
/// What a hop to another process may add, in milliseconds.
const OVERHEAD: f64 = 1.5;
const PASSAGES: usize = 10_000;
/// Events in one append, small enough for a call without special limits.
const BATCH: usize = 500;
/// Queries that are asked over and over, so that their vectors are known.
const QUERIES: usize = 64;
/// Calls of each kind, where they are asked alone.
const CALLS: usize = 300;

/// A form of the mesh beside the embedded one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wired {
    /// All roles in one process.
    One,
    /// A process for each role.
    Roles,
    /// The same with mutual TLS.
    Tls,
    /// The same with mutual TLS and zstd between services.
    Zstd,
}

impl Wired {
    fn name(self) -> &'static str {
        match self {
            Self::One => "one process",
            Self::Roles => "a process per role",
            Self::Tls => "per role, mutual TLS",
            Self::Zstd => "per role, mutual TLS, zstd",
        }
    }

    fn builder(self) -> MeshBuilder {
        let per_role = Mesh::builder(Form::PerRole);
        match self {
            Self::One => Mesh::builder(Form::OneProcess),
            Self::Roles => per_role,
            Self::Tls => per_role.tls(),
            Self::Zstd => per_role.tls().set("transport.compression", "zstd"),
        }
    }

    /// Whether memory and start are told too; with TLS they are about the same.
    fn sized(self) -> bool {
        matches!(self, Self::One | Self::Roles)
    }
}

/// Retrieval in each form over one journal and one index, then memory and start of each role's process. `forms`: all
/// if empty; `calls`: each call that a retrieve makes is asked alone too; `keep`: the filled folders are kept below it.
pub async fn measure(
    report: &mut Report,
    forms: &[Wired],
    calls: bool,
    keep: Option<&Path>,
) -> anyhow::Result<()> {
    let (data, _temporary) = filled_folder(keep).await?;
    let mesh = seeded(Mesh::builder(Form::Embedded), &data).start().await;
    filled(&mesh.channels()).await?;
    let base = retrieve(report, &mesh, "embedded", None).await?;
    if calls {
        parts::measure(report, "embedded", &mesh.channels(), CALLS).await?;
    }
    mesh.shutdown().await;
    let all = Wired::value_variants();
    for form in if forms.is_empty() { all } else { forms } {
        let mesh = seeded(form.builder(), &data).start().await;
        filled(&mesh.channels()).await?;
        retrieve(report, &mesh, form.name(), Some(base + OVERHEAD)).await?;
        if form.sized() {
            sizes(report, &mesh);
        }
        if calls {
            parts::measure(report, form.name(), &mesh.channels(), CALLS).await?;
        }
        mesh.shutdown().await;
    }
    Ok(())
}

/// A mesh with the model over a copy of a filled folder.
pub(crate) fn seeded(builder: MeshBuilder, filled: &Path) -> MeshBuilder {
    let builder = builder.model();
    let builder = builder.seed(Role::Journal, &filled.join("journal"));
    builder.seed(Role::Index, &filled.join("index"))
}

/// A filled data folder, and what removes it at the end.
pub(crate) async fn filled_folder(
    keep: Option<&Path>,
) -> anyhow::Result<(PathBuf, Option<tempfile::TempDir>)> {
    let temporary = keep.is_none().then(tempfile::tempdir).transpose()?;
    let folder = match (keep, &temporary) {
        (Some(keep), _) => keep.join("mesh"),
        (None, Some(temporary)) => temporary.path().join("mesh"),
        (None, None) => anyhow::bail!("there is no folder to fill"),
    };
    if !folder.is_dir() {
        let mesh = Mesh::builder(Form::Embedded).model().start().await;
        fill(&mesh.channels()).await?;
        let data = mesh.data(Role::Gateway, 0);
        let made = mesh.shutdown().await;
        std::fs::create_dir_all(&folder)?;
        for part in ["journal", "index"] {
            std::fs::rename(data.join(part), folder.join(part))?;
        }
        drop(made);
    }
    Ok((folder, temporary))
}

/// Gives the median in milliseconds.
async fn retrieve(
    report: &mut Report,
    mesh: &Mesh,
    name: &str,
    budget: Option<f64>,
) -> anyhow::Result<f64> {
    let times = latency(&mesh.channels()).await?;
    let (median, slow) = (times.milliseconds(0.5), times.milliseconds(0.99));
    report.less(
        GROUP,
        &format!("retrieve, {name}, p50"),
        median,
        "ms",
        budget,
    );
    report.less(GROUP, &format!("retrieve, {name}, p99"), slow, "ms", None);
    Ok(median)
}

fn sizes(report: &mut Report, mesh: &Mesh) {
    for (role, replica) in mesh.members() {
        let who = match mesh.form() {
            Form::PerRole => role.as_str(),
            _ => "all roles",
        };
        size(report, mesh, who, (role, replica));
    }
}

fn size(report: &mut Report, mesh: &Mesh, who: &str, (role, replica): (Role, usize)) {
    if let Some(bytes) = mesh.rss(role, replica) {
        let what = format!("resident memory, {who}");
        report.less(GROUP, &what, bytes as f64 / 1e6, "MB", None);
    }
    if let Some(span) = mesh.start_up(role, replica) {
        // All processes of a mesh start at once and share the cores.
        let what = format!("start to serving, {who}");
        report.less(GROUP, &what, span.as_secs_f64() * 1e3, "ms", None);
    }
}

async fn fill(channels: &Channels) -> anyhow::Result<()> {
    let mut ingest = IngestServiceClient::new(channels.ingest.clone())
        .max_encoding_message_size(server::MESSAGE_BYTES);
    for first in (0..PASSAGES).step_by(BATCH) {
        let request = IngestEventsRequest {
            project: "bench".into(),
            events: (first..first + BATCH).map(corpus::event).collect(),
            ..Default::default()
        };
        ingest.ingest_events(request).await?;
    }
    filled(channels).await
}

/// Waits until all is indexed.
pub(crate) async fn filled(channels: &Channels) -> anyhow::Result<()> {
    let mut index = IndexServiceClient::new(channels.index.clone());
    loop {
        let request = GetStatusRequest {
            project: "bench".into(),
        };
        let status = index.get_status(request).await?.into_inner();
        let dense = status.dense.is_some_and(|dense| dense.available);
        let project = status.projects.into_iter().next().unwrap_or_default();
        let passages = project.passages as usize;
        if passages >= PASSAGES && (!dense || project.vectors as usize >= PASSAGES) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// As a task of the runtime, which is where programs call from: its main thread sleeps for every answer and is woken.
async fn latency(channels: &Channels) -> anyhow::Result<Times> {
    tokio::spawn(calls(channels.retrieval.clone())).await?
}

async fn calls(retrieval: Channel) -> anyhow::Result<Times> {
    let mut client =
        RetrievalServiceClient::new(retrieval).max_decoding_message_size(server::MESSAGE_BYTES);
    let mut times = Vec::new();
    for round in 0..QUERIES + 600 {
        let request = RetrieveRequest {
            project: "bench".into(),
            query: corpus::query(round % QUERIES),
            budget_tokens: 2_000,
            policy: "qa_root_cause".into(),
            // A moment of its own: no cache of packs can answer.
            clock: Some(commonplace_proto::Timestamp {
                seconds: 1_780_000_000 + round as i64,
                nanos: 0,
            }),
            ..Default::default()
        };
        let started = Instant::now();
        client.retrieve(request).await?;
        if round >= QUERIES {
            times.push(started.elapsed().as_secs_f64());
        }
    }
    Ok(Times::new(times))
}
