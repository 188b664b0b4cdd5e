//! Every column that means something is covered by a check: whatever is changed in the file, it is found.

use commonplace_testkit::{Backend, Site, each_backend};
use commonplace_types::Reference;

use crate::common::*;

each_backend!(a_change_of_any_column_is_found);

/// A journal with two lanes, edges, a tag and an answered request; closed.
async fn closed(site: Site) -> Fixture {
    let fixture = Fixture::at(site).await;
    let mut first = append_to("main", vec![about("r", "a"), draft("b")]);
    first.request_id = Some([3; 16]);
    first.traceparent = "00-trace".into();
    let first = fixture.journal.append(first).await.unwrap();
    fixture.tick();
    fixture.branch("side", "main").await;
    fixture
        .append("side", vec![update("r", "c"), draft("d")])
        .await;
    fixture.tick();
    fixture
        .append("main", vec![retract("r", "e"), draft("d")])
        .await;
    fixture
        .try_tag("v1", Reference::Commit(first.commit.hash))
        .await
        .unwrap();
    let report = fixture.journal.verify(&tenant(), &project()).await.unwrap();
    assert_eq!(report.first_break, None);
    assert_eq!((report.commits_checked, report.events_checked), (4, 6));
    fixture.journal.shutdown().await.unwrap();
    fixture
}

/// Applies a change to a copy; gives what the check or the opening says.
async fn found(fixture: &Fixture, backend: Backend, sql: &str) -> Option<String> {
    let copy = fixture.site.copy("journal", "journal.sqlite").await;
    let changed = match backend {
        Backend::Sqlite => {
            let file = copy.file("journal", "journal.sqlite");
            change(&file, &format!("PRAGMA foreign_keys = OFF; {sql}")).await
        }
        Backend::Postgres => copy.change(&on_postgres(sql)).await,
    };
    assert!(changed > 0, "nothing changed: {sql}");
    let journal = match open(&copy, fixture.clock.clone()).await {
        Ok(journal) => journal,
        Err(error) => return Some(error.to_string()),
    };
    let name = journal
        .projects(&tenant(), 0, "")
        .unwrap()
        .items
        .remove(0)
        .name;
    let found = journal.verify(&tenant(), &name).await.unwrap().first_break;
    journal.shutdown().await.unwrap();
    found
}

/// The same change in PostgreSQL's words.
fn on_postgres(sql: &str) -> String {
    let sql = sql
        .replace("CAST(X'58' || coalesce(substr(CAST(", "'X' || substr(((")
        .replace(" AS BLOB), 2), X'') AS TEXT)", ")), 2)")
        .replace("CAST(X'58' || substr(", "'\\x58'::bytea || substr((")
        .replace(", 2) AS BLOB)", "), 2)")
        .replace("X'0100000001000000'", "'\\x0100000001000000'::bytea");
    // As a stranger with the right to would: no check of the server's own stands in the way.
    format!("SET session_replication_role = replica; SET search_path = journal; {sql}")
}

async fn a_change_of_any_column_is_found(backend: Backend) {
    let fixture = closed(Site::alone(backend).await).await;
    let flip = |column: &str| {
        format!(
            "{column} = CAST(X'58' || coalesce(substr(CAST({column} AS BLOB), 2), X'') AS TEXT)"
        )
    };
    let flip_blob = |column: &str| format!("{column} = CAST(X'58' || substr({column}, 2) AS BLOB)");
    let add = |column: &str| format!("{column} = {column} + 1");
    let mut changes = vec![
        "UPDATE project SET name = 'x' || name".to_owned(),
        "UPDATE lane SET parent = 2 WHERE lane = 2".to_owned(),
        "UPDATE lane SET fork_position = fork_position + 1 WHERE lane = 2".to_owned(),
        "UPDATE lane SET base = X'0100000001000000' WHERE lane = 2".to_owned(),
        "UPDATE placement SET seq = 7 - seq WHERE lane = 1 AND position = 9 OR seq = 1".to_owned(),
        "DELETE FROM placement WHERE lane = 2 AND position = 2".to_owned(),
        "INSERT INTO placement SELECT key, 2, 3, 1 FROM project".to_owned(),
        "DELETE FROM supersedes WHERE lane = 2".to_owned(),
        "UPDATE supersedes SET target = 2 WHERE lane = 2".to_owned(),
        "INSERT INTO supersedes SELECT key, 9, 9, 1 FROM project".to_owned(),
        "INSERT INTO lane SELECT project, 3, 1, 1, base FROM lane WHERE lane = 2".to_owned(),
        "DELETE FROM \"commit\" WHERE number = 2".to_owned(),
        "DELETE FROM ref WHERE name = 'side'".to_owned(),
        "UPDATE ref SET number = 2 WHERE name = 'v1'".to_owned(),
    ];
    for column in [
        "record_id",
        "artifact_type",
        "agent",
        "source",
        "correlation_id",
        "traceparent",
    ] {
        changes.push(format!("UPDATE event SET {} WHERE seq = 1", flip(column)));
    }
    for column in ["event_id", "checksum", "body_hash", "salt", "body"] {
        changes.push(format!(
            "UPDATE event SET {} WHERE seq = 3",
            flip_blob(column)
        ));
    }
    for column in ["event_time", "recorded_time", "importance", "pinned"] {
        changes.push(format!("UPDATE event SET {} WHERE seq = 2", add(column)));
    }
    for column in ["hash", "parents", "events_root"] {
        changes.push(format!(
            "UPDATE \"commit\" SET {} WHERE number = 2",
            flip_blob(column)
        ));
    }
    for column in ["lane", "first_position", "last_position", "time", "bytes"] {
        changes.push(format!(
            "UPDATE \"commit\" SET {} WHERE number = 2",
            add(column)
        ));
    }
    for column in ["branch", "author", "message"] {
        changes.push(format!(
            "UPDATE \"commit\" SET {} WHERE number = 2",
            flip(column)
        ));
    }
    for column in ["number", "origin", "lane"] {
        changes.push(format!(
            "UPDATE ref SET {} WHERE name = 'side'",
            add(column)
        ));
    }
    changes.push(format!("UPDATE ref SET {} WHERE name = 'v1'", flip("name")));
    changes.push(format!("UPDATE ref SET {}", flip_blob("digest")));
    for column in ["request_id", "request_hash", "answer", "digest"] {
        changes.push(format!("UPDATE request SET {}", flip_blob(column)));
    }
    for column in ["time", "number"] {
        changes.push(format!("UPDATE request SET {}", add(column)));
    }
    changes.push(format!("UPDATE request SET {}", flip("tenant")));
    for column in ["value", "digest"] {
        changes.push(format!("UPDATE setting SET {}", flip_blob(column)));
    }
    for sql in changes {
        let found = found(&fixture, backend, &sql).await;
        assert!(found.is_some(), "not found: {sql}");
    }
}

#[tokio::test]
async fn a_change_while_open_is_found() {
    let fixture = closed(Site::new(Backend::Sqlite)).await.restarted().await;
    let file = fixture.path().join("journal.sqlite");
    change(
        &file,
        "UPDATE event SET body = zeroblob(length(body)) WHERE seq = 1",
    )
    .await;
    let report = fixture.journal.verify(&tenant(), &project()).await.unwrap();
    assert!(report.first_break.is_some());
    assert_eq!(report.commits_checked, 0);
}
