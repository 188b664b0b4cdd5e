//! How services are called: one channel type, the layers around every call, one way to report errors.
//!
//! A service is always called through its generated client over a [`Channel`], which is either a service
//! of this process or a remote one; both run the same layers, so a single process behaves like a mesh.
//! - Around each call, [`Channel`] sends on what is left of the deadline, the request id and the trace.
//! - A remote channel ([`remote`]) finds endpoints, keeps a connection to each, spreads calls over those
//!   that live, and sends again what is safe to send again, within a budget.
//! - Around each handler, [`serve::Layered`] restores them into [`context`], enforces the deadline, refuses
//!   what exceeds the limit and whoever may not call, and records rate, errors and duration.
//! - [`access`] asks what a caller may do, as the contract of each rpc says, and [`Again`] while a stream goes on;
//!   [`principal`] carries who the call is made for from service to service.
//! - [`Edge`] stands before services that are called from outside: it refuses who calls too much, and lets in what
//!   [`Admission`] finds can be served in time.
//! - [`audit`] records what was changed and what was refused, on its way to the audit log.
//! - [`Failure`] is what went wrong in a form that any client can act on; [`status()`] alone turns it into a
//!   gRPC status with details, [`Failure::from_status`] back.
//! - [`server`] binds early, is ready late, lets in whom [`AllowList`] names, and drains with a cap.
//! - [`tls`] is who we are, whom we trust, and who the peer is; files are read again when they change.
//!
//! Always true: no call goes on past its deadline, no error leaves without exactly one `ErrorInfo`, nothing
//! queues without bound, nothing is sent twice that may not be, and nobody is believed to be somebody else but
//! by a service that showed its certificate. Left out: how callers prove who they are, what policies say, and
//! hedging.

pub mod access;
mod admission;
mod again;
mod ahead;
mod allow;
pub mod audit;
mod channel;
mod compression;
pub mod context;
pub mod convert;
mod edge;
mod failure;
mod intake;
mod measure;
pub mod methods;
pub mod principal;
mod raw;
pub mod remote;
pub mod serve;
pub mod server;
pub mod tls;
mod view;

pub use access::{Action, Authorize, Because, Decision};
pub use admission::{Admission, AdmissionOptions, Permit};
pub use again::Again;
pub use ahead::{Ahead, ahead};
pub use allow::AllowList;
pub use channel::{Channel, parse_grpc_timeout};
pub use compression::Compression;
pub use edge::{Edge, Rates};
pub use failure::{Code, DOMAIN, Failure, Reason, status};
pub use intake::IntakeOptions;
pub use raw::Raw;
pub use remote::{Bearer, Endpoint, FixedList, RemoteOptions, Resolver, TransportOptions};
pub use serve::{Layered, Limits};
pub use tls::{PeerIdentity, Tls, TlsError, TlsOptions, Trust};
pub use view::{Parts, View, view_from_proto, view_to_proto};
