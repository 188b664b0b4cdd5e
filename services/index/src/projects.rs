//! Every project's index: finds the right one, waits until it has come far enough, and reads from it.

mod search;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use commonplace_rpc::{Code, Failure, View, context};
use commonplace_types::{ProjectName, Reference, TenantName};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::blocking::in_place;
use crate::client::{Journal, Resolved};
use crate::config::{Options, or_processors};
use crate::embedding::Embedding;
use crate::engine::{Engine, Snapshot};
use crate::error::IndexError;
use crate::follow::Follower;
use crate::guesses::Guesses;
use crate::metrics::Totals;
use crate::passages::{Passage, PassageKey, ReadError, read_all};
use crate::project::Project;
use crate::qdrant::{self, Findings, Outside, Owner, Store, StoreError, Syncer};
use crate::search::{Query, Tools};
use crate::slots::Slots;
use crate::status::{ProjectStatus, Standing, standing_of, status_of};

/// How often reading a damaged index is tried again after it was built anew.
const TRIES: usize = 3;

type Key = (TenantName, ProjectName);

/// All projects that are followed, and what their searches share.
pub(crate) struct Projects {
    options: Options,
    /// Holds one folder for each tenant, and in it one for each project.
    folder: PathBuf,
    journal: Journal,
    pub(crate) embedding: Arc<Embedding>,
    /// Where dense candidates come from, if not from a scan.
    store: Option<Arc<Store>>,
    tools: Arc<Tools>,
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
    guesses: Guesses,
    followed: RwLock<BTreeMap<Key, Arc<Project>>>,
    slots: Arc<Slots>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What a search asks for besides its query.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) project: ProjectName,
    pub(crate) as_of: Reference,
    pub(crate) query: Query,
    /// Wait until the commit's vectors are there too.
    pub(crate) wait_for_dense: bool,
    /// Another replica may hold the project: refuse one that is still being built.
    pub(crate) refuse_building: bool,
}

/// What a check compared.
pub(crate) enum Checked {
    /// Vectors of the index's own, which cannot differ from its rows.
    Local(Arc<Snapshot>),
    /// The points of a vector store.
    Store(Box<Findings>),
}

impl Projects {
    pub(crate) fn new(
        options: Options,
        folder: PathBuf,
        journal: Journal,
        embedding: Arc<Embedding>,
        store: Option<Arc<Store>>,
    ) -> Self {
        let searches = or_processors(options.searches);
        Self {
            tools: Arc::new(Tools::new(or_processors(0) > 1)),
            running: Arc::new(Semaphore::new(searches)),
            admitted: Arc::new(Semaphore::new(searches + options.queued_searches)),
            guesses: Guesses::default(),
            slots: Slots::new(options.open_projects),
            options,
            folder,
            journal,
            embedding,
            store,
            followed: RwLock::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    async fn resolve(
        &self,
        project: &ProjectName,
        reference: &Reference,
    ) -> Result<Resolved, IndexError> {
        // Whoever may see parts of the project may not ask the journal for its commits, but search at them.
        let resolving = self.journal.resolve(project, reference);
        let resolved = context::in_own_name(resolving).await;
        resolved.map_err(IndexError::Journal)
    }

    fn refuse_building(&self, project: &Project, refuse: bool) -> Result<(), IndexError> {
        if refuse && project.is_building(self.embedding.fingerprint().is_ok()) {
            let project = project.name.to_string();
            return Err(IndexError::Building { project });
        }
        Ok(())
    }

    /// The project's engine once it holds a commit, and the vectors of that many.
    async fn wait(
        &self,
        project: &Project,
        number: u64,
        dense: u64,
    ) -> Result<Arc<Engine>, IndexError> {
        let once = project.once(|progress| progress.commits > number && progress.dense >= dense);
        self.in_time(once)
            .await
            .ok_or_else(|| self.behind(&project.name, number))
    }

    async fn in_time<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let most = Duration::from_millis(self.options.longest_wait_ms);
        // A little early, so that the caller gets this answer and not that its time is up.
        let left = context::remaining().map(|left| left.saturating_sub(Duration::from_millis(3)));
        tokio::select! {
            biased;
            done = future => Some(done),
            () = tokio::time::sleep(left.map_or(most, |left| left.min(most))) => None,
            () = self.stop.cancelled() => None,
        }
    }

    fn behind(&self, project: &ProjectName, wanted: u64) -> IndexError {
        if self.stop.is_cancelled() {
            return IndexError::Stopping;
        }
        let project = project.to_string();
        IndexError::Behind { project, wanted }
    }

    /// Waits a little for a rebuild that was asked for to begin.
    async fn until_gone(&self, project: &Project) {
        for _ in 0..200 {
            if project.engine().is_none() || self.stop.is_cancelled() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Fetches passages in the order asked for. One that the view does not show is not there.
    pub(crate) async fn passages(
        &self,
        name: ProjectName,
        keys: Vec<PassageKey>,
        view: &View,
        refuse_building: bool,
    ) -> Result<Vec<Passage>, IndexError> {
        let passages = self.read_passages(name, keys, refuse_building).await?;
        let hidden = |passage: &&Passage| !view.shows(&passage.artifact_type, &passage.author);
        match passages.iter().find(hidden) {
            Some(hidden) => Err(hidden.key.into()),
            None => Ok(passages),
        }
    }

    async fn read_passages(
        &self,
        name: ProjectName,
        keys: Vec<PassageKey>,
        refuse_building: bool,
    ) -> Result<Vec<Passage>, IndexError> {
        let tenant = context::tenant();
        let mut wanted = 0;
        for attempt in 0..TRIES {
            let project = match self.followed(&tenant, &name) {
                Some(project) => project,
                None => {
                    let head = self.resolve(&name, &Reference::main()).await?;
                    let project = self.follow(tenant.clone(), name.clone());
                    project.saw_journal_at(head.number);
                    project
                }
            };
            let _use = project.usage.enter();
            self.refuse_building(&project, refuse_building)?;
            let once = project.once(|progress| progress.commits > wanted || wanted == 0);
            let engine = self.in_time(once).await;
            let engine = engine.ok_or_else(|| self.behind(&name, wanted))?;
            let (keys, snapshot) = (keys.clone(), engine.snapshot());
            drop(engine);
            match in_place(move || read_all(&snapshot, &keys)).await? {
                Ok(passages) => return Ok(passages),
                Err(ReadError::Missing(key)) if attempt > 0 => return Err(key.into()),
                // Maybe it has not come in yet: look again at the head of the journal.
                Err(ReadError::Missing(_)) => wanted = self.head(&name).await?,
                Err(ReadError::Damaged) => {
                    tracing::warn!(project = %name, "texts are damaged, building the index again");
                    wanted = self.head(&name).await?;
                    project.request_rebuild();
                    self.until_gone(&project).await;
                }
            }
        }
        Err(self.behind(&name, wanted))
    }

    /// Number of the newest commit of a project.
    async fn head(&self, name: &ProjectName) -> Result<u64, IndexError> {
        let projects = context::in_own_name(self.journal.projects()).await;
        let projects = projects.map_err(IndexError::Journal)?;
        let found = projects.into_iter().find(|(project, _)| project == name);
        let missing = || {
            let failure = Failure::new(Code::NotFound, "PROJECT_NOT_FOUND");
            IndexError::Journal(failure.message(format!("project `{name}` not found")))
        };
        Ok(found.ok_or_else(missing)?.1.unwrap_or(0))
    }

    /// How the named project, or every one, is doing.
    pub(crate) async fn status(
        &self,
        name: Option<ProjectName>,
    ) -> Result<Vec<ProjectStatus>, IndexError> {
        let tenant = context::tenant();
        let projects: Vec<Arc<Project>> = match name {
            None => self.of_tenant(&tenant),
            Some(name) => match self.followed(&tenant, &name) {
                Some(project) => vec![project],
                None => {
                    self.resolve(&name, &Reference::main()).await?;
                    vec![self.follow(tenant, name)]
                }
            },
        };
        let read = move || projects.iter().map(|project| status_of(project)).collect();
        let read = tokio::task::spawn_blocking(read).await;
        read.map_err(|_| IndexError::Stopping)
    }

    /// Throws a project's index away and waits until it has caught up again.
    pub(crate) async fn rebuild(&self, name: ProjectName) -> Result<ProjectStatus, IndexError> {
        let head = self.head(&name).await?;
        let project = self.follow(context::tenant(), name);
        let _use = project.usage.enter();
        let gone = self.in_time(project.rebuild()).await;
        match gone {
            Some(true) => {}
            Some(false) => return Err(IndexError::Stopping),
            None => return Err(self.behind(&project.name, head)),
        }
        drop(self.wait(&project, head, 0).await?);
        let rebuilt = Arc::clone(&project);
        let read = tokio::task::spawn_blocking(move || status_of(&rebuilt)).await;
        read.map_err(|_| IndexError::Stopping)
    }

    /// Compares a project's vectors with what follows from the journal; with `repair` puts them right.
    pub(crate) async fn check(
        &self,
        name: ProjectName,
        repair: bool,
    ) -> Result<Checked, IndexError> {
        let head = self.head(&name).await?;
        let project = self.follow(context::tenant(), name);
        let _use = project.usage.enter();
        let engine = self.wait(&project, head, 0).await?;
        let Some(outside) = engine.outside().cloned() else {
            return Ok(Checked::Local(engine.snapshot()));
        };
        // What the store has not been told yet is no drift.
        let told =
            project.once(|progress| progress.stored >= progress.dense && progress.checked > 0);
        let _ = self.in_time(told).await;
        let engine = Arc::downgrade(&engine);
        let fresh = || engine.upgrade().map(|engine| engine.snapshot());
        let snapshot = fresh().ok_or_else(|| self.behind(&project.name, head))?;
        let checked = qdrant::check(&outside, snapshot, fresh);
        let Some(findings) = self.in_time(checked).await else {
            return Err(self.behind(&project.name, head));
        };
        let findings = findings?;
        if repair {
            let problem = |problem| IndexError::Store(StoreError::Down(problem));
            qdrant::repair(&outside, &findings).await.map_err(problem)?;
        }
        Ok(Checked::Store(Box::new(findings)))
    }

    fn followed(&self, tenant: &TenantName, name: &ProjectName) -> Option<Arc<Project>> {
        let followed = self.followed.read().unwrap_or_else(PoisonError::into_inner);
        followed.get(&(tenant.clone(), name.clone())).cloned()
    }

    fn of_tenant(&self, tenant: &TenantName) -> Vec<Arc<Project>> {
        let followed = self.followed.read().unwrap_or_else(PoisonError::into_inner);
        let own = followed
            .values()
            .filter(|project| project.tenant == *tenant);
        own.cloned().collect()
    }

    /// Every project that is followed, of all tenants, in order.
    pub(crate) fn standings(&self) -> Vec<Standing> {
        let followed = self.followed.read().unwrap_or_else(PoisonError::into_inner);
        followed
            .values()
            .map(|project| standing_of(project))
            .collect()
    }

    /// All projects together, for the metrics.
    pub(crate) fn totals(&self) -> Totals {
        let followed = self.followed.read().unwrap_or_else(PoisonError::into_inner);
        let mut totals = Totals::default();
        for project in followed.values() {
            totals.projects += 1;
            let Some(engine) = project.engine() else {
                continue;
            };
            let snapshot = engine.snapshot();
            let (rows, vectors) = (snapshot.state.rows.len(), snapshot.vectors.len());
            let behind = project
                .journal_commits()
                .saturating_sub(snapshot.progress.commits);
            totals.open += 1;
            totals.lag = totals.lag.max(behind);
            totals.passages += rows as u64;
            if self.embedding.fingerprint().is_ok() {
                totals.waiting += rows.saturating_sub(vectors) as u64;
            }
        }
        totals
    }

    /// The engines in use.
    pub(crate) fn engines(&self) -> Vec<Arc<Engine>> {
        let followed = self.followed.read().unwrap_or_else(PoisonError::into_inner);
        followed
            .values()
            .filter_map(|project| project.engine())
            .collect()
    }

    /// Follows a project from now on, if it is not followed yet.
    fn follow(&self, tenant: TenantName, name: ProjectName) -> Arc<Project> {
        let mut followed = self
            .followed
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let key = (tenant.clone(), name.clone());
        if let Some(project) = followed.get(&key) {
            return Arc::clone(project);
        }
        let folder = self.folder.join(tenant.as_str()).join(name.as_str());
        let (project, rebuilds) = Project::new(tenant.clone(), name, folder);
        let project = Arc::new(project);
        followed.insert(key, Arc::clone(&project));
        let follower = Follower {
            project: Arc::clone(&project),
            journal: self.journal.clone(),
            embedding: Arc::clone(&self.embedding),
            options: self.options.clone(),
            outside: self.outside(&project),
            slots: Arc::clone(&self.slots),
            rebuilds,
            stop: self.stop.clone(),
        };
        if let Some(outside) = follower.outside.clone() {
            let syncer = Syncer::new(Arc::clone(&project), outside, self.stop.clone());
            self.tasks.spawn(syncer.run());
        }
        self.tasks
            .spawn(context::for_tenant(tenant, follower.run()));
        project
    }

    /// The vector store as far as a project is concerned.
    fn outside(&self, project: &Project) -> Option<Arc<Outside>> {
        let owner = Owner {
            tenant: project.tenant.clone(),
            project: project.name.clone(),
        };
        let store = self.store.clone()?;
        Some(Arc::new(Outside::new(store, owner)))
    }

    /// Brings the vector store up, if there is one, and keeps it so until the service stops.
    pub(crate) fn keep_store(&self) {
        if let Some(store) = self.store.clone() {
            self.tasks.spawn(store.keep(self.stop.clone()));
        }
    }

    /// Follows every project that has a folder.
    pub(crate) fn follow_folders(&self) {
        for tenant in names(&self.folder) {
            let Ok(tenant_name) = TenantName::new(tenant.clone()) else {
                continue;
            };
            for project in names(&self.folder.join(tenant)) {
                if let Ok(name) = ProjectName::new(project) {
                    self.follow(tenant_name.clone(), name);
                }
            }
        }
    }

    /// Follows the journal's projects as they come, until the service stops.
    pub(crate) fn poll(self: &Arc<Self>) {
        let projects = Arc::clone(self);
        let period = Duration::from_millis(self.options.poll_interval_ms.max(1));
        let polling = async move {
            loop {
                for tenant in projects.journal.tenants().await.unwrap_or_default() {
                    context::for_tenant(tenant, projects.look()).await;
                }
                tokio::select! {
                    () = tokio::time::sleep(period) => {}
                    () = projects.stop.cancelled() => return,
                }
            }
        };
        self.tasks.spawn(polling);
    }

    /// Looks for projects of the present tenant, and how far they are.
    async fn look(&self) {
        let Ok(found) = self.journal.projects().await else {
            return;
        };
        for (name, head) in found {
            let project = self.follow(context::tenant(), name);
            head.into_iter()
                .for_each(|head| project.saw_journal_at(head));
        }
    }

    /// Ends everything that runs for the projects; what they took in is on disk when this returns.
    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        self.running.close();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Names of the folders in a folder, sorted; none if it cannot be read.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}
