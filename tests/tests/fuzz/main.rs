//! Whatever is sent to the public port, the server answers, and no task of it panics.
//!
//! What is sent is made from the contracts and from things that are right, and then spoiled. `COM_FUZZ_CASES` is how
//! many cases each test tries (200 by default); a failure names the number that its case is made from, and
//! `COM_FUZZ_CASE` tries that one alone. Cases that once went wrong stand in [`known`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod bodies;
mod frames;
mod headers;
mod known;
mod policies;
mod server;
mod spoil;

use commonplace_tests::dice::Dice;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// The numbers that the cases of a test are made from, and dice for each.
fn cases() -> impl Iterator<Item = (u64, Dice)> {
    let all = match setting("COM_FUZZ_CASE") {
        Some(one) => one..one + 1,
        None => 0..setting("COM_FUZZ_CASES").unwrap_or(200),
    };
    all.map(|number| (number, Dice::new(number)))
}
