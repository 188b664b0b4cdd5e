//! How long a refusal takes does not tell whether what it names exists in another tenant.
//!
//! Calls of both kinds are made in turn, in an order by chance, so that whatever else the machine does falls on both
//! alike. They are told apart if their medians differ by more than in any of a thousand random divisions of the same
//! times, and by more than a quarter; and that three times in a row, in the same direction. Where both kinds take the
//! same time, that happens by chance less than once in a hundred million runs, however loaded the machine is. Left out:
//! differences of less than a quarter, which a caller sees only with very many calls.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use commonplace_tests::dice::Dice;
use tonic::Code;

use super::calls::Names;
use super::storm::{Pair, pairs};
use super::wire::{grpc, http};
use super::world::World;
use super::{dice, seed};

const SAMPLES: usize = 40;
const DIVISIONS: usize = 1_000;
/// As parts of a hundred: how much longer counts.
const LONGER: u128 = 125;
const REPEATED: usize = 3;

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Which kind takes longer, if they are told apart.
fn told_apart(one: &[Duration], other: &[Duration], dice: &mut Dice) -> Option<bool> {
    let (first, second) = (median(&mut one.to_vec()), median(&mut other.to_vec()));
    let (less, more) = (first.min(second), first.max(second));
    if more.as_nanos() * 100 < less.as_nanos() * LONGER {
        return None;
    }
    let mut all = [one, other].concat();
    for _ in 0..DIVISIONS {
        for place in (1..all.len()).rev() {
            all.swap(place, dice.below(place + 1));
        }
        let (mut left, mut right) = (all[..one.len()].to_vec(), all[one.len()..].to_vec());
        if median(&mut left).abs_diff(median(&mut right)) >= more - less {
            return None;
        }
    }
    Some(first > second)
}

/// Makes both calls in turn; gives how long those took that name what is elsewhere, and what is nowhere.
async fn measure(
    dice: &mut Dice,
    mut elsewhere: impl AsyncFnMut(),
    mut nowhere: impl AsyncFnMut(),
) -> (Vec<Duration>, Vec<Duration>) {
    let mut times = (Vec::new(), Vec::new());
    for turn in 0..SAMPLES + 2 {
        let first = dice.one_in(2);
        for there in [first, !first] {
            let began = Instant::now();
            match there {
                true => elsewhere().await,
                false => nowhere().await,
            }
            // The first calls find nothing ready.
            if turn >= 2 {
                let to = if there { &mut times.0 } else { &mut times.1 };
                to.push(began.elapsed());
            }
        }
    }
    times
}

async fn check(
    what: &str,
    dice: &mut Dice,
    mut elsewhere: impl AsyncFnMut(),
    mut nowhere: impl AsyncFnMut(),
) {
    let mut slower = Vec::new();
    for _ in 0..REPEATED {
        let (there, not) = measure(dice, &mut elsewhere, &mut nowhere).await;
        match told_apart(&there, &not, dice) {
            None => return,
            Some(longer) => {
                slower.push((longer, median(&mut there.clone()), median(&mut not.clone())))
            }
        }
        if slower[0].0 != slower[slower.len() - 1].0 {
            return;
        }
    }
    panic!(
        "seed {}: {what} is told apart by its time: {slower:?}",
        seed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_a_refusal_takes_tells_nothing() {
    let world = World::build(seed(), &[0, 1]).await;
    let (other, own) = (&world.tenants[0], &world.tenants[1]);
    let (_, _, channel) = &own.callers[0];
    let mut dice = dice(6);
    let (mut measured, mut taken) = (0, BTreeSet::new());
    // Those that write come last: what they make is there from then on.
    let mut pairs = pairs(own, other, &mut dice);
    pairs.sort_by_key(|pair| !pair.reads());
    for pair in pairs {
        let sealed = matches!(pair.kind, Names::Token | Names::Cursor);
        if sealed || pair.path.ends_with("/Tail") || taken.contains(&pair.elsewhere.0) {
            continue;
        }
        let ask = async |pair: &Pair, there: bool| {
            let (_, sent) = if there {
                &pair.elsewhere
            } else {
                &pair.nowhere
            };
            grpc(channel, pair.path, sent.clone(), false).await.code
        };
        // What is allowed tells by being there; and what it makes of that name is there from then on.
        let codes = [ask(&pair, true).await, ask(&pair, false).await];
        if codes.contains(&Code::Ok) {
            if !pair.reads() {
                taken.insert(pair.elsewhere.0);
            }
            continue;
        }
        let what = format!("{} with {:?}", pair.path, pair.kind);
        let elsewhere = async || {
            ask(&pair, true).await;
        };
        let nowhere = async || {
            ask(&pair, false).await;
        };
        check(&what, &mut dice, elsewhere, nowhere).await;
        measured += 1;
    }
    let (address, wrong) = (world.house.server.address(), "a".repeat(52));
    let show = async |id: &str| {
        let key = format!("com_{id}_{wrong}");
        let (status, _) = http(address, "GET", "/info", Some(&key), "").await;
        assert_eq!(status, 401);
    };
    let (key, nobodys) = (&other.ids["shared"].keys[0], dice.word());
    let (elsewhere, nowhere) = (async || show(key).await, async || show(&nobodys).await);
    check("a wrong secret of a key", &mut dice, elsewhere, nowhere).await;
    println!("{measured} calls and a key, each {SAMPLES} times with and without");
    assert!(measured > 15, "{measured}");
    world.house.close().await;
}

#[test]
fn what_takes_longer_is_told_apart_and_what_does_not_is_not() {
    let mut dice = Dice::new(1);
    let mut times = |least: u64| -> Vec<Duration> {
        let one = |dice: &mut Dice| Duration::from_micros(least + dice.below(300) as u64);
        (0..SAMPLES).map(|_| one(&mut dice)).collect()
    };
    let (same, again, longer) = (times(1_000), times(1_000), times(1_500));
    let mut dice = Dice::new(2);
    assert_eq!(told_apart(&same, &again, &mut dice), None);
    assert_eq!(told_apart(&longer, &same, &mut dice), Some(true));
    assert_eq!(told_apart(&same, &longer, &mut dice), Some(false));
}
