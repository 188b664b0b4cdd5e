//! The generated server trait: convert, call, convert.

use commonplace_proto::policy as proto;
use commonplace_proto::policy::policy_service_server::PolicyService;
use commonplace_rpc::{context, status};
use commonplace_types::{Invalid, PolicyId};
use tonic::{Request, Response, Status};

use crate::catalog::Catalog;
use crate::convert;

/// Answers the calls of `PolicyService`.
#[derive(Clone)]
pub struct Service {
    pub(crate) catalog: Catalog,
}

#[async_trait::async_trait]
impl PolicyService for Service {
    async fn list_policies(
        &self,
        request: Request<proto::ListPoliciesRequest>,
    ) -> Result<Response<proto::ListPoliciesResponse>, Status> {
        let request = request.into_inner();
        let count = convert::page_size(request.page_size).map_err(status)?;
        let after = convert::token(&request.page_token).map_err(status)?;
        let (page, more) = self.catalog.list(&context::tenant(), after.as_ref(), count);
        let last = page.last().filter(|_| more);
        let next_page_token = last.map(|found| convert::token_after(&found.version.id));
        Ok(Response::new(proto::ListPoliciesResponse {
            policies: page.iter().map(convert::policy).collect(),
            next_page_token: next_page_token.unwrap_or_default(),
        }))
    }

    async fn get_policy(
        &self,
        request: Request<proto::GetPolicyRequest>,
    ) -> Result<Response<proto::GetPolicyResponse>, Status> {
        let request = request.into_inner();
        let tenant = context::tenant();
        let found = if request.id.is_empty() {
            if request.version != 0 {
                let invalid = Invalid::new("version", "expected 0 when no policy is named");
                return Err(status(invalid));
            }
            self.catalog.for_task(&tenant, &request.task).await
        } else {
            self.catalog
                .get(&tenant, &request.id, request.version)
                .await
        };
        let policy = Some(convert::policy(&found.map_err(status)?));
        Ok(Response::new(proto::GetPolicyResponse { policy }))
    }

    async fn put_policy(
        &self,
        request: Request<proto::PutPolicyRequest>,
    ) -> Result<Response<proto::PutPolicyResponse>, Status> {
        let proto::PutPolicyRequest {
            id,
            source,
            validate_only,
            activate,
        } = request.into_inner();
        let id =
            PolicyId::new(id).map_err(|invalid| status(Invalid::new("id", invalid.problem)))?;
        let tenant = context::tenant();
        let found = self
            .catalog
            .put(tenant, id, source, activate, validate_only)
            .await;
        let policy = Some(convert::policy(&found.map_err(status)?));
        Ok(Response::new(proto::PutPolicyResponse { policy }))
    }

    async fn activate_policy(
        &self,
        request: Request<proto::ActivatePolicyRequest>,
    ) -> Result<Response<proto::ActivatePolicyResponse>, Status> {
        let request = request.into_inner();
        let tenant = context::tenant();
        let found = self
            .catalog
            .activate(tenant, &request.id, request.version)
            .await;
        let policy = Some(convert::policy(&found.map_err(status)?));
        Ok(Response::new(proto::ActivatePolicyResponse { policy }))
    }
}
