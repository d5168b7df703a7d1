//! Habits that are tests: what depends on what, which words are not used, where sockets may be touched.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Words that say nothing of what a thing is.
const NOT_USED: [&str; 9] = ["proxy", "manager", "handler", "processor", "util", "helper", "common", "context", "info"];

/// Names that others gave, and that a definition of ours repeats.
const NAMED_BY_OTHERS: [&str; 4] = ["ErrorInfo", "RetryInfo", "ConnectInfo", "connect_info"]; // google.rpc, tonic

/// Files of the security server that touch the network: the doors, the two ways out, the tides, and the command line
/// that asks a running server.
const TOUCH_SOCKETS: [&str; 10] = [
    "listen.rs",
    "listen/",
    "relay.rs",
    "forward.rs",
    "services.rs",
    "names.rs",
    "tls.rs",
    "global_configuration/",
    "operate.rs",
    "archive/transport.rs",
];

#[test]
fn the_two_servers_do_not_know_each_other() {
    for (one, other) in [("security-server", "central-registry"), ("central-registry", "security-server")] {
        let needed = needed_by(one);
        assert!(needed.contains("proto") && !needed.contains(other), "{one} needs the protocol, and not {other}");
    }
}

#[test]
fn the_protocol_knows_no_runtime_and_no_journal() {
    let needed = needed_by("proto");
    for none in ["tokio", "mio", "journal", "hyper", "tonic", "sled"] {
        assert!(!needed.contains(none), "proto needs {none}");
    }
}

#[test]
fn nothing_needs_the_tests_or_the_examples() {
    for (name, _) in members().iter().filter(|(name, _)| name != "tests" && name != "examples") {
        let needed = needed_by(name);
        assert!(!needed.contains("tests") && !needed.contains("examples"), "{name} needs what sits on top of it");
    }
}

#[test]
fn there_is_one_library_of_cryptography() {
    for (name, _) in members() {
        let needed = needed_by(&name);
        for none in ["ring", "openssl", "openssl-sys", "native-tls", "rsa"] {
            assert!(!needed.contains(none), "{name} needs {none}");
        }
    }
}

#[test]
fn words_that_say_nothing_are_not_used() {
    let mut found = Vec::new();
    for file in sources(&["rs", "proto"]) {
        let path = file.path.with_extension("");
        for part in path.components().filter_map(|part| part.as_os_str().to_str()) {
            found.extend(not_used(part).map(|word| format!("{}: {word} in its name", file.path.display())));
        }
        let named = if file.is("rs") { introduced(&tokens(&file.text)) } else { identifiers(&file.text) };
        for name in named.iter().filter(|name| !NAMED_BY_OTHERS.contains(&name.as_str())) {
            found.extend(not_used(name).map(|word| format!("{}: {word} in {name}", file.path.display())));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_word_is_found_in_a_name_of_ours_and_not_in_a_name_of_others() {
    let words = |source: &str| -> Vec<_> {
        introduced(&tokens(source)).iter().flat_map(|name| not_used(name).collect::<Vec<_>>()).collect()
    };
    for ours in [
        "struct CallHandler;",
        "fn parse_info() {}",
        "fn f(context: &mut C) {}",
        "let (a, mut helper) = b;",
        "struct S { pub proxy: bool }",
        "enum E { A, Common(u8) }",
        "enum E { #[doc = \"\"] Info }",
        "use other::Thing as Manager;",
        "each(|info| info)",
        "mod util;",
        "for info in infos {}",
    ] {
        assert_eq!(words(ours).len(), 1, "{ours}");
    }
    for others in [
        "use hyper_util::rt::TokioIo;",
        "use std::task::{Context, Poll};",
        "fn poll(cx: &mut Context<'_>) {}",
        "tracing::info!(%name, \"info\");",
        "let x = \"proxy-connection\"; // the proxy",
        "let read = SubjectPublicKeyInfo::read(r#\"util \"# , 'c', b'\\'');",
        "let information = commonly;",
        "enum E { A }\nfn f() { g(Info) }",
    ] {
        assert_eq!(words(others), Vec::<&str>::new(), "{others}");
    }
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let mut found = Vec::new();
    for file in sources(&["rs"]).into_iter().filter(|file| !file.is_test()) {
        let tokens = without_tests(&tokens(&file.text));
        for window in tokens.windows(4) {
            if window == [".", "unwrap", "(", ")"] {
                found.push(file.path.display().to_string());
            }
        }
    }
    assert!(found.is_empty(), "say with `expect` why it cannot fail: {found:?}");
}

#[test]
fn each_module_says_first_what_it_is() {
    for file in sources(&["rs"]).into_iter().filter(|file| file.path.components().any(|part| part.as_os_str() == "src"))
    {
        assert!(file.text.starts_with("//! "), "{} begins with //! and what it is", file.path.display());
    }
}

#[test]
fn the_life_of_an_exchange_fits_on_a_page_and_refuses_nothing_by_itself() {
    let exchange = std::fs::read_to_string(root().join("security-server/src/exchange.rs")).unwrap();
    let lines = exchange.lines().count();
    assert!(lines < 120, "{lines} lines");
    let tokens = tokens(&exchange);
    for refusal in ["Refusal", "BareRefusal"] {
        let invented = tokens.windows(3).any(|window| window == [refusal, "::", "new"]);
        assert!(!invented, "a refusal is a step's to make");
    }
}

#[test]
fn only_doors_ways_out_and_tides_touch_sockets() {
    for file in sources(&["rs"]) {
        let Ok(path) = file.path.strip_prefix("security-server/src") else { continue };
        if TOUCH_SOCKETS.iter().any(|may| path.to_str().unwrap().starts_with(may)) {
            continue;
        }
        let tokens = without_tests(&tokens(&file.text));
        for (at, token) in tokens.iter().enumerate() {
            // The door's listeners pass through here, bound by whoever starts the server.
            let passes = path == Path::new("lib.rs") && token == "TcpListener" && tokens[at + 1] != "::";
            let socket = ["TcpStream", "TcpListener", "TcpSocket", "UdpSocket", "UnixStream", "UnixListener"];
            assert!(passes || !socket.contains(&token.as_str()), "{} touches {token}", path.display());
        }
    }
}

#[test]
fn each_dependency_has_a_sentence() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let dependencies = manifest.split_once("[workspace.dependencies]").unwrap().1.split("\n[").next().unwrap();
    let mut above = "";
    let mut counted = 0;
    for line in dependencies.lines().filter(|line| !line.is_empty()) {
        if !line.starts_with('#') && !line.contains("path = ") {
            counted += 1;
            let is_sentence = above.starts_with("# ") && !above.starts_with("# ---") && above.ends_with('.');
            assert!(is_sentence, "the root Cargo.toml says no sentence above `{line}`");
        }
        above = line;
    }
    assert!(counted > 30, "the dependencies were found");
}

#[test]
fn each_dependency_has_its_version_in_the_workspace() {
    for (name, directory) in members() {
        let manifest = std::fs::read_to_string(directory.join("Cargo.toml")).unwrap();
        let mut section = "";
        for line in manifest.lines() {
            match line.strip_prefix('[') {
                Some(name) => section = name,
                None if section.contains("dependencies]") && line.contains('=') && !line.starts_with('#') => {
                    let inherited = line.contains(".workspace = true") || line.contains("workspace = true");
                    assert!(inherited, "{name}: `{line}` has a version of its own");
                }
                None => {}
            }
        }
    }
}

#[test]
fn the_formatting_is_rustfmts() {
    let output = Command::new(env!("CARGO")).current_dir(root()).args(["fmt", "--all", "--check"]).output().unwrap();
    assert!(output.status.success(), "run cargo fmt --all\n{}", String::from_utf8_lossy(&output.stdout));
}

/// The crates of the workspace, and their directories.
fn members() -> Vec<(String, PathBuf)> {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = [")).unwrap();
    let directories = members.split('"').skip(1).step_by(2).map(|member| root().join(member));
    let named = directories.map(|directory| {
        let manifest = std::fs::read_to_string(directory.join("Cargo.toml")).unwrap();
        let name = manifest.lines().find_map(|line| line.strip_prefix("name = \"")).unwrap();
        (name.trim_end_matches('"').to_owned(), directory)
    });
    let members: Vec<_> = named.collect();
    assert!(members.len() > 5, "the crates were found");
    members
}

/// All that a crate of the workspace needs when it runs, itself left out. What its build or its tests need does not
/// count.
fn needed_by(member: &str) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["tree", "--locked", "--offline", "--edges", "normal", "--package", member]);
    let output = cargo.args(["--prefix", "none", "--format", "{p}"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    tree.lines().skip(1).filter_map(|line| line.split(' ').next()).map(ToOwned::to_owned).collect()
}

/// A file of the project's own.
struct Source {
    /// From the project's root.
    path: PathBuf,
    text: String,
}

impl Source {
    fn is(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|is| is == extension)
    }

    fn is_test(&self) -> bool {
        let parts: Vec<_> = self.path.components().map(|part| part.as_os_str()).collect();
        parts.iter().any(|part| *part == "tests" || *part == "benches" || *part == "fuzz")
    }
}

fn sources(extensions: &[&str]) -> Vec<Source> {
    let (mut sources, mut directories) = (Vec::new(), vec![root()]);
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    directories.push(path);
                }
            } else if path.extension().is_some_and(|is| extensions.iter().any(|extension| is == *extension)) {
                let text = std::fs::read_to_string(&path).unwrap();
                sources.push(Source { path: path.strip_prefix(root()).unwrap().to_owned(), text });
            }
        }
    }
    assert!(sources.len() > 20, "the sources were found");
    sources
}

/// The words of a name that are not used.
fn not_used(name: &str) -> impl Iterator<Item = &'static str> {
    let mut words = vec![String::new()];
    let mut before = '_';
    for letter in name.chars() {
        if !letter.is_alphanumeric() || letter.is_uppercase() && !before.is_uppercase() {
            words.push(String::new());
        }
        if letter.is_alphanumeric() {
            words.last_mut().unwrap().extend(letter.to_lowercase());
        }
        before = letter;
    }
    NOT_USED
        .into_iter()
        .filter(move |not_used| words.iter().any(|word| word == not_used || word.strip_suffix('s') == Some(not_used)))
}

/// The names that a Rust source brings in: what it defines, its fields, parameters and variables. What others named,
/// it only uses.
fn introduced(tokens: &[String]) -> Vec<String> {
    let mut introduced = Vec::new();
    let mut pattern = Pattern::None;
    // Depth of braces, and at which depth the variants of an enum are.
    let (mut depth, mut variants) = (0, None);
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).map_or("", |at| &*tokens[at]);
        let after = tokens.get(at + 1).map_or("", |token| &**token);
        match (&**token, pattern) {
            ("let" | "for", _) => pattern = Pattern::Until("="),
            ("=" | "in" | ";" | "{", Pattern::Until("=")) => pattern = Pattern::None,
            ("|", Pattern::None) if matches!(before, "(" | "," | "move" | "=" | "async" | "{") => {
                pattern = Pattern::Until("|");
            }
            ("|", Pattern::Until("|")) => pattern = Pattern::None,
            _ => {}
        }
        match &**token {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if token == "enum" {
            variants = Some(depth + 1);
        } else if token == "}" && variants.is_some_and(|variants| depth < variants) {
            variants = None;
        }
        let defined = matches!(
            before,
            "fn" | "struct" | "enum" | "union" | "trait" | "type" | "mod" | "const" | "static" | "as" | "ref"
        ) || (before == "mut" && at > 1 && !matches!(&*tokens[at - 2], "&" | "*"))
            || (before == "!" && at > 1 && tokens[at - 2] == "macro_rules");
        let is_typed = after == ":";
        let is_bound = !matches!(pattern, Pattern::None) && !matches!(after, "::" | "(" | "{") && before != "::";
        let is_variant = variants == Some(depth) && matches!(before, "{" | "," | "]");
        if is_name(token) && (defined || is_typed || is_bound || is_variant) {
            introduced.push(token.clone());
        }
    }
    introduced
}

/// Whether a pattern is being read, and what ends it.
#[derive(Clone, Copy)]
enum Pattern {
    None,
    Until(&'static str),
}

fn is_name(token: &str) -> bool {
    token.starts_with(|letter: char| letter.is_alphabetic() || letter == '_')
}

/// Names in a source that has `//` comments and `"` texts.
fn identifiers(text: &str) -> Vec<String> {
    tokens(text).into_iter().filter(|token| is_name(token)).collect()
}

/// The tokens of a source, without comments, texts and lifetimes.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_text(rest) {
            length
        } else if first == '"' || rest.starts_with("b\"") {
            text_length(rest)
        } else if first == '\'' || rest.starts_with("b'") {
            letter_or_lifetime(rest)
        } else if first.is_alphabetic() || first == '_' {
            let length = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
            tokens.push(rest[..length].to_owned());
            length
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() && !first.is_numeric() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

fn raw_text(rest: &str) -> Option<usize> {
    let begins = if rest.starts_with("br") { 2 } else { usize::from(rest.starts_with('r')) };
    let hashes = rest.get(begins..)?.bytes().take_while(|byte| *byte == b'#').count();
    let inside = begins + hashes + 1;
    if begins == 0 || rest.as_bytes().get(inside - 1) != Some(&b'"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    Some(rest[inside..].find(&end).map_or(rest.len(), |at| inside + at + end.len()))
}

fn text_length(rest: &str) -> usize {
    let begins = rest.find('"').unwrap() + 1;
    let mut escaped = false;
    for (at, letter) in rest[begins..].char_indices() {
        match letter {
            '"' if !escaped => return begins + at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    rest.len()
}

fn letter_or_lifetime(rest: &str) -> usize {
    let begins = rest.find('\'').unwrap() + 1;
    let mut letters = rest[begins..].char_indices();
    match (letters.next(), letters.next()) {
        (Some((_, '\\')), Some((escaped, letter))) => {
            let after = begins + escaped + letter.len_utf8();
            rest[after..].find('\'').map_or(rest.len(), |at| after + at + 1)
        }
        (Some(_), Some((at, '\''))) => begins + at + 1,
        _ => begins + rest[begins..].find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(0),
    }
}

/// The tokens without what is compiled for tests only.
fn without_tests(tokens: &[String]) -> Vec<String> {
    let mut without = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].iter().take(7).eq(["#", "[", "cfg", "(", "test", ")", "]"].iter()) {
            at = end_of_item(tokens, at);
        } else {
            without.push(tokens[at].clone());
            at += 1;
        }
    }
    without
}

/// Where the item that begins here is over: after its braces, or its semicolon.
fn end_of_item(tokens: &[String], from: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(from) {
        match &**token {
            "{" => depth += 1,
            "}" if depth == 1 => return at + 1,
            "}" => depth -= 1,
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
