//! `com events`, `com log`, `com branch`, `com journal`.

use commonplace_proto::common::{Attribute, EventFilter, Reference, reference::Point};
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_proto::journal::{
    CreateBranchRequest, ListCommitsRequest, ListRefsRequest, QueryEventsRequest, RefKind,
    VerifyChainRequest,
};

use super::reference;
use crate::cli::{Branch, Events, Global, Journal, Log};
use crate::output::{self, CYAN, DIM, GREEN, paint};
use crate::session;

/// Most entries of one page.
const PAGE: u32 = 500;

/// `com events`
pub async fn list(global: &Global, arguments: Events) -> anyhow::Result<()> {
    session::with(global, async |session| {
        let mut client = JournalServiceClient::new(session.channels.journal.clone());
        let filter = EventFilter {
            artifact_types: arguments.types.clone(),
            tags_any: arguments.tag_any.clone(),
            record_ids: arguments.record.clone(),
            attributes: arguments
                .attribute
                .iter()
                .map(|(key, value)| Attribute {
                    key: key.clone(),
                    value: value.clone(),
                })
                .collect(),
            ..Default::default()
        };
        let mut request = QueryEventsRequest {
            project: global.project.clone(),
            as_of: reference(&arguments.as_of),
            filter: Some(filter),
            include_superseded: arguments.all,
            page_size: arguments.limit.min(PAGE) as i32,
            page_token: String::new(),
        };
        let mut left = arguments.limit as usize;
        let mut rows = vec![
            ["time", "type", "title", "record", "event"]
                .map(String::from)
                .to_vec(),
        ];
        while left > 0 {
            let page = client.query_events(request.clone()).await?.into_inner();
            for event in page.events.iter().take(left) {
                if global.json {
                    output::message(event)?;
                    continue;
                }
                rows.push(vec![
                    output::time(event.event_time.as_ref()),
                    event.artifact_type.clone(),
                    output::short(&event.title, 60),
                    output::short(&event.record_id, 40),
                    event.id.clone(),
                ]);
            }
            left = left.saturating_sub(page.events.len());
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        if !global.json {
            output::table(&rows);
        }
        Ok(())
    })
    .await
}

/// `com log`
pub async fn log(global: &Global, arguments: Log) -> anyhow::Result<()> {
    session::with(global, async |session| {
        let mut client = JournalServiceClient::new(session.channels.journal.clone());
        let request = ListCommitsRequest {
            project: global.project.clone(),
            from: reference(&arguments.as_of),
            page_size: arguments.limit.clamp(1, 1_000) as i32,
            page_token: String::new(),
        };
        let page = client.list_commits(request).await?.into_inner();
        for commit in &page.commits {
            if global.json {
                output::message(commit)?;
                continue;
            }
            let events = (commit.last_position + 1).saturating_sub(commit.first_position);
            output::line(&format!(
                "{}  {}  {:<8} {:>5} events  {}",
                paint(CYAN, &output::hash(&commit.hash)),
                paint(DIM, &output::time(commit.time.as_ref())),
                output::short(&commit.branch, 24),
                events,
                output::short(&commit.message, 80),
            ));
        }
        Ok(())
    })
    .await
}

/// `com branch`
pub async fn branch(global: &Global, arguments: Branch) -> anyhow::Result<()> {
    session::with(global, async |session| {
        let mut client = JournalServiceClient::new(session.channels.journal.clone());
        if let Some(name) = arguments.name {
            let is_hash = arguments.at.len() >= 8
                && arguments.at.bytes().all(|byte| byte.is_ascii_hexdigit());
            let point = if is_hash {
                Point::Commit(arguments.at)
            } else {
                Point::Branch(arguments.at)
            };
            let request = CreateBranchRequest {
                project: global.project.clone(),
                branch: name,
                from: Some(Reference { point: Some(point) }),
                ..Default::default()
            };
            client.create_branch(request).await?;
        }
        let refs = client
            .list_refs(ListRefsRequest {
                project: global.project.clone(),
            })
            .await?
            .into_inner();
        if global.json {
            return output::message(&refs);
        }
        let mut rows = vec![
            ["kind", "name", "commit", "time"]
                .map(String::from)
                .to_vec(),
        ];
        for entry in &refs.refs {
            let commit = entry.commit.clone().unwrap_or_default();
            let kind = if entry.kind() == RefKind::Tag {
                "tag"
            } else {
                "branch"
            };
            rows.push(vec![
                kind.into(),
                entry.name.clone(),
                output::hash(&commit.hash),
                output::time(commit.time.as_ref()),
            ]);
        }
        output::table(&rows);
        Ok(())
    })
    .await
}

/// `com journal verify`
pub async fn journal(global: &Global, Journal::Verify: Journal) -> anyhow::Result<()> {
    session::with(global, async |session| {
        let mut client = JournalServiceClient::new(session.channels.journal.clone());
        let answer = client
            .verify_chain(VerifyChainRequest {
                project: global.project.clone(),
            })
            .await?
            .into_inner();
        if global.json {
            output::message(&answer)?;
        } else if answer.intact {
            output::line(&format!(
                "{} {} commits, {} events, head {}",
                paint(GREEN, "intact"),
                answer.commits_checked,
                answer.events_checked,
                output::hash(&answer.head)
            ));
        }
        if !answer.intact {
            anyhow::bail!(
                "the journal is broken: {}; restore it from a backup",
                answer.first_break
            );
        }
        Ok(())
    })
    .await
}
