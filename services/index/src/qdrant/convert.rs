//! The store's messages between wire and domain.

use std::collections::HashMap;

use commonplace_rpc::convert::Filter;
use commonplace_types::Visible;
use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::r#match::MatchValue;
use qdrant_client::qdrant::payload_index_params::IndexParams;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::{self as wire, Condition, FieldCondition, Range, Value};

use super::options::{QdrantOptions, Quantization};
use super::point::{Owner, Payload, Point, PointId, Stored, attribute};
use super::store::Hit;
use crate::vectors::DIMENSION;

/// Points read at once.
const PAGE: u32 = 1_000;
/// Bounds of a range that is open.
const OPEN: Range = Range {
    lt: None,
    gt: None,
    gte: None,
    lte: None,
};

/// What a collection is to be like.
pub(crate) struct Layout<'a> {
    pub(crate) collection: &'a str,
    pub(crate) options: &'a QdrantOptions,
}

/// The best of a project's rows at a commit.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) owner: Owner,
    /// Of length 1.
    pub(crate) vector: Vec<f32>,
    /// What the commit sees.
    pub(crate) visible: Visible,
    /// Only rows below this number.
    pub(crate) rows_below: usize,
    pub(crate) filter: Filter,
    /// Those that are live and that the filter takes, or else the other visible ones.
    pub(crate) eligible: bool,
    pub(crate) limit: u32,
    pub(crate) exact: bool,
}

/// Asks for the collection to be made.
pub(crate) fn create(layout: &Layout<'_>) -> wire::CreateCollection {
    let options = layout.options;
    let quantization = wire::ScalarQuantization {
        r#type: wire::QuantizationType::Int8.into(),
        ..Default::default()
    };
    let quantization = wire::QuantizationConfig {
        quantization: Some(wire::quantization_config::Quantization::Scalar(
            quantization,
        )),
    };
    let vectors = wire::VectorParams {
        size: DIMENSION as u64,
        distance: wire::Distance::Dot.into(),
        ..Default::default()
    };
    // Every search names a tenant, so one graph for each tenant and none over all of them.
    let graph = wire::HnswConfigDiff {
        m: Some(0),
        payload_m: Some(16),
        ..Default::default()
    };
    wire::CreateCollection {
        collection_name: layout.collection.to_owned(),
        hnsw_config: Some(graph),
        shard_number: (options.shard_number > 0).then_some(options.shard_number),
        vectors_config: Some(wire::VectorsConfig {
            config: Some(wire::vectors_config::Config::Params(vectors)),
        }),
        replication_factor: Some(options.replication_factor.max(1)),
        write_consistency_factor: Some(options.write_consistency_factor.max(1)),
        quantization_config: (options.quantization == Quantization::Int8).then_some(quantization),
        ..Default::default()
    }
}

/// Whether a collection holds vectors like ours. Error: what it holds.
pub(crate) fn check_info(
    answer: wire::GetCollectionInfoResponse,
    collection: &str,
) -> Result<(), String> {
    let params = answer
        .result
        .and_then(|info| info.config?.params?.vectors_config?.config);
    let found = match params {
        Some(wire::vectors_config::Config::Params(params)) => (params.size, params.distance),
        _ => (0, 0),
    };
    if found == (DIMENSION as u64, wire::Distance::Dot.into()) {
        return Ok(());
    }
    Err(format!(
        "collection `{collection}` holds other vectors, expected {DIMENSION} dimensions compared by dot product; \
         choose another `index.qdrant.collection_prefix`"
    ))
}

/// Asks for the payload indexes, which must be there before the points.
pub(crate) fn field_indexes(
    collection: &str,
) -> impl Iterator<Item = wire::CreateFieldIndexCollection> {
    let keyword = |is_tenant: bool| {
        IndexParams::KeywordIndexParams(wire::KeywordIndexParams {
            is_tenant: is_tenant.then_some(true),
            enable_hnsw: Some(is_tenant),
            ..Default::default()
        })
    };
    let range = || {
        IndexParams::IntegerIndexParams(wire::IntegerIndexParams {
            lookup: Some(false),
            range: Some(true),
            enable_hnsw: Some(false),
            ..Default::default()
        })
    };
    let flag = || IndexParams::BoolIndexParams(wire::BoolIndexParams::default());
    let keywords = [
        "project",
        "kind",
        "agent",
        "source",
        "record",
        "correlation",
        "tags",
        "attributes",
    ];
    let ranges = ["born", "died", "row", "built_at", "time", "importance"];
    let mut fields = vec![("tenant", wire::FieldType::Keyword, keyword(true))];
    fields.extend(keywords.map(|name| (name, wire::FieldType::Keyword, keyword(false))));
    fields.extend(ranges.map(|name| (name, wire::FieldType::Integer, range())));
    fields.push(("pinned", wire::FieldType::Bool, flag()));
    let collection = collection.to_owned();
    fields.into_iter().map(
        move |(name, kind, params)| wire::CreateFieldIndexCollection {
            collection_name: collection.clone(),
            wait: Some(true),
            field_name: name.to_owned(),
            field_type: Some(kind.into()),
            field_index_params: Some(wire::PayloadIndexParams {
                index_params: Some(params),
            }),
            ..Default::default()
        },
    )
}

/// Writes points. Unless `force`, one that the store has, built from more commits, stays.
pub(crate) fn upsert(
    collection: &str,
    owner: &Owner,
    points: &[Point],
    force: bool,
) -> wire::UpsertPoints {
    let built_at = points.iter().map(|point| point.built_at).min().unwrap_or(0);
    let older = filter(
        vec![range(
            "built_at",
            Range {
                lte: Some(built_at as f64),
                ..OPEN
            },
        )],
        vec![],
    );
    wire::UpsertPoints {
        collection_name: collection.to_owned(),
        wait: Some(true),
        points: points
            .iter()
            .map(|point| point_to_wire(owner, point))
            .collect(),
        ordering: Some(ordering()),
        update_filter: (!force).then_some(older),
        ..Default::default()
    }
}

fn ordering() -> wire::WriteOrdering {
    wire::WriteOrdering {
        r#type: wire::WriteOrderingType::Medium.into(),
    }
}

/// Deletes points.
pub(crate) fn delete(collection: &str, ids: &[PointId]) -> wire::DeletePoints {
    let ids = wire::PointsIdsList {
        ids: ids.iter().map(id_to_wire).collect(),
    };
    wire::DeletePoints {
        collection_name: collection.to_owned(),
        wait: Some(true),
        points: Some(wire::PointsSelector {
            points_selector_one_of: Some(wire::points_selector::PointsSelectorOneOf::Points(ids)),
        }),
        ordering: Some(ordering()),
        ..Default::default()
    }
}

/// Counts an owner's points.
pub(crate) fn count(collection: &str, owner: &Owner) -> wire::CountPoints {
    wire::CountPoints {
        collection_name: collection.to_owned(),
        filter: Some(filter(owned(owner), vec![])),
        exact: Some(true),
        ..Default::default()
    }
}

/// Asks for the next points of an owner.
pub(crate) fn page(collection: &str, owner: &Owner, from: Option<PointId>) -> wire::ScrollPoints {
    wire::ScrollPoints {
        collection_name: collection.to_owned(),
        filter: Some(filter(owned(owner), vec![])),
        offset: from.as_ref().map(id_to_wire),
        limit: Some(PAGE),
        with_payload: Some(true.into()),
        ..Default::default()
    }
}

/// Reads a page of points. A point without a UUID is none of ours and is left out.
pub(crate) fn stored_page(answer: wire::ScrollResponse) -> (Vec<Stored>, Option<PointId>) {
    let points = answer.result.into_iter().filter_map(|point| {
        Some(Stored {
            id: id_from_wire(point.id)?,
            payload: payload_from_wire(&point.payload),
        })
    });
    (points.collect(), id_from_wire(answer.next_page_offset))
}

/// Asks questions in one go.
pub(crate) fn nearest(collection: &str, questions: &[Question]) -> wire::QueryBatchPoints {
    wire::QueryBatchPoints {
        collection_name: collection.to_owned(),
        query_points: questions
            .iter()
            .map(|question| query(collection, question))
            .collect(),
        ..Default::default()
    }
}

fn query(collection: &str, question: &Question) -> wire::QueryPoints {
    let vector = wire::VectorInput {
        variant: Some(wire::vector_input::Variant::Dense(wire::DenseVector {
            data: question.vector.clone(),
        })),
    };
    wire::QueryPoints {
        collection_name: collection.to_owned(),
        query: Some(wire::Query {
            variant: Some(wire::query::Variant::Nearest(vector)),
        }),
        filter: Some(as_of(question)),
        params: Some(wire::SearchParams {
            exact: Some(question.exact),
            ..Default::default()
        }),
        limit: Some(question.limit.into()),
        with_payload: Some(vec!["row"].into()),
        ..Default::default()
    }
}

/// Reads hits, best first for each question.
pub(crate) fn hits(answer: wire::QueryBatchResponse) -> Vec<Vec<Hit>> {
    let hit = |point: wire::ScoredPoint| {
        Some(Hit {
            id: id_from_wire(point.id)?,
            row: number(&point.payload, "row"),
            score: point.score,
        })
    };
    let of_one = |batch: wire::BatchResult| batch.result.into_iter().filter_map(hit).collect();
    answer.result.into_iter().map(of_one).collect()
}

/// Visible is what was born within the commit's intervals; live what has not died within them.
fn as_of(question: &Question) -> wire::Filter {
    let intervals = |key: &str| -> Vec<Condition> {
        let intervals = question.visible.intervals().iter();
        let bounds = intervals.map(|interval| {
            let lane = u64::from(interval.lane) << 32;
            let last = lane + u64::from(interval.position);
            range(
                key,
                Range {
                    gte: Some(lane as f64),
                    lte: Some(last as f64),
                    ..OPEN
                },
            )
        });
        bounds.collect()
    };
    let mut must = owned(&question.owner);
    must.push(range(
        "row",
        Range {
            lt: Some(question.rows_below as f64),
            ..OPEN
        },
    ));
    must.push(nested(wire::Filter {
        should: intervals("born"),
        ..Default::default()
    }));
    let (taken, died) = (conditions(&question.filter), intervals("died"));
    if question.eligible {
        must.extend(taken);
        return filter(must, died);
    }
    filter(must, vec![nested(filter(taken, died))])
}

/// What a filter asks of an event.
fn conditions(wanted: &Filter) -> Vec<Condition> {
    let mut all = Vec::new();
    let mut any = |key: &str, texts: Vec<String>| {
        if !texts.is_empty() {
            all.push(any_of(key, texts));
        }
    };
    let texts = |items: &[String]| items.to_vec();
    any(
        "kind",
        wanted
            .artifact_types
            .iter()
            .map(ToString::to_string)
            .collect(),
    );
    any("tags", texts(&wanted.tags_any));
    any("agent", texts(&wanted.agents));
    any("source", texts(&wanted.sources));
    any(
        "record",
        wanted.record_ids.iter().map(ToString::to_string).collect(),
    );
    for wanted in &wanted.attributes {
        any("attributes", vec![attribute(&wanted.key, &wanted.value)]);
    }
    if !wanted.correlation_id.is_empty() {
        any("correlation", vec![wanted.correlation_id.clone()]);
    }
    if let Some(from) = wanted.from_time {
        all.push(range(
            "time",
            Range {
                gte: Some(from.as_micros() as f64),
                ..OPEN
            },
        ));
    }
    if let Some(to) = wanted.to_time {
        all.push(range(
            "time",
            Range {
                lt: Some(to.as_micros() as f64),
                ..OPEN
            },
        ));
    }
    if let Some(least) = wanted.min_importance {
        all.push(range(
            "importance",
            Range {
                gte: Some(least.millionths().into()),
                ..OPEN
            },
        ));
    }
    if wanted.pinned_only {
        all.push(matching("pinned", MatchValue::Boolean(true)));
    }
    all
}

fn owned(owner: &Owner) -> Vec<Condition> {
    let keyword = |key, text: &str| matching(key, MatchValue::Keyword(text.to_owned()));
    vec![
        keyword("tenant", owner.tenant.as_str()),
        keyword("project", owner.project.as_str()),
    ]
}

fn filter(must: Vec<Condition>, must_not: Vec<Condition>) -> wire::Filter {
    wire::Filter {
        must,
        must_not,
        ..Default::default()
    }
}

fn field(condition: FieldCondition) -> Condition {
    Condition {
        condition_one_of: Some(ConditionOneOf::Field(condition)),
    }
}

fn nested(filter: wire::Filter) -> Condition {
    Condition {
        condition_one_of: Some(ConditionOneOf::Filter(filter)),
    }
}

fn range(key: &str, range: Range) -> Condition {
    field(FieldCondition {
        key: key.to_owned(),
        range: Some(range),
        ..Default::default()
    })
}

fn matching(key: &str, value: MatchValue) -> Condition {
    field(FieldCondition {
        key: key.to_owned(),
        r#match: Some(wire::Match {
            match_value: Some(value),
        }),
        ..Default::default()
    })
}

fn any_of(key: &str, strings: Vec<String>) -> Condition {
    matching(key, MatchValue::Keywords(wire::RepeatedStrings { strings }))
}

fn id_to_wire(id: &PointId) -> wire::PointId {
    wire::PointId {
        point_id_options: Some(PointIdOptions::Uuid(id.text())),
    }
}

fn id_from_wire(id: Option<wire::PointId>) -> Option<PointId> {
    match id?.point_id_options? {
        PointIdOptions::Uuid(text) => PointId::parse(&text),
        PointIdOptions::Num(_) => None,
    }
}

fn point_to_wire(owner: &Owner, point: &Point) -> wire::PointStruct {
    let mut payload = payload_to_wire(&point.payload);
    let mut put = |key: &str, kind| payload.insert(key.to_owned(), value(kind));
    put("tenant", Kind::StringValue(owner.tenant.to_string()));
    put("project", Kind::StringValue(owner.project.to_string()));
    put("built_at", Kind::IntegerValue(point.built_at as i64));
    let vector = wire::Vector {
        vector: Some(wire::vector::Vector::Dense(wire::DenseVector {
            data: point.vector.clone(),
        })),
        ..Default::default()
    };
    wire::PointStruct {
        id: Some(id_to_wire(&point.id)),
        payload,
        vectors: Some(wire::Vectors {
            vectors_options: Some(wire::vectors::VectorsOptions::Vector(vector)),
        }),
    }
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn list(kinds: impl Iterator<Item = Kind>) -> Kind {
    Kind::ListValue(wire::ListValue {
        values: kinds.map(value).collect(),
    })
}

fn payload_to_wire(payload: &Payload) -> HashMap<String, Value> {
    let text = |text: &String| Kind::StringValue(text.clone());
    let texts = |texts: &[String]| list(texts.iter().map(text));
    let number = |number: i64| Kind::IntegerValue(number);
    let keys = |keys: &[u64]| list(keys.iter().map(|key| Kind::IntegerValue(*key as i64)));
    [
        ("row", number(payload.row.into())),
        ("event", text(&payload.event)),
        ("passage", number(payload.passage.into())),
        ("content", text(&payload.content)),
        ("born", keys(&payload.born)),
        ("died", keys(&payload.died)),
        ("kind", text(&payload.kind)),
        ("agent", text(&payload.agent)),
        ("source", text(&payload.source)),
        ("record", text(&payload.record)),
        ("correlation", text(&payload.correlation)),
        ("tags", texts(&payload.tags)),
        ("attributes", texts(&payload.attributes)),
        ("time", number(payload.time)),
        ("importance", number(payload.importance.into())),
        ("pinned", Kind::BoolValue(payload.pinned)),
    ]
    .map(|(key, kind)| (key.to_owned(), value(kind)))
    .into()
}

/// What is absent or of another kind is read as nothing, so that a check finds it different.
fn payload_from_wire(payload: &HashMap<String, Value>) -> Payload {
    let text = |key: &str| payload.get(key).and_then(text_of).unwrap_or_default();
    let values = |key: &str| match payload.get(key).and_then(|value| value.kind.as_ref()) {
        Some(Kind::ListValue(list)) => list.values.as_slice(),
        _ => &[],
    };
    let texts = |key: &str| values(key).iter().filter_map(text_of).collect();
    let keys = |key: &str| {
        values(key)
            .iter()
            .filter_map(integer_of)
            .map(|key| key as u64)
            .collect()
    };
    let pinned = payload.get("pinned").and_then(|value| value.kind.as_ref());
    Payload {
        row: number(payload, "row"),
        event: text("event"),
        passage: number(payload, "passage"),
        content: text("content"),
        born: keys("born"),
        died: keys("died"),
        kind: text("kind"),
        agent: text("agent"),
        source: text("source"),
        record: text("record"),
        correlation: text("correlation"),
        tags: texts("tags"),
        attributes: texts("attributes"),
        time: payload.get("time").and_then(integer_of).unwrap_or(i64::MIN),
        importance: number(payload, "importance"),
        pinned: pinned == Some(&Kind::BoolValue(true)),
    }
}

/// A number that fits, or the greatest, which no row has.
fn number(payload: &HashMap<String, Value>, key: &str) -> u32 {
    let found = payload.get(key).and_then(integer_of);
    found
        .and_then(|number| u32::try_from(number).ok())
        .unwrap_or(u32::MAX)
}

fn integer_of(value: &Value) -> Option<i64> {
    match value.kind {
        Some(Kind::IntegerValue(number)) => Some(number),
        _ => None,
    }
}

fn text_of(value: &Value) -> Option<String> {
    match &value.kind {
        Some(Kind::StringValue(text)) => Some(text.clone()),
        _ => None,
    }
}
