//! Whom a caller trusts that has no certificate of its own.

use std::path::Path;
use std::sync::Arc;

use rustls::client::{ClientConfig, Resumption};
use rustls::{Error, RootCertStore};

use super::TlsError;
use super::load::{read, roots};

/// The authorities whose servers are believed, by the names in their certificates. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// The authorities of a file in PEM; those of the system where the path is empty.
    /// Error: the file cannot be used, or the system has none.
    pub fn load(authority: &Path) -> Result<Self, TlsError> {
        let roots = match authority == Path::new("") {
            true => of_the_system()?,
            false => roots(authority, &read("authority", authority)?)?,
        };
        let config = config(roots).map_err(|error| refused(authority, error.to_string()))?;
        Ok(Self(Arc::new(config)))
    }

    pub(crate) fn client(&self) -> ClientConfig {
        (*self.0).clone()
    }
}

fn config(roots: RootCertStore) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Certificates of the system that cannot be read are passed over.
fn of_the_system() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match roots.is_empty() {
        true => {
            let problem = "it has none: name the server's authority in `tls.authority`";
            Err(refused(
                Path::new("the system's certificates"),
                problem.into(),
            ))
        }
        false => Ok(roots),
    }
}

fn refused(path: &Path, problem: String) -> TlsError {
    TlsError::Refused {
        path: path.to_owned(),
        problem,
    }
}
