//! How services are called: one channel type, the layers around every call, one way to report errors.
//!
//! A service is always called through its generated client over a [`Channel`], which is either a service
//! of this process or a remote one; both run the same layers, so a single process behaves like a mesh.
//! - Around each call, [`Channel`] sends on what is left of the deadline, the request id and the trace.
//! - Around each handler, [`serve::Layered`] restores them into [`context`], enforces the deadline, refuses
//!   what exceeds the limit, and records rate, errors and duration.
//! - [`Failure`] is what went wrong in a form that any client can act on; [`status()`] alone turns it into a
//!   gRPC status with details, [`Failure::from_status`] back.
//! - [`server`] binds early, is ready late, and drains with a cap.
//!
//! Always true: no call goes on past its deadline, no error leaves without exactly one `ErrorInfo`, and
//! nothing queues without bound. Left out: who the caller is (a placeholder tenant) and TLS.

mod channel;
pub mod context;
pub mod convert;
mod failure;
pub mod serve;
pub mod server;

pub use channel::{Channel, RemoteOptions};
pub use failure::{Code, DOMAIN, Failure, Reason, status};
pub use serve::{Layered, Limits};
