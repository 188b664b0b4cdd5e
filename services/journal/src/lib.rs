//! commonplace-journal
