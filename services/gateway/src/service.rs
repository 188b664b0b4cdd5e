//! What the gateway says of itself.

use std::time::Instant;

use commonplace_proto::gateway::gateway_service_server::{GatewayService, GatewayServiceServer};
use commonplace_proto::gateway::{GetServerInfoRequest, GetServerInfoResponse};
use tonic::{Request, Response, Status};

/// Answers with version, services and uptime.
#[derive(Debug)]
pub struct Info {
    version: String,
    services: Vec<String>,
    ready_since: Instant,
}

impl Info {
    /// `services`: full names; sorted here.
    pub fn server(version: &str, mut services: Vec<String>) -> GatewayServiceServer<Self> {
        services.sort();
        GatewayServiceServer::new(Self {
            version: version.to_owned(),
            services,
            ready_since: Instant::now(),
        })
    }
}

#[tonic::async_trait]
impl GatewayService for Info {
    async fn get_server_info(
        &self,
        _: Request<GetServerInfoRequest>,
    ) -> Result<Response<GetServerInfoResponse>, Status> {
        Ok(Response::new(GetServerInfoResponse {
            version: self.version.clone(),
            services: self.services.clone(),
            uptime_seconds: self.ready_since.elapsed().as_secs(),
        }))
    }
}
