//! One story, told to every form of the mesh: the same events, the same rankings, the same bytes of packs.
//!
//! Each form writes the story into an empty journal, and is asked over a copy of one journal: a copy of its folder, or
//! on PostgreSQL its rows. So hashes of commits and bytes of packs are compared across stores too. With vectors in
//! Qdrant a pack says that its candidates came from there; all else of it is compared ([`Compared`]).

#![recursion_limit = "256"]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod stores;

use std::path::{Path, PathBuf};

use commonplace_node::{Role, default_model_dir};
use commonplace_testkit::Server;
use commonplace_tests::mesh::{Form, Mesh, MeshBuilder};
use commonplace_tests::story::{self, Asked, Pack, Written};
use stores::Cluster;
use tokio::sync::OnceCell;

/// What the embedded form wrote and answered, and its journal, for all others to be held against.
struct Reference {
    written: Written,
    asked: Asked,
    journal: PathBuf,
}

/// Dense search takes part where the model has been fetched.
fn dense() -> bool {
    default_model_dir().join("model.safetensors").is_file()
}

async fn reference() -> &'static Reference {
    static REFERENCE: OnceCell<Reference> = OnceCell::const_new();
    let make = || async {
        let mesh = Mesh::builder(Form::Embedded).model().start().await;
        let written = story::write(&mesh.channels()).await;
        let data = mesh.data(Role::Gateway, 0);
        let _folder = mesh.shutdown().await;
        // Under the target folder, as nothing of what a static holds is ever dropped.
        let journal = Path::new(env!("CARGO_TARGET_TMPDIR")).join("end-to-end-journal");
        std::fs::remove_dir_all(&journal).ok();
        copy(&data.join("journal"), &journal);
        // Asked over a copy, as the others are: what is not in the journal cannot be meant.
        let mesh = builder(Form::Embedded, &journal).start().await;
        let asked = story::ask(&mesh.channels(), dense()).await;
        mesh.shutdown().await;
        Reference {
            written,
            asked,
            journal,
        }
    };
    REFERENCE.get_or_init(make).await
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn builder(form: Form, journal: &Path) -> MeshBuilder {
    Mesh::builder(form).model().seed(Role::Journal, journal)
}

/// What of packs must be equal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compared {
    /// Every byte.
    Bytes,
    /// Every byte but the words that say that candidates came from a store, and the ids, which follow from bytes.
    ButWhereCandidatesComeFrom,
}

/// Tells the story to two meshes of a form: an empty one writes, one over a copy of the journal is asked.
async fn tell(empty: MeshBuilder, filled: MeshBuilder, compared: Compared) {
    let reference = reference().await;
    let mesh = empty.start().await;
    let written = story::write(&mesh.channels()).await;
    assert_eq!(written, reference.written);
    mesh.shutdown().await;
    let mesh = filled.start().await;
    let asked = story::ask(&mesh.channels(), dense()).await;
    mesh.shutdown().await;
    assert_eq!(asked.commits, reference.asked.commits);
    assert_eq!(asked.digests, reference.asked.digests);
    assert_eq!(asked.rankings, reference.asked.rankings);
    for (name, expected) in &reference.asked.packs {
        compare(name, &asked.packs[name], expected, compared);
    }
    assert_eq!(asked.packs.len(), reference.asked.packs.len());
}

fn compare(name: &str, pack: &Pack, expected: &Pack, compared: Compared) {
    assert_eq!(pack.told, expected.told, "{name}");
    // Dense search that is off asks no store.
    if compared == Compared::Bytes || !dense() {
        assert_eq!(pack.id, expected.id, "{name}");
        assert!(pack.content == expected.content, "{name}: the same bytes");
        return;
    }
    let text = String::from_utf8(pack.content.clone()).unwrap();
    let from_store = r#""candidates":"recorded","#;
    if text.contains(from_store) {
        let rest = text.replacen(from_store, "", 1);
        assert!(
            rest.as_bytes() == expected.content,
            "{name}: the same bytes else"
        );
    } else {
        // A policy without a dense signal.
        assert!(pack.content == expected.content, "{name}: the same bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_itself_holds() {
    let reference = reference().await;
    let Written {
        reports,
        events,
        current,
        refusals,
    } = &reference.written;
    let again = reports.iter().filter(|line| line.starts_with("again"));
    assert!(again.clone().count() > 5);
    assert!(
        again.clone().all(|line| line.contains(": 0 new")),
        "{reports:#?}"
    );
    assert!(
        reports.iter().any(|line| line.contains("Redaction {")),
        "{reports:#?}"
    );
    assert!(refusals[0].contains("importance"), "{refusals:?}");
    assert!(events["branch"].len() > events["tag"].len());
    assert!(events["main"].len() > current.len(), "some are superseded");
    assert_eq!(reference.asked.digests[0], reference.asked.digests[1]);
    assert!(reference.asked.packs.len() > 15);
}

/// A form over SQLite: told to an empty one and to one over the journal.
async fn tell_on_files(form: Form, secured: impl Fn(MeshBuilder) -> MeshBuilder) {
    let journal = &reference().await.journal;
    let (empty, filled) = (Mesh::builder(form), builder(form, journal));
    tell(secured(empty), secured(filled), Compared::Bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process() {
    tell_on_files(Form::OneProcess, |builder| builder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_per_role() {
    tell_on_files(Form::PerRole, |builder| builder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_per_role_with_mutual_tls() {
    tell_on_files(Form::PerRole, MeshBuilder::tls).await;
}

/// One process per role with mutual TLS, over an empty database and over one that holds the journal.
async fn on_postgres() -> [MeshBuilder; 2] {
    let server = Server::shared();
    let empty = stores::database(server).await;
    let filled = stores::database_of(server, &reference().await.journal).await;
    [empty, filled].map(|url| Mesh::builder(Form::PerRole).postgres(&url).tls())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_per_role_with_postgres_and_mutual_tls() {
    let [empty, filled] = on_postgres().await;
    tell(empty, filled.model(), Compared::Bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_per_role_with_postgres_three_qdrant_servers_and_mutual_tls() {
    let cluster = Cluster::start(3).await;
    let [empty, filled] = on_postgres().await;
    let filled = filled.model().qdrant(&cluster.urls());
    tell(empty, filled, Compared::ButWhereCandidatesComeFrom).await;
    if dense() {
        assert!(cluster.searches() > 10, "candidates came from the servers");
        let writes = |number| cluster.writes(number);
        assert!((0..cluster.len()).map(writes).all(|count| count > 0));
    }
}
