//! commonplace-telemetry
