//! commonplace-proto
