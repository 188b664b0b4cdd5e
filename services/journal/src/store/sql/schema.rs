//! The tables. `seq` is an event's row; `project` a project's.
//!
//! PostgreSQL's differ in their types, in having no foreign keys where an append would pay for them row by
//! row (`com journal verify` checks the same), and in the table that says who leads. Texts sort by byte in
//! both.

use commonplace_storage::{Guarded, LEADERSHIP_TABLE, Migration};

/// The SQLite file.
pub const FILE: &str = "journal.sqlite";

/// The tables with rows of tenants. The rest is the journal's own: its settings and who leads.
pub const WALL: &[Guarded] = &[
    Guarded::by_tenant("project"),
    Guarded::by_tenant("request"),
    Guarded::by_key("lane", "project", "project"),
    Guarded::by_key("event", "project", "project"),
    Guarded::by_key("placement", "project", "project"),
    Guarded::by_key("supersedes", "project", "project"),
    Guarded::by_key("commit", "project", "project"),
    Guarded::by_key("ref", "project", "project"),
];

/// The steps of the schema.
pub const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "journal",
    oldest: 1,
    sqlite: &[
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
        // Answered requests; answer: as `rows::encode_answer` writes it.
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
    postgres: &[
        LEADERSHIP_TABLE,
        "CREATE TABLE setting (
            name TEXT COLLATE \"C\" PRIMARY KEY,
            value BYTEA NOT NULL,
            digest BYTEA NOT NULL
        )",
        "CREATE TABLE project (
            key BIGINT PRIMARY KEY,
            tenant TEXT COLLATE \"C\" NOT NULL,
            name TEXT COLLATE \"C\" NOT NULL
        )",
        "CREATE UNIQUE INDEX project_by_name ON project (tenant, name)",
        "CREATE TABLE lane (
            project BIGINT NOT NULL REFERENCES project (key),
            lane BIGINT NOT NULL,
            parent BIGINT NOT NULL,
            fork_position BIGINT NOT NULL,
            base BYTEA NOT NULL,
            PRIMARY KEY (project, lane)
        )",
        "CREATE TABLE event (
            seq BIGINT PRIMARY KEY,
            project BIGINT NOT NULL,
            event_id BYTEA NOT NULL,
            record_id TEXT COLLATE \"C\" NOT NULL,
            event_time BIGINT NOT NULL,
            recorded_time BIGINT NOT NULL,
            artifact_type TEXT COLLATE \"C\" NOT NULL,
            agent TEXT COLLATE \"C\" NOT NULL,
            source TEXT COLLATE \"C\" NOT NULL,
            correlation_id TEXT COLLATE \"C\" NOT NULL,
            importance BIGINT NOT NULL,
            pinned BIGINT NOT NULL,
            checksum BYTEA NOT NULL,
            body_hash BYTEA NOT NULL,
            salt BYTEA NOT NULL,
            traceparent TEXT COLLATE \"C\" NOT NULL,
            body BYTEA NOT NULL
        )",
        "CREATE UNIQUE INDEX event_by_id ON event (project, event_id)",
        "CREATE INDEX event_by_time ON event (project, event_time, event_id)",
        "CREATE INDEX event_by_record ON event (project, record_id)",
        "CREATE TABLE placement (
            project BIGINT NOT NULL,
            lane BIGINT NOT NULL,
            position BIGINT NOT NULL,
            seq BIGINT NOT NULL,
            PRIMARY KEY (project, lane, position)
        )",
        "CREATE UNIQUE INDEX placement_of_event ON placement (seq, lane)",
        "CREATE TABLE supersedes (
            project BIGINT NOT NULL,
            lane BIGINT NOT NULL,
            position BIGINT NOT NULL,
            target BIGINT NOT NULL,
            PRIMARY KEY (project, lane, position, target)
        )",
        "CREATE INDEX supersedes_of_target ON supersedes (target, lane, position)",
        "CREATE TABLE \"commit\" (
            project BIGINT NOT NULL REFERENCES project (key),
            number BIGINT NOT NULL,
            hash BYTEA NOT NULL,
            branch TEXT COLLATE \"C\" NOT NULL,
            lane BIGINT NOT NULL,
            first_position BIGINT NOT NULL,
            last_position BIGINT NOT NULL,
            parents BYTEA NOT NULL,
            events_root BYTEA NOT NULL,
            time BIGINT NOT NULL,
            author TEXT COLLATE \"C\" NOT NULL,
            message TEXT COLLATE \"C\" NOT NULL,
            bytes BIGINT NOT NULL,
            PRIMARY KEY (project, number)
        )",
        "CREATE UNIQUE INDEX commit_by_hash ON \"commit\" (project, hash)",
        "CREATE INDEX commit_by_lane ON \"commit\" (project, lane, number)",
        "CREATE TABLE ref (
            project BIGINT NOT NULL REFERENCES project (key),
            kind BIGINT NOT NULL,
            name TEXT COLLATE \"C\" NOT NULL,
            number BIGINT NOT NULL,
            origin BIGINT NOT NULL,
            lane BIGINT NOT NULL,
            digest BYTEA NOT NULL,
            PRIMARY KEY (project, kind, name)
        )",
        "CREATE TABLE request (
            tenant TEXT COLLATE \"C\" NOT NULL,
            request_id BYTEA NOT NULL,
            project BIGINT NOT NULL,
            request_hash BYTEA NOT NULL,
            time BIGINT NOT NULL,
            number BIGINT NOT NULL,
            answer BYTEA NOT NULL,
            digest BYTEA NOT NULL,
            PRIMARY KEY (tenant, request_id)
        )",
        // Bodies are read whole; compressing them would cost every append and every read.
        "ALTER TABLE event ALTER COLUMN body SET STORAGE EXTERNAL",
    ],
}];
