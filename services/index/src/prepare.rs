//! What indexing an event takes that depends on the event alone: passages, terms, lengths, hashes.

use commonplace_types::{Event, Operation};

use crate::feed::Frame;
use crate::record::PassageRow;
use crate::{analyzer, budget, passage};

/// Fewer events than this are not worth a thread.
const EVENTS_PER_THREAD: usize = 64;

/// An event's passages, each with its terms. None for an event that withdraws.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    pub(crate) rows: Vec<PassageRow>,
    pub(crate) terms: Vec<Vec<String>>,
}

/// Prepares all events of some frames, frame by frame, on up to `threads` threads.
pub(crate) fn prepare(frames: &[Frame], threads: usize) -> Vec<Vec<Prepared>> {
    let events: Vec<&Event> = frames.iter().flat_map(|frame| &frame.events).collect();
    let threads = threads.min(events.len() / EVENTS_PER_THREAD).max(1);
    let share = events.len().div_ceil(threads).max(1);
    let mut prepared = std::thread::scope(|scope| {
        let mut shares = events.chunks(share);
        let own = shares.next().unwrap_or_default();
        let others: Vec<_> = shares
            .map(|share| (share, scope.spawn(move || prepare_all(share))))
            .collect();
        let mut prepared = prepare_all(own);
        for (share, other) in others {
            // A thread that could not do it leaves the work to this one, where a panic is seen.
            prepared.extend(other.join().unwrap_or_else(|_| prepare_all(share)));
        }
        prepared.into_iter()
    });
    let of_frame = |frame: &Frame| prepared.by_ref().take(frame.events.len()).collect();
    frames.iter().map(of_frame).collect()
}

fn prepare_all(events: &[&Event]) -> Vec<Prepared> {
    events.iter().map(|event| prepare_event(event)).collect()
}

fn prepare_event(event: &Event) -> Prepared {
    let draft = &event.draft;
    if draft.operation == Operation::Retract {
        return Prepared::default();
    }
    let title_terms = analyzer::title_terms(&draft.title);
    let title_tokens = budget::item_tokens(&draft.title, "");
    let mut prepared = Prepared::default();
    for range in passage::split(draft.artifact_type.as_str(), &draft.text) {
        let text = &draft.text[range.clone()];
        let mut terms = title_terms.clone();
        analyzer::analyze(text, |term| terms.push(term.to_owned()));
        prepared.rows.push(PassageRow {
            range: range.start as u32..range.end as u32,
            tokens: title_tokens.saturating_add(budget::count(text)),
            length: terms.len() as u32,
            content: content_hash(&draft.title, text),
        });
        prepared.terms.push(terms);
    }
    prepared
}

/// Names a passage's content: equal title and text, equal hash. First 16 bytes of BLAKE3.
pub(crate) fn content_hash(title: &str, text: &str) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(title.len() as u64).to_le_bytes());
    hasher.update(title.as_bytes());
    hasher.update(text.as_bytes());
    let mut hash = [0; 16];
    hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    hash
}
