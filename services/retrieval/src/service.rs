//! The generated server trait: convert, call, convert.

use std::sync::Arc;

use commonplace_proto::retrieval as proto;
use commonplace_proto::retrieval::retrieval_service_server::RetrievalService;
use commonplace_rpc::status;
use commonplace_types::Invalid;
use tonic::{Request, Response, Status};

use crate::convert::{self, PackView};
use crate::engine::Engine;

/// Answers the calls of `RetrievalService`.
#[derive(Clone)]
pub struct Service {
    pub(crate) engine: Arc<Engine>,
}

#[async_trait::async_trait]
impl RetrievalService for Service {
    async fn retrieve(
        &self,
        request: Request<proto::RetrieveRequest>,
    ) -> Result<Response<proto::RetrieveResponse>, Status> {
        let request = request.into_inner();
        let durable = request.durable;
        // What is left out can be had later: the pack is kept.
        let view = convert::pack_view(request.view, PackView::Basic).map_err(status)?;
        let request = convert::request(request).map_err(status)?;
        let answer = self
            .engine
            .retrieve(request, durable)
            .await
            .map_err(status)?;
        Ok(Response::new(proto::RetrieveResponse {
            pack: Some(convert::context_pack(&answer.kept, view)),
            reused: answer.reused,
            policy_reason: answer.policy_reason,
        }))
    }

    async fn preview_pack(
        &self,
        request: Request<proto::PreviewPackRequest>,
    ) -> Result<Response<proto::PreviewPackResponse>, Status> {
        let missing = || status(Invalid::new("request", "expected a request, found none"));
        let request = request.into_inner().request.ok_or_else(missing)?;
        let nested = |error: Invalid| status(error.under("request"));
        let view = convert::pack_view(request.view, PackView::Full).map_err(nested)?;
        let request = convert::request(request).map_err(nested)?;
        let answer = self.engine.preview(request).await.map_err(status)?;
        Ok(Response::new(proto::PreviewPackResponse {
            pack: Some(convert::context_pack(&answer.kept, view)),
            policy_reason: answer.policy_reason,
        }))
    }

    async fn search(
        &self,
        request: Request<proto::SearchRequest>,
    ) -> Result<Response<proto::SearchResponse>, Status> {
        let request = convert::search(request.into_inner()).map_err(status)?;
        let ranking = self.engine.search(request).await.map_err(status)?;
        Ok(Response::new(convert::ranking(ranking)))
    }

    async fn get_pack(
        &self,
        request: Request<proto::GetPackRequest>,
    ) -> Result<Response<proto::GetPackResponse>, Status> {
        let kept = self
            .engine
            .get_shown(&request.into_inner().id)
            .await
            .map_err(status)?;
        let pack = Some(convert::context_pack(&kept, PackView::Full));
        let traceparent = kept.traceparent.clone();
        Ok(Response::new(proto::GetPackResponse { pack, traceparent }))
    }

    async fn verify_pack(
        &self,
        request: Request<proto::VerifyPackRequest>,
    ) -> Result<Response<proto::VerifyPackResponse>, Status> {
        let request = request.into_inner();
        let verdict = self.engine.verify(&request.id, request.content).await;
        Ok(Response::new(convert::verdict(verdict.map_err(status)?)))
    }
}
