//! Records as messages, and the page token.

use commonplace_access::audit::entry_from_proto;
use commonplace_proto::policy as proto;
use commonplace_rpc::audit::{Entry, Verdict};
use commonplace_rpc::convert::timestamp_from_proto;
use commonplace_types::Invalid;

use super::filter::Filter;

/// Records that are delivered at once.
const DELIVERED: usize = 1_000;

/// Reads what a process recorded. Error: names the field.
pub(super) fn entries(records: Vec<proto::AuditRecord>) -> Result<Vec<Entry>, Invalid> {
    if records.len() > DELIVERED {
        let problem = format!("expected at most {DELIVERED}, found {}", records.len());
        return Err(Invalid::new("records", problem));
    }
    let read = records.into_iter().enumerate().map(|(place, record)| {
        let under = |invalid: Invalid| invalid.under(&format!("records[{place}]"));
        entry_from_proto(record).map_err(under)
    });
    read.collect()
}

/// Reads what is looked for. Error: names the field.
pub(super) fn filter(request: &proto::ListAuditRecordsRequest) -> Result<Filter, Invalid> {
    let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let time = |field: &str, time: &Option<commonplace_proto::Timestamp>| {
        let time = time.as_ref();
        time.map(|time| timestamp_from_proto(time, field))
            .transpose()
    };
    Ok(Filter {
        sequence: Some(request.sequence).filter(|sequence| *sequence > 0),
        since: time("since", &request.since)?,
        until: time("until", &request.until)?,
        subject: some(&request.subject),
        method: some(&request.method),
        project: some(&request.project),
        verdict: match request.decision() {
            proto::AuditDecision::Unspecified => None,
            proto::AuditDecision::Allowed => Some(Verdict::Allowed),
            proto::AuditDecision::Denied => Some(Verdict::Denied),
            proto::AuditDecision::Lost => Some(Verdict::Lost),
        },
        request_id: some(&request.request_id),
    })
}

/// A token that goes on before a number.
pub(super) fn token_before(sequence: u64) -> String {
    hex::encode(format!("audit/1/{sequence}"))
}

/// Reads a token; an absent one begins, which is 0. Error: it is not one of [`token_before`].
pub(super) fn token(text: &str) -> Result<u64, Invalid> {
    if text.is_empty() {
        return Ok(0);
    }
    let wrong = || Invalid::new("page_token", "expected a token of an earlier answer");
    let bytes = hex::decode(text).map_err(|_| wrong())?;
    let text = String::from_utf8(bytes).map_err(|_| wrong())?;
    let number = text.strip_prefix("audit/1/").ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    Some(number).filter(|number| *number > 0).ok_or_else(wrong)
}
