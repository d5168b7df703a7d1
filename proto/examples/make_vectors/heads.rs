//! Heads: the one form, and others that say the same.

use proto::digest::Digest;
use proto::head::Head;
use proto::record::TreeName;
use serde_json::{Value, json};

use crate::{accept, refuse};

pub fn cases() -> Vec<Value> {
    let head = |size| Head { tree: TreeName(Digest::of(&[b"tree"])), size, root: Digest::of(&[b"root"]) };
    let input = |text: &[u8]| json!({ "head": hex::encode(text), "text": String::from_utf8_lossy(text) });
    let mut cases = Vec::new();
    for (name, size) in [("ten commits", 10), ("no commit", 0), ("one commit", 1), ("the largest size", u64::MAX)] {
        let head = head(size);
        let leads_to = json!({ "tree": head.tree.to_string(), "size": head.size, "root": head.root.to_string() });
        cases.push(accept(name, input(head.to_text().as_bytes()), leads_to));
    }
    let text = head(10).to_text();
    let root = text.lines().nth(2).expect("three lines").to_owned();
    let spare = format!("{}{}=", &root[..42], other_spare_bits(&root[42..43]));
    for (name, other) in [
        ("a leading zero", text.replace("\n10\n", "\n010\n")),
        ("a sign", text.replace("\n10\n", "\n+10\n")),
        ("a size in hexadecimal", text.replace("\n10\n", "\n0xa\n")),
        ("a size with a space", text.replace("\n10\n", "\n10 \n")),
        ("no size", text.replace("\n10\n", "\n\n")),
        ("a size of 2^64", text.replace("\n10\n", "\n18446744073709551616\n")),
        ("lines ended as in DOS", text.replace('\n', "\r\n")),
        ("the tree's name in upper case", text.replacen(&text[12..76], &text[12..76].to_uppercase(), 1)),
        ("a tree's name one digit short", text.replacen(&text[12..76], &text[12..75], 1)),
        ("an empty line more", format!("{text}\n")),
        ("an extension line", format!("{text}extension\n")),
        ("no line end at the end", text.trim_end().to_owned()),
        ("another origin", text.replace("causeway.v1/", "causeway.v2/")),
        ("no origin", text.replace("causeway.v1/", "")),
        ("a root without padding", text.replace(&root, root.trim_end_matches('='))),
        ("a root whose unused bits are set", text.replace(&root, &spare)),
        ("a root in the alphabet for URLs", {
            let plus = Head { root: Digest::from_bytes([0xfb; 32]), ..head(10) }.to_text();
            assert!(plus.contains('+'));
            plus.replace('+', "-")
        }),
        ("a root of 31 bytes", text.replace(&root, &base64_of(&[1; 31]))),
        ("a root in hexadecimal", text.replace(&root, &head(10).root.to_string())),
        ("no text", String::new()),
    ] {
        assert_eq!(Head::parse(other.as_bytes()).ok(), None, "{name}");
        cases.push(refuse(name, input(other.as_bytes()), "5.3"));
    }
    cases.push(refuse("bytes that are no text", input(&[0xff, 0xfe, b'\n']), "5.3"));
    cases
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The letter of base64 after this one: the last letter of 32 bytes has two bits that mean nothing.
fn other_spare_bits(letter: &str) -> &'static str {
    const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let at = LETTERS.find(letter).expect("a letter of base64");
    &LETTERS[at + 1..at + 2]
}
