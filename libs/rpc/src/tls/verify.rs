//! The check of a server's certificate: its chain by webpki, its name by SPIFFE id in place of DNS.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::identity::spiffe_ids;

/// The peer's certificate is good, but it belongs to somebody else.
#[derive(Debug, thiserror::Error)]
#[error(
    "the peer is {found}, expected {expected}; check the address, or the certificate it was given"
)]
pub(crate) struct WrongPeer {
    expected: String,
    found: String,
}

/// What a failed handshake means to people, with the next step.
pub(crate) fn explain(error: io::Error) -> io::Error {
    let refused = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    let next = match refused {
        Some(Error::InvalidCertificate(CertificateError::Other(OtherError(wrong)))) => {
            return io::Error::new(error.kind(), wrong.to_string());
        }
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "no authority in tls.authority signed the peer's certificate"
        }
        Some(Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => "the peer's certificate has expired; renew it there",
        Some(Error::AlertReceived(_)) => "the peer does not accept our certificate; see its log",
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{error}; {next}"))
}

/// Lets one SPIFFE id through.
#[derive(Debug)]
pub(crate) struct OneIdentity {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) expected: String,
    pub(crate) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OneIdentity {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        let ids = spiffe_ids(certificate);
        if ids.contains(&self.expected) {
            return Ok(ServerCertVerified::assertion());
        }
        let found = match ids.len() {
            0 => "nobody (its certificate has no SPIFFE id)".to_owned(),
            _ => ids.into_iter().collect::<Vec<_>>().join(" and "),
        };
        let wrong = WrongPeer {
            expected: self.expected.clone(),
            found,
        };
        Err(CertificateError::Other(OtherError(Arc::new(wrong))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
