//! The log as a file of JSON lines: what it begins after, each record, its head. A file that is whole has all
//! three, and each line is byte for byte as it was written.

use std::io::BufRead;

use commonplace_rpc::audit::{Entry, Who};
use commonplace_types::{Digest, Invalid, ProjectName, Right, Subject, TenantName, Timestamp};
use serde::{Deserialize, Serialize};

use super::canonical::{actor, actor_text, kind_of, verdict};
use super::chain::{Break, Checker, Head, Record};

/// The form of the file.
const VERSION: u32 = 1;
/// Longest line that is read, in bytes.
const LINE_BYTES: u64 = 1 << 20;

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct First {
    audit_log: u32,
    tenant: TenantName,
    after: Place,
}

/// The last line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Last {
    head: Place,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    sequence: u64,
    hash: Digest,
}

/// A record's line. Fields are written in this order, every one of them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    sequence: u64,
    id: String,
    tenant: TenantName,
    time: String,
    last_time: String,
    count: u64,
    request_id: String,
    trace_id: String,
    kind: String,
    subject: String,
    credential: String,
    actors: Vec<String>,
    method: String,
    right: String,
    project: String,
    decision: String,
    policies: Vec<String>,
    policy_hash: String,
    code: String,
    reason: String,
    peer: String,
    service: String,
    previous_hash: Digest,
    hash: Digest,
}

/// The first line of a file.
pub fn first(tenant: &TenantName, after: &Head) -> String {
    json(&First {
        audit_log: VERSION,
        tenant: tenant.clone(),
        after: place(after),
    })
}

/// The last line of a file.
pub fn last(head: &Head) -> String {
    json(&Last { head: place(head) })
}

/// The line of a record.
pub fn line(record: &Record) -> String {
    let entry = &record.entry;
    let who = entry.who.as_ref();
    let text = |text: &str| text.to_owned();
    json(&Line {
        sequence: record.sequence,
        id: entry.id.clone(),
        tenant: entry.tenant.clone(),
        time: entry.time.to_string(),
        last_time: entry.last_time.to_string(),
        count: entry.count,
        request_id: entry.request_id.clone(),
        trace_id: entry.trace_id.clone(),
        kind: text(who.map_or("", |who| who.kind.as_str())),
        subject: text(who.map_or("", |who| who.subject.as_str())),
        credential: text(who.map_or("", |who| &who.credential)),
        actors: who.map_or_else(Vec::new, |who| who.actors.iter().map(actor_text).collect()),
        method: entry.method.clone(),
        right: text(entry.right.map_or("", Right::as_str)),
        project: text(entry.project.as_ref().map_or("", ProjectName::as_str)),
        decision: text(entry.verdict.as_str()),
        policies: entry.policies.clone(),
        policy_hash: entry
            .rules
            .map_or_else(String::new, |rules| rules.to_string()),
        code: entry.code.clone(),
        reason: entry.reason.clone(),
        peer: entry.peer.clone(),
        service: entry.service.clone(),
        previous_hash: record.previous,
        hash: record.hash,
    })
}

/// What a file that is whole holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Whose log it is.
    pub tenant: TenantName,
    /// How many records.
    pub records: u64,
    /// Where it ends.
    pub head: Head,
}

/// Checks a file to its end. Error: the first break; a file that cannot be read any further is one.
pub fn check(file: impl BufRead, checkpoint: Option<Head>) -> Result<Checked, Break> {
    let mut lines = Lines { file, number: 0 };
    let text = lines
        .next()?
        .ok_or_else(|| lines.broken("the file is empty"))?;
    let stated: First = lines.read(&text)?;
    if stated.audit_log != VERSION {
        return Err(lines.broken("the file is of a form that is not known here"));
    }
    let mut checker = Checker::new(stated.tenant.clone(), head(&stated.after), checkpoint)?;
    loop {
        let Some(text) = lines.next()? else {
            return Err(lines.broken("the file ends without its head: its end was cut off"));
        };
        if text.starts_with("{\"head\"") {
            let stated_head = head(&lines.read::<Last>(&text)?.head);
            let records = checker.end(&stated_head)?;
            return match lines.next()? {
                Some(_) => Err(lines.broken("something follows the head")),
                None => Ok(Checked {
                    tenant: stated.tenant,
                    records,
                    head: stated_head,
                }),
            };
        }
        let record = lines.read::<Line>(&text)?.record();
        let record = record.map_err(|invalid| lines.broken(&invalid.to_string()))?;
        checker.take(&record)?;
    }
}

/// The lines of a file, counted.
struct Lines<R> {
    file: R,
    number: usize,
}

impl<R: BufRead> Lines<R> {
    /// The next line with its end taken off; none at the end of the file.
    fn next(&mut self) -> Result<Option<String>, Break> {
        self.number += 1;
        let mut text = Vec::new();
        let mut bounded = std::io::Read::take(&mut self.file, LINE_BYTES);
        let read = bounded.read_until(b'\n', &mut text);
        if let Err(error) = read {
            return Err(self.broken(&error.to_string()));
        }
        if text.is_empty() {
            return Ok(None);
        }
        if text.pop() != Some(b'\n') {
            return Err(self.broken("it does not end"));
        }
        let text = String::from_utf8(text).map_err(|_| self.broken("it is not UTF-8"))?;
        Ok(Some(text))
    }

    /// Reads a line that is byte for byte as it would be written.
    fn read<T: Serialize + serde::de::DeserializeOwned>(&self, text: &str) -> Result<T, Break> {
        let stated: T =
            serde_json::from_str(text).map_err(|error| self.broken(&error.to_string()))?;
        match json(&stated) == text {
            true => Ok(stated),
            false => Err(self.broken("it is not written as an export is")),
        }
    }

    fn broken(&self, problem: &str) -> Break {
        Break::Line {
            line: self.number,
            problem: problem.to_owned(),
        }
    }
}

impl Line {
    fn record(self) -> Result<Record, Invalid> {
        let time = |text: &str| {
            let time = Timestamp::parse(text)?;
            match time.to_string() == text {
                true => Ok(time),
                false => Err(Invalid::new("time", "it is not written as an export is")),
            }
        };
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let right = some(self.right).map(|right| right.parse::<Right>());
        let rules = some(self.policy_hash).map(|hash| hash.parse::<Digest>());
        let actors = self.actors.iter().map(|text| actor(text));
        let actors: Vec<_> = actors.collect::<Result<_, Invalid>>()?;
        let who = match some(self.kind) {
            None if self.subject.is_empty() && self.credential.is_empty() && actors.is_empty() => {
                None
            }
            None => return Err(Invalid::new("kind", "expected one, as somebody is named")),
            Some(kind) => Some(Who {
                kind: kind_of(&kind)?,
                subject: Subject::new(self.subject)?,
                credential: self.credential,
                actors,
            }),
        };
        let entry = Entry {
            id: self.id,
            tenant: self.tenant,
            time: time(&self.time)?,
            last_time: time(&self.last_time)?,
            count: self.count,
            request_id: self.request_id,
            trace_id: self.trace_id,
            who,
            method: self.method,
            right: right.transpose()?,
            project: some(self.project).map(ProjectName::new).transpose()?,
            verdict: verdict(&self.decision)?,
            policies: self.policies,
            rules: rules.transpose()?,
            code: self.code,
            reason: self.reason,
            peer: self.peer,
            service: self.service,
        };
        Ok(Record {
            sequence: self.sequence,
            entry,
            previous: self.previous_hash,
            hash: self.hash,
        })
    }
}

fn place(head: &Head) -> Place {
    Place {
        sequence: head.sequence,
        hash: head.hash,
    }
}

fn head(place: &Place) -> Head {
    Head {
        sequence: place.sequence,
        hash: place.hash,
    }
}

fn json<T: Serialize>(value: &T) -> String {
    // Texts and numbers alone: this cannot fail.
    serde_json::to_string(value).unwrap_or_default()
}
