//! `com ingest`: sends files, folders or a repository's history, with a bar and a row for each.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use commonplace_proto::ingest::ingest_report_request::Part;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::ingest::{IngestReportRequest, IngestSummary, ReportHeader};
use indicatif::ProgressBar;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::cli::{From, Global, Ingest};
use crate::failure::Refused;
use crate::output::{self, DIM, GREEN, RED, paint};
use crate::repository;
use crate::session::{self, Session};

/// Bytes sent at a time, and how many such pieces may wait.
const CHUNK: usize = 256 << 10;
const CHUNKS_WAITING: usize = 8;

/// One thing to send.
#[derive(Debug, Clone)]
pub enum Input {
    /// A file.
    File(PathBuf),
    /// A repository's history; if a number is given, so many of its newest commits.
    Repository(PathBuf, Option<u32>),
    /// Standard input.
    Stdin,
    /// Text at hand, with the name it goes by.
    Text(String, String),
    /// A part of a history.
    Bytes(Vec<u8>),
}

impl Input {
    /// What people call it, and where its events say that they come from.
    fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Repository(path, _) => repository::name(path),
            Self::Stdin => "standard input".into(),
            Self::Text(name, _) => name.clone(),
            Self::Bytes(_) => "part of a history".into(),
        }
    }
}

/// What came of all inputs together.
#[derive(Debug, Default)]
pub struct Totals {
    /// Events written.
    pub added: u64,
    /// Events that were there already.
    pub duplicates: u64,
    /// Entries that were not taken.
    pub refusals: u64,
    /// Inputs that could not be read at all.
    pub unreadable: u64,
}

/// `com ingest`
pub async fn run(global: &Global, arguments: Ingest) -> anyhow::Result<()> {
    let inputs = find(&arguments)?;
    session::with(global, async |session| {
        let header = ReportHeader {
            project: global.project.clone(),
            branch: arguments.branch.clone(),
            format: arguments.from.format().0.into(),
            author: arguments.author.clone(),
            validate_only: arguments.dry_run,
            ..Default::default()
        };
        let totals = send_all(global, session, &header, &inputs).await?;
        if session.is_embedded() && !arguments.no_wait && !arguments.dry_run && totals.added > 0 {
            super::index::wait(global, session).await?;
        }
        if totals.refusals + totals.unreadable > 0 {
            return Err(Refused(format!(
                "{} entries and {} whole inputs were refused; all else was taken",
                totals.refusals, totals.unreadable
            ))
            .into());
        }
        Ok(())
    })
    .await
}

/// Sends every input and prints a row for each. An input that is refused does not stop the others.
pub async fn send_all(
    global: &Global,
    session: &Session,
    header: &ReportHeader,
    inputs: &[Input],
) -> anyhow::Result<Totals> {
    let mut totals = Totals::default();
    for input in inputs {
        let name = input.name();
        let header = ReportHeader {
            name: name.clone(),
            ..header.clone()
        };
        match send(session, header.clone(), input).await {
            Ok(summary) => {
                totals.added += summary.added;
                totals.duplicates += summary.duplicates;
                totals.refusals += summary.refusals.len() as u64;
                print(global, &name, &summary, header.validate_only)?;
            }
            Err(error) => match error.downcast_ref::<tonic::Status>() {
                Some(status) if is_about_the_input(status) => {
                    totals.unreadable += 1;
                    print_refused(global, &name, status.message());
                }
                _ => return Err(error.context(format!("cannot take {name}"))),
            },
        }
    }
    Ok(totals)
}

fn is_about_the_input(status: &tonic::Status) -> bool {
    // Only a report over the size limit is RESOURCE_EXHAUSTED for good: it brings no delay.
    let failure = commonplace_rpc::Failure::from_status(status);
    let for_good =
        failure.code == commonplace_rpc::Code::ResourceExhausted && failure.retry_after.is_none();
    for_good || failure.code == commonplace_rpc::Code::InvalidArgument
}

fn print(
    global: &Global,
    name: &str,
    summary: &IngestSummary,
    is_trial: bool,
) -> anyhow::Result<()> {
    if global.json {
        let mut row = commonplace_proto::to_json(summary)?;
        row["input"] = name.into();
        output::json(&row);
        return Ok(());
    }
    let types: Vec<String> = summary
        .types
        .iter()
        .map(|t| format!("{} {}", t.count, t.artifact_type))
        .collect();
    let mut text = format!(
        "{} {}  {} new, {} known",
        paint(GREEN, if is_trial { "would take" } else { "taken" }),
        output::short(name, 60),
        summary.added,
        summary.duplicates
    );
    if !types.is_empty() {
        text.push_str(&paint(DIM, &format!("  ({})", types.join(", "))));
    }
    output::line(&text);
    let masked = summary.redactions.iter();
    let masked: Vec<String> = masked.map(|r| format!("{} {}", r.count, r.rule)).collect();
    if !masked.is_empty() {
        let hint = "a rule is turned off in `ingest.redaction.disabled_rules`";
        let told = format!("  masked: {}; {hint}", masked.join(", "));
        output::line(&paint(DIM, &told));
    }
    for refusal in summary.refusals.iter().take(10) {
        let field = if refusal.field.is_empty() {
            String::new()
        } else {
            format!("`{}`: ", refusal.field)
        };
        output::line(&format!(
            "  {} {}: {field}{}",
            paint(RED, "refused"),
            refusal.location,
            refusal.reason
        ));
    }
    if summary.refusals.len() > 10 {
        output::line(&format!(
            "  … and {} more refused",
            summary.refusals.len() - 10
        ));
    }
    Ok(())
}

fn print_refused(global: &Global, name: &str, reason: &str) {
    if global.json {
        output::json(&serde_json::json!({"input": name, "refused": reason}));
    } else {
        output::line(&format!("{} {name}: {reason}", paint(RED, "refused")));
    }
}

/// Sends one input as a report.
async fn send(
    session: &Session,
    header: ReportHeader,
    input: &Input,
) -> anyhow::Result<IngestSummary> {
    match input {
        Input::Repository(path, newest) => history(session, header, (path, *newest)).await,
        input => send_report(session, header, input).await,
    }
}

async fn send_report(
    session: &Session,
    header: ReportHeader,
    input: &Input,
) -> anyhow::Result<IngestSummary> {
    let (pieces, waiting) = mpsc::channel(CHUNKS_WAITING);
    let first = IngestReportRequest {
        part: Some(Part::Header(header)),
    };
    let _ = pieces.send(first).await;
    let mut client = IngestServiceClient::new(session.channels.ingest.clone());
    let call = client.ingest_report(ReceiverStream::new(waiting));
    let feeding = feed(input, pieces);
    // Both at once: the call ends early when the report is refused, feeding when all is sent.
    let (answer, fed) = tokio::join!(call, feeding);
    fed?;
    Ok(answer?.into_inner().summary.unwrap_or_default())
}

async fn feed(input: &Input, pieces: mpsc::Sender<IngestReportRequest>) -> anyhow::Result<()> {
    match input {
        Input::File(path) => {
            let file = tokio::fs::File::open(path)
                .await
                .with_context(|| format!("cannot read {}", path.display()))?;
            let size = file.metadata().await.map_or(0, |metadata| metadata.len());
            let bar = output::progress(size, "reading", true);
            pour(file, pieces, &bar).await?;
            bar.finish_and_clear();
            Ok(())
        }
        Input::Stdin => tokio::task::spawn_blocking(move || pour_stdin(&pieces)).await?,
        Input::Text(_, text) => pour(text.as_bytes(), pieces, &ProgressBar::hidden()).await,
        Input::Bytes(bytes) => pour(bytes.as_slice(), pieces, &ProgressBar::hidden()).await,
        Input::Repository(..) => Ok(()),
    }
}

async fn pour(
    mut source: impl AsyncRead + Unpin,
    pieces: mpsc::Sender<IngestReportRequest>,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        while chunk.len() < CHUNK && source.read_buf(&mut chunk).await? > 0 {}
        if chunk.is_empty() {
            return Ok(());
        }
        bar.inc(chunk.len() as u64);
        let part = IngestReportRequest {
            part: Some(Part::Chunk(chunk.into())),
        };
        if pieces.send(part).await.is_err() {
            // The other side has heard enough; its answer says why.
            return Ok(());
        }
    }
}

fn pour_stdin(pieces: &mpsc::Sender<IngestReportRequest>) -> anyhow::Result<()> {
    let mut stdin = std::io::stdin().lock();
    loop {
        let mut chunk = Vec::new();
        stdin
            .by_ref()
            .take(CHUNK as u64)
            .read_to_end(&mut chunk)
            .context("cannot read standard input")?;
        let part = IngestReportRequest {
            part: Some(Part::Chunk(chunk.into())),
        };
        let ended = matches!(&part.part, Some(Part::Chunk(bytes)) if bytes.is_empty());
        if ended || pieces.blocking_send(part).is_err() {
            return Ok(());
        }
    }
}

/// Most bytes of a history in one report, well within what a report may hold.
const PART_BYTES: usize = 16 << 20;

/// Runs git over the repository and sends what it prints, in parts.
async fn history(
    session: &Session,
    header: ReportHeader,
    (path, newest): (&Path, Option<u32>),
) -> anyhow::Result<IngestSummary> {
    let (parts, mut waiting) = mpsc::channel::<Vec<u8>>(1);
    let repository = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || read_history(&repository, newest, &parts));
    let bar = output::progress(0, "history", true);
    let mut total = IngestSummary::default();
    while let Some(part) = waiting.recv().await {
        bar.inc(part.len() as u64);
        let summary = send_report(session, header.clone(), &Input::Bytes(part)).await?;
        merge(&mut total, summary);
    }
    bar.finish_and_clear();
    reading.await??;
    Ok(total)
}

fn read_history(
    repository: &Path,
    newest: Option<u32>,
    parts: &mpsc::Sender<Vec<u8>>,
) -> anyhow::Result<()> {
    let mut git = Command::new("git")
        .arg("-C")
        .arg(repository)
        .args(commonplace_ingest::GIT_LOG_ARGUMENTS)
        .args(newest.map(|count| format!("--max-count={count}")))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run git; is it installed?")?;
    let (Some(printed), Some(mut complaints)) = (git.stdout.take(), git.stderr.take()) else {
        anyhow::bail!("cannot read what git prints");
    };
    let complaint = std::thread::spawn(move || std::io::read_to_string(&mut complaints));
    for part in commonplace_ingest::git_parts(BufReader::new(printed), PART_BYTES) {
        if parts.blocking_send(part?).is_err() {
            let _ = git.kill();
            break;
        }
    }
    let status = git.wait()?;
    let complaint = complaint
        .join()
        .ok()
        .and_then(Result::ok)
        .unwrap_or_default();
    if !status.success() && !parts.is_closed() && !complaint.contains("does not have any commits") {
        let text = format!(
            "git log in {} failed: {}",
            repository.display(),
            complaint.trim()
        );
        return Err(Refused(text).into());
    }
    Ok(())
}

/// Adds what came of another part.
fn merge(total: &mut IngestSummary, part: IngestSummary) {
    total.added += part.added;
    total.duplicates += part.duplicates;
    total.refusals.extend(part.refusals);
    total.commit = part.commit;
    for redaction in part.redactions {
        match total
            .redactions
            .iter_mut()
            .find(|known| known.rule == redaction.rule)
        {
            Some(known) => known.count += redaction.count,
            None => total.redactions.push(redaction),
        }
    }
    for kind in part.types {
        match total
            .types
            .iter_mut()
            .find(|known| known.artifact_type == kind.artifact_type)
        {
            Some(known) => known.count += kind.count,
            None => total.types.push(kind),
        }
    }
}

/// Turns the paths of the command line into inputs; folders are searched, in the order of names.
fn find(arguments: &Ingest) -> anyhow::Result<Vec<Input>> {
    let from = arguments.from;
    let piped = arguments.paths.iter().any(|path| path == Path::new("-"));
    if arguments.newest.is_some() && (from != From::Git || piped) {
        return Err(Refused("`--newest` is for repositories (`--from git`)".into()).into());
    }
    let mut inputs = Vec::new();
    for path in &arguments.paths {
        if path == Path::new("-") {
            inputs.push(Input::Stdin);
        } else if from == From::Git {
            inputs.push(Input::Repository(path.clone(), arguments.newest));
        } else if path.is_dir() {
            search(path, from.format().1, &mut inputs)
                .with_context(|| format!("cannot search {}", path.display()))?;
        } else if path.exists() {
            inputs.push(Input::File(path.clone()));
        } else {
            return Err(Refused(format!("{} does not exist", path.display())).into());
        }
    }
    if inputs.is_empty() {
        let endings = from.format().1.join(", ");
        return Err(Refused(format!("no files ending in {endings} were found there")).into());
    }
    Ok(inputs)
}

fn search(folder: &Path, endings: &[&str], inputs: &mut Vec<Input>) -> std::io::Result<()> {
    let mut entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            search(&path, endings, inputs)?;
        } else if path
            .extension()
            .and_then(|ending| ending.to_str())
            .is_some_and(|e| endings.contains(&e))
        {
            inputs.push(Input::File(path));
        }
    }
    Ok(())
}
