//! Reads at a point of history: events by id, events by filter, commits, refs, projects.
//!
//! Events are listed newest first: by event time, then by id, both falling. Commits: by number, falling.
//! A page token pins the commit that the first page resolved to, so later pages see the same history
//! however much is appended meanwhile; it is bound to the other arguments but the page size.

use std::sync::Arc;

use commonplace_rpc::View;
use commonplace_rpc::convert::Filter;
use commonplace_types::{
    Digest, Event, EventId, Invalid, LaneInterval, ProjectName, Reference, TenantName, Timestamp,
    Visible,
};

use crate::append::without_nul;
use crate::commit::Commit;
use crate::state::Project;
use crate::store::{EventPlace, RefEntry};
use crate::token::{Kind, fingerprint, page_token_error};
use crate::{Journal, JournalError};

/// Most events, commits or projects of a page, and most ids of one fetch.
const PAGE: usize = 1_000;
/// Most bytes of a page as it is sent, but for a single event that is larger: what clients of all languages read
/// without being told to, less the page's own fields.
const PAGE_BYTES: usize = (4 << 20) - (64 << 10);
/// Most bytes of a fetch by id, which has no next page.
const FETCH_BYTES: usize = 16 << 20;
/// Most bytes that one field adds to its content as it is sent: tags and lengths.
const FIELD_BYTES: usize = 8;
/// Bytes of an event's fields of fixed or small size: ids, times, checksum, numbers.
const EVENT_BYTES: usize = 512;
/// Bytes of an event id as text.
const ID_BYTES: usize = 35;
/// Events looked at for one page. A filter that finds little gets a short page with a token, not a long wait.
const SCANNED: usize = 50_000;
/// Events read from storage at once.
const SCAN_STEP: u32 = 100;

/// A point of history, and what it sees.
#[derive(Debug, Clone)]
pub struct Point {
    /// The commit.
    pub commit: Arc<Commit>,
    /// What it sees, by lane.
    pub visible: Visible,
}

/// Which events to list.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Selection {
    /// What may be seen at all.
    pub view: View,
    /// Every given condition must hold.
    pub filter: Filter,
    /// Also what a visible event supersedes or retracts.
    pub include_superseded: bool,
}

impl Selection {
    /// Whether authors decide what is shown: the store does not know them apart.
    pub(crate) fn names_authors(&self) -> bool {
        let parts = self.view.parts();
        parts.is_some_and(|parts| !parts.authors.is_empty())
    }
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// In the listing's order.
    pub items: Vec<T>,
    /// Gives the next page; empty at the end.
    pub next: String,
}

/// A project in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectEntry {
    /// Its name.
    pub name: ProjectName,
    /// When its first commit was made.
    pub created: Timestamp,
    /// Its newest commit on any branch.
    pub last_commit: Digest,
    /// How many commits it has.
    pub commit_count: u64,
    /// How many events it stores.
    pub event_count: u64,
}

/// Where a page of events is being read.
struct Scan<'a> {
    project: &'a Project,
    visible: &'a Visible,
    selection: &'a Selection,
    after: Option<EventPlace>,
}

/// How many items a page holds. 0 asks for the default.
fn page_size(asked: usize, default: usize) -> Result<usize, JournalError> {
    match asked {
        0 => Ok(default),
        1..=PAGE => Ok(asked),
        _ => {
            let problem = format!("expected at most {PAGE}, found {asked}");
            Err(Invalid::new("page_size", problem).into())
        }
    }
}

impl Journal {
    /// Turns a reference into its commit and what it sees. Heads and tags are answered from memory.
    pub async fn resolve(
        &self,
        tenant: &TenantName,
        project: &ProjectName,
        reference: &Reference,
    ) -> Result<Point, JournalError> {
        let project = self.store().projects()?.get(tenant, project)?;
        self.resolve_in(&project, reference).await
    }

    pub(crate) async fn resolve_in(
        &self,
        project: &Project,
        reference: &Reference,
    ) -> Result<Point, JournalError> {
        let named = {
            let state = project.read();
            match reference {
                Reference::Branch(name) => state.branches.get(name).map(|b| b.head.clone()),
                Reference::Tag(name) => state.tags.get(name).cloned(),
                Reference::Commit(_) | Reference::Prefix(_) => None,
            }
        };
        let commit = match (named, reference) {
            (Some(commit), _) => commit,
            (None, Reference::Commit(hash)) => self.store().commit_by_hash(project, hash).await?,
            (None, Reference::Prefix(digits)) => {
                self.store().commit_by_prefix(project, digits).await?
            }
            (None, Reference::Branch(name)) => return Err(ref_not_found("branch", name.as_str())),
            (None, Reference::Tag(name)) => return Err(ref_not_found("tag", name.as_str())),
        };
        let visible = project.read().visible(&commit)?;
        Ok(Point { commit, visible })
    }

    /// Events by id as visible at a point, in the order asked; at most 1,000, of 16 MiB together.
    /// Error: [`JournalError::EventNotFound`] for the first that is missing.
    pub async fn events(
        &self,
        tenant: &TenantName,
        project: &ProjectName,
        as_of: &Reference,
        ids: &[EventId],
    ) -> Result<Vec<Event>, JournalError> {
        let view = &View::Whole;
        self.events_shown(tenant, project, as_of, ids, view).await
    }

    /// The same for whoever may see this view: what it does not show is missing.
    pub async fn events_shown(
        &self,
        tenant: &TenantName,
        project: &ProjectName,
        as_of: &Reference,
        ids: &[EventId],
        view: &View,
    ) -> Result<Vec<Event>, JournalError> {
        if ids.len() > PAGE {
            let problem = format!("expected at most {PAGE}, found {}", ids.len());
            return Err(Invalid::new("ids", problem).into());
        }
        let project = self.store().projects()?.get(tenant, project)?;
        let point = self.resolve_in(&project, as_of).await?;
        let (mut events, mut bytes) = (Vec::with_capacity(ids.len()), 0);
        for step in ids.chunks(SCAN_STEP as usize) {
            let found = self
                .store()
                .events_by_id(&project, &point.visible, step)
                .await?;
            for id in step {
                let event = found
                    .get(id)
                    .filter(|event| shows(view, event))
                    .ok_or(JournalError::EventNotFound { id: *id })?;
                bytes += sent_bytes(event);
                events.push(event.clone());
            }
            if bytes > FETCH_BYTES {
                let problem = "these events are too large for one answer: ask for fewer";
                return Err(Invalid::new("ids", problem).into());
            }
        }
        Ok(events)
    }

    /// Lists the events that a point sees. A page may be short or even empty while more follow; only an
    /// empty token is the end. Also gives the commit that was read.
    pub async fn query(
        &self,
        tenant: &TenantName,
        project: &ProjectName,
        as_of: &Reference,
        selection: &Selection,
        asked: usize,
        token: &str,
    ) -> Result<(Page<Event>, Arc<Commit>), JournalError> {
        let size = page_size(asked, 50)?;
        let filter = &selection.filter;
        for (field, texts) in [
            ("filter.agents", &filter.agents),
            ("filter.sources", &filter.sources),
        ] {
            texts.iter().try_for_each(|text| without_nul(field, text))?;
        }
        without_nul("filter.correlation_id", &filter.correlation_id)?;
        let project = self.store().projects()?.get(tenant, project)?;
        let bound = fingerprint(&format!("{} {as_of} {selection:?}", project.key));
        let (point, after) = match token {
            "" => (self.resolve_in(&project, as_of).await?, None),
            token => {
                let content = self.store().sealer.open_page(Kind::Events, token)?;
                let (hash, place) = read_events_token(&content, &bound)?;
                (
                    self.resolve_in(&project, &Reference::Commit(hash)).await?,
                    Some(place),
                )
            }
        };
        let mut scan = Scan {
            project: &project,
            visible: &point.visible,
            selection,
            after,
        };
        let (items, more) = self.scan(&mut scan, size).await?;
        let after = scan.after;
        let next = match after.filter(|_| more) {
            Some(place) => {
                let content = write_events_token(&point.commit.hash, &bound, place);
                self.store().sealer.seal(Kind::Events, &content)
            }
            None => String::new(),
        };
        Ok((Page { items, next }, point.commit))
    }

    /// Takes events up to a page's bounds; says whether more may follow.
    async fn scan(
        &self,
        scan: &mut Scan<'_>,
        size: usize,
    ) -> Result<(Vec<Event>, bool), JournalError> {
        let filter = &scan.selection.filter;
        let looks_inside = !filter.tags_any.is_empty()
            || !filter.attributes.is_empty()
            || scan.selection.names_authors();
        let step = if looks_inside {
            SCAN_STEP
        } else {
            SCAN_STEP.min(size as u32 + 1)
        };
        let (mut items, mut scanned, mut bytes) = (Vec::with_capacity(size), 0, 0);
        loop {
            let found = self
                .store()
                .select(scan.project, scan.visible, scan.selection, scan.after, step)
                .await?;
            let ended = found.len() < step as usize;
            scanned += found.len();
            for event in found {
                let held = holds(filter, &event) && shows(&scan.selection.view, &event);
                let more = if held { sent_bytes(&event) } else { 0 };
                // One event always fits, so that every page gets on.
                if items.len() == size || !items.is_empty() && bytes + more > PAGE_BYTES {
                    return Ok((items, true));
                }
                scan.after = Some((event.event_time(), event.id));
                if held {
                    bytes += more;
                    items.push(event);
                }
            }
            if ended || scanned >= SCANNED {
                return Ok((items, !ended));
            }
        }
    }

    /// Lists the commits that lead to a point, itself first.
    pub async fn commits(
        &self,
        tenant: &TenantName,
        project: &ProjectName,
        from: &Reference,
        asked: usize,
        token: &str,
    ) -> Result<Page<Commit>, JournalError> {
        let size = page_size(asked, 50)?;
        let project = self.store().projects()?.get(tenant, project)?;
        let bound = fingerprint(&format!("{} {from}", project.key));
        let (point, newest) = match token {
            "" => {
                let point = self.resolve_in(&project, from).await?;
                let newest = point.commit.number;
                (point, newest)
            }
            token => {
                let content = self.store().sealer.open_page(Kind::Commits, token)?;
                let (hash, newest) = read_commits_token(&content, &bound)?;
                (
                    self.resolve_in(&project, &Reference::Commit(hash)).await?,
                    newest,
                )
            }
        };
        let mut lanes = point.visible.intervals().to_vec();
        if lanes.iter().all(|interval| interval.lane != 1) {
            // The commit that opens the project holds no position, so no interval names it.
            lanes.push(LaneInterval {
                lane: 1,
                position: 0,
            });
        }
        let limit = size as u32 + 1;
        let mut items = self
            .store()
            .ancestors(&project, &lanes, newest, limit)
            .await?;
        let next = match items.get(size) {
            Some(first_of_next) => {
                let mut content = bound.to_vec();
                content.extend_from_slice(point.commit.hash.as_bytes());
                content.extend_from_slice(&first_of_next.number.to_le_bytes());
                self.store().sealer.seal(Kind::Commits, &content)
            }
            None => String::new(),
        };
        items.truncate(size);
        Ok(Page { items, next })
    }

    /// Branches, then tags, each by name.
    pub fn refs(
        &self,
        tenant: &TenantName,
        project: &ProjectName,
    ) -> Result<Vec<RefEntry>, JournalError> {
        Ok(self.store().projects()?.get(tenant, project)?.read().refs())
    }

    /// A tenant's projects by name.
    pub fn projects(
        &self,
        tenant: &TenantName,
        asked: usize,
        token: &str,
    ) -> Result<Page<ProjectEntry>, JournalError> {
        let size = page_size(asked, 100)?;
        let after: Option<ProjectName> = self.after(Kind::Projects, token)?;
        let found = self
            .store()
            .projects()?
            .list(tenant, after.as_ref(), size + 1);
        let items: Vec<ProjectEntry> = found.iter().take(size).map(|p| entry(p)).collect();
        let next = match (found.len() > size, items.last()) {
            (true, Some(last)) => self
                .store()
                .sealer
                .seal(Kind::Projects, last.name.as_str().as_bytes()),
            _ => String::new(),
        };
        Ok(Page { items, next })
    }

    /// The tenants that have projects, by name.
    pub fn tenants(&self, asked: usize, token: &str) -> Result<Page<TenantName>, JournalError> {
        let size = page_size(asked, 100)?;
        let after: Option<TenantName> = self.after(Kind::Tenants, token)?;
        let mut items = self.store().projects()?.tenants(after.as_ref(), size + 1);
        let more = items.len() > size;
        items.truncate(size);
        let next = match items.last().filter(|_| more) {
            Some(last) => self
                .store()
                .sealer
                .seal(Kind::Tenants, last.as_str().as_bytes()),
            None => String::new(),
        };
        Ok(Page { items, next })
    }

    /// The name that a page token goes on after; an empty token goes on after nothing.
    fn after<N: std::str::FromStr>(
        &self,
        kind: Kind,
        token: &str,
    ) -> Result<Option<N>, JournalError> {
        if token.is_empty() {
            return Ok(None);
        }
        let content = self.store().sealer.open_page(kind, token)?;
        let name = String::from_utf8(content)
            .ok()
            .and_then(|name| name.parse().ok());
        Ok(Some(
            name.ok_or_else(|| page_token_error("does not read back"))?,
        ))
    }
}

fn entry(project: &Project) -> ProjectEntry {
    let state = project.read();
    ProjectEntry {
        name: project.name.clone(),
        created: state.opened.time,
        last_commit: state.last.hash,
        commit_count: state.last.number + 1,
        event_count: state.event_count,
    }
}

fn ref_not_found(kind: &'static str, name: &str) -> JournalError {
    JournalError::RefNotFound {
        kind,
        name: name.to_owned(),
    }
}

/// At most how many bytes an event takes as it is sent.
fn sent_bytes(event: &Event) -> usize {
    let draft = &event.draft;
    let texts = [
        event.record_id.as_str(),
        &draft.title,
        &draft.text,
        &draft.agent,
        &draft.author,
        &draft.source,
        &draft.correlation_id,
        &draft.causation_id,
        &event.traceparent,
    ];
    let field = |text: &str| text.len() + FIELD_BYTES;
    let links = draft.links.iter();
    let links = links.map(|link| field(&link.relation) + field(&link.target) + FIELD_BYTES);
    let attributes = draft.attributes.iter();
    let attributes = attributes.map(|a| field(&a.key) + field(&a.value) + FIELD_BYTES);
    EVENT_BYTES
        + texts.into_iter().map(field).sum::<usize>()
        + links.sum::<usize>()
        + attributes.sum::<usize>()
        + draft.tags.iter().map(|tag| field(tag)).sum::<usize>()
        + draft.supersedes.len() * (ID_BYTES + FIELD_BYTES)
}

/// The conditions that only the body can answer.
fn shows(view: &View, event: &Event) -> bool {
    view.shows(event.draft.artifact_type.as_str(), &event.draft.author)
}

fn holds(filter: &Filter, event: &Event) -> bool {
    let tagged = filter.tags_any.is_empty()
        || filter
            .tags_any
            .iter()
            .any(|tag| event.draft.tags.binary_search(tag).is_ok());
    tagged
        && filter
            .attributes
            .iter()
            .all(|wanted| event.draft.attributes.binary_search(wanted).is_ok())
}

fn write_events_token(hash: &Digest, bound: &[u8; 16], (time, id): EventPlace) -> Vec<u8> {
    let mut content = bound.to_vec();
    content.extend_from_slice(hash.as_bytes());
    content.extend_from_slice(&time.as_micros().to_le_bytes());
    content.extend_from_slice(id.as_bytes());
    content
}

fn read_events_token(
    content: &[u8],
    bound: &[u8; 16],
) -> Result<(Digest, EventPlace), JournalError> {
    let (hash, rest) = read_bound(content, bound)?;
    let damaged = || page_token_error("does not read back");
    let (time, id) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
    let time = Timestamp::from_micros(i64::from_le_bytes(*time)).map_err(|_| damaged())?;
    Ok((
        hash,
        (time, EventId::from_slice(id).map_err(|_| damaged())?),
    ))
}

fn read_commits_token(content: &[u8], bound: &[u8; 16]) -> Result<(Digest, u64), JournalError> {
    let (hash, rest) = read_bound(content, bound)?;
    let number = rest
        .try_into()
        .map_err(|_| page_token_error("does not read back"))?;
    Ok((hash, u64::from_le_bytes(number)))
}

fn read_bound<'a>(content: &'a [u8], bound: &[u8; 16]) -> Result<(Digest, &'a [u8]), JournalError> {
    let damaged = || page_token_error("does not read back");
    let (given, rest) = content.split_first_chunk::<16>().ok_or_else(damaged)?;
    if given != bound {
        return Err(page_token_error(
            "belongs to a request with other arguments",
        ));
    }
    let (hash, rest) = rest.split_first_chunk::<32>().ok_or_else(damaged)?;
    Ok((Digest::from_bytes(*hash), rest))
}
