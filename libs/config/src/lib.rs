//! commonplace-config
