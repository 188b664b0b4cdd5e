//! The generated server trait: convert, call, convert.

use std::pin::Pin;

use commonplace_access::audit::{head_to_proto, record_to_proto};
use commonplace_proto::policy as proto;
use commonplace_proto::policy::audit_service_server::AuditService;
use commonplace_rpc::{context, status};
use commonplace_types::TenantName;
use futures::Stream;
use tonic::{Request, Response, Status};

use super::{AuditError, Ends, Log, convert};
use crate::convert::page_size;

/// Answers the calls of `AuditService`.
#[derive(Clone)]
pub struct Service {
    pub(crate) log: Log,
}

type Answer<T> = Result<Response<T>, Status>;
type Exported = Result<proto::ExportAuditRecordsResponse, Status>;

#[async_trait::async_trait]
impl AuditService for Service {
    type ExportAuditRecordsStream = Pin<Box<dyn Stream<Item = Exported> + Send>>;

    async fn record_calls(
        &self,
        request: Request<proto::RecordCallsRequest>,
    ) -> Answer<proto::RecordCallsResponse> {
        let entries = convert::entries(request.into_inner().records).map_err(status)?;
        self.log.keep(entries).await.map_err(status)?;
        Ok(Response::new(proto::RecordCallsResponse {}))
    }

    async fn list_audit_records(
        &self,
        request: Request<proto::ListAuditRecordsRequest>,
    ) -> Answer<proto::ListAuditRecordsResponse> {
        let request = request.into_inner();
        let count = page_size(request.page_size).map_err(status)?;
        let before = convert::token(&request.page_token).map_err(status)?;
        let filter = convert::filter(&request).map_err(status)?;
        let tenant = context::tenant();
        let page = self.log.list(&tenant, &filter, before, count);
        let page = page.await.map_err(status)?;
        Ok(Response::new(proto::ListAuditRecordsResponse {
            records: page.records.iter().map(record_to_proto).collect(),
            next_page_token: page.before.map_or_else(String::new, convert::token_before),
        }))
    }

    async fn export_audit_records(
        &self,
        _: Request<proto::ExportAuditRecordsRequest>,
    ) -> Answer<Self::ExportAuditRecordsStream> {
        let tenant = context::tenant();
        let ends = self.log.ends(&tenant).await.map_err(status)?;
        let export = Export {
            log: self.log.clone(),
            after: Some(ends.start.sequence),
            began: false,
            tenant,
            ends,
        };
        let messages = futures::stream::try_unfold(export, Export::next);
        Ok(Response::new(Box::pin(messages)))
    }

    async fn get_audit_head(
        &self,
        _: Request<proto::GetAuditHeadRequest>,
    ) -> Answer<proto::GetAuditHeadResponse> {
        let tenant = context::tenant();
        let ends = self.log.ends(&tenant).await.map_err(status)?;
        Ok(Response::new(proto::GetAuditHeadResponse {
            head: Some(head_to_proto(&tenant, &ends.head)),
            start: Some(head_to_proto(&tenant, &ends.start)),
        }))
    }
}

/// A chain that is being told, as far as it went when that began.
struct Export {
    log: Log,
    tenant: TenantName,
    ends: Ends,
    /// The last record that was told; none: all is.
    after: Option<u64>,
    began: bool,
}

impl Export {
    /// The next message: the start with the first, the head with the last.
    async fn next(mut self) -> Result<Option<(proto::ExportAuditRecordsResponse, Self)>, Status> {
        let Some(after) = self.after else {
            return Ok(None);
        };
        let last = self.ends.head.sequence;
        let records = self.log.after(&self.tenant, after, last).await;
        let records = records.map_err(|error: AuditError| status(error))?;
        let told = records.last().map(|record| record.sequence);
        self.after = told.filter(|told| *told < last);
        let first = !std::mem::replace(&mut self.began, true);
        let place = |wanted: bool, head| wanted.then(|| head_to_proto(&self.tenant, head));
        let message = proto::ExportAuditRecordsResponse {
            start: place(first, &self.ends.start),
            records: records.iter().map(record_to_proto).collect(),
            head: place(self.after.is_none(), &self.ends.head),
        };
        Ok(Some((message, self)))
    }
}
