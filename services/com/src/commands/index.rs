//! `com index …`, and waiting for the index with a bar.

use std::time::Duration;

use commonplace_proto::index::index_service_client::IndexServiceClient;
use commonplace_proto::index::{
    CheckRequest, CheckResponse, GetStatusRequest, GetStatusResponse, ProjectIndex, RebuildRequest,
};
use commonplace_proto::journal::ResolveRequest;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_rpc::Channel;

use crate::cli::{Global, Index};
use crate::session::Session;
use crate::{output, session};

/// Does one of the index commands.
pub async fn run(global: &Global, command: Index) -> anyhow::Result<()> {
    session::with(global, async |session| {
        let mut client = IndexServiceClient::new(session.channels.index.clone());
        match command {
            Index::Status => {
                let status = client
                    .get_status(GetStatusRequest::default())
                    .await?
                    .into_inner();
                if global.json {
                    output::message(&status)
                } else {
                    print(&status)
                }
            }
            Index::Rebuild => {
                let request = RebuildRequest {
                    project: global.project.clone(),
                };
                let rebuilt = client.rebuild(request).await?.into_inner();
                if global.json {
                    return output::message(&rebuilt);
                }
                let project = rebuilt.project.unwrap_or_default();
                output::line(&format!(
                    "rebuilt: {} passages, digest {}",
                    project.passages, project.digest
                ));
                Ok(())
            }
            Index::Check { repair } => {
                let request = CheckRequest {
                    project: global.project.clone(),
                    repair,
                };
                let checked = client.check(request).await?.into_inner();
                if global.json {
                    output::message(&checked)?;
                } else {
                    print_check(&checked);
                }
                let wrong = checked.missing_count + checked.different_count + checked.extra_count;
                anyhow::ensure!(
                    wrong == 0 || checked.repaired,
                    "the vector store differs; mend it with `com index check --repair`"
                );
                Ok(())
            }
        }
    })
    .await
}

fn print_check(checked: &CheckResponse) {
    output::line(&format!(
        "{}: {} points expected, {} found, in {} commits",
        checked.store, checked.expected, checked.found, checked.commits
    ));
    let keys = [
        ("missing", checked.missing_count, &checked.missing),
        ("different", checked.different_count, &checked.different),
    ];
    for (what, count, keys) in keys {
        if count > 0 {
            output::line(&format!("{what}: {count}"));
        }
        for key in keys {
            output::line(&format!("  {}#{}", key.event_id, key.passage));
        }
    }
    if checked.extra_count > 0 {
        output::line(&format!("extra: {}", checked.extra_count));
    }
    for id in &checked.extra {
        output::line(&format!("  {id}"));
    }
    if let Some(first) = checked.first_commit {
        output::line(&format!("first at commit {first}"));
    }
    if checked.repaired {
        output::line("repaired");
    }
}

fn print(status: &GetStatusResponse) -> anyhow::Result<()> {
    let heading = [
        "project", "state", "passages", "vectors", "words", "meaning", "journal", "size",
    ];
    let mut rows = vec![heading.map(String::from).to_vec()];
    for project in &status.projects {
        rows.push(vec![
            project.project.clone(),
            project.state.clone(),
            project.passages.to_string(),
            project.vectors.to_string(),
            project.lexical_commit.to_string(),
            project.dense_commit.to_string(),
            project.journal_commit.to_string(),
            format!("{:.1} MB", project.size_bytes as f64 / 1e6),
        ]);
    }
    output::table(&rows);
    let dense = status.dense.clone().unwrap_or_default();
    let meaning = if dense.available {
        dense.fingerprint
    } else {
        format!("off: {}", dense.reason)
    };
    output::line(&format!("meaning: {meaning}"));
    let outside = status.projects.iter().filter_map(|project| {
        let store = project.vectors_in.as_ref()?;
        (store.kind != "local").then_some((&project.project, store))
    });
    for (project, store) in outside {
        let (kind, state) = (&store.kind, &store.state);
        let (commits, collection) = (store.commits, &store.collection);
        output::line(&format!(
            "vectors of {project}: {kind}, {state}; {commits} commits in `{collection}`"
        ));
    }
    output::line(&format!("tokens:  {}", status.tokenizer));
    Ok(())
}

/// Waits until the index holds everything that the project's journal holds now, with a bar on standard
/// error. Meaning is waited for only when the model is there.
pub async fn wait(global: &Global, session: &Session) -> anyhow::Result<()> {
    let project = global.project.clone();
    let mut journal = JournalServiceClient::new(session.channels.journal.clone());
    let request = ResolveRequest {
        project: project.clone(),
        reference: None,
    };
    let head = journal
        .resolve(request)
        .await?
        .into_inner()
        .commit
        .unwrap_or_default()
        .number;
    let mut client: IndexServiceClient<Channel> =
        IndexServiceClient::new(session.channels.index.clone());
    let bar = output::progress(1, "indexing", false);
    loop {
        let request = GetStatusRequest {
            project: project.clone(),
        };
        let status = client.get_status(request).await?.into_inner();
        let dense = status.dense.is_some_and(|dense| dense.available);
        let state = status.projects.into_iter().next().unwrap_or_default();
        if has_caught_up(&state, head, dense) {
            break;
        }
        bar.set_length(state.passages.max(1));
        bar.set_position(if dense { state.vectors } else { 0 });
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bar.finish_and_clear();
    Ok(())
}

fn has_caught_up(state: &ProjectIndex, head: u64, dense: bool) -> bool {
    let opened = !state.project.is_empty();
    opened && state.lexical_commit >= head && (!dense || state.dense_commit >= head)
}
