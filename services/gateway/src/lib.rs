//! commonplace-gateway
