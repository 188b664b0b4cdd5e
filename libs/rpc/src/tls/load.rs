//! From files to what rustls takes: read whole, checked whole, or refused with the file's name.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};

use super::der;
use super::identity::{Naming, PeerIdentity};
use super::verify::OneIdentity;

/// The files of mutual TLS, and how roles are named in certificates. All PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsOptions {
    /// Our certificate, the intermediates after it. Empty: TLS is off.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The certificates of the authorities whose peers are trusted: old and new while an authority changes.
    /// Empty for a port that asks for no client certificate.
    pub authority: PathBuf,
    /// Callers may call without a certificate: one that is shown must still be good. Our own may then be of
    /// another authority. For the gateway's port only.
    pub optional: bool,
    /// The trust domain of SPIFFE ids.
    pub trust_domain: String,
    /// What follows the trust domain in an id; `{role}` stands for the role, for example `ns/prod/sa/{role}`.
    pub identity: String,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            authority: PathBuf::new(),
            optional: false,
            trust_domain: "commonplace.local".into(),
            identity: "{role}".into(),
        }
    }
}

impl TlsOptions {
    /// Whether a certificate of our own is named.
    pub fn has_certificate(&self) -> bool {
        self.certificate != Path::new("") || self.key != Path::new("")
    }

    /// Whether TLS is asked for at all.
    pub fn is_on(&self) -> bool {
        let off = Path::new("");
        [&self.certificate, &self.key, &self.authority]
            .into_iter()
            .any(|path| path != off)
    }
}

/// The files of TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is named but another that belongs to it is not.
    #[error(
        "`{field}` is not set; TLS needs certificate, key and authority (`com certs dev` makes all three)"
    )]
    Missing {
        /// The setting.
        field: &'static str,
    },
    /// A file cannot be read.
    #[error("cannot read `{}` ({field}); check that it exists and that this user may read it", path.display())]
    Unreadable {
        /// The setting.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// A file holds something else than it should.
    #[error("`{}` ({field}) holds no {expected} in PEM; write it there as `com certs dev` does", path.display())]
    NotPem {
        /// The setting.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// What was expected.
        expected: &'static str,
    },
    /// The files do not fit together.
    #[error("`{}` cannot be used: {problem}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// The naming of identities is wrong.
    #[error("identity: expected a path with `{{role}}` in it once, found `{found}`")]
    Identity {
        /// What was set.
        found: String,
    },
}

/// The bytes of the three files at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authority: Option<Vec<u8>>,
}

impl Files {
    pub(crate) fn read(options: &TlsOptions) -> Result<Self, TlsError> {
        Ok(Self {
            certificate: read("certificate", &options.certificate)?,
            key: read("key", &options.key)?,
            authority: match options.authority.as_path() {
                path if path == Path::new("") => None,
                path => Some(read("authority", path)?),
            },
        })
    }
}

/// Reads the file that a setting names.
pub(super) fn read(field: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    if path == Path::new("") {
        return Err(TlsError::Missing { field });
    }
    std::fs::read(path).map_err(|cause| TlsError::Unreadable {
        field,
        path: path.to_owned(),
        cause,
    })
}

/// What was made of the files.
#[derive(Debug)]
pub(crate) struct Loaded {
    server: Arc<ServerConfig>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Option<Arc<RootCertStore>>,
    naming: Naming,
    provider: Arc<CryptoProvider>,
    /// Who we are.
    pub(crate) own: PeerIdentity,
    /// When our certificate ends.
    pub(crate) not_after: SystemTime,
}

impl Loaded {
    /// Error: something in the files is wrong; the text names the file.
    pub(crate) fn new(files: &Files, options: &TlsOptions) -> Result<Self, TlsError> {
        let wrong_naming = || TlsError::Identity {
            found: options.identity.clone(),
        };
        let naming =
            Naming::new(&options.trust_domain, &options.identity).ok_or_else(wrong_naming)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = certificates("certificate", &options.certificate, &files.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|_| TlsError::NotPem {
            field: "key",
            path: options.key.clone(),
            expected: "private key",
        })?;
        let refused = |path: &Path, problem: String| TlsError::Refused {
            path: path.to_owned(),
            problem,
        };
        let pair =
            CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider).map_err(|error| {
                refused(
                    &options.key,
                    format!(
                        "{error}; it must belong to `{}`",
                        options.certificate.display()
                    ),
                )
            })?;
        let not_after = pair
            .cert
            .first()
            .and_then(|certificate| der::not_after(certificate))
            .ok_or_else(|| refused(&options.certificate, "it is no X.509 certificate".into()))?;
        let roots = match &files.authority {
            Some(bytes) => Some(Arc::new(roots(&options.authority, bytes)?)),
            None => None,
        };
        if let Some(roots) = roots.as_ref().filter(|_| !options.optional) {
            check_own(&chain, roots, &provider).map_err(|error| {
                let text = format!(
                    "{error}; it must be valid now and signed by an authority in `{}`",
                    options.authority.display()
                );
                refused(&options.certificate, text)
            })?;
        }
        let server = server_config(&chain, &key, roots.clone(), options.optional, &provider)
            .map_err(|error| refused(&options.certificate, error))?;
        let own = chain
            .first()
            .map(|certificate| naming.identity(certificate))
            .unwrap_or_default();
        Ok(Self {
            server: Arc::new(server),
            chain,
            key,
            roots,
            naming,
            provider,
            own,
            not_after,
        })
    }

    /// For connections that come in.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// For connections that go out to a role, or without one to whoever has the host's name.
    pub(crate) fn client(&self, role: Option<&str>) -> Result<ClientConfig, rustls::Error> {
        let roots = self
            .roots
            .clone()
            .unwrap_or_else(|| Arc::new(RootCertStore::empty()));
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?;
        let wanted = match role {
            Some(role) => {
                let expected = self.naming.id(role);
                let verifier = OneIdentity {
                    roots,
                    expected,
                    provider: self.provider.clone(),
                };
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(verifier))
            }
            None => {
                let verifier =
                    WebPkiServerVerifier::builder_with_provider(roots, self.provider.clone());
                let verifier = verifier
                    .build()
                    .map_err(|error| rustls::Error::General(error.to_string()))?;
                builder.with_webpki_verifier(verifier)
            }
        };
        let mut config = wanted.with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would outlive the certificate, and the authority, that it began with.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// Who a checked certificate belongs to.
    pub(crate) fn identity(&self, certificate: &CertificateDer<'_>) -> PeerIdentity {
        self.naming.identity(certificate)
    }

    /// Whether callers must show a certificate.
    pub(crate) fn is_mutual(&self) -> bool {
        self.roots.is_some()
    }
}

fn certificates(
    field: &'static str,
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let not_pem = || TlsError::NotPem {
        field,
        path: path.to_owned(),
        expected: "certificate",
    };
    let found: Vec<_> = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<_, _>>()
        .map_err(|_| not_pem())?;
    if found.is_empty() {
        Err(not_pem())
    } else {
        Ok(found)
    }
}

pub(super) fn roots(path: &Path, bytes: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("authority", path, bytes)? {
        roots.add(certificate).map_err(|error| TlsError::Refused {
            path: path.to_owned(),
            problem: error.to_string(),
        })?;
    }
    Ok(roots)
}

/// Our own certificate must pass what peers will put it through; else a rotation in the wrong order would
/// cut us off.
fn check_own(
    chain: &[CertificateDer<'static>],
    roots: &RootCertStore,
    provider: &CryptoProvider,
) -> Result<(), rustls::Error> {
    let Some((own, intermediates)) = chain.split_first() else {
        return Err(rustls::Error::NoCertificatesPresented);
    };
    let parsed = rustls::server::ParsedCertificate::try_from(own)?;
    rustls::client::verify_server_cert_signed_by_trust_anchor(
        &parsed,
        roots,
        intermediates,
        UnixTime::now(),
        provider.signature_verification_algorithms.all,
    )
}

fn server_config(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    roots: Option<Arc<RootCertStore>>,
    optional: bool,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, String> {
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?;
    let builder = match roots {
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
            let verifier = match optional {
                true => verifier.allow_unauthenticated(),
                false => verifier,
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(chain.to_vec(), key.clone_key())
        .map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
