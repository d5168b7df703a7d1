//! The proof that a record is in its tree, kept as long as somebody may ask for it.

use std::sync::OnceLock;

use bytes::Bytes;
use proto::digest::{self, Digest};
use proto::head::Head;
use proto::merkle::{self, Frontier};
use proto::record::{Commit, NONCE_BYTES, TreeName};
use proto::signature::{KeyId, SigningKey};
use proto::wire::relay::Seal;

use crate::format::Snapshot;

/// The RFC 6962 tree over a commit's records, every level of it, so that each path is a walk and not a computation.
pub(crate) struct RecordTree {
    levels: Vec<Vec<Digest>>,
}

impl RecordTree {
    /// The tree over these leaf hashes, at least one. Pairs are joined upwards and an odd last one is carried: the
    /// same tree as RFC 6962 builds downwards.
    pub fn over(leaves: Vec<Digest>) -> Self {
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let joined = below.chunks(2).map(|pair| match pair {
                [left, right] => merkle::node_hash(left, right),
                odd => odd[0],
            });
            levels.push(joined.collect());
        }
        Self { levels }
    }

    pub fn root(&self) -> Digest {
        self.levels[self.levels.len() - 1][0]
    }

    pub fn count(&self) -> u32 {
        u32::try_from(self.levels[0].len()).expect("a commit is bounded far below")
    }

    /// From the sibling of the leaf at `index` upwards.
    pub fn path(&self, index: u32) -> impl Iterator<Item = Digest> {
        self.levels.iter().enumerate().filter_map(move |(height, level)| {
            let sibling = (index as usize >> height) ^ 1;
            level.get(sibling).copied().filter(|_| level.len() > 1)
        })
    }
}

/// A commit at the end of its tree, as it was when it was made.
pub(crate) struct CommitProof {
    pub records: RecordTree,
    /// Its leaf hash in the tree.
    pub leaf: Digest,
    /// Its path in the tree that ends with it.
    path: Vec<Digest>,
    /// The head that it made.
    pub head: Head,
    signed: OnceLock<SignedHead>,
}

/// The signature over a head and the commit's path under it, as the seals of all its records carry them.
pub(crate) struct SignedHead {
    path: Vec<Bytes>,
    pub text: Bytes,
    pub key: Bytes,
    pub signature: Bytes,
}

impl CommitProof {
    /// Appends a commit of these records to a tree.
    pub fn append(tree: &mut Snapshot, records: RecordTree) -> Self {
        let commit = Commit { count: records.count(), root: records.root() }.hash();
        let path = tree.frontier.append(commit);
        tree.previous = commit;
        Self { records, leaf: commit, path, head: head(tree.name(), &tree.frontier), signed: OnceLock::new() }
    }

    /// Takes the signature over its head, made with this key. Only the first is kept: they all say the same.
    pub fn signed(&self, key: KeyId, signature: &[u8]) -> &SignedHead {
        self.signed.get_or_init(|| SignedHead {
            path: digest::all_to_wire(&self.path),
            text: self.head.to_text().into(),
            key: key.to_wire(),
            signature: Bytes::copy_from_slice(signature),
        })
    }

    /// The signature over its head, if it was signed.
    pub fn signed_head(&self) -> Option<&SignedHead> {
        self.signed.get()
    }

    /// The seal of the record at `index` with this nonce, if the head was signed.
    pub fn seal(&self, index: u32, nonce: [u8; NONCE_BYTES]) -> Option<Seal> {
        let signed = self.signed.get()?;
        Some(Seal {
            nonce: Bytes::copy_from_slice(&nonce),
            record: index,
            records: self.records.count(),
            record_path: digest::all_to_wire(&self.records.path(index).collect::<Vec<_>>()),
            commit: self.head.size - 1,
            commit_path: signed.path.clone(),
            head: signed.text.clone(),
            key: signed.key.clone(),
            signature: signed.signature.clone(),
        })
    }
}

/// Signs a head. The text begins with the head's origin, which no other use of the key begins with.
pub(crate) fn sign(head: &Head, key: &SigningKey) -> Vec<u8> {
    key.sign(head.to_text().as_bytes())
}

/// The head of a tree that stands so.
pub(crate) fn head(tree: TreeName, frontier: &Frontier) -> Head {
    Head { tree, size: frontier.size(), root: frontier.root() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_are_those_of_rfc_6962() {
        for count in 1..=70usize {
            let leaves: Vec<_> = (0..count).map(|n| merkle::leaf_hash(&n.to_be_bytes())).collect();
            let tree = RecordTree::over(leaves.clone());
            assert_eq!((tree.root(), tree.count() as usize), (merkle::root(&leaves), count));
            for index in 0..count {
                let path: Vec<_> = tree.path(index as u32).collect();
                assert_eq!(path, merkle::path(&leaves, index), "{index} of {count}");
            }
        }
    }
}
