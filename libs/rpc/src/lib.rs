//! commonplace-rpc
