//! An authority that issues what a test asks for, into files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use commonplace_rpc::{Tls, TlsOptions};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};

pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = parameters.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(parameters, key),
        }
    }

    /// Certificate and key of a role; `ends_in` from now, minus for the past.
    pub fn issue(&self, role: &str, ends_in: i64) -> (String, String) {
        let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let id = format!("spiffe://commonplace.local/{role}");
        parameters
            .subject_alt_names
            .push(SanType::URI(id.as_str().try_into().unwrap()));
        parameters.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let now = std::time::SystemTime::now();
        parameters.not_before = (now - Duration::from_secs(86_400)).into();
        parameters.not_after = match u64::try_from(ends_in) {
            Ok(seconds) => (now + Duration::from_secs(seconds)).into(),
            Err(_) => (now - Duration::from_secs(ends_in.unsigned_abs())).into(),
        };
        let key = KeyPair::generate().unwrap();
        (
            parameters.signed_by(&key, &self.issuer).unwrap().pem(),
            key.serialize_pem(),
        )
    }
}

/// The three files of one role.
pub struct Files {
    pub options: TlsOptions,
    _folder: tempfile::TempDir,
}

impl Files {
    /// A certificate for an hour.
    pub fn new(role: &str, authority: &Authority) -> Self {
        Self::ending(role, authority, 3_600)
    }

    pub fn ending(role: &str, authority: &Authority, ends_in: i64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| -> PathBuf { folder.path().join(name) };
        let options = TlsOptions {
            certificate: path("tls.crt"),
            key: path("tls.key"),
            authority: path("ca.crt"),
            ..TlsOptions::default()
        };
        let files = Self {
            options,
            _folder: folder,
        };
        files.trust(&[authority]);
        files.issue(role, authority, ends_in);
        files
    }

    pub fn issue(&self, role: &str, authority: &Authority, ends_in: i64) {
        let (certificate, key) = authority.issue(role, ends_in);
        put(&self.options.certificate, &certificate);
        put(&self.options.key, &key);
    }

    pub fn trust(&self, authorities: &[&Authority]) {
        let bundle: Vec<&str> = authorities
            .iter()
            .map(|authority| authority.pem.as_str())
            .collect();
        put(&self.options.authority, &bundle.join("\n"));
    }

    /// Reads the files, and looks at them often.
    pub fn tls(&self) -> Tls {
        Tls::start_with(&self.options, None, Duration::from_millis(20)).unwrap()
    }
}

/// Whole or not at all, as careful tools do it.
pub fn put(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, path).unwrap();
}
