//! Who calls, and what they may do: the same in every process.
//!
//! - [`credential`] turns what a caller shows into a [`Principal`](commonplace_types::Principal): a token
//!   (JWT) of an issuer that is trusted, a key of ours, or a certificate. Only the gateway asks for it.
//! - [`decide`] answers what a principal may do, by Cedar: the shipped rules, the tenant's grants and the
//!   tenant's own policies. Every process decides for itself, without a call on the way.
//! - [`Access`] is both over the policy service, which keeps keys, grants and policies: it asks again before
//!   what it knows is older than `access.refresh_ms`.
//! - [`audit`] is the audit log as a chain: its records, their bytes, and how it is checked.
//!
//! What always holds: nothing is allowed that no rule allows; a rule that cannot be evaluated denies; no rule
//! reaches into another tenant; whoever acts for somebody needs to be allowed what they do as well; a
//! credential never gives more than its scopes; what is shown as a credential and is none is refused, never
//! passed over. Left out: keeping keys and policies (the policy service does), rates and quotas.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod access;
pub mod audit;
mod config;
pub mod credential;
pub mod decide;
mod source;

pub use access::Access;
pub use config::{CertificateOptions, IssuerOptions, Mode, Options};
pub use source::{PolicySource, Source, grantee_from_proto, resource_from_proto, right_from_proto};
