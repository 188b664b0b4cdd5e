//! JSON read straight into the wire form of a message, by its descriptor.
//!
//! No tree is built in between: memory is the text plus at most as much again, whatever the text says, and
//! reading stops at the first thing that does not fit. Always true: a failure names the field by its path; a
//! field is given once, under either of its names; lists are bounded by [`LIST_MESSAGES`] and
//! [`LIST_ELEMENTS`]. Left out: maps and the rarer number kinds, which no request has (a test looks).
//! Source of the mapping: the ProtoJSON format of Protocol Buffers.

use std::fmt;

use commonplace_types::Invalid;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use crate::scalar::{self, Scalar};

/// Messages in one list: as many as a call takes events.
pub(crate) const LIST_MESSAGES: usize = 5_000;
/// Elements of all lists of a body together.
pub(crate) const LIST_ELEMENTS: usize = 250_000;

/// Reads a JSON text into the wire form of `input`. `given` are the fields that the path gives already.
/// Error: the field, by its path (`body` where there is none), and what was expected.
pub(crate) fn text(
    input: &MessageDescriptor,
    text: &[u8],
    given: &[String],
) -> Result<Vec<u8>, Invalid> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let mut state = State::new(given);
    let mut out = Vec::with_capacity(text.len().min(1 << 16));
    let read = state.message(input, &mut out).deserialize(&mut reader);
    read.and_then(|()| reader.end())
        .map_err(|error| state.wrong(&error))?;
    Ok(out)
}

/// Reads a JSON value likewise.
pub(crate) fn value(
    input: &MessageDescriptor,
    value: serde_json::Value,
) -> Result<Vec<u8>, Invalid> {
    let mut state = State::new(&[]);
    let mut out = Vec::new();
    state
        .message(input, &mut out)
        .deserialize(value)
        .map_err(|error| state.wrong(&error))?;
    Ok(out)
}

/// Writes a text field, as the wire has it.
pub(crate) fn put_text(field: &FieldDescriptor, text: &str, out: &mut Vec<u8>) {
    put_bytes(field, text.as_bytes(), out);
}

fn put_bytes(field: &FieldDescriptor, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(field.number(), WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

enum Step {
    Field(String),
    Place(usize),
}

/// Where the reader stands, and what it found wrong there.
struct State<'a> {
    given: &'a [String],
    path: Vec<Step>,
    problem: Option<String>,
    elements: usize,
}

impl<'a> State<'a> {
    fn new(given: &'a [String]) -> Self {
        Self {
            given,
            path: Vec::new(),
            problem: None,
            elements: 0,
        }
    }

    fn message<'s>(
        &'s mut self,
        message: &'s MessageDescriptor,
        out: &'s mut Vec<u8>,
    ) -> MessageSeed<'s, 'a> {
        MessageSeed {
            state: self,
            message,
            out,
        }
    }

    /// Keeps the problem with the place where it is; the error only ends the reading.
    fn refuse<E: Error>(&mut self, problem: impl Into<String>) -> E {
        let problem = problem.into();
        let error = E::custom(&problem);
        self.problem = Some(problem);
        error
    }

    fn field(&self) -> String {
        let mut field = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) if field.is_empty() => field.push_str(name),
                Step::Field(name) => field.extend([".", name]),
                Step::Place(place) => field.push_str(&format!("[{place}]")),
            }
        }
        if field.is_empty() {
            field.push_str("body");
        }
        field
    }

    fn wrong(&self, error: &serde_json::Error) -> Invalid {
        let problem = match (&self.problem, error.classify()) {
            (Some(problem), _) => problem.clone(),
            (None, Category::Data) => without_place(error),
            (None, Category::Eof) => {
                format!("expected JSON, which ends too early at {}", place(error))
            }
            (None, _) => format!(
                "expected JSON: {} at {}",
                without_place(error),
                place(error)
            ),
        };
        Invalid::new(self.field(), problem)
    }
}

fn place(error: &serde_json::Error) -> String {
    format!("line {} column {}", error.line(), error.column())
}

fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((problem, _)) => problem.to_owned(),
        None => text,
    }
}

struct MessageSeed<'s, 'a> {
    state: &'s mut State<'a>,
    message: &'s MessageDescriptor,
    out: &'s mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen: Vec<u32> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let field = self
                .message
                .get_field_by_name(&name)
                .or_else(|| self.message.get_field_by_json_name(&name));
            self.state.path.push(Step::Field(match &field {
                Some(field) => field.name().to_owned(),
                None => shortened(&name),
            }));
            let Some(field) = field else {
                let problem = format!("is not known here; {}", known(self.message));
                return Err(self.state.refuse(problem));
            };
            if self.state.path.len() == 1 && self.state.given.iter().any(|it| it == field.name()) {
                return Err(self.state.refuse("is given by the path; leave it out here"));
            }
            if let Some(problem) = repeated(&field, &seen) {
                return Err(self.state.refuse(problem));
            }
            seen.push(field.number());
            map.next_value_seed(FieldSeed {
                state: self.state,
                field: &field,
                out: self.out,
            })?;
            self.state.path.pop();
        }
        Ok(())
    }
}

/// What is wrong with one more field after those that were seen: the same again, or its alternative.
fn repeated(field: &FieldDescriptor, seen: &[u32]) -> Option<String> {
    if seen.contains(&field.number()) {
        return Some("is given twice; give it once, under one of its names".into());
    }
    let alternatives = field.containing_oneof()?;
    let other = alternatives
        .fields()
        .find(|other| seen.contains(&other.number()))?;
    let problem = format!("excludes `{}`, which is given too", other.name());
    (!field.field_descriptor_proto().proto3_optional()).then_some(problem)
}

fn known(message: &MessageDescriptor) -> String {
    let mut names: Vec<String> = message
        .fields()
        .map(|field| field.name().to_owned())
        .collect();
    names.sort();
    match names.is_empty() {
        true => "nothing is".into(),
        false => format!("known are {}", names.join(", ")),
    }
}

fn shortened(name: &str) -> String {
    name.chars().take(64).collect()
}

struct FieldSeed<'s, 'a> {
    state: &'s mut State<'a>,
    field: &'s FieldDescriptor,
    out: &'s mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for FieldSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    // A field that is null is as if it were not there.
    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        if self.field.is_list() {
            return reader.deserialize_seq(ListVisitor(self));
        }
        let element = ElementSeed(self);
        element.deserialize(reader)
    }
}

struct ListVisitor<'s, 'a>(FieldSeed<'s, 'a>);

impl<'de> Visitor<'de> for ListVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let FieldSeed { state, field, out } = self.0;
        let most = match field.kind() {
            Kind::Message(_) => LIST_MESSAGES,
            _ => LIST_ELEMENTS,
        };
        for place in 0.. {
            state.path.push(Step::Place(place));
            let seed = Bounded {
                most,
                place,
                seed: FieldSeed { state, field, out },
            };
            let more = list.next_element_seed(seed)?;
            state.path.pop();
            if more.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// An element of a list, refused before it is read if the list is too long.
struct Bounded<'s, 'a> {
    most: usize,
    place: usize,
    seed: FieldSeed<'s, 'a>,
}

impl<'de> DeserializeSeed<'de> for Bounded<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        let state = self.seed.state;
        state.elements += 1;
        if self.place >= self.most {
            state.path.pop();
            let most = self.most;
            let problem =
                format!("expected at most {most} elements; send the rest in another call");
            return Err(state.refuse(problem));
        }
        if state.elements > LIST_ELEMENTS {
            let problem = format!(
                "expected at most {LIST_ELEMENTS} list elements in one body; send the rest in another call"
            );
            return Err(state.refuse(problem));
        }
        let (field, out) = (self.seed.field, self.seed.out);
        ElementSeed(FieldSeed { state, field, out }).deserialize(reader)
    }
}

/// One value that is there: a message, a moment, or a scalar.
struct ElementSeed<'s, 'a>(FieldSeed<'s, 'a>);

impl<'de> DeserializeSeed<'de> for ElementSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        let FieldSeed { state, field, out } = self.0;
        let Kind::Message(message) = field.kind() else {
            return reader.deserialize_any(ScalarVisitor(FieldSeed { state, field, out }));
        };
        let mut inner = Vec::new();
        if message.full_name().starts_with("google.protobuf.") {
            let read = message.clone().deserialize(reader);
            let known = read.map_err(|error| {
                let expected = match message.name() {
                    "Timestamp" => "expected a time like 2026-11-21T08:00:00Z".to_owned(),
                    name => format!("expected a {name}: {error}"),
                };
                state.refuse(expected)
            })?;
            inner = known.encode_to_vec();
        } else {
            state.message(&message, &mut inner).deserialize(reader)?;
        }
        put_bytes(field, &inner, out);
        Ok(())
    }
}

struct ScalarVisitor<'s, 'a>(FieldSeed<'s, 'a>);

impl ScalarVisitor<'_, '_> {
    fn take<E: Error>(self, found: Scalar<'_>) -> Result<(), E> {
        let FieldSeed { state, field, out } = self.0;
        scalar::put(field, found, out).map_err(|problem| state.refuse(problem))
    }
}

impl<'de> Visitor<'de> for ScalarVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&scalar::expected(&self.0.field.kind()))
    }

    fn visit_bool<E: Error>(self, found: bool) -> Result<(), E> {
        self.take(Scalar::Truth(found))
    }

    fn visit_i64<E: Error>(self, found: i64) -> Result<(), E> {
        self.take(Scalar::Whole(found.into()))
    }

    fn visit_u64<E: Error>(self, found: u64) -> Result<(), E> {
        self.take(Scalar::Whole(found.into()))
    }

    fn visit_f64<E: Error>(self, found: f64) -> Result<(), E> {
        self.take(Scalar::Fraction(found))
    }

    fn visit_str<E: Error>(self, found: &str) -> Result<(), E> {
        self.take(Scalar::Text(found))
    }
}

#[cfg(test)]
mod tests;
