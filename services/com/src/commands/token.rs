//! `com token …`: tokens of an issuer of one's own, and a look into any token.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use commonplace_access::credential::token::{Act, Claims, inspect, key_set, mint};
use commonplace_types::{AccessScope, Invalid, Subject, TenantName};
use rcgen::KeyPair;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::certs;
use crate::cli::Global;
use crate::cli::access::{Kind, Mint, Token};
use crate::failure::{self, Known, Refused};
use crate::{hint, output};

/// Does one of the commands about tokens.
pub fn run(global: &Global, command: Token) -> anyhow::Result<()> {
    match command {
        Token::Mint(arguments) => minted(global, &arguments),
        Token::Inspect { text } => inspected(global, &text),
    }
}

fn minted(global: &Global, arguments: &Mint) -> anyhow::Result<()> {
    let key = signing_key(&arguments.signing_key, arguments.init)?;
    let id = key_id(&key)?;
    if arguments.init {
        publish(&arguments.signing_key, &id, &key)?;
    }
    let now = jiff::Timestamp::now().as_second();
    let claims = claims(global, arguments, now)?;
    let token = mint(&claims, &id, &key)?;
    if global.json {
        output::json(&json!({ "token": token, "key_id": id, "claims": claims }));
        return Ok(());
    }
    output::line(&token);
    let end = claims.exp as i64;
    output::note(&format!(
        "a token of {} for {}, good until {}; use it as COM_TOKEN, with --server",
        arguments.issuer,
        arguments.subject,
        shown_time(end)
    ));
    Ok(())
}

fn signing_key(path: &Path, init: bool) -> anyhow::Result<String> {
    if !path.exists() {
        if !init {
            let known = Known {
                code: failure::REFUSED,
                problem: format!("there is no signing key at `{}`", path.display()),
                next_step: "name one with --signing-key, or make one with --init".into(),
            };
            return Err(known.into());
        }
        let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
        certs::write(path, &pair.serialize_pem())?;
    }
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// What a server's settings name: the public half of the key.
fn published(path: &Path) -> PathBuf {
    path.with_extension("jwks.json")
}

fn publish(path: &Path, id: &str, key: &str) -> anyhow::Result<()> {
    let to = published(path);
    if !to.exists() {
        certs::write(&to, &key_set(id, key)?)?;
    }
    output::note(&format!(
        "whoever is to take its tokens needs in the settings:\n  [[access.issuers]]\n  issuer = \"…\"\n  \
         audience = \"…\"\n  jwks_file = \"{}\"",
        to.display()
    ));
    Ok(())
}

/// The thumbprint of the public key, RFC 7638: the same for the same key, whoever computes it.
fn key_id(key: &str) -> anyhow::Result<String> {
    let set: Value = serde_json::from_str(&key_set("", key)?)?;
    let x = set["keys"][0]["x"].as_str().unwrap_or_default();
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    Ok(URL_SAFE_NO_PAD.encode(Sha256::digest(members.as_bytes())))
}

/// What the token says. Error: something that no server would take.
fn claims(global: &Global, arguments: &Mint, now: i64) -> anyhow::Result<Claims> {
    let refused = |flag: &str| {
        let flag = flag.to_owned();
        move |invalid: Invalid| Refused(format!("--{flag}: {}", invalid.problem))
    };
    Subject::new(&*arguments.subject).map_err(refused("subject"))?;
    for scope in &arguments.scopes {
        scope.parse::<AccessScope>().map_err(refused("scope"))?;
    }
    let tenant = global.tenant.as_deref().map(TenantName::new).transpose();
    let tenant = tenant.map_err(refused("tenant"))?;
    let mut rest = serde_json::Map::new();
    if !arguments.roles.is_empty() {
        rest.insert(arguments.roles_claim.clone(), json!(arguments.roles));
    }
    let mut act = None;
    for subject in arguments.through.iter().rev() {
        Subject::new(&**subject).map_err(refused("through"))?;
        act = Some(Box::new(Act {
            sub: subject.clone(),
            kind: None,
            act,
        }));
    }
    let life = i64::try_from(arguments.expires_in.as_secs()).unwrap_or(i64::MAX);
    let kind = match arguments.kind {
        Kind::User => None,
        Kind::Agent => Some("agent".to_owned()),
    };
    Ok(Claims {
        iss: arguments.issuer.clone(),
        sub: arguments.subject.clone(),
        aud: json!(arguments.audience),
        exp: now.saturating_add(life) as f64,
        iat: Some(now as f64),
        tenant: tenant.map(|tenant| tenant.to_string()),
        kind,
        scope: (!arguments.scopes.is_empty()).then(|| arguments.scopes.join(" ")),
        act,
        rest,
        ..Claims::default()
    })
}

fn inspected(global: &Global, token: &str) -> anyhow::Result<()> {
    let text = match token {
        "-" => std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?,
        token => token.to_owned(),
    };
    let (header, claims) = inspect(text.trim())?;
    let end = claims.exp as i64;
    let expired = end <= jiff::Timestamp::now().as_second();
    if global.json {
        output::json(
            &json!({ "header": header, "claims": claims, "expired": expired, "verified": false }),
        );
        return Ok(());
    }
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    output::line(&pretty(&header));
    output::line(&pretty(&serde_json::to_value(&claims)?));
    let word = if expired { "expired" } else { "good until" };
    output::note(&format!(
        "{word} {}, if it is what it says: its signature was not checked",
        shown_time(end)
    ));
    if expired {
        output::note(&format!(
            "{} token mint makes another, where its signing key is",
            hint::program()
        ));
    }
    Ok(())
}

fn shown_time(seconds: i64) -> String {
    output::time(Some(&prost_types::Timestamp { seconds, nanos: 0 }))
}
