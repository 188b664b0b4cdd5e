//! commonplace-ingest
