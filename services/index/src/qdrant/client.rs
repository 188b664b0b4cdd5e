//! One address of the cluster, through the generated clients of `qdrant-client`.
//!
//! The crate's own `Qdrant` type is left aside: it knows neither an authority of one's own nor several
//! addresses, and it repeats writes without waiting.

use std::future::Future;
use std::time::Duration;

use commonplace_types::Invalid;
use qdrant_client::qdrant::collections_client::CollectionsClient;
use qdrant_client::qdrant::points_client::PointsClient;
use qdrant_client::qdrant::qdrant_client::QdrantClient;
use qdrant_client::qdrant::{self as wire, UpdateStatus};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status};

use super::convert::{self, Layout, Question};
use super::options::QdrantOptions;
use super::point::{Owner, Point, PointId, Stored};
use super::store::{Hit, StoreError};

/// Largest answer: a page of points, or ten thousand hits.
const ANSWER_BYTES: usize = 64 << 20;

/// Puts the key on every call.
#[derive(Clone)]
struct Key(Option<MetadataValue<Ascii>>);

impl Interceptor for Key {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("api-key", key.clone());
        }
        Ok(request)
    }
}

/// One address.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) address: String,
    channel: Channel,
    key: Key,
}

impl Node {
    /// Connects when it is first asked. Error: the address, the key or the authority cannot be used.
    pub(crate) fn new(address: &str, options: &QdrantOptions) -> Result<Self, Invalid> {
        let wrong = |problem: String| Invalid::new("index.qdrant.addresses", problem);
        let endpoint = Endpoint::from_shared(address.to_owned());
        let mut endpoint = endpoint.map_err(|_| {
            wrong(format!(
                "expected `http://host:port` or `https://host:port`, found `{address}`"
            ))
        })?;
        match endpoint.uri().scheme_str() {
            Some("http") => {}
            Some("https") => {
                let tls = endpoint.tls_config(authority(options)?);
                endpoint = tls.map_err(|error| wrong(format!("`{address}`: {error}")))?;
            }
            _ => {
                return Err(wrong(format!(
                    "expected `http://` or `https://` first, found `{address}`"
                )));
            }
        }
        let key = match options.api_key.reveal() {
            "" => None,
            key => {
                let key: Result<MetadataValue<Ascii>, _> = key.parse();
                let mut key = key.map_err(|_| {
                    Invalid::new(
                        "index.qdrant.api_key",
                        "expected visible ASCII characters only",
                    )
                })?;
                key.set_sensitive(true);
                Some(key)
            }
        };
        let patience = Duration::from_millis(options.connect_timeout_ms.max(1));
        let endpoint = endpoint
            .connect_timeout(patience)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5));
        Ok(Self {
            address: address.to_owned(),
            channel: endpoint.connect_lazy(),
            key: Key(key),
        })
    }

    fn points(&self) -> PointsClient<InterceptedService<Channel, Key>> {
        PointsClient::with_interceptor(self.channel.clone(), self.key.clone())
            .max_decoding_message_size(ANSWER_BYTES)
            .max_encoding_message_size(ANSWER_BYTES)
    }

    fn collections(&self) -> CollectionsClient<InterceptedService<Channel, Key>> {
        CollectionsClient::with_interceptor(self.channel.clone(), self.key.clone())
    }

    /// Asks how the server is.
    pub(crate) async fn ping(&self, limit: Duration) -> Result<(), StoreError> {
        let mut client = QdrantClient::with_interceptor(self.channel.clone(), self.key.clone());
        let request = limited(wire::HealthCheckRequest {}, limit);
        self.answer(limit, client.health_check(request)).await?;
        Ok(())
    }

    /// Makes the collection and its payload indexes unless they are there. Error: also when a collection of that
    /// name holds other vectors.
    pub(crate) async fn prepare(
        &self,
        layout: &Layout<'_>,
        limit: Duration,
    ) -> Result<(), StoreError> {
        if !self.exists(layout.collection, limit).await? {
            let request = limited(convert::create(layout), limit);
            let made = self.answer(limit, self.collections().create(request)).await;
            // Another index may have made it in between.
            if let Err(error) = made
                && !self.exists(layout.collection, limit).await?
            {
                return Err(error);
            }
        }
        self.check_vectors(layout, limit).await?;
        for request in convert::field_indexes(layout.collection) {
            let request = limited(request, limit);
            self.answer(limit, self.points().create_field_index(request))
                .await?;
        }
        Ok(())
    }

    async fn exists(&self, collection: &str, limit: Duration) -> Result<bool, StoreError> {
        let request = wire::CollectionExistsRequest {
            collection_name: collection.to_owned(),
        };
        let request = limited(request, limit);
        let answer = self
            .answer(limit, self.collections().collection_exists(request))
            .await?;
        Ok(answer.result.is_some_and(|found| found.exists))
    }

    async fn check_vectors(&self, layout: &Layout<'_>, limit: Duration) -> Result<(), StoreError> {
        let request = wire::GetCollectionInfoRequest {
            collection_name: layout.collection.to_owned(),
        };
        let request = limited(request, limit);
        let answer = self.answer(limit, self.collections().get(request)).await?;
        convert::check_info(answer, layout.collection).map_err(|problem| StoreError::Refused {
            address: self.address.clone(),
            problem,
        })
    }

    /// Writes points. Those that the store has, built from more commits, are left as they are unless `force`.
    pub(crate) async fn upsert(
        &self,
        collection: &str,
        owner: &Owner,
        points: &[Point],
        force: bool,
        limit: Duration,
    ) -> Result<(), StoreError> {
        let request = limited(convert::upsert(collection, owner, points, force), limit);
        let answer = self.answer(limit, self.points().upsert(request)).await?;
        self.completed(answer)
    }

    /// Deletes points.
    pub(crate) async fn delete(
        &self,
        collection: &str,
        ids: &[PointId],
        limit: Duration,
    ) -> Result<(), StoreError> {
        let request = limited(convert::delete(collection, ids), limit);
        let answer = self.answer(limit, self.points().delete(request)).await?;
        self.completed(answer)
    }

    fn completed(&self, answer: wire::PointsOperationResponse) -> Result<(), StoreError> {
        let status = answer.result.unwrap_or_default().status();
        if status == UpdateStatus::Completed {
            return Ok(());
        }
        Err(StoreError::Unreachable {
            address: self.address.clone(),
            problem: format!("the write was not completed in time: {status:?}"),
        })
    }

    /// Asks several questions in one go; the hits of each, best first.
    pub(crate) async fn nearest(
        &self,
        collection: &str,
        questions: &[Question],
        limit: Duration,
    ) -> Result<Vec<Vec<Hit>>, StoreError> {
        let request = limited(convert::nearest(collection, questions), limit);
        let answer = self
            .answer(limit, self.points().query_batch(request))
            .await?;
        Ok(convert::hits(answer))
    }

    /// How many points an owner has.
    pub(crate) async fn count(
        &self,
        collection: &str,
        owner: &Owner,
        limit: Duration,
    ) -> Result<u64, StoreError> {
        let request = limited(convert::count(collection, owner), limit);
        let answer = self.answer(limit, self.points().count(request)).await?;
        Ok(answer.result.map_or(0, |result| result.count))
    }

    /// The next points of an owner by id, and where to go on.
    pub(crate) async fn page(
        &self,
        collection: &str,
        owner: &Owner,
        from: Option<PointId>,
        limit: Duration,
    ) -> Result<(Vec<Stored>, Option<PointId>), StoreError> {
        let request = limited(convert::page(collection, owner, from), limit);
        let answer = self.answer(limit, self.points().scroll(request)).await?;
        Ok(convert::stored_page(answer))
    }

    /// Waits for an answer, at most `limit`.
    async fn answer<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.error(&status)),
            Err(_) => Err(StoreError::Unreachable {
                address: self.address.clone(),
                problem: format!("no answer within {} ms", limit.as_millis()),
            }),
        }
    }

    fn error(&self, status: &Status) -> StoreError {
        let (address, problem) = (self.address.clone(), told(status));
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => {
                StoreError::Denied { address, problem }
            }
            Code::NotFound => StoreError::Missing { address, problem },
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented => StoreError::Refused { address, problem },
            _ => StoreError::Unreachable { address, problem },
        }
    }
}

fn authority(options: &QdrantOptions) -> Result<ClientTlsConfig, Invalid> {
    let tls = ClientTlsConfig::new();
    if options.authority.is_empty() {
        return Ok(tls.with_native_roots());
    }
    let read = std::fs::read(&options.authority);
    let pem = read.map_err(|error| {
        let problem = format!("cannot read `{}`: {error}", options.authority);
        Invalid::new("index.qdrant.authority", problem)
    })?;
    Ok(tls.ca_certificate(Certificate::from_pem(pem)))
}

fn limited<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// A status and what caused it, in one line.
fn told(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
