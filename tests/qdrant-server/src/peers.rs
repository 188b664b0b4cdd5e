//! Other servers that are to hold the same.

use std::time::Duration;

use qdrant_client::qdrant::collections_client::CollectionsClient;
use qdrant_client::qdrant::points_client::PointsClient;
use qdrant_client::qdrant::{self as wire, vector_output, vectors_output};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::MESSAGE_BYTES;
use crate::log::Write;
use crate::service::PASSED_ON;

/// Until a peer counts as gone.
const PATIENCE: Duration = Duration::from_secs(2);
/// Points copied at once.
const PAGE: u32 = 1_000;

/// The other servers.
pub(crate) struct Peers {
    channels: Vec<Channel>,
    key: Option<MetadataValue<Ascii>>,
}

impl Peers {
    pub(crate) fn new(addresses: &[String], api_key: &str) -> Self {
        let endpoints = addresses
            .iter()
            .filter_map(|address| Endpoint::from_shared(address.clone()).ok());
        let channels = endpoints.map(|endpoint| endpoint.connect_timeout(PATIENCE).connect_lazy());
        Self {
            channels: channels.collect(),
            key: Some(api_key)
                .filter(|key| !key.is_empty())
                .and_then(|key| key.parse().ok()),
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(PATIENCE);
        let metadata = request.metadata_mut();
        metadata.insert(PASSED_ON, MetadataValue::from_static("1"));
        if let Some(key) = &self.key {
            metadata.insert("api-key", key.clone());
        }
        request
    }

    /// Does a write at every peer that answers.
    pub(crate) async fn pass_on(&self, write: &Write) {
        for channel in &self.channels {
            let sent = tokio::time::timeout(PATIENCE, self.send(channel.clone(), write.clone()));
            // One that is gone copies everything when it comes back.
            let _ = sent.await;
        }
    }

    async fn send(&self, channel: Channel, write: Write) -> Result<(), Status> {
        let mut points =
            PointsClient::new(channel.clone()).max_encoding_message_size(MESSAGE_BYTES);
        let mut collections = CollectionsClient::new(channel);
        match write {
            Write::Create(message) => collections.create(self.request(message)).await.map(drop),
            Write::Drop(message) => collections.delete(self.request(message)).await.map(drop),
            Write::Index(message) => points
                .create_field_index(self.request(message))
                .await
                .map(drop),
            Write::Upsert(message) => points.upsert(self.request(message)).await.map(drop),
            Write::Delete(message) => points.delete(self.request(message)).await.map(drop),
            Write::Set(message) => points.set_payload(self.request(message)).await.map(drop),
            Write::Overwrite(message) => points
                .overwrite_payload(self.request(message))
                .await
                .map(drop),
        }
    }

    /// Writes that give what the first peer that answers holds. Collections are dropped first, so that what was deleted
    /// meanwhile does not stay. None when no peer answers.
    pub(crate) async fn everything(&self) -> Vec<Write> {
        for channel in &self.channels {
            if let Ok(writes) = self.copy(channel.clone()).await {
                return writes;
            }
        }
        Vec::new()
    }

    async fn copy(&self, channel: Channel) -> Result<Vec<Write>, Status> {
        let mut collections = CollectionsClient::new(channel.clone());
        let mut points = PointsClient::new(channel).max_decoding_message_size(MESSAGE_BYTES);
        let listed = collections
            .list(self.request(wire::ListCollectionsRequest {}))
            .await?;
        let mut writes = Vec::new();
        for collection in listed.into_inner().collections {
            let collection_name = collection.name;
            let dropped = wire::DeleteCollection {
                collection_name: collection_name.clone(),
                ..Default::default()
            };
            writes.push(Write::Drop(dropped));
            let asked = wire::GetCollectionInfoRequest {
                collection_name: collection_name.clone(),
            };
            let info = collections.get(self.request(asked)).await?.into_inner();
            writes.extend(layout(&collection_name, info.result.unwrap_or_default()));
            let mut offset = None;
            loop {
                let asked = wire::ScrollPoints {
                    collection_name: collection_name.clone(),
                    limit: Some(PAGE),
                    offset,
                    with_payload: Some(true.into()),
                    with_vectors: Some(true.into()),
                    ..Default::default()
                };
                let page = points.scroll(self.request(asked)).await?.into_inner();
                writes.push(Write::Upsert(wire::UpsertPoints {
                    collection_name: collection_name.clone(),
                    points: page.result.into_iter().map(point).collect(),
                    ..Default::default()
                }));
                offset = page.next_page_offset;
                if offset.is_none() {
                    break;
                }
            }
        }
        Ok(writes)
    }
}

fn layout(collection_name: &str, info: wire::CollectionInfo) -> Vec<Write> {
    let config = info.config.unwrap_or_default();
    let params = config.params.unwrap_or_default();
    let mut writes = vec![Write::Create(wire::CreateCollection {
        collection_name: collection_name.to_owned(),
        vectors_config: params.vectors_config,
        shard_number: Some(params.shard_number),
        replication_factor: params.replication_factor,
        write_consistency_factor: params.write_consistency_factor,
        hnsw_config: config.hnsw_config,
        quantization_config: config.quantization_config,
        ..Default::default()
    })];
    for (field_name, info) in info.payload_schema {
        writes.push(Write::Index(wire::CreateFieldIndexCollection {
            collection_name: collection_name.to_owned(),
            field_name,
            field_index_params: info.params,
            ..Default::default()
        }));
    }
    writes
}

fn point(point: wire::RetrievedPoint) -> wire::PointStruct {
    let vector = match point.vectors.and_then(|vectors| vectors.vectors_options) {
        Some(vectors_output::VectorsOptions::Vector(vector)) => vector.vector,
        _ => None,
    };
    let data = match vector {
        Some(vector_output::Vector::Dense(dense)) => dense.data,
        _ => Vec::new(),
    };
    wire::PointStruct {
        id: point.id,
        payload: point.payload,
        vectors: Some(data.into()),
    }
}
