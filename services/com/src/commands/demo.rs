//! `com demo`: the main job from nothing to a verified pack.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use commonplace_ingest::samples;
use commonplace_node::NodeOptions;
use commonplace_proto::common::EventFilter;
use commonplace_proto::ingest::ReportHeader;
use commonplace_proto::retrieval::{PackView, RetrieveRequest};
use commonplace_retrieval::pack;

use super::{index, ingest, model, retrieve};
use crate::cli::{Demo, Global, ModelSource};
use crate::failure::Refused;
use crate::hint;
use crate::output::{self, BOLD, CYAN, paint};
use crate::session::{self, Session};

/// The same samples on every machine.
const SEED: u64 = 7;
/// Commits of the repository that are taken in: making their vectors is most of the work.
const HISTORY: u32 = 60;
/// Where the demonstration keeps its data unless told otherwise.
const FOLDER: &str = ".commonplace-demo";
/// Where in it the samples lie, to look at and to try commands on.
const SAMPLES: &str = "samples";

/// Runs the whole demonstration.
pub async fn run(global: &Global, arguments: Demo) -> anyhow::Result<()> {
    let started = Instant::now();
    if let Some(server) = &global.server {
        output::note(&format!(
            "the server at {server} is left alone: the demo works in this process, in a folder of its own"
        ));
    }
    let options = own_options(global)?;
    let global = &in_own_folder(global, &options);
    step(1, "the embedding model");
    fetch_model(&options).await;
    session::with_options(&options, async |session| {
        step(
            2,
            &format!(
                "the newest {HISTORY} commits of this repository, and the tracker and CI results of an invented web shop"
            ),
        );
        take_in(global, session, &arguments.repo, &options).await?;
        step(3, "indexing");
        index::wait(global, session).await?;
        step(4, "a context pack for a code review in that shop");
        let request = RetrieveRequest {
            project: global.project.clone(),
            task: "code_review".into(),
            query: arguments.query.clone(),
            budget_tokens: arguments.budget,
            filter: Some(of_the_shop()),
            durable: true,
            view: PackView::Full.into(),
            ..Default::default()
        };
        let made = retrieve::make(session, request).await?;
        retrieve::print_pack(&made);
        retrieve::write(&arguments.output, &made.pack)?;
        step(
            5,
            "the proof: the pack's bytes are made anew from its manifest and compared",
        );
        verify(session, &arguments.output).await?;
        Ok(())
    })
    .await?;
    what_next(global, &arguments, &options, started);
    Ok(())
}

/// Settings of the demonstration: a folder of its own and the model; nothing else that is set applies, so
/// that samples never get to where somebody's data is.
fn own_options(global: &Global) -> anyhow::Result<NodeOptions> {
    if let Some(folder) = &global.data_dir
        && folder.join("journal").exists()
        && !folder.join(SAMPLES).exists()
    {
        let text = format!(
            "{} holds data that the demo did not make: leave --data-dir out, or name a new folder",
            folder.display()
        );
        return Err(Refused(text).into());
    }
    Ok(NodeOptions {
        data_dir: global.data_dir.clone().unwrap_or_else(|| FOLDER.into()),
        model_dir: session::settings(global)?.model_dir,
        ..NodeOptions::default()
    })
}

/// What further commands need to work where the demonstration did.
fn in_own_folder(global: &Global, options: &NodeOptions) -> Global {
    let is_model = |(key, _): &&(String, String)| key == "model_dir";
    Global {
        server: None,
        key: None,
        token: None,
        tenant: None,
        data_dir: Some(options.data_dir.clone()),
        config: global.config.clone(),
        settings: global.settings.iter().filter(is_model).cloned().collect(),
        project: global.project.clone(),
        json: global.json,
        show_trace: false,
    }
}

fn step(number: u32, what: &str) {
    output::line(&format!(
        "\n{} {what}",
        paint(BOLD, &format!("[{number}/5]"))
    ));
}

/// Without the model the demonstration goes on by words alone, and says so.
async fn fetch_model(options: &NodeOptions) {
    let fetched = async {
        let folder = options.model_dir.clone();
        let place = folder.clone();
        let fresh =
            tokio::task::spawn_blocking(move || model::pull(&place, ModelSource::Auto)).await??;
        let state = if fresh { "fetched to" } else { "is in" };
        output::line(&format!("all-MiniLM-L6-v2 {state} {}", folder.display()));
        anyhow::Ok(())
    };
    if let Err(error) = fetched.await {
        output::note(&format!("going on without it, by words alone: {error:#}"));
    }
}

/// Every sample: format and files.
fn shop() -> [(&'static str, Vec<(String, String)>); 3] {
    [
        ("junit", samples::junit(SEED)),
        ("jenkins", samples::jenkins(SEED)),
        ("jsonl", samples::tracker()),
    ]
}

/// Takes the shop's events only: a repository that holds this program holds the samples' texts too.
fn of_the_shop() -> EventFilter {
    let files = shop().into_iter().flat_map(|(_, files)| files);
    EventFilter {
        sources: files.map(|(name, _)| name).collect(),
        ..Default::default()
    }
}

async fn take_in(
    global: &Global,
    session: &Session,
    repository: &Path,
    options: &NodeOptions,
) -> anyhow::Result<()> {
    let header = |format: &str| ReportHeader {
        project: global.project.clone(),
        format: format.into(),
        author: "demo".into(),
        ..Default::default()
    };
    let history = [ingest::Input::Repository(
        repository.to_owned(),
        Some(HISTORY),
    )];
    if let Err(error) = ingest::send_all(global, session, &header("git"), &history).await {
        output::note(&format!("no history was taken in: {error:#}"));
    }
    for (format, files) in shop() {
        for (name, text) in &files {
            keep(&options.data_dir.join(SAMPLES).join(name), text)?;
        }
        let inputs: Vec<_> = files
            .into_iter()
            .map(|(name, text)| ingest::Input::Text(name, text))
            .collect();
        ingest::send_all(global, session, &header(format), &inputs).await?;
    }
    Ok(())
}

async fn verify(session: &Session, file: &Path) -> anyhow::Result<()> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let (id, content) = pack::from_file(&bytes)?;
    let answer = retrieve::check(session, id, content).await?;
    retrieve::print_verdict(&answer);
    anyhow::ensure!(answer.verified, "the pack could not be made anew");
    Ok(())
}

fn keep(file: &Path, text: &str) -> anyhow::Result<()> {
    let problem = || format!("cannot write {}", file.display());
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(problem)?;
    }
    std::fs::write(file, text).with_context(problem)
}

fn what_next(global: &Global, arguments: &Demo, options: &NodeOptions, started: Instant) {
    let file = hint::quoted(&arguments.output.display().to_string());
    let reports = options.data_dir.join(SAMPLES).join("sample-shop/nightly");
    let reports = hint::quoted(&reports.display().to_string());
    output::line(&format!(
        "\ndone in {:.1} s. What to try next:",
        started.elapsed().as_secs_f64()
    ));
    for rest in [
        "events --type test --attribute verdict=failed",
        "retrieve --task flaky_triage --query \"which tests are flaky?\" --budget 1000",
        "search \"what changed in this repository?\"",
        &format!("verify {file}     # after changing a byte of it"),
        &format!("ingest --from junit {reports}     # known already: adds nothing"),
        "serve     # then: curl localhost:8083/policies",
    ] {
        output::line(&format!("  {}", paint(CYAN, &hint::command(global, rest))));
    }
    output::line(&format!(
        "The shop is invented; `rm -r {}` removes all of it.",
        hint::quoted(&options.data_dir.display().to_string())
    ));
}
