//! Wire to domain and back; each failure names its field.

use commonplace_proto::{common, journal as proto};
use commonplace_rpc::convert::{
    branch_from_proto, draft_from_proto, event_to_proto, project_from_proto, reference_from_proto,
    timestamp_to_proto, visible_to_proto,
};
use commonplace_types::{
    BranchName, CommitHash, Invalid, ProjectName, Reference, TagName, TenantName,
};

use crate::append::{Append, Appended, Origin, RequestId};
use crate::commit::Commit;
use crate::query::ProjectEntry;
use crate::store::{CreateRef, Frame, RefEntry, RefName};
use crate::tail::{TailItem, Tailed};

pub(crate) fn append_from_proto(
    tenant: TenantName,
    traceparent: String,
    request: proto::AppendRequest,
) -> Result<Append, Invalid> {
    let draft = |(place, draft)| {
        draft_from_proto(draft).map_err(|error| error.under(&format!("events[{place}]")))
    };
    let origin = request.origin.unwrap_or_default();
    Ok(Append {
        tenant,
        project: project_from_proto(&request.project)?,
        branch: branch_from_proto(&request.branch)?,
        // What writes nothing has no answer to keep.
        request_id: request_id_from_proto(&request.request_id)?.filter(|_| !request.validate_only),
        expected_head: hash_from_proto(&request.expected_head)?,
        author: request.author,
        message: request.message,
        traceparent,
        origin: Origin {
            source: origin.source,
            author: origin.author,
        },
        validate_only: request.validate_only,
        events: request
            .events
            .into_iter()
            .enumerate()
            .map(draft)
            .collect::<Result<_, _>>()?,
    })
}

fn request_id_from_proto(text: &str) -> Result<Option<RequestId>, Invalid> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |_| Invalid::new("request_id", "expected a UUID, or nothing");
    Ok(Some(
        *uuid::Uuid::parse_str(text).map_err(wrong)?.as_bytes(),
    ))
}

fn hash_from_proto(text: &str) -> Result<Option<CommitHash>, Invalid> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|error: Invalid| error.under("expected_head"))
}

pub(crate) fn branch_request_from_proto(
    tenant: TenantName,
    request: proto::CreateBranchRequest,
) -> Result<CreateRef, Invalid> {
    Ok(CreateRef {
        tenant,
        project: project_from_proto(&request.project)?,
        request_id: request_id_from_proto(&request.request_id)?,
        name: RefName::Branch(BranchName::new(request.branch)?),
        at: reference_from_proto(request.from).map_err(|error| error.under("from"))?,
    })
}

pub(crate) fn tag_request_from_proto(
    tenant: TenantName,
    request: proto::CreateTagRequest,
) -> Result<CreateRef, Invalid> {
    Ok(CreateRef {
        tenant,
        project: project_from_proto(&request.project)?,
        request_id: request_id_from_proto(&request.request_id)?,
        name: RefName::Tag(TagName::new(request.tag)?),
        at: reference_from_proto(request.at).map_err(|error| error.under("at"))?,
    })
}

pub(crate) fn point_from_proto(
    reference: Option<common::Reference>,
    field: &str,
) -> Result<Reference, Invalid> {
    reference_from_proto(reference).map_err(|error| error.under(field))
}

/// A page size as a count. Error: negative.
pub(crate) fn page_size_from_proto(size: i32) -> Result<usize, Invalid> {
    usize::try_from(size)
        .map_err(|_| Invalid::new("page_size", format!("expected 0 or more, found {size}")))
}

pub(crate) fn commit_to_proto(project: &ProjectName, commit: &Commit) -> common::Commit {
    common::Commit {
        hash: commit.hash.to_string(),
        project: project.to_string(),
        number: commit.number,
        branch: commit.branch.to_string(),
        lane: commit.lane.into(),
        first_position: commit.first_position.into(),
        last_position: commit.last_position.into(),
        parents: commit.parents.iter().map(ToString::to_string).collect(),
        events_root: commit.events_root.to_string(),
        time: Some(timestamp_to_proto(commit.time)),
        author: commit.author.clone(),
        message: commit.message.clone(),
    }
}

pub(crate) fn appended_to_proto(
    project: &ProjectName,
    appended: &Appended,
) -> proto::AppendResponse {
    let event = |event: &crate::append::AppendedEvent| proto::AppendedEvent {
        id: event.id.to_string(),
        duplicate: event.duplicate,
        position: event.position.into(),
    };
    proto::AppendResponse {
        commit: Some(commit_to_proto(project, &appended.commit)),
        events: appended.events.iter().map(event).collect(),
    }
}

pub(crate) fn ref_to_proto(project: &ProjectName, entry: &RefEntry) -> proto::Ref {
    let kind = match entry.name {
        RefName::Branch(_) => proto::RefKind::Branch,
        RefName::Tag(_) => proto::RefKind::Tag,
    };
    proto::Ref {
        kind: kind.into(),
        name: entry.name.as_str().to_owned(),
        commit: Some(commit_to_proto(project, &entry.commit)),
    }
}

pub(crate) fn project_to_proto(entry: &ProjectEntry) -> proto::Project {
    proto::Project {
        name: entry.name.to_string(),
        create_time: Some(timestamp_to_proto(entry.created)),
        last_commit: entry.last_commit.to_string(),
        commit_count: entry.commit_count,
        event_count: entry.event_count,
    }
}

pub(crate) fn tailed_to_proto(project: &ProjectName, tailed: Tailed) -> proto::TailResponse {
    use proto::tail_response::Frame as Message;
    let message = match tailed.item {
        TailItem::Frame(frame) => Message::Commit(frame_to_proto(project, &frame)),
        TailItem::Heartbeat(number, hash) => Message::Heartbeat(proto::Heartbeat {
            head_number: number,
            head_hash: hash.to_string(),
        }),
    };
    proto::TailResponse {
        cursor: tailed.cursor,
        frame: Some(message),
    }
}

fn frame_to_proto(project: &ProjectName, frame: &Frame) -> proto::CommitFrame {
    proto::CommitFrame {
        commit: Some(commit_to_proto(project, &frame.commit)),
        previous_hash: frame
            .previous
            .map(|hash| hash.to_string())
            .unwrap_or_default(),
        visible: visible_to_proto(&frame.visible),
        events: frame
            .events
            .iter()
            .map(|event| event_to_proto(project, event))
            .collect(),
    }
}
