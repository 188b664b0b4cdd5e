//! Reads an event's stored content back: the inverse of [`Draft::canonical_bytes`].

use commonplace_types::{
    ArtifactType, Attribute, Draft, EventId, Importance, Link, Operation, RecordId, Scope,
    Timestamp,
};

use crate::JournalError;

/// Reads canonical content. The id and `supersede_heads` are not part of it. Error: it is none.
pub(crate) fn decode(bytes: &[u8]) -> Result<Draft, JournalError> {
    Reader { rest: bytes }
        .draft()
        .ok_or_else(|| JournalError::damaged("an event's content does not read back"))
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn draft(mut self) -> Option<Draft> {
        if self.part()? != b"commonplace event v1" {
            return None;
        }
        let record = self.text()?;
        let &[operation, scope, pinned] = self.part()? else {
            return None;
        };
        let draft = Draft {
            id: None,
            record_id: match record.is_empty() {
                true => None,
                false => Some(RecordId::new(record).ok()?),
            },
            operation: operation_of(operation)?,
            scope: scope_of(scope)?,
            pinned: pinned == 1,
            artifact_type: ArtifactType::new(self.text()?).ok()?,
            title: self.text()?,
            text: self.text()?,
            links: self.list(|reader| Some(Link::new(reader.text()?, reader.text()?)))?,
            tags: self.list(Self::text)?,
            importance: Importance::from_millionths(self.number()?).ok()?,
            event_time: self.time()?,
            valid_from: self.time()?,
            valid_to: self.time()?,
            supersedes: self.list(|reader| EventId::from_slice(reader.part()?).ok())?,
            supersede_heads: false,
            agent: self.text()?,
            author: self.text()?,
            source: self.text()?,
            correlation_id: self.text()?,
            causation_id: self.text()?,
            attributes: self.list(|reader| Some(Attribute::new(reader.text()?, reader.text()?)))?,
        };
        self.rest.is_empty().then_some(draft)
    }

    fn part(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.rest = rest;
        Some(part)
    }

    fn text(&mut self) -> Option<String> {
        std::str::from_utf8(self.part()?).ok().map(str::to_owned)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.part()?.try_into().ok()?))
    }

    fn time(&mut self) -> Option<Option<Timestamp>> {
        match i64::from_le_bytes(self.part()?.try_into().ok()?) {
            -1 => Some(None),
            micros => Some(Some(Timestamp::from_micros(micros).ok()?)),
        }
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.number()? as usize;
        // A damaged count must not reserve memory: each item takes at least four bytes.
        if count > self.rest.len() / 4 {
            return None;
        }
        (0..count).map(|_| item(self)).collect()
    }
}

fn operation_of(byte: u8) -> Option<Operation> {
    match byte {
        0 => Some(Operation::Assert),
        1 => Some(Operation::Retract),
        _ => None,
    }
}

fn scope_of(byte: u8) -> Option<Scope> {
    match byte {
        0 => Some(Scope::Global),
        1 => Some(Scope::Session),
        2 => Some(Scope::Task),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Draft {
        let mut draft = Draft::new(ArtifactType::new("bug").unwrap(), "title", "text ü");
        draft.record_id = Some(RecordId::new("bug:1").unwrap());
        draft.operation = Operation::Retract;
        draft.scope = Scope::Task;
        draft.pinned = true;
        draft.importance = Importance::new(0.25).unwrap();
        draft.links = vec![Link::new("file", "a.rs"), Link::new("test", "t")];
        draft.tags = vec!["a".into(), "b".into()];
        draft.event_time = Some(Timestamp::MIN);
        draft.valid_to = Some(Timestamp::MAX);
        draft.supersedes = vec![EventId::derive(&[b"x"])];
        draft.attributes = vec![Attribute::new("k", "v"), Attribute::new("l", "")];
        (draft.agent, draft.author, draft.source) = ("a".into(), "b".into(), "c".into());
        (draft.correlation_id, draft.causation_id) = ("d".into(), "e".into());
        draft.checked().unwrap()
    }

    #[test]
    fn content_reads_back_as_it_was() {
        for draft in [
            full(),
            Draft::new(ArtifactType::new("spec").unwrap(), "", "x"),
        ] {
            assert_eq!(decode(&draft.canonical_bytes()).unwrap(), draft);
        }
    }

    #[test]
    fn damaged_content_is_refused_without_panic() {
        let bytes = full().canonical_bytes();
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "cut at {length}");
        }
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 0xff;
            if let Ok(draft) = decode(&changed) {
                assert_ne!(draft, full(), "flipped at {place}");
            }
        }
    }
}
