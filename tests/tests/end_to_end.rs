//! One story, told to every form of the mesh: the same events, the same rankings, the same bytes of packs.

#![recursion_limit = "256"]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use commonplace_node::{Role, default_model_dir};
use commonplace_tests::mesh::{Form, Mesh, MeshBuilder};
use commonplace_tests::story::{self, Asked, Written};
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

/// Tells the story to two meshes of a form: an empty one writes, one over a copy of the journal is asked.
async fn tell(empty: MeshBuilder, filled: impl FnOnce(&Path) -> MeshBuilder) {
    let reference = reference().await;
    let mesh = empty.start().await;
    let written = story::write(&mesh.channels()).await;
    assert_eq!(written, reference.written);
    mesh.shutdown().await;
    let mesh = filled(&reference.journal).start().await;
    let asked = story::ask(&mesh.channels(), dense()).await;
    mesh.shutdown().await;
    assert_eq!(asked.commits, reference.asked.commits);
    assert_eq!(asked.digests, reference.asked.digests);
    assert_eq!(asked.rankings, reference.asked.rankings);
    for (name, (id, content)) in &reference.asked.packs {
        let (other, bytes) = &asked.packs[name];
        assert_eq!(other, id, "{name}");
        assert!(bytes == content, "{name} has the same bytes");
    }
    assert_eq!(asked.packs.len(), reference.asked.packs.len());
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

#[tokio::test(flavor = "multi_thread")]
async fn one_process() {
    let empty = Mesh::builder(Form::OneProcess);
    tell(empty, |journal| builder(Form::OneProcess, journal)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_per_role() {
    let empty = Mesh::builder(Form::PerRole);
    tell(empty, |journal| builder(Form::PerRole, journal)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_per_role_with_mutual_tls() {
    let empty = Mesh::builder(Form::PerRole).tls();
    tell(empty, |journal| builder(Form::PerRole, journal).tls()).await;
}
