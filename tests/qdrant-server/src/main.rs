//! The test server as a process: prints its address on one line and serves until it is killed.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use commonplace_qdrant_server::{Options, Server};

/// A server that speaks Qdrant's protocol, for tests.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 picks one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The folder that keeps the points.
    #[arg(long)]
    data: PathBuf,
    /// What callers must send.
    #[arg(long, default_value = "")]
    api_key: String,
    /// Servers that are to hold the same, such as http://127.0.0.1:7001.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Certificate chain, PEM.
    #[arg(long, requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let tls = match (arguments.tls_certificate, arguments.tls_key) {
        (Some(certificate), Some(key)) => Some((std::fs::read(certificate)?, std::fs::read(key)?)),
        _ => None,
    };
    let server = Server::start(Options {
        listen: Some(arguments.listen),
        data: arguments.data,
        api_key: arguments.api_key,
        peers: arguments.peers,
        tls,
    });
    let server = server.await?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", server.address)?;
    out.flush()?;
    drop(out);
    std::future::pending::<()>().await;
    Ok(())
}
