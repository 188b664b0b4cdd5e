//! commonplace-retrieval
