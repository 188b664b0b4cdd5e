//! commonplace-node
