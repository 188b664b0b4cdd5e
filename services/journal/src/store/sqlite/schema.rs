//! The tables. `seq` is an event's row; `project` a project's.

use commonplace_storage::Migration;

pub(super) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "journal",
    statements: &[
        "CREATE TABLE setting (
            name TEXT PRIMARY KEY,
            value BLOB NOT NULL,
            digest BLOB NOT NULL
        ) STRICT, WITHOUT ROWID",
        "CREATE TABLE project (
            key INTEGER PRIMARY KEY,
            tenant TEXT NOT NULL,
            name TEXT NOT NULL
        ) STRICT",
        "CREATE UNIQUE INDEX project_by_name ON project (tenant, name)",
        // A linear run of positions; base is what its fork saw: (lane, position) pairs, 4 + 4 bytes.
        "CREATE TABLE lane (
            project INTEGER NOT NULL REFERENCES project (key),
            lane INTEGER NOT NULL,
            parent INTEGER NOT NULL,
            fork_position INTEGER NOT NULL,
            base BLOB NOT NULL,
            PRIMARY KEY (project, lane)
        ) STRICT, WITHOUT ROWID",
        // Immutable and stored once. The columns from artifact_type to pinned repeat what the body says, for
        // filters; the body comes last, so that filtering reads no overflow pages.
        "CREATE TABLE event (
            seq INTEGER PRIMARY KEY,
            project INTEGER NOT NULL REFERENCES project (key),
            event_id BLOB NOT NULL,
            record_id TEXT NOT NULL,
            event_time INTEGER NOT NULL,
            recorded_time INTEGER NOT NULL,
            artifact_type TEXT NOT NULL,
            agent TEXT NOT NULL,
            source TEXT NOT NULL,
            correlation_id TEXT NOT NULL,
            importance INTEGER NOT NULL,
            pinned INTEGER NOT NULL,
            checksum BLOB NOT NULL,
            body_hash BLOB NOT NULL,
            salt BLOB NOT NULL,
            traceparent TEXT NOT NULL,
            body BLOB NOT NULL
        ) STRICT",
        "CREATE UNIQUE INDEX event_by_id ON event (project, event_id)",
        "CREATE INDEX event_by_time ON event (project, event_time, event_id)",
        "CREATE INDEX event_by_record ON event (project, record_id)",
        // Where an event lies; an event may lie in several lanes.
        "CREATE TABLE placement (
            project INTEGER NOT NULL,
            lane INTEGER NOT NULL,
            position INTEGER NOT NULL,
            seq INTEGER NOT NULL REFERENCES event (seq),
            PRIMARY KEY (project, lane, position),
            FOREIGN KEY (project, lane) REFERENCES lane (project, lane)
        ) STRICT, WITHOUT ROWID",
        "CREATE UNIQUE INDEX placement_of_event ON placement (seq, lane)",
        // Edges belong to a placement, not to an event: placed on two branches, an event may supersede
        // different heads. An edge counts where its placement is visible.
        "CREATE TABLE supersedes (
            project INTEGER NOT NULL,
            lane INTEGER NOT NULL,
            position INTEGER NOT NULL,
            target INTEGER NOT NULL REFERENCES event (seq),
            PRIMARY KEY (project, lane, position, target)
        ) STRICT, WITHOUT ROWID",
        "CREATE INDEX supersedes_of_target ON supersedes (target, lane, position)",
        "CREATE TABLE \"commit\" (
            project INTEGER NOT NULL REFERENCES project (key),
            number INTEGER NOT NULL,
            hash BLOB NOT NULL,
            branch TEXT NOT NULL,
            lane INTEGER NOT NULL,
            first_position INTEGER NOT NULL,
            last_position INTEGER NOT NULL,
            parents BLOB NOT NULL,
            events_root BLOB NOT NULL,
            time INTEGER NOT NULL,
            author TEXT NOT NULL,
            message TEXT NOT NULL,
            bytes INTEGER NOT NULL,
            PRIMARY KEY (project, number)
        ) STRICT, WITHOUT ROWID",
        "CREATE UNIQUE INDEX commit_by_hash ON \"commit\" (project, hash)",
        "CREATE INDEX commit_by_lane ON \"commit\" (project, lane, number)",
        // kind: 1 branch, 2 tag. origin: the commit a branch was made at. lane: 0 until it has one.
        "CREATE TABLE ref (
            project INTEGER NOT NULL REFERENCES project (key),
            kind INTEGER NOT NULL,
            name TEXT NOT NULL,
            number INTEGER NOT NULL,
            origin INTEGER NOT NULL,
            lane INTEGER NOT NULL,
            digest BLOB NOT NULL,
            PRIMARY KEY (project, kind, name)
        ) STRICT, WITHOUT ROWID",
        // Answered requests; answer: (position, duplicate) of each event, 4 + 1 bytes.
        "CREATE TABLE request (
            tenant TEXT NOT NULL,
            request_id BLOB NOT NULL,
            project INTEGER NOT NULL,
            request_hash BLOB NOT NULL,
            time INTEGER NOT NULL,
            number INTEGER NOT NULL,
            answer BLOB NOT NULL,
            digest BLOB NOT NULL,
            PRIMARY KEY (tenant, request_id)
        ) STRICT, WITHOUT ROWID",
    ],
}];
