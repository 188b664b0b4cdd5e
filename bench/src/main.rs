//! `make bench`: speed, memory and retrieval quality of the real services, against the budgets.
//!
//! Every figure comes from the services behind their generated clients, in one run, on one machine, with
//! other work beside it or not: the table says what was measured, the JSON keeps it. Nothing here asserts.

#![recursion_limit = "256"]
#![allow(clippy::print_stdout)]

mod corpus;
mod governance;
mod mesh;
mod overload;
mod parts;
mod quality;
mod report;
mod speed;

use std::path::PathBuf;

use clap::Parser;

use crate::report::Report;

// The allocator of `com`, which this stands in for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What to measure.
#[derive(Debug, Parser)]
struct Arguments {
    /// Numbers of passages to measure retrieval at
    #[arg(long, value_delimiter = ',', default_value = "10000,100000")]
    sizes: Vec<usize>,
    /// Of speed, leave embedding and appending out
    #[arg(long)]
    retrieval_only: bool,
    /// Of retrieval, measure these parts only
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<speed::Part>,
    /// Keep the filled folders below this one, and take them from there the next time
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Requests of each kind that are timed
    #[arg(long, default_value_t = 600)]
    rounds: usize,
    /// Seconds of overload
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Leave speed out
    #[arg(long)]
    no_speed: bool,
    /// Leave the forms of the mesh out
    #[arg(long)]
    no_mesh: bool,
    /// Of the forms of the mesh, measure these beside the embedded one only
    #[arg(long, value_enum, value_delimiter = ',')]
    forms: Vec<mesh::Wired>,
    /// Leave the cost of callers and their rights out
    #[arg(long)]
    no_governance: bool,
    /// Leave retrieval quality out
    #[arg(long)]
    no_quality: bool,
    /// Folder with the public retrieval sets
    #[arg(long, default_value = "../shared/data")]
    data: PathBuf,
    /// The scorer of those sets
    #[arg(long, default_value = "../shared/tools/ir_eval.py")]
    scorer: PathBuf,
    /// Where the JSON is written
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
    /// The program whose memory and start-up are measured; default: beside this one
    #[arg(long)]
    com: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    std::fs::create_dir_all(&arguments.output)?;
    let com = match arguments.com {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("com"),
    };
    let mut report = Report::new();
    if arguments.only == [speed::Part::Overload] {
        overload::measure(&mut report, arguments.seconds, arguments.keep.as_deref()).await?;
        report.print();
        return report.save(&arguments.output.join("bench.json"));
    }
    if !arguments.no_speed {
        if !arguments.retrieval_only {
            speed::embedding(&mut report)?;
            speed::append(&mut report).await?;
        }
        for size in &arguments.sizes {
            let run = speed::Run {
                passages: *size,
                rounds: arguments.rounds,
                only: &arguments.only,
                keep: arguments.keep.as_deref(),
                com: &com,
            };
            speed::retrieval(&mut report, run).await?;
        }
    }
    if !arguments.no_governance {
        governance::measure(&mut report).await?;
    }
    if !arguments.no_mesh {
        let calls = arguments.only.contains(&speed::Part::Calls);
        mesh::measure(
            &mut report,
            &arguments.forms,
            calls,
            arguments.keep.as_deref(),
        )
        .await?;
    }
    if !arguments.no_quality {
        quality::run(
            &mut report,
            &arguments.data,
            &arguments.scorer,
            &arguments.output,
        )
        .await?;
    }
    report.print();
    report.save(&arguments.output.join("bench.json"))
}
