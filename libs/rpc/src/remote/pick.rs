//! Which endpoint a call takes, and how long it waits for one.

use std::sync::Arc;
use std::time::Instant;

use super::Endpoint;
use super::member::{Link, Member};
use super::pool::Shared;

/// Where a call goes.
pub(crate) struct Picked {
    pub(crate) member: Arc<Member>,
    pub(crate) link: Link,
}

/// Of two live endpoints drawn at random, the one with fewer calls running.
/// Source: Mitzenmacher, "The power of two choices in randomized load balancing", 2001.
pub(crate) fn pick(shared: &Shared, only: Option<&Endpoint>) -> Option<Picked> {
    let members = shared.members();
    let live: Vec<(&Arc<Member>, Link)> = members
        .iter()
        .filter(|member| only.is_none_or(|only| *only == member.endpoint))
        .filter_map(|member| Some((member, member.link()?)))
        .collect();
    let chosen = match live.len() {
        0 => return None,
        1 => 0,
        count => {
            let first = shared.random.below(count);
            let second = (first + 1 + shared.random.below(count - 1)) % count;
            if live[second].0.running() < live[first].0.running() {
                second
            } else {
                first
            }
        }
    };
    let (member, link) = &live[chosen];
    Some(Picked {
        member: (*member).clone(),
        link: link.clone(),
    })
}

/// Waits for an endpoint until `until`; nothing if none takes calls by then. A call that is meant for one
/// endpoint does not wait for it to come back: its caller knows others.
pub(crate) async fn wait(
    shared: &Shared,
    only: Option<&Endpoint>,
    until: Instant,
) -> Option<Picked> {
    let mut turns = shared.turns();
    loop {
        turns.mark_unchanged();
        if let Some(picked) = pick(shared, only) {
            return Some(picked);
        }
        if only.is_some_and(|only| is_down(shared, only)) {
            return None;
        }
        let members = shared.members();
        let rest = members
            .iter()
            .filter_map(|member| member.rests_until())
            .min();
        let wake = rest.map_or(until, |rest| rest.min(until));
        let _ = tokio::time::timeout_at(wake.into(), turns.changed()).await;
        if Instant::now() >= until {
            return pick(shared, only);
        }
    }
}

fn is_down(shared: &Shared, only: &Endpoint) -> bool {
    let members = shared.members();
    let known = !members.is_empty();
    match members.iter().find(|member| member.endpoint == *only) {
        Some(member) => member.is_down() || member.rests_until().is_some(),
        None => known,
    }
}
