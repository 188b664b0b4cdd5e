//! Which points a filter takes.

use std::collections::HashMap;

use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::r#match::MatchValue;
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::{Condition, FieldCondition, Filter, Match, Range, Value};
use tonic::Status;

use crate::engine::{Id, Point};

/// Whether a filter takes a point.
pub(crate) fn takes(filter: &Filter, id: Id, point: &Point) -> bool {
    let holds = |condition: &Condition| holds(condition, id, point);
    filter.must.iter().all(holds)
        && !filter.must_not.iter().any(holds)
        && (filter.should.is_empty() || filter.should.iter().any(holds))
}

fn holds(condition: &Condition, id: Id, point: &Point) -> bool {
    match &condition.condition_one_of {
        Some(ConditionOneOf::Field(field)) => field_holds(field, &point.payload),
        Some(ConditionOneOf::Filter(filter)) => takes(filter, id, point),
        Some(ConditionOneOf::HasId(wanted)) => wanted
            .has_id
            .iter()
            .any(|wanted| Id::read(Some(wanted)) == Some(id)),
        _ => false,
    }
}

/// A field with a list holds if any of its values does.
fn field_holds(field: &FieldCondition, payload: &HashMap<String, Value>) -> bool {
    let values = match payload
        .get(&field.key)
        .and_then(|value| value.kind.as_ref())
    {
        Some(Kind::ListValue(list)) => list.values.iter().collect(),
        Some(_) => payload.get(&field.key).into_iter().collect(),
        None => Vec::new(),
    };
    values.into_iter().any(|value| {
        let matches = field
            .r#match
            .as_ref()
            .is_none_or(|wanted| matches(wanted, value));
        matches
            && field
                .range
                .as_ref()
                .is_none_or(|range| within(range, value))
    })
}

fn matches(wanted: &Match, value: &Value) -> bool {
    match (&wanted.match_value, &value.kind) {
        (Some(MatchValue::Keyword(wanted)), Some(Kind::StringValue(found))) => wanted == found,
        (Some(MatchValue::Keywords(wanted)), Some(Kind::StringValue(found))) => {
            wanted.strings.contains(found)
        }
        (Some(MatchValue::Integer(wanted)), Some(Kind::IntegerValue(found))) => wanted == found,
        (Some(MatchValue::Boolean(wanted)), Some(Kind::BoolValue(found))) => wanted == found,
        _ => false,
    }
}

fn within(range: &Range, value: &Value) -> bool {
    let number = match value.kind {
        Some(Kind::IntegerValue(number)) => number as f64,
        Some(Kind::DoubleValue(number)) => number,
        _ => return false,
    };
    range.gte.is_none_or(|bound| number >= bound)
        && range.gt.is_none_or(|bound| number > bound)
        && range.lte.is_none_or(|bound| number <= bound)
        && range.lt.is_none_or(|bound| number < bound)
}

/// Refuses a filter on a field that has no payload index, and conditions that are not served.
pub(crate) fn check(filter: &Filter, has_index: &dyn Fn(&str) -> bool) -> Result<(), Status> {
    for condition in filter
        .must
        .iter()
        .chain(&filter.must_not)
        .chain(&filter.should)
    {
        match &condition.condition_one_of {
            Some(ConditionOneOf::Field(field)) if has_index(&field.key) => {}
            Some(ConditionOneOf::Field(field)) => {
                let problem = format!("Index required but not found for \"{}\"", field.key);
                return Err(Status::invalid_argument(problem));
            }
            Some(ConditionOneOf::Filter(nested)) => check(nested, has_index)?,
            Some(ConditionOneOf::HasId(_)) => {}
            other => {
                let problem = format!("condition not served: {other:?}");
                return Err(Status::invalid_argument(problem));
            }
        }
    }
    Ok(())
}
