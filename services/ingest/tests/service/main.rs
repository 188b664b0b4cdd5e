//! The service over a real journal, through the contracts alone.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod commit;
mod events;
mod reports;
mod states;

use std::sync::Arc;

use commonplace_ingest::Options;
use commonplace_proto::common::{Event, EventDraft};
use commonplace_proto::ingest::ingest_report_request::Part;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::ingest::*;
use commonplace_proto::journal::QueryEventsRequest;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_rpc::{Channel, Failure};
use commonplace_types::SystemClock;
use tonic::service::Routes;

pub struct Fixture {
    pub ingest: IngestServiceClient<Channel>,
    pub journal: JournalServiceClient<Channel>,
    _folder: tempfile::TempDir,
}

impl Fixture {
    pub async fn new(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let clock = Arc::new(SystemClock);
        let journal = commonplace_journal::start(Default::default(), &path, clock)
            .await
            .unwrap();
        let channel = Channel::in_process(Routes::new(journal.service()));
        let ingest = commonplace_ingest::start(options, channel.clone())
            .await
            .unwrap();
        Self {
            ingest: IngestServiceClient::new(Channel::in_process(Routes::new(ingest.service()))),
            journal: JournalServiceClient::new(channel).max_decoding_message_size(64 << 20),
            _folder: folder,
        }
    }

    pub async fn report(
        &mut self,
        header: ReportHeader,
        report: &[u8],
    ) -> Result<IngestSummary, Failure> {
        let header = IngestReportRequest {
            part: Some(Part::Header(header)),
        };
        let chunk = |bytes: &[u8]| IngestReportRequest {
            part: Some(Part::Chunk(bytes.to_vec().into())),
        };
        let mut messages = vec![header];
        messages.extend(report.chunks(1 << 20).map(chunk));
        let answer = self
            .ingest
            .ingest_report(tokio_stream::iter(messages))
            .await;
        answer
            .map(|answer| answer.into_inner().summary.unwrap())
            .map_err(|status| Failure::from_status(&status))
    }

    pub async fn events(
        &mut self,
        branch: &str,
        events: Vec<EventDraft>,
    ) -> Result<IngestEventsResponse, Failure> {
        let request = IngestEventsRequest {
            branch: branch.into(),
            events,
            ..Default::default()
        };
        let answer = self.ingest.ingest_events(request).await;
        answer
            .map(|answer| answer.into_inner())
            .map_err(|status| Failure::from_status(&status))
    }

    /// Every event of `main`, page by page.
    pub async fn held(&mut self) -> Vec<Event> {
        let (mut events, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = QueryEventsRequest {
                page_size: 1_000,
                include_superseded: true,
                page_token,
                ..Default::default()
            };
            let answer = self
                .journal
                .query_events(request)
                .await
                .unwrap()
                .into_inner();
            events.extend(answer.events);
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return events;
            }
        }
    }
}

pub fn header(format: &str, name: &str) -> ReportHeader {
    ReportHeader {
        format: format.into(),
        name: name.into(),
        author: "CI <ci@example.org>".into(),
        ..Default::default()
    }
}

pub fn draft(title: &str) -> EventDraft {
    EventDraft {
        artifact_type: "decision".into(),
        title: title.into(),
        ..Default::default()
    }
}
