//! The journal as the index sees it: its projects, its references, its feed.

use commonplace_proto::journal as proto;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_rpc::convert::{
    event_from_proto, reference_to_proto, timestamp_from_proto, visible_from_proto,
};
use commonplace_rpc::server::MESSAGE_BYTES;
use commonplace_rpc::{Channel, Code, Failure};
use commonplace_types::{CommitHash, Invalid, ProjectName, Reference, TenantName};
use futures::FutureExt;

use crate::feed::{Frame, Told};

/// Projects asked for at once.
const PAGE: i32 = 1_000;

/// Calls the journal. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    client: JournalServiceClient<Channel>,
}

/// A commit that a reference names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) number: u64,
    pub(crate) hash: CommitHash,
}

impl Journal {
    pub(crate) fn new(channel: Channel) -> Self {
        let client = JournalServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES);
        Self { client }
    }

    /// Every tenant that has projects.
    pub(crate) async fn tenants(&self) -> Result<Vec<TenantName>, Failure> {
        let mut found = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = proto::ListTenantsRequest {
                page_size: PAGE,
                page_token,
            };
            let answer = self.client.clone().list_tenants(request).await;
            let page = answer
                .map_err(|status| Failure::from_status(&status))?
                .into_inner();
            for name in page.tenants {
                found.push(TenantName::new(name).map_err(|error| garbled(&error))?);
            }
            if page.next_page_token.is_empty() {
                return Ok(found);
            }
            page_token = page.next_page_token;
        }
    }

    /// Every project with the number of its newest commit; none for one without commits.
    pub(crate) async fn projects(&self) -> Result<Vec<(ProjectName, Option<u64>)>, Failure> {
        let mut found = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = proto::ListProjectsRequest {
                page_size: PAGE,
                page_token,
            };
            let answer = self.client.clone().list_projects(request).await;
            let page = answer
                .map_err(|status| Failure::from_status(&status))?
                .into_inner();
            for project in page.projects {
                let name = ProjectName::new(project.name).map_err(|error| garbled(&error))?;
                found.push((name, project.commit_count.checked_sub(1)));
            }
            if page.next_page_token.is_empty() {
                return Ok(found);
            }
            page_token = page.next_page_token;
        }
    }

    /// The commit that a reference names now.
    pub(crate) async fn resolve(
        &self,
        project: &ProjectName,
        reference: &Reference,
    ) -> Result<Resolved, Failure> {
        let request = proto::ResolveRequest {
            project: project.to_string(),
            reference: Some(reference_to_proto(reference)),
        };
        let answer = self.client.clone().resolve(request).await;
        let answer = answer
            .map_err(|status| Failure::from_status(&status))?
            .into_inner();
        let commit = answer.commit.unwrap_or_default();
        Ok(Resolved {
            number: commit.number,
            hash: commit.hash.parse().map_err(|error| garbled(&error))?,
        })
    }

    /// The feed of a project from a cursor on.
    pub(crate) async fn tail(
        &self,
        project: &ProjectName,
        cursor: String,
    ) -> Result<Feed, Failure> {
        let request = proto::TailRequest {
            project: project.to_string(),
            cursor,
        };
        let answer = self.client.clone().tail(request).await;
        let stream = answer.map_err(|status| Failure::from_status(&status))?;
        Ok(Feed {
            stream: Box::new(stream.into_inner()),
            read_ahead: None,
        })
    }
}

type Message = Result<Option<proto::TailResponse>, Failure>;

/// A running feed.
pub(crate) struct Feed {
    stream: Box<tonic::Streaming<proto::TailResponse>>,
    /// What came when there was enough for a batch.
    read_ahead: Option<Message>,
}

impl Feed {
    /// Waits for something to be told and takes along what has come with it, up to about `events` events.
    /// None: the feed has ended. Nothing is lost when the wait is given up.
    pub(crate) async fn next(&mut self, events: usize) -> Result<Option<Told>, Failure> {
        let first = match self.read_ahead.take() {
            Some(message) => message,
            None => self.message().await,
        };
        let Some(first) = first? else {
            return Ok(None);
        };
        let mut told = Told::default();
        take(first, &mut told)?;
        while !told.is_enough(events) {
            match self.message().now_or_never() {
                None => break,
                Some(Ok(Some(message))) => take(message, &mut told)?,
                Some(end) => {
                    self.read_ahead = Some(end);
                    break;
                }
            }
        }
        Ok(Some(told))
    }

    async fn message(&mut self) -> Message {
        let message = self.stream.message().await;
        message.map_err(|status| Failure::from_status(&status))
    }
}

fn take(message: proto::TailResponse, told: &mut Told) -> Result<(), Failure> {
    use proto::tail_response::Frame as Kind;
    match message.frame {
        Some(Kind::Commit(frame)) => {
            let frame = frame_from_proto(message.cursor, frame).map_err(|e| garbled(&e))?;
            told.push(frame);
        }
        Some(Kind::Heartbeat(heartbeat)) => told.head = Some(heartbeat.head_number),
        None => {}
    }
    Ok(())
}

fn frame_from_proto(cursor: String, frame: proto::CommitFrame) -> Result<Frame, Invalid> {
    let commit = frame
        .commit
        .ok_or_else(|| Invalid::new("commit", "expected a commit"))?;
    let small = |value: u64, field: &str| {
        u32::try_from(value).map_err(|_| Invalid::new(field, "expected below 2^32"))
    };
    let hash = |text: &str| text.parse::<CommitHash>();
    let time = commit.time.unwrap_or_default();
    Ok(Frame {
        cursor,
        number: commit.number,
        hash: hash(&commit.hash)?,
        previous: match frame.previous_hash.as_str() {
            "" => None,
            text => Some(hash(text)?),
        },
        parents: commit
            .parents
            .iter()
            .map(|parent| hash(parent))
            .collect::<Result<_, _>>()?,
        time: timestamp_from_proto(&time, "time")?,
        lane: small(commit.lane, "lane")?,
        first_position: small(commit.first_position, "first_position")?,
        visible: visible_from_proto(&frame.visible)?,
        events: frame
            .events
            .into_iter()
            .map(event_from_proto)
            .collect::<Result<_, _>>()?,
    })
}

/// The journal said something that it cannot mean.
fn garbled(error: &Invalid) -> Failure {
    Failure::new(Code::Internal, "JOURNAL_GARBLED").message(format!("the journal sent {error}"))
}
