//! The bytes of a record: what its hash is over, and how it is kept.
//!
//! Version 1 is `CPA1` and 22 fields, each its length in bytes (4 bytes, big-endian) and its bytes: numbers are 8
//! bytes, big-endian, signed for times (microseconds since 1970); texts are UTF-8; lists are their items, written
//! as fields are, one after the other. What is absent is empty. There is one way to write a record and every byte
//! counts: what is read is written again the same, or it is refused.

use commonplace_rpc::audit::{Entry, Verdict, Who};
use commonplace_types::{
    Actor, Digest, Invalid, PrincipalKind, ProjectName, Right, Subject, TenantName, Timestamp,
};

/// What a record of version 1 begins with.
const MAGIC: &[u8] = b"CPA1";

/// Writes the record of a number.
pub fn write(sequence: u64, entry: &Entry) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    let who = entry.who.as_ref();
    let actors = who.iter().flat_map(|who| &who.actors);
    let actors: Vec<String> = actors.map(actor_text).collect();
    let rules = entry.rules.as_ref().map(Digest::as_bytes);
    text(&mut out, entry.tenant.as_str());
    field(&mut out, &sequence.to_be_bytes());
    text(&mut out, &entry.id);
    field(&mut out, &entry.time.as_micros().to_be_bytes());
    field(&mut out, &entry.last_time.as_micros().to_be_bytes());
    field(&mut out, &entry.count.to_be_bytes());
    text(&mut out, &entry.request_id);
    text(&mut out, &entry.trace_id);
    text(&mut out, who.map_or("", |who| who.kind.as_str()));
    text(&mut out, who.map_or("", |who| who.subject.as_str()));
    text(&mut out, who.map_or("", |who| who.credential.as_str()));
    list(&mut out, &actors);
    text(&mut out, &entry.method);
    text(&mut out, entry.right.map_or("", Right::as_str));
    text(
        &mut out,
        entry.project.as_ref().map_or("", ProjectName::as_str),
    );
    text(&mut out, entry.verdict.as_str());
    list(&mut out, &entry.policies);
    field(&mut out, rules.map_or(&[][..], |rules| &rules[..]));
    text(&mut out, &entry.code);
    text(&mut out, &entry.reason);
    text(&mut out, &entry.peer);
    text(&mut out, &entry.service);
    out
}

/// Reads a record and its number. Error: it is none, or not written as [`write`] does.
pub fn read(bytes: &[u8]) -> Result<(u64, Entry), Invalid> {
    let rest = bytes.strip_prefix(MAGIC);
    let mut fields = Fields(rest.ok_or_else(|| wrong("its first bytes"))?);
    let tenant = TenantName::new(fields.text()?)?;
    let sequence = u64::from_be_bytes(fields.number()?);
    let id = fields.text()?;
    let time = fields.time()?;
    let last_time = fields.time()?;
    let count = u64::from_be_bytes(fields.number()?);
    let (request_id, trace_id) = (fields.text()?, fields.text()?);
    let who = who(&mut fields)?;
    let method = fields.text()?;
    let right = some(fields.text()?).map(|right| right.parse::<Right>());
    let project = some(fields.text()?).map(ProjectName::new);
    let verdict = verdict(&fields.text()?)?;
    let policies = fields.list()?;
    let rules = match fields.take()? {
        [] => None,
        rules => Some(Digest::from_slice(rules)?),
    };
    let entry = Entry {
        id,
        tenant,
        time,
        last_time,
        count,
        request_id,
        trace_id,
        who,
        method,
        right: right.transpose()?,
        project: project.transpose()?,
        verdict,
        policies,
        rules,
        code: fields.text()?,
        reason: fields.text()?,
        peer: fields.text()?,
        service: fields.text()?,
    };
    match write(sequence, &entry) == bytes {
        true => Ok((sequence, entry)),
        false => Err(wrong("how it is written")),
    }
}

fn who(fields: &mut Fields<'_>) -> Result<Option<Who>, Invalid> {
    let (kind, subject, credential) = (fields.text()?, fields.text()?, fields.text()?);
    let actors = fields.list()?;
    if kind.is_empty() && subject.is_empty() && credential.is_empty() && actors.is_empty() {
        return Ok(None);
    }
    let actors = actors.iter().map(|text| actor(text));
    Ok(Some(Who {
        kind: kind_of(&kind)?,
        subject: Subject::new(subject)?,
        credential,
        actors: actors.collect::<Result<_, _>>()?,
    }))
}

/// An actor as `agent fixer`.
pub(super) fn actor_text(actor: &Actor) -> String {
    format!("{} {}", actor.kind, actor.subject)
}

/// Reads `agent fixer`.
pub(super) fn actor(text: &str) -> Result<Actor, Invalid> {
    let (kind, subject) = text.split_once(' ').ok_or_else(|| wrong("an actor"))?;
    Ok(Actor {
        kind: kind_of(kind)?,
        subject: Subject::new(subject)?,
    })
}

/// Reads a kind, that of services too: what is recorded was believed before.
pub(super) fn kind_of(text: &str) -> Result<PrincipalKind, Invalid> {
    match text {
        "service" => Ok(PrincipalKind::Service),
        text => text.parse(),
    }
}

/// Reads a verdict.
pub(super) fn verdict(text: &str) -> Result<Verdict, Invalid> {
    let all = [Verdict::Allowed, Verdict::Denied, Verdict::Lost];
    let found = all.into_iter().find(|verdict| verdict.as_str() == text);
    found.ok_or_else(|| wrong("the decision"))
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn wrong(what: &str) -> Invalid {
    Invalid::new("record", format!("{what} cannot be read"))
}

fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    // What is recorded is bounded far below this.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

fn text(out: &mut Vec<u8>, text: &str) {
    field(out, text.as_bytes());
}

fn list(out: &mut Vec<u8>, items: &[String]) {
    let mut inner = Vec::new();
    for item in items {
        text(&mut inner, item);
    }
    field(out, &inner);
}

/// What is left to be read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self) -> Result<&'a [u8], Invalid> {
        let short = || wrong("a length");
        let (length, rest) = self.0.split_first_chunk::<4>().ok_or_else(short)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (bytes, rest) = rest.split_at_checked(length).ok_or_else(short)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<String, Invalid> {
        let text = std::str::from_utf8(self.take()?).map_err(|_| wrong("a text"))?;
        Ok(text.to_owned())
    }

    fn number(&mut self) -> Result<[u8; 8], Invalid> {
        self.take()?.try_into().map_err(|_| wrong("a number"))
    }

    fn time(&mut self) -> Result<Timestamp, Invalid> {
        Timestamp::from_micros(i64::from_be_bytes(self.number()?))
    }

    fn list(&mut self) -> Result<Vec<String>, Invalid> {
        let mut inner = Fields(self.take()?);
        let mut items = Vec::new();
        while !inner.0.is_empty() {
            items.push(inner.text()?);
        }
        Ok(items)
    }
}
