//! Whether a log as it is now contains a head of it that somebody kept (PROTOCOL.md 5.6). Pure: heads, records and hashes
//! are arguments.
//!
//! A log is a chain of trees, and each tree's name is the hash of a genesis that names the end of the tree before. So one
//! signed head of the newest tree, with the geneses back to the tree asked about, says where that one ended, and nobody can
//! say it differently.

use bytes::Bytes;
use prost::Message;

use crate::digest::Digest;
use crate::head::Head;
use crate::merkle;
use crate::record::{Genesis, NotCanonical, TreeName, decode_canonical};
use crate::seal::{MAX_SIGNATURE_BYTES, Sender};
use crate::signature::{BadSignature, KeyId, PublicKey};
use crate::wire::relay as wire;

/// Most geneses in one answer.
pub const MAX_GENESES: usize = 256;
/// Most hashes in a consistency proof: two a level of the highest tree would be more.
pub const MAX_PROOF: usize = 65;

/// A head, and a signature over it that was not checked yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedHead {
    /// What was signed.
    pub head: Head,
    /// By which key.
    pub key: KeyId,
    /// DER.
    pub signature: Bytes,
}

impl SignedHead {
    /// Of what came over the wire, or stands in a file.
    pub fn parse(signed: &wire::SignedHead) -> Result<Self, NotJoined> {
        let head = Head::parse(&signed.head).map_err(|_| NotJoined::Malformed("a head is none"))?;
        let key =
            KeyId::try_from(signed.key.as_ref()).map_err(|_| NotJoined::Malformed("a key's name has 32 bytes"))?;
        if signed.signature.len() > MAX_SIGNATURE_BYTES {
            return Err(NotJoined::Malformed("a signature has at most 72 bytes"));
        }
        if head.size == 0 {
            return Err(NotJoined::Malformed("nobody signs the head of no commits"));
        }
        Ok(Self { head, key, signature: signed.signature.clone() })
    }

    /// Of the head in a seal.
    pub fn of(head: &Head, seal: &wire::Seal) -> Option<Self> {
        let key = KeyId::try_from(seal.key.as_ref()).ok()?;
        Some(Self { head: *head, key, signature: seal.signature.clone() })
    }

    /// As it goes over the wire.
    pub fn to_wire(&self) -> wire::SignedHead {
        let (head, key) = (self.head.to_text().into_bytes().into(), self.key.to_wire());
        wire::SignedHead { head, key, signature: self.signature.clone() }
    }

    /// Checks the signature.
    pub fn signed_by(&self, key: &PublicKey) -> Result<(), BadSignature> {
        if key.id() != self.key {
            return Err(BadSignature);
        }
        key.verify(self.head.to_text().as_bytes(), &self.signature)
    }
}

/// How a log says that it goes on from a head of it, read and not judged yet.
#[derive(Clone, Debug)]
pub struct Joined {
    geneses: Vec<Genesis>,
    root: Option<Digest>,
    proof: Vec<Digest>,
    newest: SignedHead,
}

/// Why an answer joins nothing and contradicts nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotJoined {
    /// A limit or a length.
    #[error("{0}")]
    Malformed(&'static str),
    /// A genesis is none.
    #[error("a genesis: {0}")]
    Genesis(#[from] NotCanonical),
    /// A tree of somebody else.
    #[error("a genesis is of {member} at {server}, and not of the log that was asked about")]
    OtherOwner {
        /// Whose it is.
        member: String,
        /// At which server.
        server: String,
    },
    /// The geneses are no chain.
    #[error("the geneses do not name each other, the newest head's tree first")]
    NoChain,
    /// The chain ends in a tree that has one before it.
    #[error("the geneses go back to a tree that is not the first, and do not name the one asked about")]
    CutChain,
    /// It says nothing of the tree at the size asked about.
    #[error("it shows {shown} commits of the tree, signed, and says nothing of {held}, which it signed too")]
    Behind {
        /// In the head that it shows.
        shown: u64,
        /// In the head that was asked about.
        held: u64,
    },
    /// The hashes lead nowhere.
    #[error("the proof does not join the two sizes of the tree")]
    Proof,
}

impl NotJoined {
    /// The step of PROTOCOL.md that refuses.
    pub fn step(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Genesis(_) => "5.6.2",
            Self::OtherOwner { .. } => "5.6.3",
            Self::NoChain | Self::CutChain => "5.6.5",
            Self::Behind { .. } | Self::Proof => "5.6.6",
        }
    }
}

/// What an answer comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The log contains the head.
    Contained,
    /// What it shows is older than the head that was asked about, and goes on to that.
    Late,
    /// The tree ended before the head: by the log's own word commits of it are lost.
    LostTail {
        /// Where it ended.
        ended: u64,
        /// The tree that says so.
        successor: TreeName,
    },
    /// The log begins anew, and never had the tree.
    LostTree {
        /// Its first tree.
        first: TreeName,
    },
    /// At the size asked about it has another root.
    Fork {
        /// Which.
        root: Digest,
    },
}

impl Joined {
    /// Reads an answer (5.6.2).
    pub fn parse(joined: &wire::Joined) -> Result<Self, NotJoined> {
        if joined.geneses.len() > MAX_GENESES {
            return Err(NotJoined::Malformed("at most 256 geneses are taken"));
        }
        if joined.proof.len() > MAX_PROOF {
            return Err(NotJoined::Malformed("a proof has at most 65 hashes"));
        }
        let digest =
            |bytes: &Bytes| Digest::try_from(bytes.as_ref()).map_err(|_| NotJoined::Malformed("a hash has 32 bytes"));
        let newest =
            joined.newest.as_ref().ok_or(NotJoined::Malformed("a signed head of the newest tree is wanted"))?;
        Ok(Self {
            geneses: joined.geneses.iter().map(|genesis| Genesis::parse(genesis.clone())).collect::<Result<_, _>>()?,
            root: (!joined.root.is_empty()).then(|| digest(&joined.root)).transpose()?,
            proof: joined.proof.iter().map(digest).collect::<Result<_, _>>()?,
            newest: SignedHead::parse(newest)?,
        })
    }

    /// The same from bytes, of which only one encoding is taken.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotJoined> {
        Self::parse(&decode_canonical::<wire::Joined>(bytes, "Joined")?)
    }

    /// The signed head of the newest tree.
    pub fn newest(&self) -> &SignedHead {
        &self.newest
    }

    /// The genesis of the newest tree; none where that is the one asked about.
    pub fn newest_genesis(&self) -> Option<&Genesis> {
        self.geneses.first()
    }

    /// Judges whether the log of `owner` contains this head, whose signature held (5.6.3 to 5.6.7). Whether the newest
    /// head's signature holds is judged by whoever knows the owner's keys.
    pub fn judge(&self, owner: &Sender, held: &Head) -> Result<Verdict, NotJoined> {
        for genesis in &self.geneses {
            let content = &genesis.content;
            if content.member != owner.member.as_str() || content.server != owner.server.as_str() {
                let (member, server) = (content.member.clone(), content.server.clone());
                return Err(NotJoined::OtherOwner { member, server });
            }
        }
        let shown = &self.newest.head;
        let Some((newest, last)) = self.geneses.first().zip(self.geneses.last()) else {
            return self.judge_same_tree(held);
        };
        let named = |genesis: &Genesis| Digest::try_from(genesis.content.before.as_ref()).ok().map(TreeName);
        let is_chain = newest.tree == shown.tree
            && self.geneses.windows(2).all(|pair| named(&pair[0]) == Some(pair[1].tree))
            && self.geneses.iter().all(|genesis| genesis.tree != held.tree);
        if !is_chain {
            return Err(NotJoined::NoChain);
        }
        match named(last) {
            None => Ok(Verdict::LostTree { first: last.tree }),
            Some(before) if before != held.tree => Err(NotJoined::CutChain),
            Some(_) if last.content.before_size < held.size => {
                Ok(Verdict::LostTail { ended: last.content.before_size, successor: last.tree })
            }
            Some(_) => {
                let root = Digest::try_from(last.content.before_root.as_ref());
                let root = root.map_err(|_| NotJoined::Malformed("a genesis names a tree before without its root"))?;
                self.judge_up_to(held, (last.content.before_size, root))
            }
        }
    }

    fn judge_same_tree(&self, held: &Head) -> Result<Verdict, NotJoined> {
        let shown = &self.newest.head;
        if shown.tree != held.tree {
            return Err(NotJoined::NoChain);
        }
        if shown.size >= held.size {
            return self.judge_up_to(held, (shown.size, shown.root));
        }
        let behind = NotJoined::Behind { shown: shown.size, held: held.size };
        if self.root != Some(held.root) {
            return Err(behind);
        }
        let (old, new) = ((shown.size, shown.root), (held.size, held.root));
        merkle::check_consistency(old, new, &self.proof).map_err(|_| NotJoined::Proof)?;
        Ok(Verdict::Late)
    }

    /// The proof binds the root that it is given to the end's: where it holds, the log has this root at this size, and no
    /// other.
    fn judge_up_to(&self, held: &Head, end: (u64, Digest)) -> Result<Verdict, NotJoined> {
        let root = self.root.ok_or(NotJoined::Proof)?;
        merkle::check_consistency((held.size, root), end, &self.proof).map_err(|_| NotJoined::Proof)?;
        Ok(if root == held.root { Verdict::Contained } else { Verdict::Fork { root } })
    }
}

/// The answer that another head of the same tree and size is, though nobody was asked.
pub fn shown_by_head(other: &SignedHead) -> wire::Joined {
    wire::Joined { root: other.head.root.to_wire(), newest: Some(other.to_wire()), ..Default::default() }
}

/// The answer that a later tree's genesis record is, with a head of that tree. `root`: the one that the genesis names, where
/// it names the very size that is held.
pub fn shown_by_genesis(genesis: Bytes, root: Option<Digest>, head: &SignedHead) -> wire::Joined {
    let root = root.map(|root| root.to_wire()).unwrap_or_default();
    wire::Joined { geneses: vec![genesis], root, newest: Some(head.to_wire()), ..Default::default() }
}

/// The bytes of an answer.
pub fn encode(joined: &wire::Joined) -> Vec<u8> {
    joined.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{Kind, Record};
    use crate::signature::SigningKey;

    fn owner() -> Sender {
        Sender { member: "VN/GOV/moj".parse().unwrap(), server: "VN/GOV/moj/ss1".parse().unwrap() }
    }

    fn genesis(random: u8, before: Option<(TreeName, u64, Digest)>) -> Genesis {
        let mut content = wire::Genesis {
            instance: "VN".into(),
            member: "VN/GOV/moj".into(),
            server: "VN/GOV/moj/ss1".into(),
            random: vec![random; 32].into(),
            why: wire::Why::Start as i32,
            ..Default::default()
        };
        if let Some((tree, size, root)) = before {
            (content.before, content.before_size, content.before_root) = (tree.0.to_wire(), size, root.to_wire());
        }
        let record = Record::new(Kind::Genesis, &[0; 16], &[&content.encode_to_vec()]);
        Genesis::parse(record.as_bytes().clone()).unwrap()
    }

    fn leaves(count: u64, other: u64) -> Vec<Digest> {
        (0..count).map(|n| merkle::leaf_hash(&[u8::from(n == other), n as u8])).collect()
    }

    fn head(tree: TreeName, leaves: &[Digest]) -> Head {
        Head { tree, size: leaves.len() as u64, root: merkle::root(leaves) }
    }

    fn signed(head: Head) -> SignedHead {
        let (key, _) = SigningKey::generate();
        let signature = key.sign(head.to_text().as_bytes()).into();
        SignedHead { head, key: key.public().id(), signature }
    }

    /// What a log with these commits answers that is asked at a size, with so many trees after it.
    fn answer(tree: TreeName, log: &[Digest], asked: usize, trees: u8) -> wire::Joined {
        let end = head(tree, log);
        let (mut before, mut geneses, mut newest) = ((tree, end.size, end.root), Vec::new(), end);
        for random in 0..trees {
            let next = genesis(100 + random, Some(before));
            newest = head(next.tree, &leaves(1 + u64::from(random), 99));
            before = (next.tree, newest.size, newest.root);
            geneses.insert(0, next.record.as_bytes().clone());
        }
        let (root, proof) = if asked <= log.len() {
            (merkle::root(&log[..asked]).to_wire(), merkle::consistency(log, asked))
        } else {
            (Bytes::new(), Vec::new())
        };
        let proof = proof.iter().map(Digest::to_wire).collect();
        wire::Joined { geneses, root, proof, newest: Some(signed(newest).to_wire()) }
    }

    fn judged(joined: &wire::Joined, held: &Head) -> Result<Verdict, NotJoined> {
        Joined::parse(joined)?.judge(&owner(), held)
    }

    #[test]
    fn a_log_that_goes_on_contains_every_head_that_it_had() {
        let tree = genesis(1, None).tree;
        for size in 1..=20 {
            let log = leaves(size, 99);
            for asked in 1..=size as usize {
                for trees in 0..4 {
                    let verdict = judged(&answer(tree, &log, asked, trees), &head(tree, &log[..asked]));
                    assert_eq!(verdict, Ok(Verdict::Contained), "{asked} of {size}, {trees} trees later");
                }
            }
        }
    }

    #[test]
    fn a_rewritten_commit_is_a_fork_wherever_it_stands_and_is_proved() {
        let tree = genesis(1, None).tree;
        for size in 1..=20 {
            for rewritten in 0..size {
                let (was, is) = (leaves(size, 99), leaves(size, rewritten));
                for asked in 1..=size as usize {
                    let forked = rewritten < asked as u64;
                    let expected =
                        if forked { Verdict::Fork { root: merkle::root(&is[..asked]) } } else { Verdict::Contained };
                    for trees in [0, 2] {
                        let joined = answer(tree, &is, asked, trees);
                        assert_eq!(judged(&joined, &head(tree, &was[..asked])), Ok(expected), "{rewritten} of {size}");
                        // It cannot hide behind the root that is asked for.
                        let parrot = wire::Joined { root: merkle::root(&was[..asked]).to_wire(), ..joined };
                        let said = judged(&parrot, &head(tree, &was[..asked]));
                        assert_eq!(said == Ok(Verdict::Contained), !forked, "{asked} of {size}: {said:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_tail_that_is_cut_is_lost_by_the_logs_own_word() {
        let tree = genesis(1, None).tree;
        let log = leaves(9, 99);
        for left in 1..9 {
            for trees in 1..4 {
                let Ok(Verdict::LostTail { ended, .. }) =
                    judged(&answer(tree, &log[..left], 9, trees), &head(tree, &log))
                else {
                    panic!("{left}, {trees}")
                };
                assert_eq!(ended, left as u64);
            }
            let shown = judged(&answer(tree, &log[..left], 9, 0), &head(tree, &log));
            assert_eq!(
                shown,
                Err(NotJoined::Behind { shown: left as u64, held: 9 }),
                "nothing later says that it ended"
            );
        }
        let other = genesis(2, None);
        let newest = signed(head(other.tree, &leaves(1, 99)));
        let anew = shown_by_genesis(other.record.as_bytes().clone(), None, &newest);
        assert_eq!(judged(&anew, &head(tree, &log)), Ok(Verdict::LostTree { first: other.tree }));
    }

    #[test]
    fn an_older_head_that_goes_on_to_the_one_held_is_late() {
        let tree = genesis(1, None).tree;
        let log = leaves(9, 99);
        for shown in 1..9 {
            let late = wire::Joined {
                geneses: Vec::new(),
                root: merkle::root(&log).to_wire(),
                proof: merkle::consistency(&log, shown).iter().map(Digest::to_wire).collect(),
                newest: Some(signed(head(tree, &log[..shown])).to_wire()),
            };
            assert_eq!(judged(&late, &head(tree, &log)), Ok(Verdict::Late));
            let other = wire::Joined { newest: Some(signed(head(tree, &leaves(9, 0)[..shown])).to_wire()), ..late };
            assert_eq!(judged(&other, &head(tree, &log)), Err(NotJoined::Proof));
        }
    }

    #[test]
    fn what_is_too_large_or_of_others_joins_nothing() {
        let tree = genesis(1, None).tree;
        let log = leaves(9, 99);
        let held = head(tree, &log[..5]);
        let good = answer(tree, &log, 5, 2);
        assert_eq!(judged(&good, &held), Ok(Verdict::Contained));
        let hash = Bytes::from_static(&[1; 32]);
        let long = |count| wire::Joined { proof: vec![hash.clone(); count], ..good.clone() };
        assert_eq!(judged(&long(MAX_PROOF), &held), Err(NotJoined::Proof));
        assert_eq!(judged(&long(MAX_PROOF + 1), &held), Err(NotJoined::Malformed("a proof has at most 65 hashes")));
        let many = |count| wire::Joined { geneses: vec![good.geneses[0].clone(); count], ..good.clone() };
        assert_eq!(judged(&many(MAX_GENESES), &held), Err(NotJoined::NoChain));
        let refused = judged(&many(MAX_GENESES + 1), &held);
        assert_eq!(refused, Err(NotJoined::Malformed("at most 256 geneses are taken")));
        for change in [
            |joined: &mut wire::Joined| drop(joined.geneses.pop()),
            |joined: &mut wire::Joined| drop(joined.geneses.remove(0)),
            |joined: &mut wire::Joined| joined.geneses.reverse(),
            |joined: &mut wire::Joined| drop(joined.proof.pop()),
            |joined: &mut wire::Joined| joined.proof.push(Bytes::from_static(&[1; 32])),
            |joined: &mut wire::Joined| joined.root = Bytes::new(),
            |joined: &mut wire::Joined| joined.root = Bytes::from_static(&[1; 31]),
            |joined: &mut wire::Joined| joined.newest = None,
        ] {
            let mut joined = good.clone();
            change(&mut joined);
            assert!(judged(&joined, &held).is_err(), "{joined:?}");
        }
        let other = Sender { member: "VN/GOV/tax".parse().unwrap(), ..owner() };
        let refused = Joined::parse(&good).unwrap().judge(&other, &held);
        assert!(matches!(refused, Err(NotJoined::OtherOwner { .. })), "{refused:?}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_judge_panic_or_contain(
            bytes in proptest::collection::vec(any::<u8>(), 0..300), at in any::<proptest::sample::Index>(), to: u8,
        ) {
            let tree = genesis(1, None).tree;
            let (log, held) = (leaves(9, 99), head(tree, &leaves(9, 99)[..6]));
            if let Ok(joined) = Joined::decode(&bytes) {
                prop_assert!(joined.judge(&owner(), &held).is_err());
            }
            let good = answer(tree, &log, 6, 1);
            let mut changed = encode(&good);
            let at = at.index(changed.len());
            changed[at] = to;
            if let Ok(joined) = Joined::decode(&changed) && let Ok(verdict) = joined.judge(&owner(), &held) {
                // Only the newest head's size, root and signature are nobody's business but its signature's.
                prop_assert_eq!(verdict, Verdict::Contained);
            }
        }
    }
}
