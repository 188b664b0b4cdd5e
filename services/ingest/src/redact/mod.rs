//! Masks secrets and personal data before anything is written.
//!
//! What is masked is replaced by `[redacted:rule]`, so a reader sees that something was there and which rule
//! took it. Always true: masking twice is masking once; the work grows linearly with the text (the
//! expressions have bounded repeats and no backtracking, what they find is judged by plain code); ordinary
//! code survives, because a name such as `token` alone never suffices: the value has to look like a secret.
//!
//! Decided where both are possible: a UUID names things far more often than it opens them, so after `token` or
//! `session_id` it stays, and goes after a name in capitals or one that says key, secret or password; a long
//! number with a right check digit is a card's only in groups of four or beside a word of payment; an e-mail
//! address keeps its domain. A rule that takes too much is turned off by its name in
//! `ingest.redaction.disabled_rules`.
//!
//! Left out: secrets that look like words, and those split over several fields.

mod assignment;
mod cookie;
mod find;
mod kubernetes;
mod pem;
mod rules;
mod shape;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use commonplace_types::{Draft, Invalid, RecordId, limits};
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::adapter::{Stopped, cut_line, cut_middle, record_id};
use crate::cancel::Cancel;
use rules::{Rule, Span};

/// Changes with every change of what the built-in rules mask.
pub const RULES_VERSION: u32 = 2;

/// How a mask begins; text that holds it is never masked again.
pub(crate) const MASK_START: &str = "[redacted:";

/// A further pattern of the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// Its name, shown in the mask: `[a-z][a-z0-9_]*`, at most 32 bytes.
    pub name: String,
    /// A regular expression; a group called `secret` limits what is masked to that part.
    pub expression: String,
}

/// Which rules apply.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedactionOptions {
    /// Built-in rules that do not apply; see docs/redaction.md.
    pub disabled_rules: Vec<String>,
    /// Patterns in addition to the built-in rules.
    pub patterns: Vec<Pattern>,
}

/// How many pieces were masked, by rule.
pub type Receipts = BTreeMap<String, u64>;

/// Masks texts by a fixed set of rules. Cheap to share.
#[derive(Debug)]
pub struct Redactor {
    rules: Vec<Rule>,
    fields: bool,
    /// Whether there are patterns of the operator.
    patterns: bool,
}

/// The rule for attributes whose name says that their value is secret.
const FIELD_RULE: &str = "field";

impl Redactor {
    /// Compiles the rules. Error: an unknown rule, or a pattern that is no regular expression; names it.
    pub fn new(options: &RedactionOptions) -> Result<Self, Invalid> {
        let disabled: BTreeSet<&str> = options.disabled_rules.iter().map(String::as_str).collect();
        let mut rules = rules::built_in().map_err(|error| {
            Invalid::new(
                "redaction",
                format!("a built-in rule does not compile: {error}"),
            )
        })?;
        let known: BTreeSet<&str> = rules
            .iter()
            .map(|rule| rule.name.as_ref())
            .chain([FIELD_RULE])
            .collect();
        if let Some(unknown) = disabled.iter().find(|name| !known.contains(*name)) {
            let known: Vec<&str> = known.into_iter().collect();
            return Err(Invalid::new(
                "redaction.disabled_rules",
                format!("expected one of {}, found `{unknown}`", known.join(", ")),
            ));
        }
        rules.retain(|rule| !disabled.contains(&*rule.name));
        for (place, pattern) in options.patterns.iter().enumerate() {
            rules.push(
                compiled(pattern)
                    .map_err(|error| error.under(&format!("redaction.patterns[{place}]")))?,
            );
        }
        Ok(Self {
            rules,
            fields: !disabled.contains(FIELD_RULE),
            patterns: !options.patterns.is_empty(),
        })
    }

    /// The names of the rules in the order in which they apply.
    pub fn rules(&self) -> Vec<&str> {
        let fields = self.fields.then_some(FIELD_RULE);
        self.rules
            .iter()
            .map(|rule| &*rule.name)
            .chain(fields)
            .collect()
    }

    /// Masks a text and counts what was masked. Masking the result again changes nothing.
    pub fn text<'t>(&self, text: &'t str, receipts: &mut Receipts) -> Cow<'t, str> {
        // Never cancelled, so never stopped.
        self.text_until(text, receipts, &Cancel::default())
            .unwrap_or(Cow::Borrowed(""))
    }

    /// [`Redactor::text`] that ends soon after a call does.
    fn text_until<'t>(
        &self,
        text: &'t str,
        receipts: &mut Receipts,
        cancel: &Cancel,
    ) -> Result<Cow<'t, str>, Stopped> {
        // A mask can only shorten what a rule sees, so a second round finds little and a third nothing;
        // the bound keeps the work linear whatever patterns an operator adds.
        let mut current = Cow::Borrowed(text);
        for _ in 0..4 {
            match self.round(&current, receipts, cancel)? {
                Some(masked) => current = Cow::Owned(masked),
                None => break,
            }
        }
        Ok(current)
    }

    /// Applies every rule once; nothing when no rule masked anything. Rule by rule, because each expression
    /// alone skips ahead by its literals; as one set they were fifty times slower on source code.
    fn round(
        &self,
        text: &str,
        receipts: &mut Receipts,
        cancel: &Cancel,
    ) -> Result<Option<String>, Stopped> {
        let mut current: Option<String> = None;
        for rule in &self.rules {
            // A text has at most 1 MiB, which one rule looks through in milliseconds.
            if cancel.is_cancelled() {
                return Err(Stopped);
            }
            let seen = current.as_deref().unwrap_or(text);
            let mut spans = rule.spans(seen);
            keep_clear_of_masks(seen, &mut spans);
            if spans.is_empty() {
                continue;
            }
            *receipts.entry(rule.name.to_string()).or_default() += spans.len() as u64;
            current = Some(masked(seen, &spans, &rule.name));
        }
        Ok(current)
    }

    /// Masks every text of a draft: title, text, link targets, tags, attributes, author, agent, source, ids
    /// that people read. The value of an attribute whose name says that it is secret goes as a whole.
    /// Error: the call has ended; the draft is masked in part then, and must not be used.
    pub fn draft(
        &self,
        draft: &mut Draft,
        receipts: &mut Receipts,
        cancel: &Cancel,
    ) -> Result<(), Stopped> {
        if cancel.is_cancelled() {
            return Err(Stopped);
        }
        if self.may_hold(draft) {
            self.lines(draft, receipts);
        }
        if let Cow::Owned(masked) = self.text_until(&draft.text, receipts, cancel)? {
            draft.text = if masked.len() > limits::TEXT_BYTES {
                cut_middle(&masked, limits::TEXT_BYTES - 256).into_owned()
            } else {
                masked
            };
        }
        self.fields(draft, receipts);
        Ok(())
    }

    /// Whether any rule may apply to a short text of a draft. They are looked at together, because most
    /// drafts hold nothing; the expressions of operators may be anchored, so with any of those it is yes.
    fn may_hold(&self, draft: &Draft) -> bool {
        if self.patterns {
            return true;
        }
        let record = draft.record_id.as_ref().map_or("", |id| id.as_str());
        let mut lines = String::with_capacity(1_024);
        let few = [
            &draft.title,
            &draft.agent,
            &draft.author,
            &draft.source,
            &draft.correlation_id,
            &draft.causation_id,
        ];
        let texts = few.into_iter().chain(&draft.tags).map(String::as_str);
        let texts = texts.chain(draft.links.iter().map(|link| link.target.as_str()));
        let texts = texts.chain(
            draft
                .attributes
                .iter()
                .map(|attribute| attribute.value.as_str()),
        );
        for text in texts.chain([record]) {
            lines.push_str(text);
            lines.push('\n');
        }
        self.rules.iter().any(|rule| rule.finder.is_match(&lines))
    }

    fn lines(&self, draft: &mut Draft, receipts: &mut Receipts) {
        let mut line = |text: &mut String, most: usize| {
            if let Cow::Owned(masked) = self.text(text, receipts) {
                *text = if masked.len() > most {
                    cut_line(&masked, most)
                } else {
                    masked
                };
            }
        };
        line(&mut draft.title, limits::TITLE_BYTES);
        line(&mut draft.agent, limits::ACTOR_BYTES);
        line(&mut draft.author, limits::ACTOR_BYTES);
        line(&mut draft.source, limits::ACTOR_BYTES);
        line(&mut draft.correlation_id, limits::CORRELATION_BYTES);
        line(&mut draft.causation_id, limits::CORRELATION_BYTES);
        for tag in &mut draft.tags {
            line(tag, limits::TAG_BYTES);
        }
        for link in &mut draft.links {
            line(&mut link.target, limits::LINK_TARGET_BYTES);
        }
        for attribute in &mut draft.attributes {
            line(&mut attribute.value, limits::ATTRIBUTE_BYTES);
        }
        self.record(draft, receipts);
    }

    fn fields(&self, draft: &mut Draft, receipts: &mut Receipts) {
        if !self.fields {
            return;
        }
        for attribute in &mut draft.attributes {
            let masked = attribute.value.is_empty() || attribute.value.starts_with(MASK_START);
            // `pass` may also count what passed.
            let counts = shape::is_short_password(&attribute.key)
                && attribute
                    .value
                    .bytes()
                    .all(|b| b.is_ascii_digit() || b == b'.');
            if !masked && !counts && shape::names_a_secret(&attribute.key) {
                attribute.value = mask(FIELD_RULE);
                *receipts.entry(FIELD_RULE.to_owned()).or_default() += 1;
            }
        }
    }

    /// A record's id is read by people too, and may quote a test's parameters.
    fn record(&self, draft: &mut Draft, receipts: &mut Receipts) {
        let Some(id) = &draft.record_id else { return };
        if let Cow::Owned(masked) = self.text(id.as_str(), receipts) {
            draft.record_id = Some(RecordId::new(masked.as_str()).unwrap_or_else(|_| {
                let (kind, rest) = masked.split_once(':').unwrap_or(("record", &masked));
                record_id(kind, &[rest])
            }));
        }
    }
}

/// Drops the spans that touch a mask: what was masked stays as it is.
fn keep_clear_of_masks(text: &str, spans: &mut Vec<Span>) {
    if spans.is_empty() || !text.contains(MASK_START) {
        return;
    }
    let masks = text.match_indices(MASK_START).map(|(start, _)| {
        let name = text[start + MASK_START.len()..].bytes().take(40);
        let length = name
            .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_')
            .count();
        start..start + MASK_START.len() + length + 1
    });
    let masks: Vec<Span> = masks.collect();
    // Both are in order: masks from the first that ends after a span's start on may touch it. A span may take
    // in whole masks together with more, never a part of one.
    spans.retain(|span| {
        let next = masks.partition_point(|mask| mask.end <= span.start);
        let touching = masks[next..]
            .iter()
            .take_while(|mask| mask.start < span.end);
        let mut masked = 0;
        for mask in touching {
            if mask.start < span.start || mask.end > span.end {
                return false;
            }
            masked += mask.len();
        }
        masked < span.len()
    });
}

fn compiled(pattern: &Pattern) -> Result<Rule, Invalid> {
    let named = pattern.name.len() <= 32
        && pattern.name.starts_with(|c: char| c.is_ascii_lowercase())
        && pattern
            .name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !named {
        return Err(Invalid::new(
            "name",
            format!(
                "expected a word of a-z, 0-9 and `_`, found `{}`",
                pattern.name.escape_debug()
            ),
        ));
    }
    let finder = Regex::new(&pattern.expression)
        .map_err(|error| Invalid::new("expression", error.to_string()))?;
    if finder.is_match("") || finder.is_match(&mask(&pattern.name)) {
        return Err(Invalid::new(
            "expression",
            "must match neither the empty text nor its own mask",
        ));
    }
    Ok(Rule::pattern(pattern.name.clone(), finder))
}

fn mask(rule: &str) -> String {
    format!("{MASK_START}{rule}]")
}

/// The text with each span replaced. `spans` are in order and do not overlap.
fn masked(text: &str, spans: &[Span], rule: &str) -> String {
    let mask = mask(rule);
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for span in spans {
        out.push_str(&text[at..span.start]);
        out.push_str(&mask);
        at = span.end;
    }
    out.push_str(&text[at..]);
    out
}

#[cfg(test)]
mod tests;
