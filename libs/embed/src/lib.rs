//! commonplace-embed
