//! commonplace-policy
