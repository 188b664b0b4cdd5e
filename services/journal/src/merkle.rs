//! The root over a commit's events.

use commonplace_types::Digest;

/// Domain of a leaf's hash.
const LEAF: &[u8] = &[0];
/// Domain of an inner node's hash.
const NODE: &[u8] = &[1];

/// Hash of a leaf: SHA-256 of a zero byte and the content.
pub(crate) fn leaf(content: &[u8]) -> Digest {
    Digest::of(&[LEAF, content])
}

/// Root of the leaves in order: SHA-256 of a one byte, the root of the longest power of two that leaves
/// something, and the root of the rest. No leaves give [`Digest::ZERO`], one leaf gives itself.
///
/// Source: RFC 9162, section 2.1.1, but for the root of nothing.
pub(crate) fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::ZERO,
        [only] => *only,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            Digest::of(&[NODE, root(left).as_bytes(), root(right).as_bytes()])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u8) -> Vec<Digest> {
        (0..count).map(|number| leaf(&[number])).collect()
    }

    #[test]
    fn splits_at_the_largest_power_of_two_below() {
        let l = leaves(5);
        let node = |a: Digest, b: Digest| Digest::of(&[&[1], a.as_bytes(), b.as_bytes()]);
        assert_eq!(root(&l[..2]), node(l[0], l[1]));
        assert_eq!(root(&l[..3]), node(node(l[0], l[1]), l[2]));
        let four = node(node(l[0], l[1]), node(l[2], l[3]));
        assert_eq!(root(&l[..4]), four);
        assert_eq!(root(&l), node(four, l[4]));
    }

    #[test]
    fn a_leaf_is_not_a_node() {
        let l = leaves(2);
        let pair = [l[0].as_bytes().as_slice(), l[1].as_bytes()].concat();
        assert_ne!(leaf(&pair), root(&l));
        assert_eq!(root(&[]), Digest::ZERO);
    }
}
