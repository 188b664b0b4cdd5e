//! Where a retrieve spends its time: each call that it makes, asked alone.

use std::time::Instant;

use commonplace_node::Channels;
use commonplace_proto::common::EventFilter;
use commonplace_proto::index::index_service_client::IndexServiceClient;
use commonplace_proto::index::{GetPassagesRequest, PassageKey, SearchRequest};
use commonplace_proto::journal::ResolveRequest;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_proto::policy::GetPolicyRequest;
use commonplace_proto::policy::policy_service_client::PolicyServiceClient;
use commonplace_proto::retrieval::retrieval_service_client::RetrievalServiceClient;
use commonplace_proto::retrieval::{PackView, PreviewPackRequest, RetrieveRequest};
use commonplace_rpc::server;
use commonplace_types::{EventId, Invalid};

use crate::corpus;
use crate::report::{Report, Times};

/// The policy that the whole goes by; what it looks for, the parts look for.
const POLICY: &str = "qa_root_cause";
const CANDIDATES: u32 = 250;
const TYPES: [&str; 6] = ["runlog", "diff", "bug", "test", "flake", "decision"];

/// Times of the parts, and of the whole without keeping the pack.
pub async fn measure(
    report: &mut Report,
    group: &str,
    channels: &Channels,
    rounds: usize,
) -> anyhow::Result<()> {
    let mut policy = PolicyServiceClient::new(channels.policy.clone());
    let mut journal = JournalServiceClient::new(channels.journal.clone());
    let mut index = IndexServiceClient::new(channels.index.clone())
        .max_decoding_message_size(server::MESSAGE_BYTES);
    let mut retrieval = RetrievalServiceClient::new(channels.retrieval.clone())
        .max_decoding_message_size(server::MESSAGE_BYTES);
    let mut keys: Vec<PassageKey>;
    let mut times: [Vec<f64>; 5] = Default::default();
    for round in 0..rounds {
        let started = Instant::now();
        let id = POLICY.to_owned();
        let request = GetPolicyRequest {
            id,
            ..Default::default()
        };
        policy.get_policy(request).await?;
        times[0].push(started.elapsed().as_secs_f64());

        let started = Instant::now();
        let project = "bench".to_owned();
        journal
            .resolve(ResolveRequest {
                project,
                ..Default::default()
            })
            .await?;
        times[1].push(started.elapsed().as_secs_f64());

        let request = SearchRequest {
            project: "bench".into(),
            query: corpus::query(round % 64),
            lexical_limit: CANDIDATES,
            dense_limit: CANDIDATES,
            filter: Some(EventFilter {
                artifact_types: TYPES.map(str::to_owned).to_vec(),
                ..Default::default()
            }),
            ineligible_limit: 20,
            as_columns: true,
            ..Default::default()
        };
        let started = Instant::now();
        let found = index.search(request).await?.into_inner();
        times[2].push(started.elapsed().as_secs_f64());

        let columns = found.columns.unwrap_or_default();
        let ids = columns.event_ids.chunks(16).zip(columns.passages);
        keys = ids
            .take(20)
            .map(|(id, passage)| {
                Ok(PassageKey {
                    event_id: EventId::from_slice(id)?.to_string(),
                    passage,
                })
            })
            .collect::<Result<_, Invalid>>()?;
        let request = GetPassagesRequest {
            project: "bench".into(),
            keys: keys.clone(),
            ..Default::default()
        };
        let started = Instant::now();
        index.get_passages(request).await?;
        times[3].push(started.elapsed().as_secs_f64());

        let request = RetrieveRequest {
            project: "bench".into(),
            query: corpus::query(round % 64),
            budget_tokens: 2_000,
            policy: POLICY.into(),
            view: PackView::Basic.into(),
            ..Default::default()
        };
        let started = Instant::now();
        let request = Some(request);
        retrieval
            .preview_pack(PreviewPackRequest { request })
            .await?;
        times[4].push(started.elapsed().as_secs_f64());
    }
    let names = [
        "policy",
        "journal: commit",
        "index: search",
        "index: 20 texts, if none is remembered",
        "all, pack not kept",
    ];
    for (name, times) in names.into_iter().zip(times) {
        let p50 = Times::new(times).milliseconds(0.5);
        report.less(
            group,
            &format!("part of a retrieve: {name}, p50"),
            p50,
            "ms",
            None,
        );
    }
    Ok(())
}
