//! One JSON value into one scalar field of the wire.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind};

/// What JSON can say for a scalar.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scalar<'a> {
    Truth(bool),
    Whole(i128),
    Fraction(f64),
    Text(&'a str),
}

/// Doubles hold every whole number up to here exactly.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// Most of a wrong text that an answer repeats.
const SHOWN: usize = 64;

/// Writes the value as the field's kind. Error: what was expected, and what was found.
pub(crate) fn put(
    field: &FieldDescriptor,
    found: Scalar<'_>,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let kind = field.kind();
    let wrong = || format!("expected {}, found {}", expected(&kind), shown(found));
    match wire(&kind, found).ok_or_else(wrong)? {
        Wire::Varint(number) => {
            encode_key(field.number(), WireType::Varint, out);
            encode_varint(number, out);
        }
        Wire::Double(number) => {
            encode_key(field.number(), WireType::SixtyFourBit, out);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Wire::Text(text) => {
            encode_key(field.number(), WireType::LengthDelimited, out);
            encode_varint(text.len() as u64, out);
            out.extend_from_slice(text.as_bytes());
        }
        Wire::Bytes(bytes) => {
            encode_key(field.number(), WireType::LengthDelimited, out);
            encode_varint(bytes.len() as u64, out);
            out.extend_from_slice(&bytes);
        }
    }
    Ok(())
}

/// Whether fields of a kind can be given as JSON.
#[cfg(test)]
pub(crate) fn can_be_given(kind: &Kind) -> bool {
    !expected(kind).starts_with("nothing")
}

enum Wire<'a> {
    Varint(u64),
    Double(f64),
    Text(&'a str),
    Bytes(Vec<u8>),
}

fn wire<'a>(kind: &Kind, found: Scalar<'a>) -> Option<Wire<'a>> {
    match (kind, found) {
        (Kind::String, Scalar::Text(text)) => Some(Wire::Text(text)),
        (Kind::Bytes, Scalar::Text(text)) => decode(text).map(Wire::Bytes),
        (Kind::Bool, Scalar::Truth(truth)) => Some(Wire::Varint(truth.into())),
        (Kind::Double, found) => fraction(found).map(Wire::Double),
        (Kind::Enum(names), found) => one_of(names, found).map(Wire::Varint),
        (kind, found) => {
            let (least, most) = bounds(kind)?;
            let number = whole(found).filter(|number| (least..=most).contains(number))?;
            // Negative numbers go as their two's complement over 64 bits.
            Some(Wire::Varint(number as u64))
        }
    }
}

fn bounds(kind: &Kind) -> Option<(i128, i128)> {
    match kind {
        Kind::Int32 => Some((i32::MIN.into(), i32::MAX.into())),
        Kind::Int64 => Some((i64::MIN.into(), i64::MAX.into())),
        Kind::Uint32 => Some((0, u32::MAX.into())),
        Kind::Uint64 => Some((0, u64::MAX.into())),
        _ => None,
    }
}

fn whole(found: Scalar<'_>) -> Option<i128> {
    match found {
        Scalar::Whole(number) => Some(number),
        Scalar::Fraction(number) if number.fract() == 0.0 && number.abs() <= EXACT => {
            Some(number as i128)
        }
        Scalar::Text(text) => text.parse().ok(),
        _ => None,
    }
}

fn fraction(found: Scalar<'_>) -> Option<f64> {
    match found {
        Scalar::Whole(number) => Some(number as f64),
        Scalar::Fraction(number) => Some(number),
        Scalar::Text("NaN") => Some(f64::NAN),
        Scalar::Text("Infinity") => Some(f64::INFINITY),
        Scalar::Text("-Infinity") => Some(f64::NEG_INFINITY),
        Scalar::Text(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
        Scalar::Truth(_) => None,
    }
}

fn one_of(names: &EnumDescriptor, found: Scalar<'_>) -> Option<u64> {
    let value = match found {
        Scalar::Text(name) => names.get_value_by_name(name)?,
        found => names.get_value(i32::try_from(whole(found)?).ok()?)?,
    };
    Some(value.number() as u64)
}

/// Base64 in either alphabet, padded or not.
fn decode(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let alphabet = match text.contains(['-', '_']) {
        true => &URL_SAFE,
        false => &STANDARD,
    };
    GeneralPurpose::new(alphabet, config).decode(text).ok()
}

/// What a kind of field takes, in words.
pub(crate) fn expected(kind: &Kind) -> String {
    match kind {
        Kind::String => "a text".into(),
        Kind::Bytes => "a text in base64".into(),
        Kind::Bool => "true or false".into(),
        Kind::Double => "a number".into(),
        Kind::Enum(names) => {
            let names: Vec<String> = names.values().map(|v| v.name().to_owned()).collect();
            format!("one of {}", names.join(", "))
        }
        Kind::Message(_) => "an object".into(),
        kind => match bounds(kind) {
            Some((least, most)) => format!("a whole number from {least} to {most}"),
            None => "nothing that JSON can say".into(),
        },
    }
}

fn shown(found: Scalar<'_>) -> String {
    match found {
        Scalar::Truth(truth) => truth.to_string(),
        Scalar::Whole(number) => number.to_string(),
        Scalar::Fraction(number) => number.to_string(),
        Scalar::Text(text) => {
            let start: String = text.chars().take(SHOWN).collect();
            format!("`{}`", start.escape_debug())
        }
    }
}
