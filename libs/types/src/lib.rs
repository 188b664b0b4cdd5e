//! commonplace-types
