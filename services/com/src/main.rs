//! `com`: the one program. It serves, and it is the command line.
//!
//! Without a server address a command runs the services in this process over the data folder; with
//! `--server` (or `COM_SERVER`) it calls a running one. Results go to standard output, progress and logs to
//! standard error. Exit codes: 0 done, 1 failed, 2 the input was refused, 3 a pack cannot be checked here.

mod cli;
mod commands;
mod failure;
mod hint;
mod open_files;
mod output;
mod repository;
mod session;
mod tree;

use crate::cli::Cli;

// Answers are made of many small pieces; the system's allocator spends more time on them than ranking does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let cli = Cli::read();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            output::complain(&format!("cannot start: {error}"));
            return failure::FAILED.into();
        }
    };
    let global = cli.global.clone();
    let code = match runtime.block_on(commands::run(cli)) {
        Ok(()) => 0,
        Err(error) => failure::report(&error, &global),
    };
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    code.into()
}
