//! The messages of one call of each rpc.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use commonplace_proto::common::{EventDraft, Right};
use commonplace_proto::ingest::ingest_report_request::Part;
use commonplace_proto::{gateway, index, ingest, journal, policy, retrieval, telemetry};
use prost::Message;

use super::Known;

/// Makes names that were not used before.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// An event that nobody wrote before.
pub fn draft() -> EventDraft {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    EventDraft {
        record_id: format!("cancel:{number}"),
        artifact_type: "note".into(),
        title: format!("Note {number}"),
        text: "written while callers come and go".into(),
        ..Default::default()
    }
}

/// The messages of one call. Panics for an rpc without a case, so that a new one gets one.
pub fn messages(rpc: &str, known: &Known) -> Vec<Bytes> {
    let project = || "cancel".to_owned();
    // What grows is not what is read, else each call would cost more than the one before.
    let growing = || "growing".to_owned();
    let name = || format!("n{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let query = || retrieval::RetrieveRequest {
        project: project(),
        query: format!("callers {}", name()),
        budget_tokens: 300,
        ..Default::default()
    };
    let one = match rpc {
        "gateway.v1.GatewayService/GetServerInfo" => {
            gateway::GetServerInfoRequest::default().encode_to_vec()
        }
        "index.v1.IndexService/Search" => index::SearchRequest {
            project: project(),
            query: "callers come".into(),
            lexical_limit: 50,
            dense_limit: 50,
            ..Default::default()
        }
        .encode_to_vec(),
        "index.v1.IndexService/GetPassages" => index::GetPassagesRequest {
            project: project(),
            keys: vec![index::PassageKey {
                event_id: known.event.clone(),
                passage: 0,
            }],
            ..Default::default()
        }
        .encode_to_vec(),
        "index.v1.IndexService/GetStatus" => {
            index::GetStatusRequest { project: project() }.encode_to_vec()
        }
        "index.v1.IndexService/Check" => index::CheckRequest {
            project: "small".into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "index.v1.IndexService/Rebuild" => index::RebuildRequest {
            project: "small".into(),
        }
        .encode_to_vec(),
        "ingest.v1.IngestService/IngestEvents" => ingest::IngestEventsRequest {
            project: growing(),
            events: vec![draft()],
            ..Default::default()
        }
        .encode_to_vec(),
        "ingest.v1.IngestService/Commit" => ingest::CommitRequest {
            project: growing(),
            events: vec![draft(), draft()],
            ..Default::default()
        }
        .encode_to_vec(),
        "ingest.v1.IngestService/IngestReport" => return report(),
        "ingest.v1.IngestService/ListFormats" => ingest::ListFormatsRequest {}.encode_to_vec(),
        "journal.v1.JournalService/Append" => journal::AppendRequest {
            project: growing(),
            events: vec![draft()],
            ..Default::default()
        }
        .encode_to_vec(),
        "journal.v1.JournalService/ListProjects" => {
            journal::ListProjectsRequest::default().encode_to_vec()
        }
        "journal.v1.JournalService/CreateBranch" => journal::CreateBranchRequest {
            project: growing(),
            branch: name(),
            ..Default::default()
        }
        .encode_to_vec(),
        "journal.v1.JournalService/CreateTag" => journal::CreateTagRequest {
            project: growing(),
            tag: name(),
            ..Default::default()
        }
        .encode_to_vec(),
        "journal.v1.JournalService/ListRefs" => journal::ListRefsRequest {
            project: "small".into(),
        }
        .encode_to_vec(),
        "journal.v1.JournalService/Resolve" => journal::ResolveRequest {
            project: project(),
            ..Default::default()
        }
        .encode_to_vec(),
        "journal.v1.JournalService/GetEvents" => journal::GetEventsRequest {
            project: project(),
            ids: vec![known.event.clone()],
            ..Default::default()
        }
        .encode_to_vec(),
        "journal.v1.JournalService/QueryEvents" => journal::QueryEventsRequest {
            project: project(),
            page_size: 20,
            ..Default::default()
        }
        .encode_to_vec(),
        "journal.v1.JournalService/ListCommits" => journal::ListCommitsRequest {
            project: project(),
            page_size: 20,
            ..Default::default()
        }
        .encode_to_vec(),
        "journal.v1.JournalService/VerifyChain" => journal::VerifyChainRequest {
            project: "small".into(),
        }
        .encode_to_vec(),
        "journal.v1.JournalService/Tail" => journal::TailRequest {
            project: "small".into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "policy.v1.PolicyService/ListPolicies" => {
            policy::ListPoliciesRequest::default().encode_to_vec()
        }
        "policy.v1.PolicyService/GetPolicy" => policy::GetPolicyRequest {
            id: "general".into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "policy.v1.PolicyService/PutPolicy" => policy::PutPolicyRequest {
            id: format!("p{}", NUMBER.fetch_add(1, Ordering::Relaxed) % 50),
            source: "weights: {lexical: 1, dense: 0}".into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "policy.v1.PolicyService/ActivatePolicy" => policy::ActivatePolicyRequest {
            id: "qa_smoke".into(),
            version: 1,
        }
        .encode_to_vec(),
        "retrieval.v1.RetrievalService/Retrieve" => query().encode_to_vec(),
        "retrieval.v1.RetrievalService/PreviewPack" => retrieval::PreviewPackRequest {
            request: Some(query()),
        }
        .encode_to_vec(),
        "retrieval.v1.RetrievalService/Search" => retrieval::SearchRequest {
            project: project(),
            query: "callers".into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "retrieval.v1.RetrievalService/GetPack" => retrieval::GetPackRequest {
            id: known.pack.id.clone(),
        }
        .encode_to_vec(),
        "retrieval.v1.RetrievalService/VerifyPack" => retrieval::VerifyPackRequest {
            id: known.pack.id.clone(),
            content: known.pack.content.clone(),
        }
        .encode_to_vec(),
        "policy.v1.LimitsService/GetLimits" => policy::GetLimitsRequest::default().encode_to_vec(),
        "policy.v1.LimitsService/PutLimits" => policy::PutLimitsRequest::default().encode_to_vec(),
        "policy.v1.LimitsService/ListLimits" => {
            policy::ListLimitsRequest::default().encode_to_vec()
        }
        "policy.v1.LimitsService/LeaseTokens" => policy::LeaseTokensRequest {
            gateway: "storm".into(),
            asks: vec![policy::LeaseAsk {
                tenant: "default".into(),
                bucket: "requests/all/principal/storm".into(),
                per_second: 10,
                burst: 10,
                wanted: 1,
                ..Default::default()
            }],
        }
        .encode_to_vec(),
        "journal.v1.JournalService/ListTenants" => {
            journal::ListTenantsRequest::default().encode_to_vec()
        }
        "telemetry.v1.TelemetryService/GetTrace" => telemetry::GetTraceRequest {
            trace_id: "0af7651916cd43dd8448eb211c80319c".into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "telemetry.v1.TelemetryService/ListTraces" => {
            telemetry::ListTracesRequest::default().encode_to_vec()
        }
        "telemetry.v1.TelemetryService/GetMetrics" => {
            telemetry::GetMetricsRequest::default().encode_to_vec()
        }
        "telemetry.v1.TelemetryService/RunChecks" => {
            telemetry::RunChecksRequest::default().encode_to_vec()
        }
        "policy.v1.AuditService/RecordCalls" => {
            policy::RecordCallsRequest::default().encode_to_vec()
        }
        "policy.v1.AuditService/ListAuditRecords" => policy::ListAuditRecordsRequest {
            page_size: 10,
            ..Default::default()
        }
        .encode_to_vec(),
        "policy.v1.AuditService/ExportAuditRecords" => {
            policy::ExportAuditRecordsRequest {}.encode_to_vec()
        }
        "policy.v1.AuditService/GetAuditHead" => policy::GetAuditHeadRequest {}.encode_to_vec(),
        other => match other.strip_prefix("policy.v1.AccessService/") {
            Some(method) => access(method, known),
            None => panic!("no case for {other}: add one"),
        },
    };
    vec![one.into()]
}

fn report() -> Vec<Bytes> {
    let part = |part| {
        let message = ingest::IngestReportRequest { part: Some(part) };
        Bytes::from(message.encode_to_vec())
    };
    let header = ingest::ReportHeader {
        project: "growing".into(),
        format: "jsonl".into(),
        ..Default::default()
    };
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let line = format!("{{\"artifact_type\":\"note\",\"title\":\"Line {number}\"}}\n");
    let mut parts = vec![part(Part::Header(header))];
    parts.extend(
        line.as_bytes()
            .chunks(16)
            .map(|chunk| part(Part::Chunk(chunk.to_vec().into()))),
    );
    parts
}

/// One message of a call of `AccessService`.
fn access(method: &str, known: &Known) -> Vec<u8> {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed) % 50;
    let grantee = policy::Grantee {
        who: Some(policy::grantee::Who::Agent(format!("agent-{number}"))),
    };
    match method {
        "GetAccess" => policy::GetAccessRequest::default().encode_to_vec(),
        "FindKey" => policy::FindKeyRequest {
            id: known.key.clone(),
        }
        .encode_to_vec(),
        "RecordKeyUses" => policy::RecordKeyUsesRequest::default().encode_to_vec(),
        "CreateKey" => policy::CreateKeyRequest {
            subject: "caller".into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "RotateKey" => policy::RotateKeyRequest {
            id: known.key.clone(),
            ..Default::default()
        }
        .encode_to_vec(),
        "RevokeKey" => policy::RevokeKeyRequest {
            id: "aaaaaaaaaaaaaaaa".into(),
        }
        .encode_to_vec(),
        "ListKeys" => policy::ListKeysRequest::default().encode_to_vec(),
        "CreateGrant" => policy::CreateGrantRequest {
            grantee: Some(grantee),
            right: Right::Read.into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "DeleteGrant" => policy::DeleteGrantRequest {
            id: format!("gr_{}", "0".repeat(32)),
        }
        .encode_to_vec(),
        "ListGrants" => policy::ListGrantsRequest::default().encode_to_vec(),
        "PutAccessPolicy" => policy::PutAccessPolicyRequest {
            id: format!("p{number}"),
            source: "forbid (principal == User::\"default/nobody\", action, resource);".into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "DeleteAccessPolicy" => policy::DeleteAccessPolicyRequest {
            id: format!("p{number}"),
        }
        .encode_to_vec(),
        "ListAccessPolicies" => policy::ListAccessPoliciesRequest {}.encode_to_vec(),
        "ExplainAccess" => policy::ExplainAccessRequest {
            method: "JournalService/Append".into(),
            ..Default::default()
        }
        .encode_to_vec(),
        other => panic!("no case for AccessService/{other}: add one"),
    }
}
