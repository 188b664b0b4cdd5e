//! commonplace-storage
