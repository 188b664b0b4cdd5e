//! `com certs`: certificates for trying mutual TLS out.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::cli::{Certs, CertsDev, Global};
use crate::failure::Refused;
use crate::output;

/// Who calls or is called in a mesh; `operator` is for people.
const ROLES: [&str; 7] = [
    "gateway",
    "index",
    "ingest",
    "journal",
    "operator",
    "policy",
    "retrieval",
];
const DAY: Duration = Duration::from_secs(86_400);
/// An authority for development is not worth renewing.
const AUTHORITY_DAYS: u32 = 3_650;
/// Clocks of other machines may be behind.
const BACKDATED: Duration = Duration::from_secs(3_600);

/// Does what was asked for.
pub fn run(global: &Global, command: Certs) -> anyhow::Result<()> {
    match command {
        Certs::Dev(arguments) => dev(global, &arguments),
    }
}

/// Makes an authority and a certificate for each role, or with `--renew` new certificates of the same one.
fn dev(global: &Global, arguments: &CertsDev) -> anyhow::Result<()> {
    let roles = roles(arguments)?;
    check_name(
        "trust-domain",
        &arguments.trust_domain,
        "abcdefghijklmnopqrstuvwxyz0123456789.-",
    )?;
    let authority = Files::of(&arguments.out);
    let issuer = if arguments.renew {
        renewed(&authority)?
    } else {
        fresh(&authority, arguments)?
    };
    for role in &roles {
        issue(role, &issuer, &authority, arguments)
            .with_context(|| format!("no certificate for `{role}`"))?;
    }
    tell(global, arguments, &roles);
    Ok(())
}

/// Where the authority's files are.
struct Files {
    folder: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn of(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            certificate: folder.join("ca.crt"),
            key: folder.join("ca.key"),
        }
    }
}

fn fresh(files: &Files, arguments: &CertsDev) -> anyhow::Result<Issuer<'static, KeyPair>> {
    let there = files.certificate.exists() || files.key.exists();
    if there && !arguments.force {
        let text = format!(
            "`{}` holds an authority already; use --renew for new certificates of it, --force to replace it",
            files.folder.display()
        );
        return Err(Refused(text).into());
    }
    let key = KeyPair::generate()?;
    let parameters = authority_parameters();
    let certificate = parameters.self_signed(&key)?;
    folder(&files.folder)?;
    write(&files.key, &key.serialize_pem())?;
    write(&files.certificate, &certificate.pem())?;
    Ok(Issuer::new(parameters, key))
}

fn renewed(files: &Files) -> anyhow::Result<Issuer<'static, KeyPair>> {
    let pem = fs::read_to_string(&files.key).map_err(|error| {
        Refused(format!(
            "cannot read `{}` ({error}); run without --renew to make an authority",
            files.key.display()
        ))
    })?;
    let wrong = |_| {
        Refused(format!(
            "`{}` holds no private key in PEM",
            files.key.display()
        ))
    };
    Ok(Issuer::new(
        authority_parameters(),
        KeyPair::from_pem(&pem).map_err(wrong)?,
    ))
}

/// The same each time, so that a renewed certificate names the issuer that the authority's certificate has.
fn authority_parameters() -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters
        .distinguished_name
        .push(DnType::CommonName, "Commonplace development authority");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut parameters, AUTHORITY_DAYS);
    parameters
}

fn valid_for(parameters: &mut CertificateParams, days: u32) {
    let now = SystemTime::now();
    parameters.not_before = (now - BACKDATED).into();
    parameters.not_after = (now + DAY * days).into();
}

/// Writes `<out>/<role>/tls.crt`, `tls.key` and `ca.crt`: the layout of a Kubernetes TLS secret.
fn issue(
    role: &str,
    issuer: &Issuer<'static, KeyPair>,
    authority: &Files,
    arguments: &CertsDev,
) -> anyhow::Result<()> {
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    names.extend(arguments.dns.iter().cloned());
    let mut parameters = CertificateParams::new(names)?;
    for one in role.split('+') {
        let id = format!("spiffe://{}/{one}", arguments.trust_domain);
        parameters
            .subject_alt_names
            .push(SanType::URI(id.as_str().try_into()?));
    }
    parameters.distinguished_name.push(DnType::CommonName, role);
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    parameters.use_authority_key_identifier_extension = true;
    valid_for(&mut parameters, arguments.days);
    let key = KeyPair::generate()?;
    let certificate = parameters.signed_by(&key, issuer)?;
    let to = authority.folder.join(role);
    folder(&to)?;
    write(
        &to.join("ca.crt"),
        &fs::read_to_string(&authority.certificate)?,
    )?;
    write(&to.join("tls.key"), &key.serialize_pem())?;
    write(&to.join("tls.crt"), &certificate.pem())
}

/// The roles that were asked for; with `--renew` and none named, those that have a certificate.
fn roles(arguments: &CertsDev) -> anyhow::Result<Vec<String>> {
    let mut roles = arguments.roles.clone();
    if roles.is_empty() && arguments.renew {
        let folders = fs::read_dir(&arguments.out).map_err(|error| {
            Refused(format!(
                "cannot read `{}` ({error}); run without --renew to make an authority",
                arguments.out.display()
            ))
        })?;
        for entry in folders {
            let path = entry?.path();
            if path.join("tls.crt").exists() {
                roles.extend(
                    path.file_name()
                        .map(|name| name.to_string_lossy().into_owned()),
                );
            }
        }
    } else if roles.is_empty() {
        roles = ROLES.map(str::to_owned).to_vec();
    }
    for role in &roles {
        check_name("roles", role, "abcdefghijklmnopqrstuvwxyz0123456789-+")?;
    }
    roles.sort();
    roles.dedup();
    Ok(roles)
}

fn check_name(field: &str, name: &str, letters: &str) -> Result<(), Refused> {
    let fits =
        (1..=253).contains(&name.len()) && name.chars().all(|letter| letters.contains(letter));
    if fits && name.split('+').all(|part| !part.is_empty()) {
        return Ok(());
    }
    Err(Refused(format!(
        "--{field}: expected letters of `{letters}`, found `{name}`"
    )))
}

fn folder(path: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.with_context(|| format!("cannot create `{}`", path.display()))
}

/// Whole or not at all, and for this user only: a running server may read at any moment.
pub(super) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let beside = path.with_extension("new");
    let put = || {
        let _ = fs::remove_file(&beside);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    put().with_context(|| format!("cannot write `{}`", path.display()))
}

fn tell(global: &Global, arguments: &CertsDev, roles: &[String]) {
    let out = arguments.out.display();
    if global.json {
        output::json(&serde_json::json!({
            "out": out.to_string(), "roles": roles, "trust_domain": arguments.trust_domain, "days": arguments.days,
        }));
        return;
    }
    let what = if arguments.renew { "renewed" } else { "made" };
    output::line(&format!(
        "{what} certificates for {} days: {}",
        arguments.days,
        roles.join(", ")
    ));
    if arguments.renew {
        output::line("running servers take them within two seconds; nothing needs to be restarted");
        return;
    }
    let role = roles.first().map_or("journal", String::as_str);
    output::line(&format!(
        "next, in the settings of each role (here {role}):\n  [tls]\n  certificate = \"{out}/{role}/tls.crt\"\n  \
         key = \"{out}/{role}/tls.key\"\n  authority = \"{out}/{role}/ca.crt\"\n  trust_domain = \"{}\"\n\
         and address peers as https://… ; for development only: {out}/ca.key signs whatever it is asked to",
        arguments.trust_domain
    ));
}
