//! A journal in a folder of its own, and short ways to ask it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use commonplace_journal::{
    Append, Appended, CreateRef, Journal, JournalError, Options, Page, RefEntry, RefName,
    Selection, SystemEntropy, start_with,
};
use commonplace_testkit::{Backend, Site};
use commonplace_types::{
    ArtifactType, BranchName, Draft, Event, EventId, ManualClock, Operation, ProjectName, RecordId,
    Reference, TagName, TenantName, Timestamp,
};

pub struct Fixture {
    pub journal: Journal,
    pub clock: Arc<ManualClock>,
    pub site: Site,
}

pub fn start_time() -> Timestamp {
    Timestamp::parse("2026-11-21T08:00:00Z").unwrap()
}

pub async fn open(site: &Site, clock: Arc<ManualClock>) -> Result<Journal, JournalError> {
    open_with(site, clock, options()).await
}

fn options() -> Options {
    Options {
        heartbeat_ms: 50,
        ..Options::default()
    }
}

async fn open_with(
    site: &Site,
    clock: Arc<ManualClock>,
    options: Options,
) -> Result<Journal, JournalError> {
    let entropy = Arc::new(SystemEntropy::from_key([7; 32]));
    start_with(options, site.place("journal"), clock, entropy).await
}

impl Fixture {
    pub async fn new(backend: Backend) -> Self {
        Self::at(Site::new(backend)).await
    }

    pub async fn at(site: Site) -> Self {
        Self::with(site, options()).await
    }

    pub async fn with(site: Site, options: Options) -> Self {
        let clock = Arc::new(ManualClock::new(start_time()));
        let journal = open_with(&site, clock.clone(), options).await.unwrap();
        Self {
            journal,
            clock,
            site,
        }
    }

    /// Closes and opens again.
    pub async fn restarted(self) -> Self {
        self.journal.shutdown().await.unwrap();
        let journal = open(&self.site, self.clock.clone()).await.unwrap();
        Self { journal, ..self }
    }

    pub fn path(&self) -> std::path::PathBuf {
        self.site.folder().join("journal")
    }

    pub fn tick(&self) {
        self.clock.advance(Duration::from_secs(1));
    }

    pub async fn try_append(
        &self,
        branch: &str,
        events: Vec<Draft>,
    ) -> Result<Appended, JournalError> {
        self.journal.append(append_to(branch, events)).await
    }

    pub async fn append(&self, branch: &str, events: Vec<Draft>) -> Appended {
        self.try_append(branch, events).await.unwrap()
    }

    pub async fn try_branch(&self, name: &str, at: Reference) -> Result<RefEntry, JournalError> {
        self.journal
            .create_ref(create(RefName::Branch(branch(name)), at))
            .await
    }

    pub async fn branch(&self, name: &str, from: &str) -> RefEntry {
        self.try_branch(name, on(from)).await.unwrap()
    }

    pub async fn try_tag(&self, name: &str, at: Reference) -> Result<RefEntry, JournalError> {
        self.journal
            .create_ref(create(RefName::Tag(TagName::new(name).unwrap()), at))
            .await
    }

    /// Titles of the events seen at a point, newest first.
    pub async fn titles(&self, at: &Reference) -> Vec<String> {
        self.select(at, Selection::default()).await
    }

    pub async fn all_titles(&self, at: &Reference) -> Vec<String> {
        let selection = Selection {
            include_superseded: true,
            ..Selection::default()
        };
        self.select(at, selection).await
    }

    pub async fn select(&self, at: &Reference, selection: Selection) -> Vec<String> {
        let page = self.page(at, &selection, 1_000, "").await.unwrap();
        assert!(page.next.is_empty(), "more than one page");
        page.items
            .into_iter()
            .map(|event| event.draft.title)
            .collect()
    }

    pub async fn page(
        &self,
        at: &Reference,
        selection: &Selection,
        size: usize,
        token: &str,
    ) -> Result<Page<Event>, JournalError> {
        let (page, _) = self
            .journal
            .query(&tenant(), &project(), at, selection, size, token)
            .await?;
        Ok(page)
    }

    pub async fn event(&self, at: &Reference, id: EventId) -> Result<Event, JournalError> {
        let found = self
            .journal
            .events(&tenant(), &project(), at, &[id])
            .await?;
        Ok(found.into_iter().next().unwrap())
    }
}

pub fn tenant() -> TenantName {
    TenantName::default_tenant()
}

pub fn project() -> ProjectName {
    ProjectName::default_project()
}

pub fn branch(name: &str) -> BranchName {
    BranchName::new(name).unwrap()
}

pub fn on(name: &str) -> Reference {
    Reference::Branch(branch(name))
}

pub fn draft(title: &str) -> Draft {
    Draft::new(ArtifactType::new("spec").unwrap(), title, "text")
        .checked()
        .unwrap()
}

pub fn about(record: &str, title: &str) -> Draft {
    let mut draft = draft(title);
    draft.record_id = Some(RecordId::new(record).unwrap());
    draft
}

pub fn update(record: &str, title: &str) -> Draft {
    let mut draft = about(record, title);
    draft.supersede_heads = true;
    draft
}

pub fn retract(record: &str, title: &str) -> Draft {
    let mut draft = about(record, title);
    draft.operation = Operation::Retract;
    draft
}

pub fn append_to(name: &str, events: Vec<Draft>) -> Append {
    Append {
        tenant: tenant(),
        project: project(),
        branch: branch(name),
        request_id: None,
        expected_head: None,
        author: "ann".into(),
        message: "why".into(),
        traceparent: String::new(),
        origin: Default::default(),
        validate_only: false,
        events,
    }
}

pub fn create(name: RefName, at: Reference) -> CreateRef {
    CreateRef {
        tenant: tenant(),
        project: project(),
        request_id: None,
        name,
        at,
    }
}

/// Runs a statement on a closed journal's file, as damage or a stranger would.
pub async fn change(file: &Path, sql: &str) -> u64 {
    use sea_orm::ConnectionTrait;
    let url = format!("sqlite://{}?mode=rw", file.display());
    let database = sea_orm::Database::connect(url).await.unwrap();
    let done = database.execute_unprepared(sql).await.unwrap();
    database.close().await.unwrap();
    done.rows_affected()
}
