//! From what an adapter found to what is appended: made plain, masked, checked, named, batched.
//!
//! Always true: a draft is masked before its id is derived and before anything else sees it, so an id can
//! never confirm a secret; an id depends on what is stated alone, not on the report's name, its sender, or the
//! time; the same report therefore gives the same ids every time. Bounds are checked before masking, so that
//! nothing over-long is looked through. A state gets no id here: whether it is what its record says already,
//! the journal alone knows.

use std::collections::{BTreeMap, HashMap};

use commonplace_types::{Draft, EventId, Invalid, Operation, limits};

use crate::adapter::{Format, Found, Refusal, ReportError, Stopped, cut_line, plain};
use crate::cancel::Cancel;
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

impl Tally {
    /// Counts a draft as not taken after all.
    pub fn take_back(&mut self, artifact_type: &str) {
        if let Some(count) = self.types.get_mut(artifact_type) {
            *count -= 1;
            if *count == 0 {
                self.types.remove(artifact_type);
            }
        }
    }
}

/// A draft with its id.
#[derive(Debug)]
pub enum Ready {
    /// To be appended; with its size in bytes. Without an id it is a state.
    New(Box<Draft>, usize),
    /// An earlier draft of the same call said the same, under this id.
    Repeat(EventId),
    /// The call has ended.
    Stopped,
}

/// A draft and its place in the input: which finding of a report, from 1, or which event of a call, from 0.
pub type Placed = (usize, Draft);

/// Takes in what is found, one after the other.
pub struct Intake<'a> {
    redactor: &'a Redactor,
    options: &'a Options,
    origin: Origin,
    /// Whether the drafts state their own source and author, and repeats of content mean nothing new.
    states_origin: bool,
    cancel: Cancel,
    /// The content's own id behind each id, and how often it came.
    seen: HashMap<EventId, (EventId, u32)>,
    /// What became of it all.
    pub tally: Tally,
}

impl<'a> Intake<'a> {
    /// Nothing taken in yet. `states_origin`: as in [`Format::states_origin`]. `cancel`: ends the work.
    pub fn new(
        redactor: &'a Redactor,
        options: &'a Options,
        origin: Origin,
        states_origin: bool,
        cancel: Cancel,
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
            cancel,
            seen: HashMap::new(),
            tally,
        }
    }

    /// Makes a draft of the caller's own ready to be appended. It is a state when it says how its record stands
    /// and has neither an id nor a time. Error: a field is wrong; that is not counted as refused yet.
    pub fn ready(&mut self, draft: Draft) -> Result<Ready, Invalid> {
        let over_heads = draft.supersede_heads || draft.operation == Operation::Retract;
        let is_named = draft.id.is_some() || draft.event_time.is_some();
        let is_state = over_heads && !is_named && draft.record_id.is_some();
        self.made_ready(draft, is_state)
    }

    fn made_ready(&mut self, mut draft: Draft, is_state: bool) -> Result<Ready, Invalid> {
        draft.title = cut_title(&draft.title)?;
        if let std::borrow::Cow::Owned(text) = plain(&draft.text) {
            draft.text = text;
        }
        let mut draft = draft.checked()?;
        let receipts = &mut self.tally.redactions;
        if self
            .redactor
            .draft(&mut draft, receipts, &self.cancel)
            .is_err()
        {
            return Ok(Ready::Stopped);
        }
        self.named(draft.checked()?, is_state)
    }

    /// Gives the draft its id.
    fn named(&mut self, mut draft: Draft, is_state: bool) -> Result<Ready, Invalid> {
        let content = draft.canonical_bytes();
        if !is_state && let Some(repeated) = self.identify(&mut draft, &content)? {
            self.tally.repeats += 1;
            return Ok(Ready::Repeat(repeated));
        }
        let kind = draft.artifact_type.as_str();
        match self.tally.types.get_mut(kind) {
            Some(count) => *count += 1,
            None => {
                self.tally.types.insert(kind.to_owned(), 1);
            }
        }
        let size = content.len() + self.origin.source.len() + self.origin.author.len() + 256;
        Ok(Ready::New(Box::new(draft), size))
    }

    /// Gives an observation its id, or the id of an earlier one of the same call that it repeats.
    fn identify(&mut self, draft: &mut Draft, content: &[u8]) -> Result<Option<EventId>, Invalid> {
        let own = EventId::derive(&[b"content", content]);
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
                return Ok(Some(id));
            }
            // A tool that reports the same thing twice says that it happened twice.
            id = EventId::derive(&[b"again", id.as_bytes(), &count.to_le_bytes()]);
        }
        draft.id = Some(id);
        Ok(None)
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

    /// Takes what an adapter found, under a running number for what is refused here. Error: the call has ended.
    fn take(
        &mut self,
        found: Found,
        number: usize,
    ) -> Result<Option<(Box<Draft>, usize)>, Stopped> {
        if self.cancel.is_cancelled() {
            return Err(Stopped);
        }
        let ready = match found {
            Found::Refused(refusal) => {
                self.refuse(refusal);
                return Ok(None);
            }
            Found::State(draft) => self.made_ready(*draft, true),
            Found::Draft(draft) if self.states_origin => self.ready(*draft),
            Found::Draft(draft) => self.made_ready(*draft, false),
        };
        match ready {
            Ok(Ready::New(draft, size)) => Ok(Some((draft, size))),
            Ok(Ready::Repeat(_)) => Ok(None),
            Ok(Ready::Stopped) => Err(Stopped),
            Err(invalid) => {
                self.refuse(Refusal {
                    location: format!("event {number}"),
                    field: invalid.field,
                    reason: invalid.problem,
                });
                Ok(None)
            }
        }
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
    drafts: Vec<Placed>,
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
    pub fn add(&mut self, draft: Placed, bytes: usize) -> Option<Vec<Placed>> {
        let full = self.drafts.len() >= self.options.batch_events
            || (!self.drafts.is_empty() && self.bytes + bytes > self.options.batch_bytes);
        let batch = full.then(|| std::mem::take(&mut self.drafts));
        self.bytes = if full { bytes } else { self.bytes + bytes };
        self.drafts.push(draft);
        batch
    }

    /// What is left; may be empty.
    pub fn rest(self) -> Vec<Placed> {
        self.drafts
    }
}

/// Reads a report from beginning to end without keeping anything, so that one that cannot be read is refused
/// before its first event is written. Errors: not readable, or too many events.
pub fn check(
    report: &[u8],
    format: &'static Format,
    options: &Options,
    cancel: &Cancel,
) -> Result<(), IngestError> {
    let mut events = 0;
    let read = format.read(report, &options.text, &mut |_| {
        events += 1;
        if events > options.max_report_events || cancel.is_cancelled() {
            Err(Stopped)
        } else {
            Ok(())
        }
    });
    match read {
        Err(ReportError::Stopped) if !cancel.is_cancelled() => Err(IngestError::TooManyEvents {
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
    cancel: &Cancel,
    append: &mut dyn FnMut(Vec<Placed>) -> Result<(), Stopped>,
) -> Result<Tally, IngestError> {
    let states = format.states_origin;
    let mut intake = Intake::new(redactor, options, origin, states, cancel.clone());
    let mut batcher = Batcher::new(options);
    let mut number = 0;
    let read = format.read(report, &options.text, &mut |found| {
        number += 1;
        let taken = intake.take(found, number)?;
        match taken.and_then(|(draft, size)| batcher.add((number, *draft), size)) {
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

/// Whether two drafts are one commit of a repository: the adapter derives the id from git's own digest of the
/// commit, whatever the version of git that printed it. `held`: what the journal has under that id.
pub fn is_same_commit(sent: &Draft, held: &Draft) -> bool {
    let hash = |draft: &Draft| {
        let found = draft.attributes.iter().find(|a| a.key == "commit");
        found.map(|attribute| attribute.value.clone())
    };
    sent.artifact_type == held.artifact_type
        && sent.operation == held.operation
        && sent.record_id == held.record_id
        && sent.supersedes == held.supersedes
        && sent.event_time == held.event_time
        && hash(sent).is_some()
        && hash(sent) == hash(held)
}

#[cfg(test)]
mod tests;
