//! The generated server trait: convert, call, convert.

use std::sync::Arc;

use commonplace_access::decide;
use commonplace_proto::policy as proto;
use commonplace_proto::policy::access_service_server::AccessService;
use commonplace_rpc::{Failure, context, status};
use commonplace_types::{Principal, Right, TenantName};
use tonic::{Request, Response, Status};

use super::{AccessError, Keeper, convert};
use crate::convert::page_size;

const KEYS: &str = "keys";
const GRANTS: &str = "grants";

/// Answers the calls of `AccessService`.
#[derive(Clone)]
pub struct Service {
    pub(crate) keeper: Keeper,
}

type Answer<T> = Result<Response<T>, Status>;

/// Whose access the present call is about, and who makes it; nobody outside a call.
fn caller() -> (TenantName, Option<Arc<Principal>>) {
    (context::tenant(), context::principal())
}

#[async_trait::async_trait]
impl AccessService for Service {
    async fn get_access(
        &self,
        request: Request<proto::GetAccessRequest>,
    ) -> Answer<proto::GetAccessResponse> {
        let known = request.into_inner().known_revision;
        let rules = self.keeper.rules(&context::tenant(), known).await;
        let Some(rules) = rules.map_err(status)? else {
            return Ok(Response::new(proto::GetAccessResponse {
                revision: known,
                unchanged: true,
                ..Default::default()
            }));
        };
        Ok(Response::new(proto::GetAccessResponse {
            revision: rules.revision,
            unchanged: false,
            policies: rules.policies.iter().map(convert::policy).collect(),
            grants: rules.grants.iter().map(convert::grant).collect(),
        }))
    }

    async fn find_key(
        &self,
        request: Request<proto::FindKeyRequest>,
    ) -> Answer<proto::FindKeyResponse> {
        let id = convert::key_id(request.into_inner().id).map_err(status)?;
        let (tenant, key, hashes) = self.keeper.find_key(&id).await.map_err(status)?;
        Ok(Response::new(proto::FindKeyResponse {
            tenant: tenant.to_string(),
            key: Some(convert::key(&key)),
            secret_hashes: hashes
                .iter()
                .map(|hash| hash.as_bytes().to_vec().into())
                .collect(),
        }))
    }

    async fn record_key_uses(
        &self,
        request: Request<proto::RecordKeyUsesRequest>,
    ) -> Answer<proto::RecordKeyUsesResponse> {
        let uses = convert::key_uses(request.into_inner().uses).map_err(status)?;
        self.keeper.record_key_uses(uses).await.map_err(status)?;
        Ok(Response::new(proto::RecordKeyUsesResponse {}))
    }

    async fn create_key(
        &self,
        request: Request<proto::CreateKeyRequest>,
    ) -> Answer<proto::CreateKeyResponse> {
        let (tenant, giver) = caller();
        let spec = convert::key_spec(request.into_inner()).map_err(status)?;
        let made = self
            .keeper
            .create_key(&tenant, giver.as_deref(), spec)
            .await;
        let (key, secret) = made.map_err(status)?;
        Ok(Response::new(proto::CreateKeyResponse {
            key: Some(convert::key(&key)),
            secret,
        }))
    }

    async fn rotate_key(
        &self,
        request: Request<proto::RotateKeyRequest>,
    ) -> Answer<proto::RotateKeyResponse> {
        let (tenant, giver) = caller();
        let request = request.into_inner();
        let id = convert::key_id(request.id).map_err(status)?;
        let overlap = convert::span("overlap", request.overlap).map_err(status)?;
        let lifetime = convert::span("lifetime", request.lifetime).map_err(status)?;
        let giver = giver.as_deref();
        let rotated = self
            .keeper
            .rotate_key(&tenant, giver, id, overlap, lifetime)
            .await;
        let (key, secret) = rotated.map_err(status)?;
        Ok(Response::new(proto::RotateKeyResponse {
            key: Some(convert::key(&key)),
            secret,
        }))
    }

    async fn revoke_key(
        &self,
        request: Request<proto::RevokeKeyRequest>,
    ) -> Answer<proto::RevokeKeyResponse> {
        let id = convert::key_id(request.into_inner().id).map_err(status)?;
        let revoked = self.keeper.revoke_key(&context::tenant(), id).await;
        let key = Some(convert::key(&revoked.map_err(status)?));
        Ok(Response::new(proto::RevokeKeyResponse { key }))
    }

    async fn list_keys(
        &self,
        request: Request<proto::ListKeysRequest>,
    ) -> Answer<proto::ListKeysResponse> {
        let request = request.into_inner();
        let count = page_size(request.page_size).map_err(status)?;
        let after = convert::token(KEYS, &request.page_token).map_err(status)?;
        let page = self
            .keeper
            .list_keys(&context::tenant(), &after, count)
            .await;
        let page = page.map_err(status)?;
        let last = page.items.last().filter(|_| page.more);
        let next_page_token = last.map(|key| convert::token_after(KEYS, key.id.as_str()));
        Ok(Response::new(proto::ListKeysResponse {
            keys: page.items.iter().map(convert::key).collect(),
            next_page_token: next_page_token.unwrap_or_default(),
        }))
    }

    async fn create_grant(
        &self,
        request: Request<proto::CreateGrantRequest>,
    ) -> Answer<proto::CreateGrantResponse> {
        let (tenant, giver) = caller();
        let request = request.into_inner();
        let right = commonplace_access::right_from_proto(request.right()).map_err(status)?;
        let grantee = commonplace_access::grantee_from_proto(request.grantee).map_err(status)?;
        let resource = commonplace_access::resource_from_proto(request.resource).map_err(status)?;
        let giver = giver.as_deref();
        let made = self
            .keeper
            .create_grant(&tenant, giver, grantee, right, resource)
            .await;
        let grant = Some(convert::grant(&made.map_err(status)?));
        Ok(Response::new(proto::CreateGrantResponse { grant }))
    }

    async fn delete_grant(
        &self,
        request: Request<proto::DeleteGrantRequest>,
    ) -> Answer<proto::DeleteGrantResponse> {
        let id = convert::grant_id(request.into_inner().id).map_err(status)?;
        let deleted = self.keeper.delete_grant(&context::tenant(), id).await;
        deleted.map_err(status)?;
        Ok(Response::new(proto::DeleteGrantResponse {}))
    }

    async fn list_grants(
        &self,
        request: Request<proto::ListGrantsRequest>,
    ) -> Answer<proto::ListGrantsResponse> {
        let request = request.into_inner();
        let count = page_size(request.page_size).map_err(status)?;
        let after = convert::token(GRANTS, &request.page_token).map_err(status)?;
        let page = self
            .keeper
            .list_grants(&context::tenant(), &after, count)
            .await;
        let page = page.map_err(status)?;
        let last = page.items.last().filter(|_| page.more);
        let next_page_token = last.map(|kept| convert::token_after(GRANTS, &kept.grant.id));
        Ok(Response::new(proto::ListGrantsResponse {
            grants: page.items.iter().map(convert::grant).collect(),
            next_page_token: next_page_token.unwrap_or_default(),
        }))
    }

    async fn put_access_policy(
        &self,
        request: Request<proto::PutAccessPolicyRequest>,
    ) -> Answer<proto::PutAccessPolicyResponse> {
        let proto::PutAccessPolicyRequest {
            id,
            source,
            validate_only,
        } = request.into_inner();
        let tenant = context::tenant();
        let put = self
            .keeper
            .put_policy(&tenant, id, source, validate_only)
            .await;
        let policy = Some(convert::policy(&put.map_err(status)?));
        Ok(Response::new(proto::PutAccessPolicyResponse { policy }))
    }

    async fn delete_access_policy(
        &self,
        request: Request<proto::DeleteAccessPolicyRequest>,
    ) -> Answer<proto::DeleteAccessPolicyResponse> {
        let id = request.into_inner().id;
        let deleted = self.keeper.delete_policy(&context::tenant(), id).await;
        deleted.map_err(status)?;
        Ok(Response::new(proto::DeleteAccessPolicyResponse {}))
    }

    async fn list_access_policies(
        &self,
        _: Request<proto::ListAccessPoliciesRequest>,
    ) -> Answer<proto::ListAccessPoliciesResponse> {
        let own = self
            .keeper
            .policies(&context::tenant())
            .await
            .map_err(status)?;
        let policies = convert::shipped_policies().chain(own.iter().map(convert::policy));
        Ok(Response::new(proto::ListAccessPoliciesResponse {
            policies: policies.collect(),
            schema: decide::schema().to_owned(),
        }))
    }

    async fn explain_access(
        &self,
        request: Request<proto::ExplainAccessRequest>,
    ) -> Answer<proto::ExplainAccessResponse> {
        let request = request.into_inner();
        let (tenant, caller) = caller();
        let project = commonplace_rpc::convert::project_from_proto(&request.project);
        let project = project.map_err(status)?;
        let asked = request
            .principal
            .map(|asked| convert::asked_about(asked, &tenant));
        let asked = asked.transpose().map_err(status)?.map(Arc::new);
        let about = asked.clone().or(caller.clone()).ok_or_else(nobody)?;
        if asked.is_some() && asked != caller {
            let allowed = context::require_in_tenant(Right::Admin).await;
            allowed.map_err(Failure::into_status)?;
        }
        let explained = self.keeper.explain(&about, &request.method, project).await;
        let explained = explained.map_err(status)?;
        Ok(Response::new(convert::explanation(explained, &about)))
    }
}

/// Nobody is asked about, and nobody calls.
fn nobody() -> Status {
    let problem = "expected whom to ask about, as nobody is known to call";
    let invalid = commonplace_types::Invalid::new("principal", problem);
    status(AccessError::from(invalid))
}
