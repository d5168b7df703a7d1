//! A log's head: the C2SP checkpoint text of its tree, which is what a member's key signs (PROTOCOL.md 5.3).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::digest::Digest;
use crate::record::TreeName;
use crate::signature::{KeyId, purpose};

/// The size and root of a tree. Holds nothing that could differ if it were made again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The tree's name.
    pub tree: TreeName,
    /// Its number of commits.
    pub size: u64,
    /// Its root.
    pub root: Digest,
}

/// Bytes that are no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a head: three lines are wanted, causeway.v1/<tree>, <size> and <root in base64>")]
pub struct NotAHead;

/// Longest head in bytes: origin, size and root with their line ends.
pub const MAX_HEAD_BYTES: usize = purpose::HEAD_ORIGIN.len() + 64 + 20 + 44 + 3;

impl Head {
    /// The text that is signed: origin, size and root, a line each.
    pub fn to_text(&self) -> String {
        format!("{}{}\n{}\n{}\n", purpose::HEAD_ORIGIN, self.tree, self.size, STANDARD.encode(self.root.as_bytes()))
    }

    /// Reads a head. Only the very bytes that [`Head::to_text`] makes are accepted.
    pub fn parse(text: &[u8]) -> Result<Self, NotAHead> {
        if text.len() > MAX_HEAD_BYTES {
            return Err(NotAHead);
        }
        let text = std::str::from_utf8(text).map_err(|_| NotAHead)?;
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root), Some(""), None) =
            (lines.next(), lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(NotAHead);
        };
        let tree = origin.strip_prefix(purpose::HEAD_ORIGIN).ok_or(NotAHead)?;
        let head = Head {
            tree: TreeName(tree.parse().map_err(|_| NotAHead)?),
            size: size.parse().map_err(|_| NotAHead)?,
            root: STANDARD.decode(root).map_err(|_| NotAHead)?.as_slice().try_into().map_err(|_| NotAHead)?,
        };
        if head.to_text() == text { Ok(head) } else { Err(NotAHead) }
    }

    /// The head as a C2SP signed note, for tools that know that form. ECDSA is signature type 0x02: its key hash is
    /// the first four bytes of SHA-256 of the SubjectPublicKeyInfo.
    pub fn to_signed_note(&self, key: &KeyId, signature: &[u8]) -> String {
        let signature = STANDARD.encode([&key.as_bytes()[..4], signature].concat());
        format!("{}\n\u{2014} {}{} {signature}\n", self.to_text(), purpose::HEAD_ORIGIN, self.tree)
    }
}

impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_text())
    }
}

impl std::str::FromStr for Head {
    type Err = NotAHead;
    fn from_str(text: &str) -> Result<Self, NotAHead> {
        Self::parse(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_head_has_one_form() {
        let head = Head { tree: TreeName(Digest::of(&[b"tree"])), size: 10, root: Digest::of(&[b"root"]) };
        let text = head.to_text();
        assert_eq!(Head::parse(text.as_bytes()), Ok(head));
        for other in [
            text.replace("\n10\n", "\n010\n"),
            text.replace("\n10\n", "\n+10\n"),
            text.replace('\n', "\r\n"),
            text.to_uppercase(),
            format!("{text}\n"),
            format!("{text}extension\n"),
            text.trim_end().to_owned(),
            text.replace("causeway.v1/", "causeway.v2/"),
        ] {
            assert_eq!(Head::parse(other.as_bytes()), Err(NotAHead), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Head::parse(&bytes), Err(NotAHead));
        }

        #[test]
        fn a_head_with_a_byte_changed_is_another_or_none(at in any::<proptest::sample::Index>(), to in any::<u8>()) {
            let head = Head { tree: TreeName(Digest::of(&[b"tree"])), size: 10, root: Digest::of(&[b"root"]) };
            let mut text = head.to_text().into_bytes();
            let at = at.index(text.len());
            prop_assume!(text[at] != to);
            text[at] = to;
            if let Ok(other) = Head::parse(&text) {
                prop_assert_ne!(other, head);
                prop_assert_eq!(other.to_text().into_bytes(), text);
            }
        }
    }
}
