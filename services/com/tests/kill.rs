//! kill -9 while eight clients append: nothing acknowledged is lost, the chain holds, the index catches up.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use commonplace_proto::common::EventDraft;
use commonplace_proto::index::GetStatusRequest;
use commonplace_proto::index::index_service_client::IndexServiceClient;
use commonplace_proto::ingest::CommitRequest;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_proto::journal::{QueryEventsRequest, VerifyChainRequest};
use commonplace_rpc::Channel;

use common::Server;

const CLIENTS: usize = 8;

fn kills() -> usize {
    std::env::var("COM_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(50)
}

fn draft(record: &str) -> EventDraft {
    EventDraft {
        record_id: record.into(),
        artifact_type: "test".into(),
        title: format!("event {record}"),
        text: "appended while the server may die at any moment".into(),
        ..Default::default()
    }
}

/// Appends until the server is gone; gives the ids that were acknowledged.
async fn append_until_dead(channel: Channel, round: usize, client: usize) -> Vec<String> {
    let mut ingest = IngestServiceClient::new(channel);
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let events = vec![draft(&format!("{round}-{client}-{number}"))];
        match ingest
            .commit(CommitRequest {
                events,
                ..Default::default()
            })
            .await
        {
            Ok(answer) => {
                acknowledged.extend(answer.into_inner().events.into_iter().map(|event| event.id))
            }
            Err(_) => break,
        }
    }
    acknowledged
}

async fn all_events(channel: Channel) -> Vec<String> {
    let mut journal = JournalServiceClient::new(channel);
    let mut request = QueryEventsRequest {
        page_size: 1_000,
        ..Default::default()
    };
    let mut ids = Vec::new();
    loop {
        let page = journal
            .query_events(request.clone())
            .await
            .unwrap()
            .into_inner();
        ids.extend(page.events.into_iter().map(|event| event.id));
        if page.next_page_token.is_empty() {
            return ids;
        }
        request.page_token = page.next_page_token;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for round in 0..kills() {
        let mut server = Server::start(folder.path());
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| tokio::spawn(append_until_dead(server.channels().journal, round, client)))
            .collect();
        // A different moment each time: within start-up's first commits, or in full flow.
        tokio::time::sleep(Duration::from_millis(20 + (round as u64 * 37) % 230)).await;
        server.kill();
        for client in clients {
            acknowledged.extend(client.await.unwrap());
        }
    }
    assert!(
        acknowledged.len() > kills() * CLIENTS,
        "the clients got somewhere: {}",
        acknowledged.len()
    );

    let server = Server::start(folder.path());
    let channels = server.channels();
    let present = all_events(channels.journal.clone()).await;
    let unique: BTreeSet<String> = present.iter().cloned().collect();
    assert_eq!(unique.len(), present.len(), "no event twice");
    let lost: Vec<_> = acknowledged.difference(&unique).collect();
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged events are lost",
        lost.len(),
        acknowledged.len()
    );

    let mut journal = JournalServiceClient::new(channels.journal.clone());
    let chain = journal
        .verify_chain(VerifyChainRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(chain.intact, "{}", chain.first_break);
    assert_eq!(chain.events_checked as usize, present.len());

    let mut index = IndexServiceClient::new(channels.index);
    for _ in 0..600 {
        let status = index
            .get_status(GetStatusRequest::default())
            .await
            .unwrap()
            .into_inner();
        let caught_up = status
            .projects
            .iter()
            .any(|project| project.passages as usize == present.len());
        if caught_up {
            println!(
                "{} kills, {} acknowledged, 0 lost",
                kills(),
                acknowledged.len()
            );
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the index did not catch up");
}
