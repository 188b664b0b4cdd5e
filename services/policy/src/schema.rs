//! The schema of `policy.db`, step by step.

use commonplace_storage::{Guarded, Migration};

/// The SQLite file.
pub(crate) const FILE: &str = "policy.db";

/// The tables with rows of tenants. The rest is the service's own: that there was a change.
pub(crate) const WALL: &[Guarded] = &[
    Guarded::by_tenant("policy_version"),
    Guarded::by_tenant("active_policy"),
    Guarded::by_tenant("api_key"),
    Guarded::by_tenant("access_grant"),
    Guarded::by_tenant("access_policy"),
    Guarded::by_tenant("access_revision"),
    Guarded::by_tenant("tenant_limits"),
    Guarded::by_tenant("audit_chain"),
    Guarded::by_tenant("audit_record"),
];

/// Every step of the schema.
pub(crate) const MIGRATIONS: &[Migration] = &[POLICIES, ACCESS, LIMITS, AUDIT];

const POLICIES: Migration = Migration {
    version: 1,
    name: "policies",
    oldest: 1,
    sqlite: &[
        "CREATE TABLE policy_version (
            tenant TEXT NOT NULL,
            id TEXT NOT NULL,
            version INTEGER NOT NULL,
            hash TEXT NOT NULL,
            source TEXT NOT NULL,
            created_micros INTEGER NOT NULL,
            PRIMARY KEY (tenant, id, version)
        ) STRICT, WITHOUT ROWID",
        "CREATE TABLE active_policy (
            tenant TEXT NOT NULL,
            id TEXT NOT NULL,
            version INTEGER NOT NULL,
            PRIMARY KEY (tenant, id)
        ) STRICT, WITHOUT ROWID",
    ],
    postgres: &[
        "CREATE TABLE policy_version (
            tenant TEXT COLLATE \"C\" NOT NULL,
            id TEXT COLLATE \"C\" NOT NULL,
            version BIGINT NOT NULL,
            hash TEXT NOT NULL,
            source TEXT NOT NULL,
            created_micros BIGINT NOT NULL,
            PRIMARY KEY (tenant, id, version)
        )",
        "CREATE TABLE active_policy (
            tenant TEXT COLLATE \"C\" NOT NULL,
            id TEXT COLLATE \"C\" NOT NULL,
            version BIGINT NOT NULL,
            PRIMARY KEY (tenant, id)
        )",
        // One row; raised by every write, so that other processes see that there was one.
        "CREATE TABLE change (id BIGINT PRIMARY KEY CHECK (id = 1), counter BIGINT NOT NULL)",
        "INSERT INTO change VALUES (1, 0)",
    ],
};

/// Keys, grants and authorization policies. What is added is not looked at by older programs.
const ACCESS: Migration = Migration {
    version: 2,
    name: "access",
    oldest: 1,
    sqlite: &[
        "CREATE TABLE api_key (
            tenant TEXT NOT NULL,
            id TEXT NOT NULL,
            kind TEXT NOT NULL,
            subject TEXT NOT NULL,
            roles TEXT NOT NULL,
            scopes TEXT,
            description TEXT NOT NULL,
            author TEXT NOT NULL,
            created_micros INTEGER NOT NULL,
            expires_micros INTEGER NOT NULL,
            revoked_micros INTEGER,
            last_used_micros INTEGER,
            hash BLOB NOT NULL,
            previous_hash BLOB,
            overlap_end_micros INTEGER,
            PRIMARY KEY (tenant, id)
        ) STRICT, WITHOUT ROWID",
        // Whoever shows a key shows its id alone; the key says the tenant.
        "CREATE UNIQUE INDEX api_key_by_id ON api_key (id)",
        "CREATE TABLE access_grant (
            tenant TEXT NOT NULL,
            id TEXT NOT NULL,
            grantee_kind TEXT NOT NULL,
            grantee TEXT NOT NULL,
            access_right TEXT NOT NULL,
            project TEXT,
            artifact_type TEXT,
            event_author TEXT,
            author TEXT NOT NULL,
            created_micros INTEGER NOT NULL,
            PRIMARY KEY (tenant, id)
        ) STRICT, WITHOUT ROWID",
        "CREATE TABLE access_policy (
            tenant TEXT NOT NULL,
            id TEXT NOT NULL,
            source TEXT NOT NULL,
            updated_micros INTEGER NOT NULL,
            PRIMARY KEY (tenant, id)
        ) STRICT, WITHOUT ROWID",
        "CREATE TABLE access_revision (
            tenant TEXT PRIMARY KEY,
            revision INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID",
    ],
    postgres: &[
        "CREATE TABLE api_key (
            tenant TEXT COLLATE \"C\" NOT NULL,
            id TEXT COLLATE \"C\" NOT NULL,
            kind TEXT NOT NULL,
            subject TEXT COLLATE \"C\" NOT NULL,
            roles TEXT NOT NULL,
            scopes TEXT,
            description TEXT NOT NULL,
            author TEXT NOT NULL,
            created_micros BIGINT NOT NULL,
            expires_micros BIGINT NOT NULL,
            revoked_micros BIGINT,
            last_used_micros BIGINT,
            hash BYTEA NOT NULL,
            previous_hash BYTEA,
            overlap_end_micros BIGINT,
            PRIMARY KEY (tenant, id)
        )",
        "CREATE UNIQUE INDEX api_key_by_id ON api_key (id)",
        "CREATE TABLE access_grant (
            tenant TEXT COLLATE \"C\" NOT NULL,
            id TEXT COLLATE \"C\" NOT NULL,
            grantee_kind TEXT NOT NULL,
            grantee TEXT COLLATE \"C\" NOT NULL,
            access_right TEXT NOT NULL,
            project TEXT,
            artifact_type TEXT,
            event_author TEXT,
            author TEXT NOT NULL,
            created_micros BIGINT NOT NULL,
            PRIMARY KEY (tenant, id)
        )",
        "CREATE TABLE access_policy (
            tenant TEXT COLLATE \"C\" NOT NULL,
            id TEXT COLLATE \"C\" NOT NULL,
            source TEXT NOT NULL,
            updated_micros BIGINT NOT NULL,
            PRIMARY KEY (tenant, id)
        )",
        "CREATE TABLE access_revision (
            tenant TEXT COLLATE \"C\" PRIMARY KEY,
            revision BIGINT NOT NULL
        )",
    ],
};

/// Limits of tenants. What is added is not looked at by older programs.
const LIMITS: Migration = Migration {
    version: 3,
    name: "limits",
    oldest: 1,
    sqlite: &["CREATE TABLE tenant_limits (
            tenant TEXT PRIMARY KEY,
            limits TEXT NOT NULL,
            updated_micros INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID"],
    postgres: &["CREATE TABLE tenant_limits (
            tenant TEXT COLLATE \"C\" PRIMARY KEY,
            limits TEXT NOT NULL,
            updated_micros BIGINT NOT NULL
        )"],
};

/// The audit log: one chain of records for each tenant. What is added is not looked at by older programs.
const AUDIT: Migration = Migration {
    version: 4,
    name: "audit",
    oldest: 1,
    sqlite: &[
        "CREATE TABLE audit_chain (
            tenant TEXT PRIMARY KEY,
            sequence INTEGER NOT NULL,
            hash BLOB NOT NULL,
            start_sequence INTEGER NOT NULL,
            start_hash BLOB NOT NULL
        ) STRICT, WITHOUT ROWID",
        "CREATE TABLE audit_record (
            tenant TEXT NOT NULL,
            sequence INTEGER NOT NULL,
            id TEXT NOT NULL,
            time_micros INTEGER NOT NULL,
            previous_hash BLOB NOT NULL,
            hash BLOB NOT NULL,
            body BLOB NOT NULL,
            PRIMARY KEY (tenant, sequence)
        ) STRICT, WITHOUT ROWID",
        "CREATE UNIQUE INDEX audit_record_by_id ON audit_record (tenant, id)",
    ],
    postgres: &[
        "CREATE TABLE audit_chain (
            tenant TEXT COLLATE \"C\" PRIMARY KEY,
            sequence BIGINT NOT NULL,
            hash BYTEA NOT NULL,
            start_sequence BIGINT NOT NULL,
            start_hash BYTEA NOT NULL
        )",
        "CREATE TABLE audit_record (
            tenant TEXT COLLATE \"C\" NOT NULL,
            sequence BIGINT NOT NULL,
            id TEXT COLLATE \"C\" NOT NULL,
            time_micros BIGINT NOT NULL,
            previous_hash BYTEA NOT NULL,
            hash BYTEA NOT NULL,
            body BYTEA NOT NULL,
            PRIMARY KEY (tenant, sequence)
        )",
        "CREATE UNIQUE INDEX audit_record_by_id ON audit_record (tenant, id)",
    ],
};
