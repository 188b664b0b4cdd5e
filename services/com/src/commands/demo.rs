//! `com demo`: the main job from nothing to a verified pack.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use commonplace_ingest::samples;
use commonplace_proto::ingest::ReportHeader;
use commonplace_proto::retrieval::RetrieveRequest;
use commonplace_retrieval::pack;

use super::{index, ingest, model, retrieve};
use crate::cli::{Demo, Global, ModelSource};
use crate::output::{self, BOLD, CYAN, paint};
use crate::session::{self, Session};

/// The same samples on every machine.
const SEED: u64 = 7;
/// Where the demonstration keeps its data unless told otherwise.
const FOLDER: &str = ".commonplace-demo";

/// Runs the whole demonstration.
pub async fn run(global: &Global, arguments: Demo) -> anyhow::Result<()> {
    let started = Instant::now();
    let global = &in_demo_folder(global);
    step(1, "the embedding model");
    fetch_model(global).await;
    session::with(global, async |session| {
        step(
            2,
            "this repository's history, and CI results of a small made-up project",
        );
        take_in(global, session, &arguments.repo).await?;
        step(3, "indexing");
        index::wait(global, session).await?;
        step(4, "a context pack for a code review");
        let request = RetrieveRequest {
            project: global.project.clone(),
            task: "code_review".into(),
            query: arguments.query.clone(),
            budget_tokens: arguments.budget,
            durable: true,
            ..Default::default()
        };
        let made = retrieve::make(session, request).await?;
        retrieve::print_pack(&made);
        retrieve::write(&arguments.output, &made)?;
        step(
            5,
            "the proof: the pack's bytes are made anew from its manifest and compared",
        );
        verify(session, &arguments.output).await?;
        Ok(())
    })
    .await?;
    what_next(global, &arguments, started);
    Ok(())
}

/// The demonstration has a folder of its own, so that it never mixes with anybody's data.
fn in_demo_folder(global: &Global) -> Global {
    Global {
        server: global.server.clone(),
        data_dir: Some(global.data_dir.clone().unwrap_or_else(|| FOLDER.into())),
        config: global.config.clone(),
        settings: global.settings.clone(),
        project: global.project.clone(),
        json: global.json,
    }
}

fn step(number: u32, what: &str) {
    output::line(&format!(
        "\n{} {what}",
        paint(BOLD, &format!("[{number}/5]"))
    ));
}

/// Without the model the demonstration goes on by words alone, and says so.
async fn fetch_model(global: &Global) {
    let fetched = async {
        let folder = session::settings(global)?.model_dir;
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

async fn take_in(global: &Global, session: &Session, repository: &Path) -> anyhow::Result<()> {
    let header = |format: &str| ReportHeader {
        project: global.project.clone(),
        format: format.into(),
        author: "demo".into(),
        ..Default::default()
    };
    let history = [ingest::Input::Repository(repository.to_owned())];
    if let Err(error) = ingest::send_all(global, session, &header("git"), &history).await {
        output::note(&format!("no history was taken in: {error:#}"));
    }
    for (format, files) in [
        ("junit", samples::junit(SEED)),
        ("jenkins", samples::jenkins(SEED)),
    ] {
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

fn what_next(global: &Global, arguments: &Demo, started: Instant) {
    let folder = global
        .data_dir
        .as_deref()
        .unwrap_or(Path::new(FOLDER))
        .display();
    let file = arguments.output.display();
    output::line(&format!(
        "\ndone in {:.1} s. What to try next:",
        started.elapsed().as_secs_f64()
    ));
    for command in [
        format!("com --data-dir {folder} events --type test --attribute verdict=failed"),
        format!(
            "com --data-dir {folder} retrieve --task flaky_triage --query \"which tests are flaky?\" --budget 1000"
        ),
        format!("com --data-dir {folder} verify {file}     # after changing a byte of it"),
        format!("com --data-dir {folder} serve             # then: curl localhost:8083/policies"),
    ] {
        output::line(&format!("  {}", paint(CYAN, &command)));
    }
}
