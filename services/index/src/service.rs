//! The index's rpcs: convert, call, convert.

use std::sync::Arc;

use commonplace_proto::index as proto;
use commonplace_proto::index::index_service_server::IndexService;
use commonplace_rpc::convert::project_from_proto;
use commonplace_rpc::{Code, Failure, View, context, status};
use commonplace_types::Right;
use tonic::{Request, Response, Status};

use crate::convert::{
    answer_to_proto, checked_to_proto, keys_from_proto, passage_to_proto, request_from_proto,
    status_to_proto, statuses_to_proto, without_sizes,
};
use crate::projects::Projects;

/// Serves the index's contract.
#[derive(Clone)]
pub struct Service {
    projects: Arc<Projects>,
}

impl Service {
    pub(crate) fn new(projects: Arc<Projects>) -> Self {
        Self { projects }
    }
}

#[async_trait::async_trait]
impl IndexService for Service {
    async fn search(
        &self,
        request: Request<proto::SearchRequest>,
    ) -> Result<Response<proto::SearchResponse>, Status> {
        let request = request_from_proto(request.into_inner(), context::view()).map_err(status)?;
        let (as_columns, without_dense) = (request.query.unnamed, request.query.without_dense);
        let answer = self.projects.search(request).await.map_err(status)?;
        let embedder = self.projects.embedding.fingerprint();
        let answer = answer_to_proto(answer, as_columns, without_dense, embedder);
        Ok(Response::new(answer))
    }

    async fn get_passages(
        &self,
        request: Request<proto::GetPassagesRequest>,
    ) -> Result<Response<proto::GetPassagesResponse>, Status> {
        let request = request.into_inner();
        let project = project_from_proto(&request.project).map_err(status)?;
        let keys = keys_from_proto(request.keys).map_err(status)?;
        let passages = self
            .projects
            .passages(project, keys, &context::view(), request.refuse_building)
            .await
            .map_err(status)?;
        let passages = passages.into_iter().map(passage_to_proto).collect();
        Ok(Response::new(proto::GetPassagesResponse { passages }))
    }

    async fn get_status(
        &self,
        request: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::GetStatusResponse>, Status> {
        let name = request.into_inner().project;
        let project = match name.as_str() {
            "" => None,
            name => Some(project_from_proto(name).map_err(status)?),
        };
        if let Some(project) = &project {
            let required = context::require(Right::Read, project, true).await;
            required.map_err(Failure::into_status)?;
        }
        let mut statuses = Vec::new();
        for found in self.projects.status(project).await.map_err(status)? {
            match context::require(Right::Read, &found.project, true).await {
                Ok(View::Whole) => statuses.push(found),
                Ok(View::Parts(_)) => statuses.push(without_sizes(found)),
                Err(failure) if failure.code == Code::PermissionDenied => {}
                Err(failure) => return Err(failure.into_status()),
            }
        }
        let embedder = self.projects.embedding.fingerprint();
        Ok(Response::new(statuses_to_proto(statuses, embedder)))
    }

    async fn check(
        &self,
        request: Request<proto::CheckRequest>,
    ) -> Result<Response<proto::CheckResponse>, Status> {
        let request = request.into_inner();
        let project = project_from_proto(&request.project).map_err(status)?;
        let name = project.to_string();
        let checked = self
            .projects
            .check(project, request.repair)
            .await
            .map_err(status)?;
        Ok(Response::new(checked_to_proto(
            name,
            checked,
            request.repair,
        )))
    }

    async fn rebuild(
        &self,
        request: Request<proto::RebuildRequest>,
    ) -> Result<Response<proto::RebuildResponse>, Status> {
        let name = request.into_inner().project;
        let project = project_from_proto(&name).map_err(status)?;
        let rebuilt = self.projects.rebuild(project).await.map_err(status)?;
        Ok(Response::new(proto::RebuildResponse {
            project: Some(status_to_proto(rebuilt)),
        }))
    }
}
