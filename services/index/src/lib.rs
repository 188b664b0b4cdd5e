//! commonplace-index
