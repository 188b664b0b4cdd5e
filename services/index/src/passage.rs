//! Cuts the text of an event into passages: the pieces that are indexed, scored and cited.
//!
//! A passage should be about one thing and fit the embedder (about 256 word pieces). The text is
//! cut at the strongest places its kind offers: files and hunks of a diff, definitions in code, the
//! edges of failing regions in a log, headings, paragraphs and sentences in prose.
//!
//! What always holds: cutting depends on artifact type and text alone; ranges are in order, do not
//! overlap, lie on character boundaries, cover everything but white space, and each has at most
//! [`MAX_BYTES`]. A short text is one passage. Any change to the cuts is a new [`SPLITTER`].

mod breaks;
mod kind;
mod size;
#[cfg(test)]
mod tests;

use breaks::{Break, breaks};
use kind::Kind;
use size::Size;
use std::cmp::Reverse;
use std::ops::Range;

/// Names the rules; the number changes with any change to the cuts.
pub const SPLITTER: &str = "passages/1";

/// No passage is longer.
pub const MAX_BYTES: usize = 2_000;

/// The byte ranges of the passages of `text`; at least one.
///
/// `artifact_type`: what the event says it is (`diff`, `runlog`, ...); the text decides where that
/// leaves it open. A text without anything but white space is one empty passage.
pub fn split(artifact_type: &str, text: &str) -> Vec<Range<usize>> {
    let whole = trim(text, 0..text.len());
    let size = Size::of(&text[whole.clone()]);
    if whole.len() <= size.single {
        return vec![whole];
    }
    let kind = Kind::of(artifact_type, text);
    let breaks = breaks(kind, size, text, whole.clone());
    let mut passages = Vec::with_capacity(whole.len() / size.target + 1);
    let mut rest = whole;
    let mut first = 0;
    while !rest.is_empty() {
        let end = passage_end(size, &breaks, &mut first, &rest);
        let passage = trim(text, rest.start..end);
        if !passage.is_empty() {
            passages.push(passage);
        }
        rest = trim(text, end..rest.end);
    }
    passages
}

/// Where the passage at the start of `rest` ends: at the strongest break that leaves neither it nor
/// what follows too short, nor it too long; of equal ones at the nearest to the target.
fn passage_end(size: Size, breaks: &[Break], first: &mut usize, rest: &Range<usize>) -> usize {
    if rest.len() <= size.single {
        return rest.end;
    }
    while breaks
        .get(*first)
        .is_some_and(|found| found.at <= rest.start)
    {
        *first += 1;
    }
    let target = rest.start + size.target;
    let good = rest.start + size.least..=(rest.start + size.single).min(rest.end - size.least);
    let within = || {
        breaks[*first..]
            .iter()
            .take_while(|found| found.at <= rest.start + MAX_BYTES)
    };
    within()
        .filter(|found| good.contains(&found.at))
        .max_by_key(|found| (found.strength, Reverse(found.at.abs_diff(target))))
        .or_else(|| within().last())
        .map_or(rest.end, |found| found.at)
}

/// `range` without white space at its ends.
fn trim(text: &str, range: Range<usize>) -> Range<usize> {
    let piece = &text[range.clone()];
    let start = range.start + (piece.len() - piece.trim_start().len());
    start..start + piece.trim().len()
}
