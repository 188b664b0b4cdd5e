//! Records as messages.

use commonplace_proto::common;
use commonplace_proto::policy as proto;
use commonplace_rpc::audit::{Entry, Verdict, Who};
use commonplace_rpc::convert::{timestamp_from_proto, timestamp_to_proto};
use commonplace_rpc::principal::{kind_from_proto, kind_to_proto};
use commonplace_types::{Actor, Digest, Invalid, ProjectName, Right, Subject, TenantName};

use super::chain::{Head, Record};

/// Longest text of a record in bytes; what may be longer is cut where it is recorded.
const TEXT_BYTES: usize = 1_024;
/// Most policies of a record.
const POLICIES: usize = 20_000;

/// Writes what a process recorded, which has no place yet.
pub(super) fn entry_to_proto(entry: &Entry) -> proto::AuditRecord {
    let who = entry.who.as_ref();
    let kind = who.map_or(common::PrincipalKind::Unspecified, |who| {
        kind_to_proto(who.kind)
    });
    let actor = |actor: &Actor| common::Actor {
        kind: kind_to_proto(actor.kind).into(),
        subject: actor.subject.to_string(),
    };
    let decision = match entry.verdict {
        Verdict::Allowed => proto::AuditDecision::Allowed,
        Verdict::Denied => proto::AuditDecision::Denied,
        Verdict::Lost => proto::AuditDecision::Lost,
    };
    let rules = entry.rules.map(|rules| format!("sha256:{rules}"));
    proto::AuditRecord {
        sequence: 0,
        id: entry.id.clone(),
        tenant: entry.tenant.to_string(),
        time: Some(timestamp_to_proto(entry.time)),
        last_time: Some(timestamp_to_proto(entry.last_time)),
        count: entry.count,
        request_id: entry.request_id.clone(),
        trace_id: entry.trace_id.clone(),
        kind: kind.into(),
        subject: who.map_or_else(String::new, |who| who.subject.to_string()),
        credential: who.map_or_else(String::new, |who| who.credential.clone()),
        actors: who.map_or_else(Vec::new, |who| who.actors.iter().map(actor).collect()),
        method: entry.method.clone(),
        right: right_to_proto(entry.right).into(),
        project: entry
            .project
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
        decision: decision.into(),
        policies: entry.policies.clone(),
        policy_hash: rules.unwrap_or_default(),
        code: entry.code.clone(),
        reason: entry.reason.clone(),
        peer: entry.peer.clone(),
        service: entry.service.clone(),
        previous_hash: String::new(),
        hash: String::new(),
    }
}

/// Writes a record.
pub fn record_to_proto(record: &Record) -> proto::AuditRecord {
    proto::AuditRecord {
        sequence: record.sequence,
        previous_hash: record.previous.to_string(),
        hash: record.hash.to_string(),
        ..entry_to_proto(&record.entry)
    }
}

/// Reads what a process recorded. Error: names the field.
pub fn entry_from_proto(record: proto::AuditRecord) -> Result<Entry, Invalid> {
    let time = |field: &str, time: &Option<commonplace_proto::Timestamp>| {
        let time = time.as_ref();
        let time = time.ok_or_else(|| Invalid::new(field, "expected a time"))?;
        timestamp_from_proto(time, field)
    };
    let verdict = match record.decision() {
        proto::AuditDecision::Allowed => Verdict::Allowed,
        proto::AuditDecision::Denied => Verdict::Denied,
        proto::AuditDecision::Lost => Verdict::Lost,
        proto::AuditDecision::Unspecified => {
            return Err(Invalid::new("decision", "expected allowed, denied or lost"));
        }
    };
    let (right, who) = (right_from_proto(record.right()), who(&record)?);
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let rules = some(record.policy_hash.trim_start_matches("sha256:"));
    let rules = rules.map(|hash| hash.parse::<Digest>());
    let policies = record.policies.len();
    if policies > POLICIES {
        let problem = format!("expected at most {POLICIES}, found {policies}");
        return Err(Invalid::new("policies", problem));
    }
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if record.id.len() != 32 || !record.id.bytes().all(hex) {
        return Err(Invalid::new("id", "expected 32 hex digits"));
    }
    Ok(Entry {
        tenant: TenantName::new(record.tenant)?,
        time: time("time", &record.time)?,
        last_time: time("last_time", &record.last_time)?,
        count: record.count,
        request_id: bounded("request_id", record.request_id)?,
        trace_id: bounded("trace_id", record.trace_id)?,
        who,
        method: bounded("method", record.method)?,
        right,
        project: some(&record.project).map(ProjectName::new).transpose()?,
        verdict,
        policies: record.policies,
        rules: rules
            .transpose()
            .map_err(|invalid| Invalid::new("policy_hash", invalid.problem))?,
        code: bounded("code", record.code)?,
        reason: bounded("reason", record.reason)?,
        peer: bounded("peer", record.peer)?,
        service: bounded("service", record.service)?,
        id: record.id,
    })
}

/// Reads a record. Error: names the field.
pub fn record_from_proto(record: proto::AuditRecord) -> Result<Record, Invalid> {
    let digest = |field: &str, text: &str| {
        text.parse::<Digest>()
            .map_err(|invalid| Invalid::new(field, invalid.problem))
    };
    Ok(Record {
        sequence: record.sequence,
        previous: digest("previous_hash", &record.previous_hash)?,
        hash: digest("hash", &record.hash)?,
        entry: entry_from_proto(record)?,
    })
}

fn who(record: &proto::AuditRecord) -> Result<Option<Who>, Invalid> {
    let actor = |actor: &common::Actor| {
        Ok(Actor {
            kind: kind_from_proto(actor.kind())?,
            subject: Subject::new(actor.subject.clone())?,
        })
    };
    let actors: Vec<Actor> = record
        .actors
        .iter()
        .map(actor)
        .collect::<Result<_, Invalid>>()?;
    let (subject, credential) = (&record.subject, &record.credential);
    if record.kind() == common::PrincipalKind::Unspecified {
        let nobody = subject.is_empty() && credential.is_empty() && actors.is_empty();
        let named = || Invalid::new("kind", "expected one, as somebody is named");
        return nobody.then_some(None).ok_or_else(named);
    }
    Ok(Some(Who {
        kind: kind_from_proto(record.kind())?,
        subject: Subject::new(subject.clone())?,
        credential: bounded("credential", credential.clone())?,
        actors,
    }))
}

fn bounded(field: &str, text: String) -> Result<String, Invalid> {
    match text.len() <= TEXT_BYTES {
        true => Ok(text),
        false => Err(Invalid::new(
            field,
            format!("expected at most {TEXT_BYTES} bytes"),
        )),
    }
}

fn right_to_proto(right: Option<Right>) -> common::Right {
    match right {
        Some(Right::Member) => common::Right::Member,
        Some(Right::Read) => common::Right::Read,
        Some(Right::Write) => common::Right::Write,
        Some(Right::Admin) => common::Right::Admin,
        None => common::Right::Unspecified,
    }
}

fn right_from_proto(right: common::Right) -> Option<Right> {
    match right {
        common::Right::Member => Some(Right::Member),
        common::Right::Read => Some(Right::Read),
        common::Right::Write => Some(Right::Write),
        common::Right::Admin => Some(Right::Admin),
        common::Right::Unspecified | common::Right::Service => None,
    }
}

/// Writes a place in a chain.
pub fn head_to_proto(tenant: &TenantName, head: &Head) -> proto::AuditHead {
    proto::AuditHead {
        tenant: tenant.to_string(),
        sequence: head.sequence,
        hash: head.hash.to_string(),
    }
}

/// Reads a place in a chain, and whose it is. Error: names the field.
pub fn head_from_proto(head: &proto::AuditHead) -> Result<(TenantName, Head), Invalid> {
    let hash = head.hash.parse();
    let hash = hash.map_err(|invalid: Invalid| Invalid::new("hash", invalid.problem))?;
    let tenant = TenantName::new(head.tenant.clone())?;
    let sequence = head.sequence;
    Ok((tenant, Head { sequence, hash }))
}
