//! Certificates for each role, by an authority of the mesh's own.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use commonplace_rpc::TlsOptions;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};

const DAY: Duration = Duration::from_secs(86_400);

/// The authority, and the files that it issued, one folder for each role.
pub struct Certificates {
    folder: PathBuf,
    authorities: Mutex<Vec<Authority>>,
}

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(number: usize) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = format!("Commonplace test authority {number}");
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().expect("keys can be made");
        let own = parameters.self_signed(&key).expect("it can be signed");
        Self {
            pem: own.pem(),
            issuer: Issuer::new(parameters, key),
        }
    }

    /// Certificate and key of a role, in PEM, for a day.
    fn issue(&self, role: &str) -> (String, String) {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut parameters = CertificateParams::new(names).expect("the names are names");
        let id = format!("spiffe://commonplace.local/{role}");
        let id = id.as_str().try_into().expect("ids are ASCII");
        parameters.subject_alt_names.push(SanType::URI(id));
        parameters.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let now = SystemTime::now();
        parameters.not_before = (now - DAY).into();
        parameters.not_after = (now + DAY).into();
        let key = KeyPair::generate().expect("keys can be made");
        let signed = parameters.signed_by(&key, &self.issuer);
        let certificate = signed.expect("it can be signed").pem();
        (certificate, key.serialize_pem())
    }
}

impl Certificates {
    /// An authority that issues into a folder.
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            authorities: Mutex::new(vec![Authority::new(1)]),
        }
    }

    /// Makes the files of a role.
    pub(crate) fn issue(&self, role: &str) {
        let authorities = self
            .authorities
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let newest = authorities.last().expect("there is one from the beginning");
        let options = self.options(role);
        std::fs::create_dir_all(self.folder.join(role)).expect("folders can be made");
        self.trust(role, &authorities);
        let (certificate, key) = newest.issue(role);
        put(&options.key, &key);
        put(&options.certificate, &certificate);
    }

    fn trust(&self, role: &str, authorities: &[Authority]) {
        let all: Vec<&str> = authorities.iter().map(|one| one.pem.as_str()).collect();
        put(&self.options(role).authority, &all.join("\n"));
    }

    /// Issues new certificates to everybody by a new authority, as operators do it: first everybody trusts both,
    /// then, after `pause`, everybody gets a new certificate, then only the new authority is trusted.
    pub async fn rotate(&self, pause: Duration) {
        {
            let mut authorities = self
                .authorities
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let next = Authority::new(authorities.len() + 1);
            authorities.push(next);
            let first = authorities.len() - 2;
            let both = &authorities[first..];
            self.roles().iter().for_each(|role| self.trust(role, both));
        }
        tokio::time::sleep(pause).await;
        for role in self.roles() {
            let authorities = self
                .authorities
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let newest = authorities.last().expect("it was added");
            let (certificate, key) = newest.issue(&role);
            let options = self.options(&role);
            put(&options.key, &key);
            put(&options.certificate, &certificate);
        }
        tokio::time::sleep(pause).await;
        let mut authorities = self
            .authorities
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let last = authorities.len() - 1;
        authorities.drain(..last);
        let roles = self.roles();
        roles.iter().for_each(|role| self.trust(role, &authorities));
    }

    fn roles(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.folder).expect("it was made");
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// Where the files of a role lie.
    pub fn options(&self, role: &str) -> TlsOptions {
        let folder = self.folder.join(role);
        TlsOptions {
            certificate: folder.join("tls.crt"),
            key: folder.join("tls.key"),
            authority: folder.join("ca.crt"),
            ..TlsOptions::default()
        }
    }
}

/// Whole or not at all, as careful tools do it.
fn put(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).expect("files can be written");
    std::fs::rename(&beside, path).expect("files can be moved");
}
