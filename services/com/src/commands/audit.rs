//! `com audit …`

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use commonplace_access::audit::{self as log, Break, Checker, Head, lines};
use commonplace_proto::policy::audit_service_client::AuditServiceClient;
use commonplace_proto::policy::{
    AuditDecision, AuditHead, AuditRecord, ExportAuditRecordsRequest, ExportAuditRecordsResponse,
    GetAuditHeadRequest, ListAuditRecordsRequest,
};
use commonplace_rpc::{Channel, convert::timestamp_to_proto, server::MESSAGE_BYTES};
use commonplace_types::TenantName;

use super::keys::kind_name;
use crate::cli::Global;
use crate::cli::audit::{Audit, Decision, List};
use crate::failure::{FAILED, Known, Refused};
use crate::output::{self, Listing};
use crate::session;

type Client = AuditServiceClient<Channel>;

/// Does one of the commands about the audit log.
pub async fn run(global: &Global, command: Audit) -> anyhow::Result<()> {
    if let Audit::Verify {
        file: Some(file),
        checkpoint,
    } = command
    {
        return verify_file(global, &file, checkpoint);
    }
    session::with(global, async |session| {
        let client = AuditServiceClient::new(session.channels.policy.clone());
        let mut client = client.max_decoding_message_size(MESSAGE_BYTES);
        match command {
            Audit::List(arguments) => list(global, &mut client, arguments).await,
            Audit::Show { sequence } => show(global, &mut client, sequence).await,
            Audit::Verify { checkpoint, .. } => verify(global, &mut client, checkpoint).await,
            Audit::Export { output } => export(global, &mut client, &output).await,
            Audit::Head => head(global, &mut client).await,
        }
    })
    .await
}

async fn list(global: &Global, client: &mut Client, arguments: List) -> anyhow::Result<()> {
    let mut left = arguments.limit;
    let mut request = asked(arguments);
    let head = [
        "record", "time", "decision", "who", "call", "project", "outcome", "times",
    ];
    let mut listing = Listing::new(global.json, &head);
    while left > 0 {
        request.page_size = i32::try_from(left.min(1_000)).unwrap_or(1_000);
        let page = client
            .list_audit_records(request.clone())
            .await?
            .into_inner();
        left = left.saturating_sub(page.records.len());
        for record in &page.records {
            listing.add(record, row)?;
        }
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    listing.end();
    Ok(())
}

fn asked(arguments: List) -> ListAuditRecordsRequest {
    let decision = match arguments.decision {
        None => AuditDecision::Unspecified,
        Some(Decision::Allowed) => AuditDecision::Allowed,
        Some(Decision::Denied) => AuditDecision::Denied,
        Some(Decision::Lost) => AuditDecision::Lost,
    };
    ListAuditRecordsRequest {
        since: arguments.since.map(timestamp_to_proto),
        until: arguments.until.map(timestamp_to_proto),
        subject: arguments.subject.unwrap_or_default(),
        method: arguments.method.unwrap_or_default(),
        project: arguments.in_project.unwrap_or_default(),
        decision: decision.into(),
        request_id: arguments.request.unwrap_or_default(),
        ..Default::default()
    }
}

fn decision_name(decision: AuditDecision) -> &'static str {
    match decision {
        AuditDecision::Allowed => "allowed",
        AuditDecision::Denied => "denied",
        AuditDecision::Lost => "lost",
        AuditDecision::Unspecified => "",
    }
}

/// Whoever called, through whoever acted.
fn who(record: &AuditRecord) -> String {
    if record.subject.is_empty() {
        return "nobody known".into();
    }
    let mut text = format!("{} {}", kind_name(record.kind()), record.subject);
    for actor in &record.actors {
        text.push_str(&format!(" through {}", actor.subject));
    }
    text
}

fn call(record: &AuditRecord) -> &str {
    record.method.rsplit('.').next().unwrap_or_default()
}

fn outcome(record: &AuditRecord) -> &str {
    match record.reason.as_str() {
        "" => &record.code,
        reason => reason,
    }
}

fn row(record: &AuditRecord) -> Vec<String> {
    vec![
        record.sequence.to_string(),
        output::time(record.time.as_ref()),
        decision_name(record.decision()).into(),
        output::short(&who(record), 50),
        call(record).into(),
        record.project.clone(),
        outcome(record).into(),
        record.count.to_string(),
    ]
}

async fn show(global: &Global, client: &mut Client, sequence: u64) -> anyhow::Result<()> {
    let request = ListAuditRecordsRequest {
        sequence,
        ..Default::default()
    };
    let page = client.list_audit_records(request).await?.into_inner();
    let record = page.records.into_iter().next().filter(|_| sequence > 0);
    let record = record.ok_or_else(|| {
        Refused(format!(
            "audit record {sequence} not found; `com audit list` shows the newest"
        ))
    })?;
    if global.json {
        return output::message(&record);
    }
    let time = |time: &Option<commonplace_proto::Timestamp>| output::time(time.as_ref());
    for (name, value) in [
        ("record", record.sequence.to_string()),
        ("id", record.id.clone()),
        ("time", time(&record.time)),
        ("last time", time(&record.last_time)),
        ("times", record.count.to_string()),
        ("who", who(&record)),
        ("credential", record.credential.clone()),
        ("from", record.peer.clone()),
        ("call", record.method.clone()),
        ("project", record.project.clone()),
        ("decision", decision_name(record.decision()).to_owned()),
        ("by", record.policies.join(", ")),
        ("rules", record.policy_hash.clone()),
        ("outcome", record.code.clone()),
        ("reason", record.reason.clone()),
        ("request", record.request_id.clone()),
        ("trace", record.trace_id.clone()),
        ("service", record.service.clone()),
        ("before", record.previous_hash.clone()),
        ("hash", record.hash.clone()),
    ] {
        if !value.is_empty() {
            let name = output::paint(output::DIM, &format!("{name:<11}"));
            output::line(&format!("{name} {}", output::short(&value, 200)));
        }
    }
    Ok(())
}

/// What is told of a chain, message by message.
struct Export {
    messages: tonic::Streaming<ExportAuditRecordsResponse>,
    tenant: TenantName,
    start: Head,
    first: Vec<AuditRecord>,
    head: Option<Head>,
}

impl Export {
    async fn begin(client: &mut Client) -> anyhow::Result<Self> {
        let messages = client.export_audit_records(ExportAuditRecordsRequest {});
        let mut messages = messages.await?.into_inner();
        let first = messages.message().await?.context("the log was not told")?;
        let start = first.start.context("the log's start was not told")?;
        let (tenant, start) = log::head_from_proto(&start)?;
        Ok(Self {
            messages,
            tenant,
            start,
            first: first.records,
            head: first.head.as_ref().map(read_head).transpose()?,
        })
    }

    /// The next records; none when all were told.
    async fn next(&mut self) -> anyhow::Result<Option<Vec<AuditRecord>>> {
        if !self.first.is_empty() {
            return Ok(Some(std::mem::take(&mut self.first)));
        }
        let Some(message) = self.messages.message().await? else {
            return Ok(None);
        };
        if let Some(head) = &message.head {
            self.head = Some(read_head(head)?);
        }
        Ok(Some(message.records))
    }
}

fn read_head(head: &AuditHead) -> anyhow::Result<Head> {
    Ok(log::head_from_proto(head)?.1)
}

async fn verify(
    global: &Global,
    client: &mut Client,
    checkpoint: Option<Head>,
) -> anyhow::Result<()> {
    let mut export = Export::begin(client).await?;
    let checker = Checker::new(export.tenant.clone(), export.start, checkpoint);
    let mut checker = checker.map_err(broken)?;
    while let Some(records) = export.next().await? {
        for record in records {
            let record = log::record_from_proto(record)?;
            checker.take(&record).map_err(broken)?;
        }
    }
    let head = export.head.context("the log's head was not told")?;
    let records = checker.end(&head).map_err(broken)?;
    told(global, &export.tenant, records, &head);
    Ok(())
}

fn verify_file(global: &Global, file: &Path, checkpoint: Option<Head>) -> anyhow::Result<()> {
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let checked = lines::check(BufReader::new(opened), checkpoint).map_err(broken)?;
    told(global, &checked.tenant, checked.records, &checked.head);
    Ok(())
}

fn broken(broken: Break) -> anyhow::Error {
    Known {
        code: FAILED,
        problem: format!("the audit log is broken: {broken}"),
        next_step: "keep a copy of it as it is, and compare it with an earlier export".into(),
    }
    .into()
}

fn told(global: &Global, tenant: &TenantName, records: u64, head: &Head) {
    if global.json {
        output::json(&serde_json::json!({
            "intact": true,
            "tenant": tenant.as_str(),
            "records": records,
            "head": head.to_string(),
        }));
        return;
    }
    output::line(&format!(
        "{} {records} records of {tenant}, head {}",
        output::paint(output::GREEN, "intact"),
        head
    ));
}

async fn export(global: &Global, client: &mut Client, file: &Path) -> anyhow::Result<()> {
    let mut export = Export::begin(client).await?;
    let written = || format!("cannot write {}", file.display());
    let mut out = BufWriter::new(File::create(file).with_context(written)?);
    let first = lines::first(&export.tenant, &export.start);
    writeln!(out, "{first}").with_context(written)?;
    let mut records = 0;
    while let Some(told) = export.next().await? {
        for record in told {
            let line = lines::line(&log::record_from_proto(record)?);
            writeln!(out, "{line}").with_context(written)?;
            records += 1;
        }
    }
    let head = export.head.context("the log's head was not told")?;
    writeln!(out, "{}", lines::last(&head)).with_context(written)?;
    let file = out.into_inner().map_err(|error| error.into_error());
    file.and_then(|file| file.sync_all())
        .with_context(written)?;
    if global.json {
        output::json(&serde_json::json!({ "records": records, "head": head.to_string() }));
    } else {
        output::line(&format!("{records} records written, head {head}"));
    }
    Ok(())
}

async fn head(global: &Global, client: &mut Client) -> anyhow::Result<()> {
    let answer = client.get_audit_head(GetAuditHeadRequest {}).await?;
    let answer = answer.into_inner();
    if global.json {
        return output::message(&answer);
    }
    let head = read_head(&answer.head.unwrap_or_default())?;
    output::line(&head.to_string());
    Ok(())
}
