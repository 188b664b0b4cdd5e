//! Event drafts as JSON, one per line, with the field names of the contract's `EventDraft`.
//!
//! Follows the proto3 JSON mapping: names in snake_case or camelCase, `null` means absent, enums by name or
//! number, times in RFC 3339. A line that does not fit is refused with its number and the field; the others
//! are taken. Unknown fields are refused, so that a misspelt one is not lost in silence.

use commonplace_types::{
    ArtifactType, Attribute, Draft, EventId, Importance, Invalid, Link, Operation, RecordId, Scope,
    Timestamp,
};
use serde_json::{Map, Value};

use super::{Found, Refusal, ReportError, Sink, TextLimits};

/// Longest line.
const LINE_BYTES: usize = 8 << 20;

/// Reads drafts line by line; empty lines are skipped. No report as a whole is refused.
pub(super) fn read(
    report: &[u8],
    _limits: &TextLimits,
    sink: &mut Sink<'_>,
) -> Result<(), ReportError> {
    let report = report.strip_prefix(b"\xef\xbb\xbf").unwrap_or(report);
    for (number, line) in report.split(|byte| *byte == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let found = match draft_of_line(line) {
            Ok(draft) => Found::Draft(Box::new(draft)),
            Err(invalid) => Found::Refused(Refusal {
                location: format!("line {}", number + 1),
                field: invalid.field,
                reason: invalid.problem,
            }),
        };
        sink(found)?;
    }
    Ok(())
}

fn draft_of_line(line: &[u8]) -> Result<Draft, Invalid> {
    let unfit = |problem: String| Invalid::new("", problem);
    if line.len() > LINE_BYTES {
        return Err(unfit(format!(
            "expected at most {LINE_BYTES} bytes in a line, found {}",
            line.len()
        )));
    }
    let text = std::str::from_utf8(line).map_err(|error| {
        unfit(format!(
            "expected UTF-8, found other bytes at byte {}",
            error.valid_up_to()
        ))
    })?;
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => draft_of(Fields(fields)),
        Ok(other) => Err(unfit(format!(
            "expected a JSON object, found {}",
            kind(&other)
        ))),
        Err(error) => Err(unfit(format!(
            "not JSON at column {}: {}",
            error.column(),
            short(&error)
        ))),
    }
}

/// The parser's text without its line and column, which are those of the single line.
fn short(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ")
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn draft_of(mut fields: Fields) -> Result<Draft, Invalid> {
    let artifact_type = fields.text("artifact_type")?;
    if artifact_type.is_empty() {
        return Err(Invalid::new(
            "artifact_type",
            "expected a word such as `decision` or `bug`, found none",
        ));
    }
    let mut draft = Draft::new(
        ArtifactType::new(artifact_type)?,
        fields.text("title")?,
        fields.text("text")?,
    );
    draft.id = fields.optional("id", |id| id.parse::<EventId>())?;
    draft.record_id = fields.optional("record_id", |id| RecordId::new(id))?;
    draft.operation = fields.choice(
        "operation",
        &[
            ("OPERATION_ASSERT", 1, Operation::Assert),
            ("OPERATION_RETRACT", 2, Operation::Retract),
        ],
    )?;
    draft.scope = fields.choice(
        "scope",
        &[
            ("SCOPE_GLOBAL", 1, Scope::Global),
            ("SCOPE_SESSION", 2, Scope::Session),
            ("SCOPE_TASK", 3, Scope::Task),
        ],
    )?;
    draft.importance = fields.importance()?;
    draft.pinned = fields.flag("pinned")?;
    draft.supersede_heads = fields.flag("supersede_heads")?;
    draft.event_time = fields.optional("event_time", Timestamp::parse)?;
    draft.valid_from = fields.optional("valid_from", Timestamp::parse)?;
    draft.valid_to = fields.optional("valid_to", Timestamp::parse)?;
    draft.agent = fields.text("agent")?;
    draft.author = fields.text("author")?;
    draft.source = fields.text("source")?;
    draft.correlation_id = fields.text("correlation_id")?;
    draft.causation_id = fields.text("causation_id")?;
    draft.tags = fields.list("tags", text_of)?;
    draft.supersedes = fields.list("supersedes", |value| text_of(value)?.parse::<EventId>())?;
    draft.links = fields.list("links", |value| {
        pair_of(value, "relation", "target").map(|(relation, target)| Link { relation, target })
    })?;
    draft.attributes = fields.list("attributes", |value| {
        pair_of(value, "key", "value").map(|(key, value)| Attribute { key, value })
    })?;
    fields.none_left()?;
    Ok(draft)
}

/// The fields of one object; each is taken out once, what remains is unknown.
struct Fields(Map<String, Value>);

impl Fields {
    /// Takes a field by its name or by the camelCase form of it; `null` is absent.
    fn take(&mut self, name: &str) -> Result<Option<Value>, Invalid> {
        let plain = self.0.remove(name).filter(|value| !value.is_null());
        let camel = camel_case(name);
        let other = if camel == name {
            None
        } else {
            self.0.remove(&camel).filter(|value| !value.is_null())
        };
        match (plain, other) {
            (Some(_), Some(_)) => Err(Invalid::new(
                name,
                format!("is given twice, also as `{camel}`"),
            )),
            (one, other) => Ok(one.or(other)),
        }
    }

    fn text(&mut self, name: &str) -> Result<String, Invalid> {
        match self.take(name)? {
            Some(value) => text_of(&value).map_err(|error| error.under(name)),
            None => Ok(String::new()),
        }
    }

    /// Reads a text field; an empty one is absent.
    fn optional<T>(
        &mut self,
        name: &str,
        read: impl Fn(&str) -> Result<T, Invalid>,
    ) -> Result<Option<T>, Invalid> {
        let text = self.text(name)?;
        if text.is_empty() {
            return Ok(None);
        }
        read(&text)
            .map(Some)
            .map_err(|error| Invalid::new(name, error.problem))
    }

    fn flag(&mut self, name: &str) -> Result<bool, Invalid> {
        match self.take(name)? {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(Invalid::new(
                name,
                format!("expected true or false, found {}", kind(&other)),
            )),
        }
    }

    fn importance(&mut self) -> Result<Importance, Invalid> {
        let number = match self.take("importance")? {
            None => return Ok(Importance::default()),
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        let number =
            number.ok_or_else(|| Invalid::new("importance", "expected a number from 0 to 1"))?;
        Importance::new(number)
    }

    /// An enum by its full name, by the lower-case end of its name, or by number; 0 is the default.
    fn choice<T: Copy + Default>(
        &mut self,
        name: &str,
        choices: &[(&str, u64, T)],
    ) -> Result<T, Invalid> {
        let Some(value) = self.take(name)? else {
            return Ok(T::default());
        };
        let short = |full: &str| {
            full.rsplit('_')
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase()
        };
        let fits = |(full, number, _): &&(&str, u64, T)| match &value {
            Value::String(text) => text == full || *text == short(full),
            Value::Number(given) => given.as_u64() == Some(*number),
            _ => false,
        };
        if let Some((_, _, choice)) = choices.iter().find(fits) {
            return Ok(*choice);
        }
        let unspecified = matches!(&value, Value::String(text) if text.ends_with("_UNSPECIFIED") || text.is_empty());
        if unspecified || value.as_u64() == Some(0) {
            return Ok(T::default());
        }
        let expected: Vec<String> = choices.iter().map(|(full, _, _)| short(full)).collect();
        Err(Invalid::new(
            name,
            format!(
                "expected {}, found {}",
                expected.join(" or "),
                shown(&value)
            ),
        ))
    }

    fn list<T>(
        &mut self,
        name: &str,
        read: impl Fn(&Value) -> Result<T, Invalid>,
    ) -> Result<Vec<T>, Invalid> {
        let values = match self.take(name)? {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values,
            Some(other) => {
                return Err(Invalid::new(
                    name,
                    format!("expected a list, found {}", kind(&other)),
                ));
            }
        };
        let read =
            |(place, value)| read(value).map_err(|error| error.under(&format!("{name}[{place}]")));
        values.iter().enumerate().map(read).collect()
    }

    fn none_left(&self) -> Result<(), Invalid> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => {
                let shown: String = name.escape_debug().take(80).collect();
                Err(Invalid::new(
                    shown,
                    "is not a field of an event draft; see `EventDraft` in the contracts",
                ))
            }
        }
    }
}

fn camel_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        if c == '_' {
            upper = true;
        } else {
            out.push(if upper { c.to_ascii_uppercase() } else { c });
            upper = false;
        }
    }
    out
}

fn text_of(value: &Value) -> Result<String, Invalid> {
    match value {
        Value::String(text) => Ok(text.clone()),
        other => Err(Invalid::new(
            "",
            format!("expected a text, found {}", kind(other)),
        )),
    }
}

/// An object of exactly two text fields.
fn pair_of(value: &Value, first: &str, second: &str) -> Result<(String, String), Invalid> {
    let Value::Object(fields) = value else {
        return Err(Invalid::new(
            "",
            format!(
                "expected an object with `{first}` and `{second}`, found {}",
                kind(value)
            ),
        ));
    };
    let mut fields = Fields(fields.clone());
    let pair = (fields.text(first)?, fields.text(second)?);
    fields.none_left()?;
    Ok(pair)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn shown(value: &Value) -> String {
    let text: String = value.to_string().chars().take(60).collect();
    format!("`{text}`")
}

#[cfg(test)]
mod tests;
