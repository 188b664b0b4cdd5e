//! Query parameters as the fields of a message.

use std::collections::BTreeSet;

use commonplace_rpc::{Code, Failure};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use crate::http_error::HttpError;
use crate::transcode;

/// Reads `a=1&b.c=x&b.c=y` into the wire form of `input`; a repeated key fills a list. `given` are the fields
/// that the path gives already. Error: names the parameter.
pub(crate) fn read(
    input: &MessageDescriptor,
    query: &str,
    given: &[String],
) -> Result<Vec<u8>, HttpError> {
    let mut object = Map::new();
    let mut seen = BTreeSet::new();
    for (name, text) in form_urlencoded::parse(query.as_bytes()) {
        let field = find_field(input, &name).ok_or_else(|| wrong(&name, "is not known here"))?;
        if given.iter().any(|given| *given == *name) {
            return Err(wrong(&name, "is given by the path; leave it out here"));
        }
        if !seen.insert(name.to_string()) && !field.is_list() {
            return Err(wrong(&name, "is given twice; give it once"));
        }
        if let (Kind::Message(message), false) = (field.kind(), is_moment(&field)) {
            let inner = message.fields().next();
            let inner = inner.map_or_else(String::new, |field| {
                format!(", for example `{name}.{}`", field.name())
            });
            return Err(wrong(&name, &format!("has parts; give those{inner}")));
        }
        put(&mut object, &name, value(&field, &text), field.is_list());
    }
    transcode::value(input, Value::Object(object)).map_err(|invalid| {
        // A list of one is written like a single value, so its place says nothing.
        let name = invalid.field.split('[').next().unwrap_or_default();
        wrong(name, &invalid.problem)
    })
}

/// Refuses parameters of calls that take everything in the body. Error: names the first.
pub(crate) fn refuse(query: &str) -> Result<(), HttpError> {
    match form_urlencoded::parse(query.as_bytes()).next() {
        None => Ok(()),
        Some((name, _)) => Err(wrong(&name, "is not read here; put it into the body")),
    }
}

fn wrong(name: &str, problem: &str) -> HttpError {
    let name: String = name.chars().take(64).collect();
    let failure = Failure::new(Code::InvalidArgument, "QUERY_INVALID").field(&name, problem);
    HttpError(failure.message(format!("query parameter `{name}`: {problem}")))
}

fn is_moment(field: &FieldDescriptor) -> bool {
    matches!(field.kind(), Kind::Message(message) if message.full_name().starts_with("google.protobuf."))
}

fn find_field(message: &MessageDescriptor, path: &str) -> Option<FieldDescriptor> {
    let Some((first, rest)) = path.split_once('.') else {
        return message.get_field_by_name(path);
    };
    let field = message.get_field_by_name(first)?;
    match field.kind() {
        Kind::Message(inner) if !field.is_list() => find_field(&inner, rest),
        _ => None,
    }
}

/// Texts stay texts, which JSON for messages allows for numbers too; only truth values need a change.
fn value(field: &FieldDescriptor, text: &str) -> Value {
    match (field.kind(), text) {
        (Kind::Bool, "true" | "1" | "") => true.into(),
        (Kind::Bool, "false" | "0") => false.into(),
        _ => text.into(),
    }
}

fn put(object: &mut Map<String, Value>, path: &str, value: Value, list: bool) {
    match path.split_once('.') {
        Some((first, rest)) => {
            let inner = object.entry(first).or_insert_with(|| Map::new().into());
            if let Some(inner) = inner.as_object_mut() {
                put(inner, rest, value, list);
            }
        }
        None if list => {
            let values = object
                .entry(path)
                .or_insert_with(|| Value::Array(Vec::new()));
            if let Some(values) = values.as_array_mut() {
                values.push(value);
            }
        }
        None => {
            object.insert(path.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_reflect::DynamicMessage;

    fn input() -> MessageDescriptor {
        let name = "commonplace.journal.v1.QueryEventsRequest";
        commonplace_proto::pool().get_message_by_name(name).unwrap()
    }

    #[test]
    fn a_query_fills_fields_lists_and_inner_messages() {
        let query = "filter.artifact_types=test&filter.artifact_types=bug&page_size=5&include_superseded=true\
                     &filter.from_time=2026-01-01T00:00:00Z&as_of.branch=a%26b";
        let wire = read(&input(), query, &[]).unwrap();
        let message = DynamicMessage::decode(input(), wire.as_slice()).unwrap();
        let json = serde_json::to_value(&message).unwrap();
        let types = serde_json::json!(["test", "bug"]);
        assert_eq!(json["filter"]["artifactTypes"], types);
        assert_eq!(json["filter"]["fromTime"], "2026-01-01T00:00:00Z");
        assert_eq!(json["asOf"]["branch"], "a&b");
        assert_eq!(json["pageSize"], 5);
        assert_eq!(json["includeSuperseded"], true);
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        let check = |query: &str, name: &str, word: &str| {
            let failure = read(&input(), query, &["project".into()]).unwrap_err().0;
            assert_eq!(failure.fields[0].field, name, "{query}: {failure:?}");
            assert!(failure.message.contains(word), "{query}: {failure:?}");
        };
        check("colour=red", "colour", "not known");
        check("page_size=x", "page_size", "a whole number");
        check("page_size=1&page_size=2", "page_size", "twice");
        check("filter.from_time=yesterday", "filter.from_time", "2026-");
        check("filter=x", "filter", "filter.artifact_types");
        check("as_of.branch=a&as_of.commit=b", "as_of.commit", "as_of");
        check(
            "include_superseded=maybe",
            "include_superseded",
            "true or false",
        );
        check("project=x", "project", "path");
    }
}
