//! From what an adapter found to what is appended: made plain, masked, checked, named, batched.
//!
//! Always true: a draft is masked before its id is derived and before anything else sees it, so an id can
//! never confirm a secret; an id depends on what is stated alone, not on the report's name, its sender, or the
//! time; the same report therefore gives the same ids every time.

use std::collections::{BTreeMap, HashMap};

use commonplace_types::{Draft, EventId, Invalid, limits};

use crate::adapter::{Format, Found, Refusal, ReportError, Stopped, cut_line, plain};
use crate::config::Options;
use crate::error::IngestError;
use crate::redact::{Receipts, Redactor};

/// Where a report comes from; put on its events, not into their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// What people call the report.
    pub source: String,
    /// On whose behalf it came.
    pub author: String,
}

/// What became of everything that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Not taken, in the order of the input; at most as many as the options say.
    pub refusals: Vec<Refusal>,
    /// Not taken and not listed.
    pub refusals_unlisted: u64,
    /// Pieces that were masked, by rule.
    pub redactions: Receipts,
    /// Drafts taken, by artifact type.
    pub types: BTreeMap<String, u64>,
    /// Drafts that repeat an earlier one of the same call.
    pub repeats: u64,
}

/// A draft with its id.
#[derive(Debug)]
pub enum Ready {
    /// To be appended; with its size in bytes.
    New(Box<Draft>, usize),
    /// An earlier draft of the same call said the same, under this id.
    Repeat(EventId),
}

/// Takes in what is found, one after the other.
pub struct Intake<'a> {
    redactor: &'a Redactor,
    options: &'a Options,
    origin: Origin,
    /// Whether the drafts state their own source and author, and repeats of content mean nothing new.
    states_origin: bool,
    /// The content's own id behind each id, and how often it came.
    seen: HashMap<EventId, (EventId, u32)>,
    /// What became of it all.
    pub tally: Tally,
}

impl<'a> Intake<'a> {
    /// Nothing taken in yet. `states_origin`: as in [`Format::states_origin`].
    pub fn new(
        redactor: &'a Redactor,
        options: &'a Options,
        origin: Origin,
        states_origin: bool,
    ) -> Self {
        let mut tally = Tally::default();
        let mut clean = |text: &str| {
            let masked = redactor.text(text, &mut tally.redactions);
            cut_line(&masked, limits::ACTOR_BYTES)
        };
        let origin = Origin {
            source: clean(&origin.source),
            author: clean(&origin.author),
        };
        Self {
            redactor,
            options,
            origin,
            states_origin,
            seen: HashMap::new(),
            tally,
        }
    }

    /// Makes a draft ready to be appended, with its id and its size in bytes. Error: a field is wrong; that is
    /// not counted as refused yet.
    pub fn ready(&mut self, mut draft: Draft) -> Result<Ready, Invalid> {
        draft.title = cut_title(&draft.title)?;
        if let std::borrow::Cow::Owned(text) = plain(&draft.text) {
            draft.text = text;
        }
        self.redactor.draft(&mut draft, &mut self.tally.redactions);
        self.named(draft.checked()?)
    }

    /// Gives the draft its id and its origin.
    fn named(&mut self, mut draft: Draft) -> Result<Ready, Invalid> {
        let content = draft.canonical_bytes();
        let own = EventId::derive(&[b"content", &content]);
        let given = draft.id.is_some();
        let mut id = draft.id.unwrap_or(own);
        let (first, count) = self.seen.entry(id).or_insert((own, 0));
        *count += 1;
        if *count > 1 {
            if given && *first != own {
                return Err(Invalid::new(
                    "id",
                    format!("`{id}` is given twice, with different content"),
                ));
            }
            if given || self.states_origin {
                self.tally.repeats += 1;
                return Ok(Ready::Repeat(id));
            }
            // A tool that reports the same thing twice says that it happened twice.
            id = EventId::derive(&[b"again", id.as_bytes(), &count.to_le_bytes()]);
        }
        draft.id = Some(id);
        if draft.source.is_empty() {
            draft.source.clone_from(&self.origin.source);
        }
        if draft.author.is_empty() {
            draft.author.clone_from(&self.origin.author);
        }
        let kind = draft.artifact_type.as_str();
        match self.tally.types.get_mut(kind) {
            Some(count) => *count += 1,
            None => {
                self.tally.types.insert(kind.to_owned(), 1);
            }
        }
        let size = content.len() + draft.source.len() + draft.author.len() + 256;
        Ok(Ready::New(Box::new(draft), size))
    }

    /// Counts and, while there is room, lists what was not taken.
    pub fn refuse(&mut self, refusal: Refusal) {
        if self.tally.refusals.len() < self.options.max_refusals {
            // A refusal quotes the input, so it is masked as well.
            let mask = |text: String| self.redactor.text(&text, &mut Receipts::new()).into_owned();
            let masked = Refusal {
                location: refusal.location,
                field: mask(refusal.field),
                reason: mask(refusal.reason),
            };
            self.tally.refusals.push(masked);
        } else {
            self.tally.refusals_unlisted += 1;
        }
    }

    /// Takes what an adapter found, under a running number for what is refused here.
    fn take(&mut self, found: Found, number: usize) -> Option<(Box<Draft>, usize)> {
        let refusal = match found {
            Found::Refused(refusal) => refusal,
            Found::Draft(draft) => match self.ready(*draft) {
                Ok(Ready::New(draft, size)) => return Some((draft, size)),
                Ok(Ready::Repeat(_)) => return None,
                Err(invalid) => Refusal {
                    location: format!("event {number}"),
                    field: invalid.field,
                    reason: invalid.problem,
                },
            },
        };
        self.refuse(refusal);
        None
    }
}

/// A title is one line. Error: longer than a title may be.
fn cut_title(title: &str) -> Result<String, Invalid> {
    if title.len() > limits::TITLE_BYTES {
        let problem = format!(
            "expected at most {} bytes, found {}",
            limits::TITLE_BYTES,
            title.len()
        );
        return Err(Invalid::new("title", problem));
    }
    Ok(cut_line(title, limits::TITLE_BYTES))
}

/// Collects drafts into batches within the limits of one append.
#[derive(Debug)]
pub struct Batcher<'a> {
    options: &'a Options,
    drafts: Vec<Draft>,
    bytes: usize,
}

impl<'a> Batcher<'a> {
    /// Nothing collected yet.
    pub fn new(options: &'a Options) -> Self {
        Self {
            options,
            drafts: Vec::new(),
            bytes: 0,
        }
    }

    /// Adds a draft; gives the batch before it when there was no room beside it.
    pub fn add(&mut self, draft: Draft, bytes: usize) -> Option<Vec<Draft>> {
        let full = self.drafts.len() >= self.options.batch_events
            || (!self.drafts.is_empty() && self.bytes + bytes > self.options.batch_bytes);
        let batch = full.then(|| std::mem::take(&mut self.drafts));
        self.bytes = if full { bytes } else { self.bytes + bytes };
        self.drafts.push(draft);
        batch
    }

    /// What is left; may be empty.
    pub fn rest(self) -> Vec<Draft> {
        self.drafts
    }
}

/// Reads a report from beginning to end without keeping anything, so that one that cannot be read is refused
/// before its first event is written. Errors: not readable, or too many events.
pub fn check(report: &[u8], format: &'static Format, options: &Options) -> Result<(), IngestError> {
    let mut events = 0;
    let read = format.read(report, &options.text, &mut |_| {
        events += 1;
        if events > options.max_report_events {
            Err(Stopped)
        } else {
            Ok(())
        }
    });
    match read {
        Err(ReportError::Stopped) => Err(IngestError::TooManyEvents {
            limit: options.max_report_events,
        }),
        read => outcome(read, format),
    }
}

/// Reads a report and hands batches to `append` in order; it may block, which is how a slow journal slows
/// reading. Gives what became of everything. Errors: as [`check`]; `append` wanted no more.
pub fn read(
    report: &[u8],
    format: &'static Format,
    origin: Origin,
    redactor: &Redactor,
    options: &Options,
    append: &mut dyn FnMut(Vec<Draft>) -> Result<(), Stopped>,
) -> Result<Tally, IngestError> {
    let mut intake = Intake::new(redactor, options, origin, format.states_origin);
    let mut batcher = Batcher::new(options);
    let mut number = 0;
    let read = format.read(report, &options.text, &mut |found| {
        number += 1;
        let taken = intake.take(found, number);
        match taken.and_then(|(draft, size)| batcher.add(*draft, size)) {
            Some(batch) => append(batch),
            None => Ok(()),
        }
    });
    outcome(read, format)?;
    let rest = batcher.rest();
    if !rest.is_empty() {
        append(rest).map_err(|_| IngestError::Interrupted)?;
    }
    Ok(intake.tally)
}

fn outcome(read: Result<(), ReportError>, format: &'static Format) -> Result<(), IngestError> {
    match read {
        Ok(()) => Ok(()),
        Err(ReportError::Stopped) => Err(IngestError::Interrupted),
        Err(cause) => Err(IngestError::Unreadable {
            format: format.name,
            cause,
        }),
    }
}

/// Whether two drafts differ at most in where they came from and in what the journal adds. A commit of a
/// repository is the same commit whatever the version of git that printed it.
pub fn says_the_same(sent: &Draft, held: &Draft) -> bool {
    let content = |draft: &Draft| {
        let mut draft = draft.clone();
        draft.id = None;
        draft.source.clear();
        draft.author.clear();
        draft.supersedes.clear();
        draft.record_id = sent.record_id.clone();
        draft.event_time = draft.event_time.filter(|_| sent.event_time.is_some());
        draft.canonical_bytes()
    };
    let is_commit = |draft: &Draft| {
        draft
            .record_id
            .as_ref()
            .is_some_and(|id| id.as_str().starts_with("commit:"))
    };
    let same_commit = is_commit(sent) && is_commit(held) && sent.record_id == held.record_id;
    same_commit || content(sent) == content(held)
}

#[cfg(test)]
mod tests;
