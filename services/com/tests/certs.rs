//! `com certs dev`: what it makes is taken by servers and channels, and nobody else can read it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use commonplace_rpc::{Tls, TlsOptions};

fn certs(out: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_com"));
    command
        .args(["certs", "dev", "--out"])
        .arg(out)
        .args(more)
        .output()
        .unwrap()
}

fn done(out: &Path, more: &[&str]) -> String {
    let output = certs(out, more);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn refused(out: &Path, more: &[&str]) -> String {
    let output = certs(out, more);
    assert_eq!(output.status.code(), Some(2), "{more:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn options(out: &Path, role: &str) -> TlsOptions {
    let file = |name: &str| out.join(role).join(name);
    TlsOptions {
        certificate: file("tls.crt"),
        key: file("tls.key"),
        authority: file("ca.crt"),
        ..TlsOptions::default()
    }
}

#[tokio::test]
async fn each_role_gets_files_that_work_and_stay_private() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("certs");
    let told = done(&out, &[]);
    assert!(
        told.contains("certificate = ") && told.contains("tls.crt"),
        "{told}"
    );
    for role in [
        "gateway",
        "index",
        "ingest",
        "journal",
        "operator",
        "policy",
        "retrieval",
    ] {
        let tls = Tls::start(&options(&out, role), None).unwrap();
        assert_eq!(tls.identity().roles, [role.to_owned()].into());
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            let mode = std::fs::metadata(out.join(role).join(name))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{role}/{name}");
        }
    }
}

#[tokio::test]
async fn a_process_of_several_roles_is_all_of_them() {
    let folder = tempfile::tempdir().unwrap();
    done(
        folder.path(),
        &["--roles", "journal,index+retrieval", "--days", "2"],
    );
    let tls = Tls::start(&options(folder.path(), "index+retrieval"), None).unwrap();
    assert_eq!(
        tls.identity().roles,
        ["index".to_owned(), "retrieval".to_owned()].into()
    );
    let left = tls
        .not_after()
        .duration_since(std::time::SystemTime::now())
        .unwrap();
    assert!(left > Duration::from_secs(86_400) && left <= Duration::from_secs(2 * 86_400));
}

#[tokio::test]
async fn nothing_is_replaced_unasked_and_renewed_certificates_are_of_the_same_authority() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    done(out, &["--roles", "journal"]);
    let authority = std::fs::read(out.join("ca.crt")).unwrap();
    let leaf = std::fs::read(out.join("journal/tls.crt")).unwrap();
    let text = refused(out, &[]);
    assert!(
        text.contains("--renew") && text.contains("--force"),
        "{text}"
    );
    assert_eq!(std::fs::read(out.join("journal/tls.crt")).unwrap(), leaf);

    done(out, &["--renew"]);
    assert_eq!(std::fs::read(out.join("ca.crt")).unwrap(), authority);
    assert_ne!(std::fs::read(out.join("journal/tls.crt")).unwrap(), leaf);
    // The new leaf passes under the authority's certificate that others hold.
    Tls::start(&options(out, "journal"), None).unwrap();
    assert!(!out.join("policy").exists());

    done(out, &["--force", "--roles", "journal"]);
    assert_ne!(std::fs::read(out.join("ca.crt")).unwrap(), authority);
}

#[test]
fn wrong_input_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, expected) in [
        (&["--renew"][..], "run without --renew"),
        (&["--roles", "../journal"], "--roles"),
        (&["--roles", "a++b"], "--roles"),
        (&["--trust-domain", "a/b"], "--trust-domain"),
        (&["--days", "0"], "--days"),
    ] {
        let text = refused(&folder.path().join("new"), arguments);
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
}
