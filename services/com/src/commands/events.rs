//! `com events`, `com log`, `com journal`.

use commonplace_proto::common::{Attribute, Event, EventFilter};
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_proto::journal::{ListCommitsRequest, QueryEventsRequest, VerifyChainRequest};

use super::reference;
use crate::cli::{Events, Global, Journal, Log};
use crate::output::{self, CYAN, DIM, GREEN, Listing, paint};
use crate::session;

/// Most entries of one page.
const PAGE: u32 = 500;

/// `com events`
pub async fn list(global: &Global, arguments: Events) -> anyhow::Result<()> {
    session::with(global, async |session| {
        let mut client = JournalServiceClient::new(session.channels.journal.clone());
        let filter = EventFilter {
            artifact_types: arguments.types.clone(),
            tags_any: arguments.labels.clone(),
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
        let head = ["time", "type", "title", "record", "event"];
        let mut listing = Listing::new(global.json, &head);
        while left > 0 {
            let page = client.query_events(request.clone()).await?.into_inner();
            for event in page.events.iter().take(left) {
                listing.add(event, row)?;
            }
            left = left.saturating_sub(page.events.len());
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        listing.end();
        Ok(())
    })
    .await
}

fn row(event: &Event) -> Vec<String> {
    vec![
        output::time(event.event_time.as_ref()),
        event.artifact_type.clone(),
        output::short(&event.title, 60),
        output::short(&event.record_id, 40),
        event.id.clone(),
    ]
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
