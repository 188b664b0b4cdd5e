//! The generated traits: what is served is passed on, all else is refused.

use std::sync::atomic::Ordering::SeqCst;

use qdrant_client::qdrant::collections_server::Collections;
use qdrant_client::qdrant::points_server::Points;
use qdrant_client::qdrant::qdrant_server::Qdrant;
use qdrant_client::qdrant::{self as wire, CollectionOperationResponse};
use tonic::{Request, Response, Status};

use crate::log::Write;
use crate::service::{Service, get, info, query, scroll};

type Answer<T> = Result<Response<T>, Status>;

fn not_served<T>(name: &str) -> Answer<T> {
    Err(Status::unimplemented(format!(
        "the test server does not serve `{name}`"
    )))
}

fn done() -> CollectionOperationResponse {
    CollectionOperationResponse {
        result: true,
        ..Default::default()
    }
}

#[tonic::async_trait]
impl Qdrant for Service {
    async fn health_check(
        &self,
        _request: Request<wire::HealthCheckRequest>,
    ) -> Answer<wire::HealthCheckReply> {
        self.faults.before().await?;
        Ok(Response::new(wire::HealthCheckReply {
            title: "commonplace-qdrant-server".into(),
            version: "1.20.0".into(),
            commit: None,
        }))
    }
}

#[tonic::async_trait]
impl Collections for Service {
    async fn get(
        &self,
        request: Request<wire::GetCollectionInfoRequest>,
    ) -> Answer<wire::GetCollectionInfoResponse> {
        self.read(request, |engine, wanted| {
            info(engine, &wanted.collection_name)
        })
        .await
    }

    async fn list(
        &self,
        request: Request<wire::ListCollectionsRequest>,
    ) -> Answer<wire::ListCollectionsResponse> {
        self.read(request, |engine, _| {
            let names = engine.collections.keys();
            let collections = names.map(|name| wire::CollectionDescription { name: name.clone() });
            Ok(wire::ListCollectionsResponse {
                collections: collections.collect(),
                ..Default::default()
            })
        })
        .await
    }

    async fn create(
        &self,
        request: Request<wire::CreateCollection>,
    ) -> Answer<wire::CollectionOperationResponse> {
        self.write(request, Write::Create).await?;
        Ok(Response::new(done()))
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteCollection>,
    ) -> Answer<wire::CollectionOperationResponse> {
        self.write(request, Write::Drop).await?;
        Ok(Response::new(done()))
    }

    async fn collection_exists(
        &self,
        request: Request<wire::CollectionExistsRequest>,
    ) -> Answer<wire::CollectionExistsResponse> {
        self.read(request, |engine, wanted| {
            let exists = engine.collections.contains_key(&wanted.collection_name);
            Ok(wire::CollectionExistsResponse {
                result: Some(wire::CollectionExists { exists }),
                ..Default::default()
            })
        })
        .await
    }

    async fn update(
        &self,
        _: Request<wire::UpdateCollection>,
    ) -> Answer<wire::CollectionOperationResponse> {
        not_served("update")
    }

    async fn update_aliases(
        &self,
        _: Request<wire::ChangeAliases>,
    ) -> Answer<wire::CollectionOperationResponse> {
        not_served("update_aliases")
    }

    async fn list_collection_aliases(
        &self,
        _: Request<wire::ListCollectionAliasesRequest>,
    ) -> Answer<wire::ListAliasesResponse> {
        not_served("list_collection_aliases")
    }

    async fn list_aliases(
        &self,
        _: Request<wire::ListAliasesRequest>,
    ) -> Answer<wire::ListAliasesResponse> {
        not_served("list_aliases")
    }

    async fn collection_cluster_info(
        &self,
        _: Request<wire::CollectionClusterInfoRequest>,
    ) -> Answer<wire::CollectionClusterInfoResponse> {
        not_served("collection_cluster_info")
    }

    async fn update_collection_cluster_setup(
        &self,
        _: Request<wire::UpdateCollectionClusterSetupRequest>,
    ) -> Answer<wire::UpdateCollectionClusterSetupResponse> {
        not_served("update_collection_cluster_setup")
    }

    async fn create_shard_key(
        &self,
        _: Request<wire::CreateShardKeyRequest>,
    ) -> Answer<wire::CreateShardKeyResponse> {
        not_served("create_shard_key")
    }

    async fn delete_shard_key(
        &self,
        _: Request<wire::DeleteShardKeyRequest>,
    ) -> Answer<wire::DeleteShardKeyResponse> {
        not_served("delete_shard_key")
    }

    async fn list_shard_keys(
        &self,
        _: Request<wire::ListShardKeysRequest>,
    ) -> Answer<wire::ListShardKeysResponse> {
        not_served("list_shard_keys")
    }
}

#[tonic::async_trait]
impl Points for Service {
    async fn upsert(
        &self,
        request: Request<wire::UpsertPoints>,
    ) -> Answer<wire::PointsOperationResponse> {
        self.operate(request, Write::Upsert).await
    }

    async fn delete(
        &self,
        request: Request<wire::DeletePoints>,
    ) -> Answer<wire::PointsOperationResponse> {
        self.operate(request, Write::Delete).await
    }

    async fn get(&self, request: Request<wire::GetPoints>) -> Answer<wire::GetResponse> {
        self.read(request, |engine, wanted| get(engine, &wanted))
            .await
    }

    async fn set_payload(
        &self,
        request: Request<wire::SetPayloadPoints>,
    ) -> Answer<wire::PointsOperationResponse> {
        self.operate(request, Write::Set).await
    }

    async fn overwrite_payload(
        &self,
        request: Request<wire::SetPayloadPoints>,
    ) -> Answer<wire::PointsOperationResponse> {
        self.operate(request, Write::Overwrite).await
    }

    async fn create_field_index(
        &self,
        request: Request<wire::CreateFieldIndexCollection>,
    ) -> Answer<wire::PointsOperationResponse> {
        self.operate(request, Write::Index).await
    }

    async fn scroll(&self, request: Request<wire::ScrollPoints>) -> Answer<wire::ScrollResponse> {
        self.read(request, |engine, wanted| scroll(engine, &wanted))
            .await
    }

    async fn count(&self, request: Request<wire::CountPoints>) -> Answer<wire::CountResponse> {
        self.read(request, |engine, wanted| {
            let collection = engine.collection(&wanted.collection_name)?;
            collection.check(wanted.filter.as_ref())?;
            let count = collection.taken(wanted.filter.as_ref()).count() as u64;
            Ok(wire::CountResponse {
                result: Some(wire::CountResult { count }),
                ..Default::default()
            })
        })
        .await
    }

    async fn query(&self, request: Request<wire::QueryPoints>) -> Answer<wire::QueryResponse> {
        self.faults.searches.fetch_add(1, SeqCst);
        self.read(request, |engine, wanted| {
            Ok(wire::QueryResponse {
                result: query(engine, &wanted)?,
                ..Default::default()
            })
        })
        .await
    }

    async fn query_batch(
        &self,
        request: Request<wire::QueryBatchPoints>,
    ) -> Answer<wire::QueryBatchResponse> {
        self.faults.searches.fetch_add(1, SeqCst);
        self.read(request, |engine, wanted| {
            let queries = wanted.query_points.iter();
            let batch = |one: &wire::QueryPoints| {
                query(engine, one).map(|result| wire::BatchResult { result })
            };
            Ok(wire::QueryBatchResponse {
                result: queries.map(batch).collect::<Result<_, _>>()?,
                ..Default::default()
            })
        })
        .await
    }

    async fn update_vectors(
        &self,
        _: Request<wire::UpdatePointVectors>,
    ) -> Answer<wire::PointsOperationResponse> {
        not_served("update_vectors")
    }

    async fn delete_vectors(
        &self,
        _: Request<wire::DeletePointVectors>,
    ) -> Answer<wire::PointsOperationResponse> {
        not_served("delete_vectors")
    }

    async fn delete_payload(
        &self,
        _: Request<wire::DeletePayloadPoints>,
    ) -> Answer<wire::PointsOperationResponse> {
        not_served("delete_payload")
    }

    async fn clear_payload(
        &self,
        _: Request<wire::ClearPayloadPoints>,
    ) -> Answer<wire::PointsOperationResponse> {
        not_served("clear_payload")
    }

    async fn delete_field_index(
        &self,
        _: Request<wire::DeleteFieldIndexCollection>,
    ) -> Answer<wire::PointsOperationResponse> {
        not_served("delete_field_index")
    }

    async fn create_vector_name(
        &self,
        _: Request<wire::CreateVectorNameRequest>,
    ) -> Answer<wire::PointsOperationResponse> {
        not_served("create_vector_name")
    }

    async fn delete_vector_name(
        &self,
        _: Request<wire::DeleteVectorNameRequest>,
    ) -> Answer<wire::PointsOperationResponse> {
        not_served("delete_vector_name")
    }

    async fn search(&self, _: Request<wire::SearchPoints>) -> Answer<wire::SearchResponse> {
        not_served("search")
    }

    async fn search_batch(
        &self,
        _: Request<wire::SearchBatchPoints>,
    ) -> Answer<wire::SearchBatchResponse> {
        not_served("search_batch")
    }

    async fn search_groups(
        &self,
        _: Request<wire::SearchPointGroups>,
    ) -> Answer<wire::SearchGroupsResponse> {
        not_served("search_groups")
    }

    async fn recommend(
        &self,
        _: Request<wire::RecommendPoints>,
    ) -> Answer<wire::RecommendResponse> {
        not_served("recommend")
    }

    async fn recommend_batch(
        &self,
        _: Request<wire::RecommendBatchPoints>,
    ) -> Answer<wire::RecommendBatchResponse> {
        not_served("recommend_batch")
    }

    async fn recommend_groups(
        &self,
        _: Request<wire::RecommendPointGroups>,
    ) -> Answer<wire::RecommendGroupsResponse> {
        not_served("recommend_groups")
    }

    async fn discover(&self, _: Request<wire::DiscoverPoints>) -> Answer<wire::DiscoverResponse> {
        not_served("discover")
    }

    async fn discover_batch(
        &self,
        _: Request<wire::DiscoverBatchPoints>,
    ) -> Answer<wire::DiscoverBatchResponse> {
        not_served("discover_batch")
    }

    async fn update_batch(
        &self,
        _: Request<wire::UpdateBatchPoints>,
    ) -> Answer<wire::UpdateBatchResponse> {
        not_served("update_batch")
    }

    async fn query_groups(
        &self,
        _: Request<wire::QueryPointGroups>,
    ) -> Answer<wire::QueryGroupsResponse> {
        not_served("query_groups")
    }

    async fn facet(&self, _: Request<wire::FacetCounts>) -> Answer<wire::FacetResponse> {
        not_served("facet")
    }

    async fn search_matrix_pairs(
        &self,
        _: Request<wire::SearchMatrixPoints>,
    ) -> Answer<wire::SearchMatrixPairsResponse> {
        not_served("search_matrix_pairs")
    }

    async fn search_matrix_offsets(
        &self,
        _: Request<wire::SearchMatrixPoints>,
    ) -> Answer<wire::SearchMatrixOffsetsResponse> {
        not_served("search_matrix_offsets")
    }
}
