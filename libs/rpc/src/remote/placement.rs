//! Which endpoint a key belongs to, when each key is served at one of several.

use super::Endpoint;

/// The endpoints by how much each suits a key, best first: rendezvous hashing with the highest weight.
///
/// Everybody who knows the same endpoints finds the same order without asking anybody. When an endpoint goes,
/// only its own keys move, each to the next in its order; when one comes, it takes its share from all.
/// Source: Thaler and Ravishankar, IEEE/ACM Transactions on Networking 6(1), 1998.
pub fn placed(endpoints: &[Endpoint], key: &[&str]) -> Vec<Endpoint> {
    let mut weighted: Vec<([u8; 32], &Endpoint)> = endpoints
        .iter()
        .map(|endpoint| (weight(endpoint, key), endpoint))
        .collect();
    weighted.sort_by(|a, b| b.cmp(a));
    weighted
        .into_iter()
        .map(|(_, endpoint)| endpoint.clone())
        .collect()
}

fn weight(endpoint: &Endpoint, key: &[&str]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let authority = endpoint.authority();
    for part in [authority.as_str()].iter().chain(key) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(count: usize) -> Vec<Endpoint> {
        (0..count)
            .map(|number| Endpoint::parse(&format!("http://10.0.0.{number}:1")).unwrap())
            .collect()
    }

    fn owner(endpoints: &[Endpoint], key: usize) -> Endpoint {
        placed(endpoints, &["default", &format!("project-{key}")])[0].clone()
    }

    #[test]
    fn keys_are_spread_evenly_and_found_again_in_any_order() {
        let mut all = endpoints(4);
        let owners: Vec<Endpoint> = (0..1_000).map(|key| owner(&all, key)).collect();
        for endpoint in &all {
            let share = owners.iter().filter(|owner| *owner == endpoint).count();
            assert!((180..320).contains(&share), "{endpoint}: {share}");
        }
        all.reverse();
        assert!((0..1_000).all(|key| owner(&all, key) == owners[key]));
    }

    #[test]
    fn only_the_keys_of_a_lost_endpoint_move_and_to_the_next_in_order() {
        let all = endpoints(5);
        for key in 0..500 {
            let name = format!("project-{key}");
            let order = placed(&all, &["default", &name]);
            let left: Vec<Endpoint> = all[1..].to_vec();
            let expected: Vec<Endpoint> = order
                .iter()
                .filter(|endpoint| **endpoint != all[0])
                .cloned()
                .collect();
            assert_eq!(placed(&left, &["default", &name]), expected);
        }
    }
}
