//! The values of a Kubernetes Secret, in YAML or in JSON with one field a line.

use regex::Regex;

use super::rules::Span;
use super::shape;

/// What makes a manifest a Secret.
pub(super) const KIND: &str =
    r#"(?m)^[ \t+-]{0,16}"?kind"?:[ \t]{0,4}"?Secret"?[ \t]{0,4},?[ \t]{0,4}$"#;

/// One document while its lines are read.
#[derive(Default)]
struct Document {
    is_secret: bool,
    /// How far the line that opens the values is indented.
    block: Option<usize>,
    values: Vec<Span>,
}

/// The values below `data` and `stringData`, document by document, in one pass over the lines.
pub(super) fn values(_finder: &Regex, text: &str) -> Vec<Span> {
    let (mut spans, mut document, mut at) = (Vec::new(), Document::default(), 0);
    for line in text.split('\n') {
        if line.trim_start_matches('+').starts_with("---")
            || line.trim() == "}" && !line.starts_with(' ')
        {
            document.end(&mut spans);
        } else {
            document.line(line, at);
        }
        at += line.len() + 1;
    }
    document.end(&mut spans);
    spans
}

impl Document {
    fn line(&mut self, line: &str, at: usize) {
        let content = line.trim_start_matches(['+', ' ', '\t']);
        let indent = line.len() - content.len();
        if content.trim().is_empty() {
            return;
        }
        if self.block.is_some_and(|block| indent <= block) {
            self.block = None;
        }
        let Some((key, value)) = content.split_once(':') else {
            return;
        };
        let key = key.trim_matches(['"', '\'', ' ']);
        let plain = value.trim_matches(['"', '\'', ' ', ',', '\r', '{']);
        match self.block {
            Some(_) => self.value(value, at + line.len() - value.len()),
            None if key == "kind" && plain == "Secret" => self.is_secret = true,
            None if matches!(key, "data" | "stringData") && plain.is_empty() => {
                self.block = Some(indent)
            }
            None => {}
        }
    }

    fn value(&mut self, value: &str, at: usize) {
        let quotes = ['"', '\'', ' ', ',', '\r', '\t'];
        let from = value.len() - value.trim_start_matches(quotes).len();
        let value = value.trim_matches(quotes);
        if value.len() >= 3
            && !shape::without_masks(value).is_empty()
            && !shape::is_placeholder(value)
        {
            self.values.push(at + from..at + from + value.len());
        }
    }

    fn end(&mut self, spans: &mut Vec<Span>) {
        let ended = std::mem::take(self);
        if ended.is_secret {
            spans.extend(ended.values);
        }
    }
}
