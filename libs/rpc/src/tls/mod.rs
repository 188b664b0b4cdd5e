//! Mutual TLS: our certificate, whom we trust, and who the peer is.
//!
//! [`Tls`] holds what was last read well from the files and reads them again when they change: a pair that
//! is half written, does not fit together or is not signed by an authority of the bundle is not taken.
//! Connections live on; new handshakes use what is newest. A peer is known by the SPIFFE id in its
//! certificate, not by its address or DNS name.
//! Left out: revocation lists (certificates are short-lived instead).

mod der;
mod identity;
mod load;
mod reload;
mod trust;
mod verify;

pub use identity::PeerIdentity;
pub use load::{TlsError, TlsOptions};
pub use reload::Tls;
pub use trust::Trust;
pub(crate) use verify::explain;
