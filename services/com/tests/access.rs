//! Keys, grants, authorization and tokens by the real program.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::{Done, Server, bare, done, file, run};

const APPEND: &str = "JournalService/Append";

/// Makes a key and gives its secret.
fn key(folder: &Path, arguments: &[&str]) -> String {
    let made = run(folder, &[&["keys", "create"], arguments].concat()).ok();
    let secret = made.stdout.trim_end().to_owned();
    assert_eq!(made.stdout.lines().count(), 1, "the key alone: {made:?}");
    secret
}

fn id(secret: &str) -> &str {
    secret.split('_').nth(1).unwrap()
}

#[test]
fn a_key_is_printed_once_rotated_and_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let made = run(
        folder,
        &[
            "keys",
            "create",
            "--subject",
            "ci",
            "--role",
            "writer",
            "--scope",
            "write:shop",
        ],
    )
    .ok();
    let secret = made.stdout.trim_end();
    assert!(
        secret.starts_with("com_") && made.stdout.lines().count() == 1,
        "{made:?}"
    );
    assert!(
        made.stderr.contains("kept nowhere") && !made.stderr.contains(secret),
        "{made:?}"
    );
    let listed = run(folder, &["keys", "list"]).ok();
    for word in [id(secret), "agent", "ci", "writer", "write:shop", "good"] {
        assert!(listed.stdout.contains(word), "{word}: {listed:?}");
    }
    assert!(!listed.stdout.contains(secret));

    let rotated = run(
        folder,
        &["--json", "keys", "rotate", id(secret), "--overlap", "2h"],
    )
    .ok();
    let rotated = &rotated.json()[0];
    let second = rotated["secret"].as_str().unwrap();
    assert_eq!((id(second), second == secret), (id(secret), false));
    assert!(rotated["key"]["overlap_end_time"].is_string(), "{rotated}");

    run(folder, &["keys", "revoke", id(secret)]).ok();
    let listed = run(folder, &["--json", "keys", "list"]).ok();
    assert!(listed.json()[0]["revoke_time"].is_string(), "{listed:?}");
    run(folder, &["keys", "rotate", id(secret)]).says(2, &["is revoked", "keys create"]);
    run(folder, &["keys", "revoke", "zzzzzzzzzzzzzzzz"]).says(2, &["not found", "keys list"]);
    run(
        folder,
        &["keys", "create", "--subject", "a", "--scope", "delete"],
    )
    .says(2, &["scopes[0]"]);
    run(
        folder,
        &["keys", "create", "--subject", "a", "--expires-in", "1y"],
    )
    .says(2, &["90d"]);
}

#[test]
fn each_tenant_has_keys_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let theirs = key(folder, &["--tenant", "acme", "--subject", "ci"]);
    let listed = run(folder, &["--json", "keys", "list"]).ok();
    assert!(listed.json().is_empty(), "{listed:?}");
    let listed = run(folder, &["--tenant", "acme", "--json", "keys", "list"]).ok();
    assert_eq!(listed.json()[0]["id"], id(&theirs));
    run(folder, &["keys", "revoke", id(&theirs)]).says(2, &["not found"]);
    run(folder, &["--tenant", "NO", "keys", "list"]).says(2, &["--tenant"]);
}

#[test]
fn grants_change_what_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let explain = [
        "authz",
        "explain",
        APPEND,
        "--project",
        "shop",
        "--user",
        "bob",
    ];
    run(folder, &explain)
        .ok()
        .says(0, &["denied", "no role, grant or policy"]);
    let create = [
        "grants", "create", "--user", "bob", "--right", "write", "--in", "shop",
    ];
    let made = run(folder, &create)
        .ok()
        .says(0, &["user bob may write project shop"]);
    let grant = made.stdout.split(['(', ')']).nth(1).unwrap().to_owned();
    run(folder, &explain).ok().says(0, &["allowed", &grant]);
    run(folder, &["grants", "list"])
        .ok()
        .says(0, &[&grant, "user bob", "project shop"]);
    let scoped = [&explain[..], &["--scope", "read", "--through", "fixer"]].concat();
    run(folder, &scoped)
        .ok()
        .says(0, &["denied", "agent fixer", "scopes `read`"]);
    run(folder, &["grants", "delete", &grant]).ok();
    run(folder, &["grants", "delete", &grant]).says(2, &["not found", "grants list"]);
    run(folder, &explain).ok().says(0, &["denied"]);
    run(
        folder,
        &["grants", "create", "--user", "bob", "--right", "read"],
    )
    .says(2, &["--everywhere"]);
    run(folder, &["authz", "explain", "Nothing"]).says(2, &["JournalService/Append"]);
    run(folder, &["authz", "explain", APPEND, "--role", "admin"]).says(2, &["--user"]);
}

#[test]
fn policies_are_checked_before_they_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let good = "forbid (principal == User::\"default/bob\", action, resource);\n";
    let good = file(folder, "good.cedar", good);
    let bad = file(
        folder,
        "bad.cedar",
        "permit (principal, action in Action::\"nothing\", resource);",
    );
    let put = |what: &str, path: &str| run(folder, &["authz", "policies", what, "mine", path]);
    put("put", &bad).says(2, &["nothing", "authz policies schema"]);
    put("check", &good).ok().says(0, &["fits: mine"]);
    let listed = run(folder, &["authz", "policies", "list"]).ok();
    assert!(
        !listed.stdout.contains("mine") && listed.stdout.contains("role_admin"),
        "{listed:?}"
    );
    put("put", &good).ok().says(0, &["stored: mine"]);
    run(folder, &["authz", "policies", "get", "mine"])
        .ok()
        .says(0, &["forbid"]);
    run(folder, &["authz", "policies", "get", "other"]).says(2, &["policies list"]);
    run(folder, &["authz", "policies", "schema"])
        .ok()
        .says(0, &["entity Project", APPEND]);
    let explain = [
        "authz", "explain", APPEND, "--user", "bob", "--role", "admin",
    ];
    run(folder, &explain).ok().says(0, &["denied by mine"]);
    run(folder, &["authz", "policies", "delete", "mine"]).ok();
    run(folder, &explain)
        .ok()
        .says(0, &["allowed by role_admin"]);
    run(folder, &["authz", "policies", "delete", "role_admin"]).says(2, &["shipped"]);
}

fn mint(key: &str, more: &[&str]) -> Done {
    let words = [
        "token",
        "mint",
        "--issuer",
        "me",
        "--subject",
        "alice",
        "--signing-key",
        key,
    ];
    done(bare().args(words).args(more))
}

#[test]
fn a_token_is_minted_by_a_key_that_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("issuer.key");
    let key = path.display().to_string();
    mint(&key, &[]).says(2, &["no signing key", "--init"]);
    let more = [
        "--init",
        "--role",
        "writer",
        "--scope",
        "write:shop",
        "--through",
        "fixer",
        "--through",
        "ci",
    ];
    let first = mint(&key, &more).ok();
    assert_eq!(
        first.stdout.lines().count(),
        1,
        "the token alone: {first:?}"
    );
    for name in ["issuer.key", "issuer.jwks.json"] {
        let mode = std::fs::metadata(folder.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let set = std::fs::read_to_string(folder.path().join("issuer.jwks.json")).unwrap();
    let set: serde_json::Value = serde_json::from_str(&set).unwrap();
    let token = first.stdout.trim_end();
    let seen = done(bare().args(["--json", "token", "inspect", token])).ok();
    let seen = &seen.json()[0];
    assert_eq!(seen["header"]["kid"], set["keys"][0]["kid"]);
    let claims = &seen["claims"];
    assert_eq!(
        (&claims["sub"], &claims["roles"][0], &claims["scope"]),
        (&"alice".into(), &"writer".into(), &"write:shop".into())
    );
    // The nearest acts for the one before.
    assert_eq!(claims["act"]["sub"], "fixer");
    assert_eq!(claims["act"]["act"]["sub"], "ci");
    let secret = std::fs::read(&path).unwrap();
    mint(&key, &["--init"]).ok();
    assert_eq!(std::fs::read(&path).unwrap(), secret, "nothing is replaced");
    mint(&key, &["--scope", "delete"]).says(2, &["--scope"]);
    done(bare().args(["token", "inspect", "nothing"])).says(2, &["JSON Web Token"]);
}

#[test]
fn a_server_is_shown_the_key_and_says_what_it_is_good_for() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let reader = key(folder, &["--subject", "ci", "--role", "reader"]);
    let admin = key(folder, &["--subject", "root", "--role", "admin"]);
    let mut server = Server::start_with(folder, &["access.mode=required"]);
    let address = server.address.clone();
    let call = |key: Option<&str>, words: &[&str]| {
        let mut command = bare();
        command.args(["--server", &address]);
        if let Some(key) = key {
            command.args(["--key", key]);
        }
        done(command.args(words))
    };
    call(None, &["branch"]).says(1, &["com keys create", "COM_KEY"]);
    call(
        Some(&format!("{}x", &reader[..reader.len() - 1])),
        &["branch"],
    )
    .says(1, &["refused"]);
    call(Some(&reader), &["branch"]).says(2, &["project"]);
    let report = file(
        folder,
        "report.xml",
        "<testsuite><testcase name=\"a\"/></testsuite>",
    );
    let write = ["ingest", "--from", "junit", &report, "--no-wait"];
    call(Some(&reader), &write).says(1, &["may not write", "authz explain"]);
    call(Some(&reader), &["keys", "list"]).says(1, &["may not administer"]);
    call(Some(&admin), &["keys", "list"])
        .ok()
        .says(0, &["ci", "root"]);
    // The environment does as well, and a flag stands before it.
    let mut command = bare();
    command
        .args(["--server", &address, "keys", "list"])
        .env("COM_KEY", &admin);
    done(&mut command).ok();
    let mut command = bare();
    command
        .args(["--server", &address, "--token", "no", "keys", "list"])
        .env("COM_KEY", &admin);
    done(&mut command).says(1, &["refused"]);
    call(Some(&admin), &["--tenant", "acme", "keys", "list"]).says(2, &["--tenant"]);
    // What the server knows of uses is kept when it stops.
    assert_eq!(server.stop(), 0);
    let kept = run(folder, &["--json", "keys", "list"]).ok().json();
    let text = serde_json::to_string(&kept).unwrap();
    assert_eq!(text.matches("last_use_time").count(), 2, "{text}");
}

#[test]
fn a_credential_is_told_to_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let secret = "com_aaaaaaaaaaaaaaaa_secret";
    let open = [
        "--server",
        "http://192.0.2.1:8083",
        "--key",
        secret,
        "health",
    ];
    let refused = done(bare().args(open)).says(2, &["https"]);
    let help = done(
        bare()
            .arg("--help")
            .env("COM_KEY", secret)
            .env("COM_TOKEN", secret),
    )
    .ok();
    for shown in [refused, help] {
        let said = format!("{}{}", shown.stdout, shown.stderr);
        assert!(!said.contains(secret), "{said}");
    }
    run(folder.path(), &["--key", secret, "health"]).says(2, &["--server"]);
    let both = [
        "--server",
        "http://127.0.0.1:1",
        "--key",
        "a",
        "--token",
        "b",
        "health",
    ];
    done(bare().args(both)).says(2, &["--key or --token"]);
}
