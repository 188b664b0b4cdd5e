//! The rpcs: read the message, ask or change the engine, write the answer.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qdrant_client::qdrant::{self as wire, PointsOperationResponse, UpdateStatus, Value};
use tonic::{Request, Response, Status};

use crate::Options;
use crate::engine::{Engine, Id, Point};
use crate::faults::Faults;
use crate::log::{Log, Write};
use crate::peers::Peers;

/// Marks a call that a peer passed on.
pub(crate) const PASSED_ON: &str = "x-passed-on";
/// Points of a page that names no limit.
const PAGE: u32 = 10;

/// Serves collections, points and health.
#[derive(Clone)]
pub(crate) struct Service {
    held: Arc<Mutex<(Engine, Log)>>,
    pub(crate) faults: Arc<Faults>,
    peers: Arc<Peers>,
    api_key: Arc<str>,
}

impl Service {
    pub(crate) fn open(options: &Options, faults: Arc<Faults>) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&options.data)?;
        let mut engine = Engine::default();
        let path: &Path = &options.data.join("writes.log");
        let log = Log::open(path, |write| {
            // What was logged had been checked.
            let _ = engine.apply(write);
        })?;
        Ok(Self {
            held: Arc::new(Mutex::new((engine, log))),
            faults,
            peers: Arc::new(Peers::new(&options.peers, &options.api_key)),
            api_key: options.api_key.as_str().into(),
        })
    }

    /// Copies what the first peer that answers holds.
    pub(crate) async fn catch_up(&self) {
        for write in self.peers.everything().await {
            let _ = self.apply(write);
        }
    }

    fn held(&self) -> MutexGuard<'_, (Engine, Log)> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, write: Write) -> Result<(), Status> {
        let mut held = self.held();
        let (engine, log) = &mut *held;
        engine.check(&write)?;
        let logged = log.append(&write);
        logged.map_err(|error| Status::internal(format!("the log cannot be written: {error}")))?;
        engine.apply(write)
    }

    /// Admits a call. Error: it has not the key, or is made to fail.
    pub(crate) async fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let sent = request
            .metadata()
            .get("api-key")
            .and_then(|key| key.to_str().ok());
        if !self.api_key.is_empty() && sent != Some(&self.api_key) {
            return Err(Status::unauthenticated(
                "Must provide an API key or an Authorization bearer token",
            ));
        }
        self.faults.before().await
    }

    /// Does a write here and at the peers.
    pub(crate) async fn write<T>(
        &self,
        request: Request<T>,
        read: impl FnOnce(T) -> Write,
    ) -> Result<(), Status> {
        self.admit(&request).await?;
        self.faults.before_write()?;
        let passed_on = request.metadata().contains_key(PASSED_ON);
        let write = read(request.into_inner());
        self.apply(write.clone())?;
        if !passed_on {
            self.peers.pass_on(&write).await;
        }
        self.faults.after_write()
    }

    /// Does a write of points.
    pub(crate) async fn operate<T>(
        &self,
        request: Request<T>,
        read: impl FnOnce(T) -> Write,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        self.write(request, read).await?;
        let result = wire::UpdateResult {
            status: UpdateStatus::Completed.into(),
            ..Default::default()
        };
        Ok(Response::new(PointsOperationResponse {
            result: Some(result),
            ..Default::default()
        }))
    }

    /// Answers from what is held.
    pub(crate) async fn read<T, A>(
        &self,
        request: Request<T>,
        answer: impl FnOnce(&Engine, T) -> Result<A, Status>,
    ) -> Result<Response<A>, Status> {
        self.admit(&request).await?;
        answer(&self.held().0, request.into_inner()).map(Response::new)
    }
}

/// Answers one query.
pub(crate) fn query(
    engine: &Engine,
    query: &wire::QueryPoints,
) -> Result<Vec<wire::ScoredPoint>, Status> {
    let collection = engine.collection(&query.collection_name)?;
    collection.check(query.filter.as_ref())?;
    let vector = nearest_vector(query.query.as_ref());
    let vector = vector.ok_or_else(|| {
        Status::invalid_argument("only the nearest of one dense vector is served")
    })?;
    let limit = query.limit.unwrap_or(10) as usize;
    let found = collection.nearest(vector, query.filter.as_ref(), limit);
    let point = |(id, score, point): (Id, f32, &Point)| wire::ScoredPoint {
        id: Some(id.write()),
        payload: shown_payload(point, query.with_payload.as_ref()),
        score,
        ..Default::default()
    };
    Ok(found.into_iter().map(point).collect())
}

fn nearest_vector(query: Option<&wire::Query>) -> Option<&[f32]> {
    let wire::query::Variant::Nearest(input) = query?.variant.as_ref()? else {
        return None;
    };
    match input.variant.as_ref()? {
        wire::vector_input::Variant::Dense(dense) => Some(&dense.data),
        _ => None,
    }
}

/// Answers a page of points by id.
pub(crate) fn scroll(
    engine: &Engine,
    scroll: &wire::ScrollPoints,
) -> Result<wire::ScrollResponse, Status> {
    let collection = engine.collection(&scroll.collection_name)?;
    collection.check(scroll.filter.as_ref())?;
    let from = Id::read(scroll.offset.as_ref());
    let limit = scroll.limit.unwrap_or(PAGE) as usize;
    let taken = collection.taken(scroll.filter.as_ref());
    let mut taken = taken.filter(|(id, _)| from.is_none_or(|from| *id >= from));
    let page: Vec<_> = taken.by_ref().take(limit).collect();
    let point = |(id, point): (Id, &Point)| {
        retrieved(
            id,
            point,
            scroll.with_payload.as_ref(),
            scroll.with_vectors.as_ref(),
        )
    };
    Ok(wire::ScrollResponse {
        next_page_offset: taken.next().map(|(id, _)| id.write()),
        result: page.into_iter().map(point).collect(),
        ..Default::default()
    })
}

/// Answers points by id.
pub(crate) fn get(engine: &Engine, get: &wire::GetPoints) -> Result<wire::GetResponse, Status> {
    let collection = engine.collection(&get.collection_name)?;
    let ids = get.ids.iter().filter_map(|id| Id::read(Some(id)));
    let found = ids.filter_map(|id| Some((id, collection.points.get(&id)?)));
    let point = |(id, point)| {
        retrieved(
            id,
            point,
            get.with_payload.as_ref(),
            get.with_vectors.as_ref(),
        )
    };
    Ok(wire::GetResponse {
        result: found.map(point).collect(),
        ..Default::default()
    })
}

fn retrieved(
    id: Id,
    point: &Point,
    with_payload: Option<&wire::WithPayloadSelector>,
    with_vectors: Option<&wire::WithVectorsSelector>,
) -> wire::RetrievedPoint {
    let wanted = with_vectors.and_then(|selector| selector.selector_options.as_ref());
    let wanted = matches!(
        wanted,
        Some(wire::with_vectors_selector::SelectorOptions::Enable(true))
    );
    let vectors = wire::VectorsOutput {
        vectors_options: Some(wire::vectors_output::VectorsOptions::Vector(
            wire::VectorOutput {
                vector: Some(wire::vector_output::Vector::Dense(wire::DenseVector {
                    data: point.vector.clone(),
                })),
                ..Default::default()
            },
        )),
    };
    wire::RetrievedPoint {
        id: Some(id.write()),
        payload: shown_payload(point, with_payload),
        vectors: wanted.then_some(vectors),
        ..Default::default()
    }
}

fn shown_payload(
    point: &Point,
    wanted: Option<&wire::WithPayloadSelector>,
) -> HashMap<String, Value> {
    use wire::with_payload_selector::SelectorOptions;
    let shown = |takes: &dyn Fn(&String) -> bool| {
        let fields = point.payload.iter().filter(|(key, _)| takes(key));
        fields
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    match wanted.and_then(|selector| selector.selector_options.as_ref()) {
        Some(SelectorOptions::Enable(true)) => shown(&|_| true),
        Some(SelectorOptions::Include(include)) => shown(&|key| include.fields.contains(key)),
        Some(SelectorOptions::Exclude(exclude)) => shown(&|key| !exclude.fields.contains(key)),
        _ => HashMap::new(),
    }
}

/// Describes a collection.
pub(crate) fn info(engine: &Engine, name: &str) -> Result<wire::GetCollectionInfoResponse, Status> {
    let collection = engine.collection(name)?;
    let made = &collection.made;
    let params = wire::CollectionParams {
        shard_number: made.shard_number.unwrap_or(1),
        vectors_config: made.vectors_config.clone(),
        replication_factor: made.replication_factor,
        write_consistency_factor: made.write_consistency_factor,
        ..Default::default()
    };
    let config = wire::CollectionConfig {
        params: Some(params),
        hnsw_config: made.hnsw_config,
        quantization_config: made.quantization_config,
        ..Default::default()
    };
    let schema = collection.indexes.iter().map(|(field, index)| {
        let info = wire::PayloadSchemaInfo {
            data_type: payload_type(index.field_type()).into(),
            params: index.field_index_params.clone(),
            ..Default::default()
        };
        (field.clone(), info)
    });
    let info = wire::CollectionInfo {
        status: wire::CollectionStatus::Green.into(),
        segments_count: 1,
        config: Some(config),
        payload_schema: schema.collect(),
        points_count: Some(collection.points.len() as u64),
        ..Default::default()
    };
    Ok(wire::GetCollectionInfoResponse {
        result: Some(info),
        ..Default::default()
    })
}

fn payload_type(field: wire::FieldType) -> wire::PayloadSchemaType {
    match field {
        wire::FieldType::Keyword => wire::PayloadSchemaType::Keyword,
        wire::FieldType::Integer => wire::PayloadSchemaType::Integer,
        wire::FieldType::Float => wire::PayloadSchemaType::Float,
        wire::FieldType::Bool => wire::PayloadSchemaType::Bool,
        _ => wire::PayloadSchemaType::UnknownType,
    }
}
