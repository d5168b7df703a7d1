//! RFC 6962 Merkle trees: roots, inclusion and consistency, verified as RFC 9162 section 2.1.3 and 2.1.4 say.

use std::convert::Infallible;
use std::ops::Range;

use crate::digest::Digest;

/// Hash of a leaf: SHA-256(0x00 || leaf).
pub fn leaf_hash(leaf: &[u8]) -> Digest {
    Digest::of(&[&[0], leaf])
}

/// Hash of a node: SHA-256(0x01 || left || right).
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    Digest::of(&[&[1], left.as_bytes(), right.as_bytes()])
}

/// The root over these leaf hashes; SHA-256 of nothing for none.
pub fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::of(&[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(divided(leaves.len() as u64) as usize);
            node_hash(&root(left), &root(right))
        }
    }
}

/// The inclusion path of the leaf at `index`, from the leaf's sibling upwards.
pub fn path(leaves: &[Digest], index: usize) -> Vec<Digest> {
    assert!(index < leaves.len(), "the caller asks for a leaf of this tree");
    if leaves.len() == 1 {
        return Vec::new();
    }
    let middle = divided(leaves.len() as u64) as usize;
    let (left, right) = leaves.split_at(middle);
    let (mut path, sibling) =
        if index < middle { (path(left, index), root(right)) } else { (path(right, index - middle), root(left)) };
    path.push(sibling);
    path
}

/// The same path in a tree too large to be held: `root` finds the root over the leaves of a range, which is where RFC 6962
/// divides the tree.
pub fn path_of<E>(
    index: u64,
    size: u64,
    root: &mut impl FnMut(Range<u64>) -> Result<Digest, E>,
) -> Result<Vec<Digest>, E> {
    assert!(index < size, "the caller asks for a leaf of this tree");
    let (mut range, mut path) = (0..size, Vec::new());
    while range.end - range.start > 1 {
        let middle = range.start + divided(range.end - range.start);
        let sibling = if index < middle { middle..range.end } else { range.start..middle };
        path.push(root(sibling)?);
        range = if index < middle { range.start..middle } else { middle..range.end };
    }
    path.reverse();
    Ok(path)
}

/// A path that leads nowhere, for whatever reason. Deliberately says no more: it was made by a stranger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the path does not fit the tree's size and the leaf's place in it")]
pub struct Misplaced;

/// The root that `path` leads to from the leaf at `index` in a tree of `size` leaves (RFC 9162 section 2.1.3.2).
/// A path with a hash too many or too few is refused.
pub fn root_of_path(leaf: Digest, index: u64, size: u64, path: &[Digest]) -> Result<Digest, Misplaced> {
    if index >= size {
        return Err(Misplaced);
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in path {
        if last == 0 {
            return Err(Misplaced);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last == 0 { Ok(hash) } else { Err(Misplaced) }
}

/// The proof that the first `old_size` of these leaves are the beginning of all of them (RFC 9162 section 2.1.4.1).
pub fn consistency(leaves: &[Digest], old_size: usize) -> Vec<Digest> {
    let mut root = |range: Range<u64>| Ok::<_, Infallible>(root(&leaves[range.start as usize..range.end as usize]));
    let Ok(proof) = consistency_of(old_size as u64, leaves.len() as u64, &mut root);
    proof
}

/// The same proof of trees too large to be held: `root` finds the root over the leaves of a range, which is where RFC 6962
/// divides the tree.
pub fn consistency_of<E>(
    old_size: u64,
    new_size: u64,
    root: &mut impl FnMut(Range<u64>) -> Result<Digest, E>,
) -> Result<Vec<Digest>, E> {
    assert!(0 < old_size && old_size <= new_size, "the older tree is a beginning of this one");
    let (mut range, mut whole, mut others) = (0..new_size, true, Vec::new());
    while range.end != old_size {
        let middle = range.start + divided(range.end - range.start);
        if old_size <= middle {
            others.push(root(middle..range.end)?);
            range.end = middle;
        } else {
            others.push(root(range.start..middle)?);
            (range.start, whole) = (middle, false);
        }
    }
    let mut proof = if whole { Vec::new() } else { vec![root(range)?] };
    proof.extend(others.into_iter().rev());
    Ok(proof)
}

/// Where RFC 6962 divides a tree of this many leaves, at least two: the largest power of two below.
pub fn divided(size: u64) -> u64 {
    1 << (u64::BITS - 1 - (size - 1).leading_zeros())
}

/// Checks that the tree of `old` (size and root) is the beginning of the tree of `new` (RFC 9162 section 2.1.4.2).
pub fn check_consistency(old: (u64, Digest), new: (u64, Digest), proof: &[Digest]) -> Result<(), Misplaced> {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size == 0 || old_size > new_size {
        return Err(Misplaced);
    }
    if old_size == new_size {
        return if proof.is_empty() && old_root == new_root { Ok(()) } else { Err(Misplaced) };
    }
    let mut proof = proof.iter();
    let (mut node, mut last) = (old_size - 1, new_size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let first = if old_size.is_power_of_two() { &old_root } else { proof.next().ok_or(Misplaced)? };
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in proof {
        if last == 0 {
            return Err(Misplaced);
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last == 0 && old_hash == old_root && new_hash == new_root { Ok(()) } else { Err(Misplaced) }
}

/// A tree that only grows: the roots of its complete subtrees, largest first. Enough to append, to state the root,
/// and to prove the leaf just appended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Frontier {
    size: u64,
    subtrees: Vec<Digest>,
}

impl Frontier {
    /// A tree as it was written down: its size, and the roots of its complete subtrees, largest first.
    pub fn from_parts(size: u64, subtrees: Vec<Digest>) -> Result<Self, Misplaced> {
        if subtrees.len() == size.count_ones() as usize { Ok(Self { size, subtrees }) } else { Err(Misplaced) }
    }

    /// The roots of its complete subtrees, largest first: one for each bit set in the size.
    pub fn subtrees(&self) -> &[Digest] {
        &self.subtrees
    }

    /// Appends a leaf hash and returns its inclusion path in the grown tree.
    pub fn append(&mut self, leaf: Digest) -> Vec<Digest> {
        let path = self.subtrees.iter().rev().copied().collect();
        let mut hash = leaf;
        let mut complete = self.size;
        while complete & 1 == 1 {
            let left = self.subtrees.pop().expect("one subtree for each bit set in the size");
            hash = node_hash(&left, &hash);
            complete >>= 1;
        }
        self.subtrees.push(hash);
        self.size += 1;
        path
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The tree's root.
    pub fn root(&self) -> Digest {
        self.subtrees
            .iter()
            .rev()
            .copied()
            .reduce(|right, left| node_hash(&left, &right))
            .unwrap_or_else(|| Digest::of(&[]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaves(count: usize) -> Vec<Digest> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    #[test]
    fn every_leaf_is_proved_and_nothing_else() {
        for size in 1..=40 {
            let leaves = leaves(size);
            let root = root(&leaves);
            for index in 0..size {
                let path = path(&leaves, index);
                let leads_to = |index: u64, size: u64, path: &[Digest]| {
                    root_of_path(leaves[index as usize % leaves.len()], index, size, path)
                };
                assert_eq!(leads_to(index as u64, size as u64, &path), Ok(root));
                let mut longer = path.clone();
                longer.push(Digest::ZERO);
                assert_eq!(leads_to(index as u64, size as u64, &longer), Err(Misplaced));
                if let Some((_, shorter)) = path.split_last() {
                    assert_eq!(leads_to(index as u64, size as u64, shorter), Err(Misplaced));
                }
                for flipped in 0..path.len() {
                    let mut path = path.clone();
                    let mut bytes = *path[flipped].as_bytes();
                    bytes[flipped % 32] ^= 1;
                    path[flipped] = Digest::from_bytes(bytes);
                    assert_ne!(leads_to(index as u64, size as u64, &path), Ok(root));
                }
                assert_eq!(leads_to(size as u64, size as u64, &path), Err(Misplaced));
            }
        }
    }

    #[test]
    fn the_frontier_agrees_with_the_whole_tree() {
        let mut frontier = Frontier::default();
        for size in 1..=70 {
            let leaves = leaves(size);
            assert_eq!(frontier.append(leaves[size - 1]), path(&leaves, size - 1));
            assert_eq!((frontier.size(), frontier.root()), (size as u64, root(&leaves)));
            let written = frontier.subtrees().to_vec();
            assert_eq!(Frontier::from_parts(frontier.size(), written.clone()), Ok(frontier.clone()));
            assert_eq!(Frontier::from_parts(frontier.size() * 2 + 1, written), Err(Misplaced));
        }
    }

    #[test]
    fn a_beginning_is_proved_and_a_fork_is_not() {
        for size in 1..=33 {
            let new = leaves(size);
            for old_size in 1..=size {
                let proof = consistency(&new, old_size);
                let (old, now) = ((old_size as u64, root(&new[..old_size])), (size as u64, root(&new)));
                assert_eq!(check_consistency(old, now, &proof), Ok(()), "{old_size} of {size}");
                assert!(check_consistency((old.0, Digest::ZERO), now, &proof).is_err());
                assert!(check_consistency(old, (now.0, Digest::ZERO), &proof).is_err());
                let mut longer = proof.clone();
                longer.push(Digest::ZERO);
                assert!(check_consistency(old, now, &longer).is_err());
            }
        }
    }

    proptest! {
        #[test]
        fn no_numbers_make_the_walkers_panic(
            index in any::<u64>(), size in any::<u64>(), fill in any::<[u8; 32]>(), hashes in 0usize..70,
        ) {
            let (hash, path) = (Digest::from_bytes(fill), vec![Digest::from_bytes(fill); hashes]);
            if root_of_path(hash, index, size, &path).is_ok() {
                prop_assert!(index < size);
            }
            for (old, new) in [(index, size), (size, index), (index, index), (index, u64::MAX), (0, size)] {
                let _ = check_consistency((old, hash), (new, hash), &path);
            }
            let _ = Frontier::from_parts(size, path);
        }
    }
}
