//! Looking into JSON objects whose fields may be missing, null or of another kind.

use commonplace_types::{Attribute, Draft, Link, limits};
use serde_json::Value;

use super::super::cut_line;
use super::Object;

/// A text that is not blank.
pub(super) fn text<'o>(object: &'o Object, name: &str) -> Option<&'o str> {
    object
        .get(name)?
        .as_str()
        .filter(|text| !text.trim().is_empty())
}

/// A text or number or truth value as text.
pub(super) fn shown(object: &Object, name: &str) -> Option<String> {
    match object.get(name)? {
        Value::String(text) => Some(text.clone()).filter(|text| !text.trim().is_empty()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// A whole number.
pub(super) fn whole(object: &Object, name: &str) -> Option<i64> {
    object.get(name)?.as_i64()
}

/// A truth value; absent is false.
pub(super) fn flag(object: &Object, name: &str) -> bool {
    object.get(name).and_then(Value::as_bool).unwrap_or(false)
}

/// A list; absent is empty.
pub(super) fn list<'o>(object: &'o Object, name: &str) -> &'o [Value] {
    object
        .get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// An object.
pub(super) fn object<'o>(object: &'o Object, name: &str) -> Option<&'o Object> {
    object.get(name)?.as_object()
}

/// The objects of a list.
pub(super) fn objects<'o>(object: &'o Object, name: &str) -> impl Iterator<Item = &'o Object> {
    list(object, name).iter().filter_map(Value::as_object)
}

/// Adds a fact unless it is empty or there are too many.
pub(super) fn fact(draft: &mut Draft, key: &str, value: Option<impl AsRef<str>>) {
    let Some(value) = value else { return };
    let value = cut_line(value.as_ref(), limits::ATTRIBUTE_BYTES);
    if !value.is_empty() && draft.attributes.len() < limits::ATTRIBUTES {
        draft.attributes.push(Attribute::new(key, value));
    }
}

/// Adds an edge unless it points nowhere or there are too many.
pub(super) fn link(draft: &mut Draft, relation: &str, target: Option<impl AsRef<str>>) {
    let Some(target) = target else { return };
    let target = cut_line(target.as_ref(), limits::LINK_TARGET_BYTES);
    if !target.is_empty() && draft.links.len() < limits::LINKS {
        draft.links.push(Link::new(relation, target));
    }
}

/// Adds a line of text.
pub(super) fn line(text: &mut String, name: &str, value: Option<impl AsRef<str>>) {
    let Some(value) = value else { return };
    let value = cut_line(value.as_ref(), 4_096);
    if !value.is_empty() {
        text.push('\n');
        text.push_str(name);
        text.push_str(": ");
        text.push_str(&value);
    }
}
