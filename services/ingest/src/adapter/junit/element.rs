//! The small elements of a report: attributes, problems, outputs.

use std::borrow::Cow;
use std::collections::BTreeMap;

use quick_xml::events::BytesStart;

use super::super::{TextLimits, cut_middle, plain};

/// An element's attributes by local name.
#[derive(Debug, Default)]
pub(super) struct Attributes(BTreeMap<String, String>);

impl Attributes {
    /// Error: an attribute that is not written as XML asks for.
    pub(super) fn read(tag: &BytesStart<'_>) -> Result<Self, String> {
        let mut found = BTreeMap::new();
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(|error| error.to_string())?;
            let name = attribute.key.local_name().as_ref().to_owned();
            found.insert(name, unescaped(&attribute.value).into_owned());
        }
        Ok(Self(found))
    }

    /// The value without surrounding white space; absent and blank are the same.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    }

    /// Whether the element does not have it at all.
    pub(super) fn is_absent(&self, name: &str) -> bool {
        !self.0.contains_key(name)
    }

    /// The value as written; empty when absent.
    pub(super) fn text(&self, name: &str) -> String {
        self.0.get(name).cloned().unwrap_or_default()
    }
}

/// The text behind one of the five entities that XML itself defines.
pub(super) fn predefined(name: &str) -> Option<&'static str> {
    Some(match name {
        "lt" => "<",
        "gt" => ">",
        "amp" => "&",
        "quot" => "\"",
        "apos" => "'",
        _ => return None,
    })
}

/// Replaces the references of an attribute value; unknown ones stay as written.
fn unescaped(value: &str) -> Cow<'_, str> {
    if !value.contains('&') {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        // The longest reference that means something is `&#x0010FFFF;`.
        let end = after.bytes().take(12).position(|byte| byte == b';');
        match end.and_then(|end| Some((end, reference(&after[..end])?))) {
            Some((end, character)) => {
                out.push(character);
                rest = &after[end + 1..];
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

fn reference(name: &str) -> Option<char> {
    if let Some(text) = predefined(name) {
        return text.chars().next();
    }
    let number = name.strip_prefix('#')?;
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => number.parse().ok()?,
    };
    char::from_u32(code)
}

/// What a child element says went wrong with a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProblemKind {
    Failure,
    Error,
    Skipped,
    /// Failed, then passed when it was run again.
    Flaky,
    /// Failed once more when it was run again.
    Rerun,
}

impl ProblemKind {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "failure" => Self::Failure,
            "error" => Self::Error,
            "skipped" | "disabled" | "ignored" => Self::Skipped,
            "flakyFailure" | "flakyError" => Self::Flaky,
            "rerunFailure" | "rerunError" => Self::Rerun,
            _ => return None,
        })
    }

    fn heading(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Error => "error",
            Self::Skipped => "skipped",
            Self::Flaky => "failed at first",
            Self::Rerun => "failed again",
        }
    }
}

/// A failure, an error, a reason for skipping.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) kind: ProblemKind,
    pub(super) class: String,
    pub(super) message: String,
    pub(super) text: String,
    pub(super) outputs: Outputs,
}

impl Problem {
    pub(super) fn open(kind: ProblemKind, attributes: &Attributes) -> Self {
        Self {
            kind,
            class: attributes.get("type").unwrap_or_default().to_owned(),
            message: attributes.text("message"),
            text: String::new(),
            outputs: Outputs::default(),
        }
    }

    /// The stated message, else the first line of the text.
    pub(super) fn headline(&self) -> &str {
        let stated = self.message.trim();
        if !stated.is_empty() {
            return stated;
        }
        self.text
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty())
            .unwrap_or_default()
    }

    /// Type, message, trace and outputs. The message is left out where the trace repeats it.
    pub(super) fn write(&self, out: &mut String, limits: &TextLimits) {
        let (message, text) = (
            plain(self.message.trim()),
            plain(self.text.trim_matches('\n')),
        );
        let text = text.trim_end();
        out.push_str("\n\n");
        out.push_str(self.kind.heading());
        if !self.class.is_empty() && !text.contains(&self.class) {
            out.push_str(" (");
            out.push_str(&self.class);
            out.push(')');
        }
        if !message.is_empty() && !text.contains(&*message) {
            out.push_str(": ");
            out.push_str(&cut_middle(&message, limits.trace_bytes));
        }
        if !text.trim().is_empty() {
            out.push('\n');
            out.push_str(&cut_middle(text, limits.trace_bytes));
        }
        self.outputs.write(out, limits);
    }
}

/// What was printed on one stream.
#[derive(Debug)]
pub(super) struct Output {
    error: bool,
    pub(super) text: String,
}

impl Output {
    pub(super) fn standard() -> Self {
        Self {
            error: false,
            text: String::new(),
        }
    }

    pub(super) fn error() -> Self {
        Self {
            error: true,
            text: String::new(),
        }
    }
}

/// What was printed on both streams.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    standard: String,
    error: String,
}

impl Outputs {
    pub(super) fn add(&mut self, output: Output) {
        let stream = if output.error {
            &mut self.error
        } else {
            &mut self.standard
        };
        stream.push_str(&output.text);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.standard.trim().is_empty() && self.error.trim().is_empty()
    }

    pub(super) fn write(&self, out: &mut String, limits: &TextLimits) {
        for (name, text) in [("stdout", &self.standard), ("stderr", &self.error)] {
            let text = plain(text);
            let text = text.trim_matches('\n').trim_end();
            if !text.is_empty() {
                out.push_str("\n\n");
                out.push_str(name);
                out.push_str(":\n");
                out.push_str(&cut_middle(text, limits.output_bytes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_in_attributes_are_replaced_and_unknown_ones_kept() {
        for (value, expected) in [
            ("a &lt;b&gt; &amp;amp; &#10;&#x41;", "a <b> &amp; \nA"),
            (
                "&unknown; & &; &#xZZ; &#99999999;",
                "&unknown; & &; &#xZZ; &#99999999;",
            ),
            ("&lt", "&lt"),
            ("ä&quot;ö", "ä\"ö"),
        ] {
            assert_eq!(unescaped(value), expected);
        }
    }
}
