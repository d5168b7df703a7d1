//! The command line as people type it: every command with its options, what it does, and examples of it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use command_line::{Changing, Command, Does, Exit, LogFormat, Reading, Shell, did_you_mean};
use proto::access::Priority;
use proto::catalogue::{Audience, ElementName, ServiceName, Version};
use proto::identifier::{ExchangeId, MemberId, MethodPath, NotAnIdentifier, SubsystemId};
use proto::purposes::PurposeCode;
use proto::refusal::{Code, Language};
use proto::registration::{Address, Text};
use proto::time::Time;

use crate::access_rights::NamedFields;
use crate::disclosures::MAX_DISCLOSURES;
use crate::keys::ring::Use;
use crate::message_log::exchanges::{MAX_FOUND, Peer, RowKey, WantedResult};
use crate::{archive, audit, backup, doctor, join, snippet};

/// Every command: what it does, and examples of it. A command that is not here does not pass the tests.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "",
        does: Does::Groups,
        examples: &[
            "security-server serve --config moj/security-server.toml",
            "security-server access list --config moj/security-server.toml",
        ],
    },
    Command {
        name: "join",
        does: Does::Changes,
        examples: &[
            "security-server join moj --registry registry.gov.vn:4001 \\\n      \
             --fingerprint \"$FINGERPRINT\" --anchor-digest \"$ANCHOR_DIGEST\" \\\n      \
             --server VN/GOV/moj/ss1 --address ss1.moj.gov.vn:5500 --token-file token",
            "security-server join moj --registry registry.gov.vn:4001 \\\n      \
             --fingerprint \"$FINGERPRINT\" --anchor anchor.json --server VN/GOV/moj/ss1 \\\n      \
             --address ss1.moj.gov.vn:5500 --token-file token --dry-run",
        ],
    },
    Command {
        name: "serve",
        does: Does::Serves,
        examples: &[
            "security-server serve --config moj/security-server.toml",
            "security-server serve --config moj/security-server.toml --log-format json",
        ],
    },
    Command {
        name: "access",
        does: Does::Groups,
        examples: &["security-server access list", "security-server access end 3 --reason \"the law has changed\""],
    },
    Command {
        name: "access grant",
        does: Does::Changes,
        examples: &[
            "security-server access grant VN/GOV/portal/one-stop \\\n      \
             --provider VN/GOV/moj/civil-registry --method /civil.v1.Births/Register \\\n      \
             --purpose birth-registration --days 365",
            "security-server access grant VN/GOV/portal/one-stop \\\n      \
             --provider VN/GOV/moj/civil-registry --method /civil.v1.Births/Register \\\n      \
             --purpose birth-registration --days 30 --per-second 5 --dry-run",
            "security-server access grant VN/GOV/portal/one-stop \\\n      \
             --provider VN/GOV/moj/civil-registry --method /civil.v1.Births/Register \\\n      \
             --purpose birth-registration --days 365 --fields registration_number,entries.value",
        ],
    },
    Command {
        name: "access end",
        does: Does::Changes,
        examples: &[
            "security-server access end 3 --reason \"the law has changed\"",
            "security-server access end 3 --reason \"the law has changed\" --dry-run",
        ],
    },
    Command {
        name: "access list",
        does: Does::Reads,
        examples: &["security-server access list", "security-server access list --sent --json"],
    },
    Command {
        name: "access request",
        does: Does::Changes,
        examples: &[
            "security-server access request /civil.v1.Births/Register \\\n      \
             --purpose birth-registration --legal-basis \"Law on civil status, article 13\"",
            "security-server access request civil.v1.Births --provider VN/GOV/moj/civil-registry \\\n      \
             --purpose birth-registration --legal-basis \"Law on civil status, article 13\" \\\n      \
             --until 2027-12-31T00:00:00Z --dry-run",
        ],
    },
    Command {
        name: "access show",
        does: Does::Reads,
        examples: &["security-server access show 3f1c0d5e9a7b", "security-server access show 3f1c0d5e9a7b --json"],
    },
    Command {
        name: "access approve",
        does: Does::Changes,
        examples: &[
            "security-server access approve 3f1c0d5e9a7b --dry-run",
            "security-server access approve 3f1c0d5e9a7b --until 2027-06-30T00:00:00Z",
            "security-server access approve 3f1c0d5e9a7b --fields person.name,person.born",
        ],
    },
    Command {
        name: "access reject",
        does: Does::Changes,
        examples: &[
            "security-server access reject 3f1c0d5e9a7b --reason \"the law names another agency\"",
            "security-server access reject 3f1c0d5e9a7b --reason \"no law names you\" --dry-run",
        ],
    },
    Command {
        name: "access why",
        does: Does::Reads,
        examples: &[
            "security-server access why VN/GOV/portal/one-stop \\\n      \
             --provider VN/GOV/moj/civil-registry --method /civil.v1.Births/Register \\\n      \
             --purpose birth-registration",
            "security-server access why VN/GOV/portal/one-stop \\\n      \
             --provider VN/GOV/moj/civil-registry --method /civil.v1.Births/Register \\\n      \
             --purpose marriage --json",
        ],
    },
    Command {
        name: "exchange",
        does: Does::Reads,
        examples: &[
            "security-server exchange 3f1c0d5e9a7b4c6d8e2f0a1b3c5d7e9f",
            "security-server exchange 3f1c0d5e9a7b4c6d8e2f0a1b3c5d7e9f --json",
        ],
    },
    Command {
        name: "evidence",
        does: Does::Groups,
        examples: &[
            "security-server evidence get 3f1c0d5e9a7b4c6d8e2f0a1b3c5d7e9f > evidence.json",
            "security-server evidence verify evidence.json --anchor anchor.json",
        ],
    },
    Command {
        name: "evidence find",
        does: Does::Reads,
        examples: &[
            "security-server evidence find --peer VN/GOV/portal --since 2026-03-01T00:00:00Z",
            "security-server evidence find --method /civil.v1.Births/Register --result GRANT_MISSING \\\n      \
             --limit 1000 --json",
        ],
    },
    Command {
        name: "evidence get",
        does: Does::Reads,
        examples: &[
            "security-server evidence get 3f1c0d5e9a7b4c6d8e2f0a1b3c5d7e9f --out evidence.zip",
            "security-server evidence get 3f1c0d5e9a7b4c6d8e2f0a1b3c5d7e9f --out evidence.asice",
            "security-server evidence get 3f1c0d5e9a7b4c6d8e2f0a1b3c5d7e9f \\\n      \
             --config moj/security-server.toml > evidence.json",
            "security-server evidence get 3f1c0d5e9a7b4c6d8e2f0a1b3c5d7e9f \\\n      \
             --with-payloads --out evidence.zip",
        ],
    },
    Command {
        name: "evidence verify",
        does: Does::Reads,
        examples: &[
            "security-server evidence verify evidence.json --anchor anchor.json",
            "security-server evidence verify evidence.json \\\n      \
             --anchor moj/global-configuration/anchor.json --json",
        ],
    },
    Command {
        name: "evidence contradiction",
        does: Does::Reads,
        examples: &[
            "security-server evidence contradiction --config moj/security-server.toml",
            "security-server evidence contradiction 1 > contradiction.json",
        ],
    },
    Command {
        name: "evidence traffic",
        does: Does::Reads,
        examples: &[
            "security-server evidence traffic VN/GOV/portal \\\n      \
             --config moj/security-server.toml > moj.traffic",
            "security-server evidence traffic VN/GOV/portal \\\n      \
             --since 2026-03-01T00:00:00Z --until 2026-04-01T00:00:00Z > moj.traffic",
        ],
    },
    Command {
        name: "evidence reconcile",
        does: Does::Reads,
        examples: &[
            "security-server evidence reconcile moj.traffic portal.traffic --anchor anchor.json",
            "security-server evidence reconcile moj.traffic portal.traffic --anchor anchor.json --json",
        ],
    },
    Command {
        name: "payloads",
        does: Does::Groups,
        examples: &[
            "security-server payloads erase 3f1c0d5e9a7b4c6d8e2f0a1b3c5d7e9f --reason \"by order\"",
            "security-server payloads erase 3f1c0d5e9a7b4c6d8e2f0a1b3c5d7e9f \\\n      \
             --reason \"ordered by the court\" --dry-run",
        ],
    },
    Command {
        name: "payloads erase",
        does: Does::Changes,
        examples: &[
            "security-server payloads erase 3f1c0d5e9a7b4c6d8e2f0a1b3c5d7e9f \\\n      \
             --reason \"ordered by the court\" --dry-run",
            "security-server payloads erase 3f1c0d5e9a7b4c6d8e2f0a1b3c5d7e9f \\\n      \
             --reason \"ordered by the court\"",
        ],
    },
    Command {
        name: "status",
        does: Does::Reads,
        examples: &["security-server status", "security-server status --check && echo ready"],
    },
    Command {
        name: "keys",
        does: Does::Groups,
        examples: &["security-server keys list", "security-server keys rotate signing"],
    },
    Command {
        name: "keys list",
        does: Does::Reads,
        examples: &["security-server keys list", "security-server keys list --json"],
    },
    Command {
        name: "keys rotate",
        does: Does::Changes,
        examples: &[
            "security-server keys rotate signing --dry-run",
            "security-server keys rotate authentication --now",
        ],
    },
    Command {
        name: "move",
        does: Does::Changes,
        examples: &["security-server move ss1.moj.gov.vn:5500 --dry-run", "security-server move ss1.moj.gov.vn:5500"],
    },
    Command {
        name: "maintenance",
        does: Does::Changes,
        examples: &["security-server maintenance --notice \"back at noon\"", "security-server maintenance --over"],
    },
    Command {
        name: "leave",
        does: Does::Changes,
        examples: &[
            "security-server leave --reason \"merged with VN/GOV/interior\" --dry-run",
            "security-server leave --reason \"merged with VN/GOV/interior\"",
        ],
    },
    Command {
        name: "clock",
        does: Does::Groups,
        examples: &[
            "security-server clock accept --reason \"the NTP source was wrong\"",
            "security-server clock accept --reason \"the NTP source was wrong\" --dry-run",
        ],
    },
    Command {
        name: "clock accept",
        does: Does::Changes,
        examples: &[
            "security-server clock accept \\\n      \
             --reason \"the NTP source was wrong until 09:25; checked by the radio clock\"",
            "security-server clock accept --reason \"the NTP source was wrong\" --dry-run",
        ],
    },
    Command {
        name: "doctor",
        does: Does::Reads,
        examples: &["security-server doctor", "security-server doctor --no-passphrase --json"],
    },
    Command {
        name: "audit",
        does: Does::Groups,
        examples: &["security-server audit list --last 20", "security-server audit verify"],
    },
    Command {
        name: "audit list",
        does: Does::Reads,
        examples: &["security-server audit list --last 20", "security-server audit list --json"],
    },
    Command {
        name: "audit verify",
        does: Does::Reads,
        examples: &[
            "security-server audit verify",
            "security-server audit verify --config moj/security-server.toml --json",
        ],
    },
    Command {
        name: "log",
        does: Does::Groups,
        examples: &[
            "security-server log verify",
            "security-server log verify --config moj/security-server.toml --json",
        ],
    },
    Command {
        name: "log verify",
        does: Does::Reads,
        examples: &[
            "security-server log verify",
            "security-server log verify --config moj/security-server.toml --json",
        ],
    },
    Command {
        name: "archive",
        does: Does::Groups,
        examples: &[
            "security-server archive list --config moj/security-server.toml",
            "security-server archive verify --config moj/security-server.toml",
        ],
    },
    Command {
        name: "archive list",
        does: Does::Reads,
        examples: &["security-server archive list", "security-server archive list --json"],
    },
    Command {
        name: "archive fetch",
        does: Does::Changes,
        examples: &[
            "security-server archive fetch fetched --from 3 --to 5",
            "security-server archive fetch fetched --key archive.pem --dry-run",
        ],
    },
    Command {
        name: "archive verify",
        does: Does::Reads,
        examples: &[
            "security-server archive verify",
            "security-server archive verify --key archive.pem --passphrase credential:archive --json",
        ],
    },
    Command {
        name: "backup",
        does: Does::Groups,
        examples: &[
            "security-server backup create moj.backup --config moj/security-server.toml",
            "security-server backup verify moj.backup",
        ],
    },
    Command {
        name: "backup create",
        does: Does::Changes,
        examples: &[
            "security-server backup create moj.backup --passphrase credential:backup",
            "security-server backup create moj.backup --with-signing-keys --dry-run",
        ],
    },
    Command {
        name: "backup verify",
        does: Does::Reads,
        examples: &[
            "security-server backup verify moj.backup",
            "security-server backup verify moj.backup --passphrase credential:backup --json",
        ],
    },
    Command {
        name: "backup restore",
        does: Does::Changes,
        examples: &[
            "security-server backup restore moj.backup moj --server VN/GOV/moj/ss1",
            "security-server backup restore moj.backup moj --dry-run",
        ],
    },
    Command {
        name: "services",
        does: Does::Groups,
        examples: &["security-server services search \"ho tich\"", "security-server services show civil.v1.Births"],
    },
    Command {
        name: "services publish",
        does: Does::Changes,
        examples: &[
            "security-server services publish births.proto \\\n      \
             --subsystem VN/GOV/moj/civil-registry --contact births@moj.gov.vn \\\n      \
             --title \"Hộ tịch\"",
            "security-server services publish --reflection 127.0.0.1:50051 --service civil.v1.Births \\\n      \
             --subsystem VN/GOV/moj/civil-registry --contact births@moj.gov.vn --dry-run",
            "security-server services publish --openapi pets.json --service pets.v1 \\\n      \
             --subsystem VN/GOV/moj/civil-registry --contact pets@moj.gov.vn",
        ],
    },
    Command {
        name: "services list",
        does: Does::Reads,
        examples: &["security-server services list", "security-server services list --json"],
    },
    Command {
        name: "services search",
        does: Does::Reads,
        examples: &["security-server services search \"ho tich\"", "security-server services search births --json"],
    },
    Command {
        name: "services show",
        does: Does::Reads,
        examples: &[
            "security-server services show civil.v1.Births",
            "security-server services show civil.v1.Births --subsystem VN/GOV/moj/civil-registry --json",
        ],
    },
    Command {
        name: "services proto",
        does: Does::Reads,
        examples: &[
            "security-server services proto civil.v1.Births > births.proto",
            "security-server services proto civil.v1.Births --descriptors births.binpb",
        ],
    },
    Command {
        name: "services openapi",
        does: Does::Reads,
        examples: &[
            "security-server services openapi civil.v1.Births > births.json",
            "security-server services openapi civil.v1.Births --subsystem VN/GOV/moj/civil-registry",
        ],
    },
    Command {
        name: "snippet",
        does: Does::Reads,
        examples: &[
            "security-server snippet civil.v1.Births/Register --purpose births --lang python",
            "security-server snippet civil.v1.Births/Register --purpose births --lang curl | sh",
        ],
    },
    Command {
        name: "elements",
        does: Does::Groups,
        examples: &["security-server elements list birth", "security-server elements duplicates"],
    },
    Command {
        name: "elements list",
        does: Does::Reads,
        examples: &["security-server elements list", "security-server elements list \"person birth\" --json"],
    },
    Command {
        name: "elements show",
        does: Does::Reads,
        examples: &[
            "security-server elements show person.birth.date",
            "security-server elements show person.birth.date --json",
        ],
    },
    Command {
        name: "elements duplicates",
        does: Does::Reads,
        examples: &["security-server elements duplicates", "security-server elements duplicates --json"],
    },
    Command {
        name: "elements report",
        does: Does::Reads,
        examples: &[
            "security-server elements report",
            "security-server elements report --service portal.v1.OneStop --json",
        ],
    },
    Command {
        name: "disclosures",
        does: Does::Reads,
        examples: &[
            "security-server disclosures --subject - --since 2026-01-01T00:00:00Z",
            "security-server disclosures --subject - --language vi",
        ],
    },
    Command { name: "token", does: Does::Reads, examples: &["security-server token", "security-server token --json"] },
    Command {
        name: "explain",
        does: Does::Reads,
        examples: &["security-server explain GRANT_MISSING", "security-server explain GRANT_MISSING --language vi"],
    },
    Command {
        name: "completions",
        does: Does::Generates,
        examples: &["source <(security-server completions bash)", "security-server completions fish | source"],
    },
];

/// A member's door to every other member.
#[derive(Parser)]
#[command(name = "security-server", version, arg_required_else_help = true, after_help = Exit::table())]
pub struct CommandLine {
    /// The command.
    #[command(subcommand)]
    pub what: What,
}

/// The commands.
#[derive(Subcommand)]
pub enum What {
    /// Join an instance: makes keys here, asks the registry, waits for its admins.
    Join(Box<join::Arguments>),
    /// Run the server until SIGTERM; then let what runs end.
    Serve {
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How diagnostics are written. They never hold payload, credentials or personal data.
        #[arg(long, value_enum, default_value_t = LogFormat::Text)]
        log_format: LogFormat,
    },
    /// Say who may call what of ours.
    #[command(subcommand)]
    Access(Access),
    /// Show what the log holds of an exchange.
    Exchange {
        /// The id, from `causeway-exchange` in any answer.
        id: ExchangeId,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How it is shown.
        #[command(flatten)]
        reading: Reading,
    },
    /// Get and verify proof of what was asked and answered.
    #[command(subcommand)]
    Evidence(Evidence),
    /// Erase payloads that are kept.
    #[command(subcommand)]
    Payloads(Payloads),
    /// List who received what about a person from this member, when, for what purpose and on what legal basis. A running server
    /// answers, and notes who asked.
    Disclosures {
        /// The person's identifier, just as requests write it; - reads it from standard input, so that neither the shell's
        /// history nor a list of processes has it.
        #[arg(long, value_name = "ID", allow_hyphen_values = true)]
        subject: String,
        /// Asked at this time or later, as 2026-03-01T00:00:00Z.
        #[arg(long)]
        since: Option<Time>,
        /// Asked before this time.
        #[arg(long)]
        until: Option<Time>,
        /// Older than this place, which a list with older ones names as `next`.
        #[arg(long, value_name = "NEXT")]
        before: Option<RowKey>,
        /// At most so many, the newest: 1 to 200.
        #[arg(long, default_value_t = 50, value_parser = disclosures_limit)]
        limit: usize,
        /// In which language.
        #[arg(long, value_enum, default_value_t = Spoken::En)]
        language: Spoken,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How they are shown; JSON has both languages.
        #[command(flatten)]
        reading: Reading,
    },
    /// Show how the server is: its log, its configuration, what runs.
    Status {
        /// End with 7 where the server is not ready to exchange messages.
        #[arg(long)]
        check: bool,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How it is shown.
        #[command(flatten)]
        reading: Reading,
    },
    /// Show this server's own keys, or let another one follow before its time.
    #[command(subcommand, alias = "key")]
    Keys(Keys),
    /// Find services of others in the catalogue, and list ours.
    #[command(subcommand, alias = "service")]
    Services(Services),
    /// Write a first call of a method in a language, with our own door and names: at most 15 lines, to be copied.
    Snippet(Box<Snippet>),
    /// See which data elements services carry, who is their source, and what people are asked again.
    #[command(subcommand, alias = "element")]
    Elements(Elements),
    /// Have every peer reach this server elsewhere: recorded and published by the registry. Whatever runs goes on.
    Move {
        /// The peers' door from now on, as it is reached: host:port.
        address: Address,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Tell every peer that this server is in maintenance, so that nobody asks it, or that it is back.
    Maintenance {
        /// Whether it begins or is over.
        #[command(flatten)]
        notice: Notice,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Ask the registry's admins to remove this server's member, for good. Until they do, nothing changes.
    Leave {
        /// Why: its admins read it.
        #[arg(long)]
        reason: Text,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Say that the clock is right, where it had been wrong.
    #[command(subcommand)]
    Clock(Clock),
    /// Look at this server and at all that it rests on, and name the first cause of what is wrong. Changes nothing.
    Doctor(doctor::Arguments),
    /// Show who changed what here and when, and verify that record.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Check the whole message log.
    #[command(subcommand)]
    Log(Log),
    /// List what is archived of the message log, bring it back, and verify all of it.
    #[command(subcommand)]
    Archive(archive::Command),
    /// Make, verify and put back an encrypted copy of all that this server is.
    #[command(subcommand)]
    Backup(backup::Command),
    /// Make a token for a system of ours: the token for the system, its SHA-256 for [[client]].
    Token {
        /// How it is shown.
        #[command(flatten)]
        reading: Reading,
    },
    /// Say what a refusal's code means and what to do. Asks nobody.
    Explain {
        /// The code, from `causeway-refusal`; none: all of them.
        #[arg(value_parser = code)]
        code: Option<Code>,
        /// In which language.
        #[arg(long, value_enum, default_value_t = Spoken::En)]
        language: Spoken,
        /// How it is shown.
        #[command(flatten)]
        reading: Reading,
    },
    /// Print what makes a shell complete these commands.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

/// Which server is meant.
#[derive(clap::Args)]
pub struct ConfigurationFile {
    /// The server's configuration file.
    #[arg(long, env = "CAUSEWAY_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
}

/// A language that refusals are explained in.
#[derive(Clone, Copy, ValueEnum)]
pub enum Spoken {
    /// English.
    En,
    /// Tiếng Việt.
    Vi,
}

impl From<Spoken> for Language {
    fn from(spoken: Spoken) -> Self {
        match spoken {
            Spoken::En => Self::English,
            Spoken::Vi => Self::Vietnamese,
        }
    }
}

/// Commands about grants.
#[derive(Subcommand)]
pub enum Access {
    /// Grant a consumer methods of a service of ours. Signed, recorded, then in force at once.
    Grant {
        /// Who may call.
        consumer: SubsystemId,
        /// The subsystem of ours.
        #[arg(long)]
        provider: SubsystemId,
        /// An exact method, /package.Service/Method; may be given several times.
        #[arg(long = "method", required = true)]
        methods: Vec<MethodPath>,
        /// A purpose; may be given several times.
        #[arg(long = "purpose", required = true)]
        purposes: Vec<String>,
        /// The law that allows it.
        #[arg(long, default_value = "")]
        legal_basis: String,
        /// How many days it lasts: 1 to 3660.
        #[arg(long)]
        days: u32,
        /// Exchanges a second, with a burst of ten seconds' worth.
        #[arg(long)]
        per_second: Option<u32>,
        /// Where there is no room for all calls: urgent ones are refused last, bulk ones first.
        #[arg(long, value_name = "urgent|ordinary|bulk", default_value_t)]
        priority: Priority,
        /// The fields of the response that may be received; the others are removed here, by their numbers. Names as the
        /// catalogue has them, with commas between, like person.name,person.born; of several methods METHOD=NAMES, several times.
        #[arg(long)]
        fields: Vec<FieldsOf>,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// End a grant before its time, for running exchanges too.
    End {
        /// Its number, as `access list` shows it.
        number: u64,
        /// Why: it is recorded.
        #[arg(long)]
        reason: Text,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Ask another member for access. Its admin decides; the answer comes back by itself.
    Request {
        /// A method, /package.Service/Method, or a service with all of its methods, package.Service.
        what: String,
        /// Whose service it is, where several members offer it, or nobody lists it.
        #[arg(long)]
        provider: Option<SubsystemId>,
        /// Which subsystem of ours would call, where this server hosts several.
        #[arg(long)]
        consumer: Option<SubsystemId>,
        /// For what: a purpose of the instance's list.
        #[arg(long)]
        purpose: String,
        /// The law that allows it.
        #[arg(long)]
        legal_basis: Text,
        /// Until when, like 2027-12-31T00:00:00Z; a year from now if not given.
        #[arg(long)]
        until: Option<Time>,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Show one access request, and what became of it.
    Show {
        /// Its name, or its first letters, as `access list` shows it.
        request: String,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How it is shown.
        #[command(flatten)]
        reading: Reading,
    },
    /// Grant what a request asks, or less. Signed, recorded, then in force at once; what is just as asked the consumer countersigns.
    Approve {
        /// Its name, or its first letters, as `access list` shows it.
        request: String,
        /// Until an earlier time than was asked.
        #[arg(long)]
        until: Option<Time>,
        /// The fields of the response that may be received, and no others: as of `access grant`.
        #[arg(long)]
        fields: Vec<FieldsOf>,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Refuse what a request asks, and say why.
    Reject {
        /// Its name, or its first letters, as `access list` shows it.
        request: String,
        /// Why: the consumer reads it.
        #[arg(long)]
        reason: Text,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Show who asks for access, and the grants; or what we asked of others.
    List {
        /// What was asked of others from here, and how it stands.
        #[arg(long)]
        sent: bool,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How they are shown.
        #[command(flatten)]
        reading: Reading,
    },
    /// Say whether a call would be allowed, and why: asks the very function that decides.
    Why {
        /// Who would call.
        consumer: SubsystemId,
        /// The subsystem of ours.
        #[arg(long)]
        provider: SubsystemId,
        /// The method.
        #[arg(long)]
        method: MethodPath,
        /// The purpose.
        #[arg(long)]
        purpose: String,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How it is shown.
        #[command(flatten)]
        reading: Reading,
    },
}

/// Fields of a method's response, as `--fields` names them: `name,born`, or `/package.Service/Method=name,born`.
#[derive(Clone, PartialEq, Debug)]
pub struct FieldsOf {
    method: Option<MethodPath>,
    names: BTreeSet<String>,
}

impl FromStr for FieldsOf {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (method, names) = match text.split_once('=') {
            Some((method, names)) => (Some(method.parse::<MethodPath>().map_err(|error| error.to_string())?), names),
            None => (None, text),
        };
        let names: BTreeSet<String> = names.split(',').map(str::to_owned).collect();
        let named = |name: &String| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(&byte))
        };
        match names.iter().find(|name| !named(name)) {
            None => Ok(Self { method, names }),
            Some(other) => Err(format!("{other:?} names no field; write them like person.name,person.born")),
        }
    }
}

/// By method, of these methods: what names none is of the only one.
pub fn by_method(methods: &BTreeSet<String>, asked: Vec<FieldsOf>) -> Result<NamedFields, String> {
    let mut fields = NamedFields::new();
    for FieldsOf { method, names } in asked {
        let method = match (method, methods.first(), methods.len()) {
            (Some(method), ..) => method.to_string(),
            (None, Some(only), 1) => only.clone(),
            (None, ..) => {
                return Err(
                    "--fields names no method, and there are several; write /package.Service/Method=name,name".into()
                );
            }
        };
        fields.entry(method).or_default().extend(names);
    }
    Ok(fields)
}

/// Commands about this server's own keys.
#[derive(Subcommand)]
pub enum Keys {
    /// Show the keys, until when each is good, and which is in use.
    List {
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How the answer is shown.
        #[command(flatten)]
        reading: Reading,
    },
    /// Let another key follow now: certified, published, taken into use when everybody knows it. Nothing stops meanwhile.
    Rotate {
        /// Of which use.
        #[arg(value_enum)]
        what: Use,
        /// Use it as soon as it is published: a peer that does not hear of the registry refuses us until it does.
        #[arg(long)]
        now: bool,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How it is changed, and shown.
        #[command(flatten)]
        changing: Changing,
    },
}

/// Commands about the catalogue.
#[derive(Subcommand)]
pub enum Services {
    /// List services of ours, signed with our member's key: from their .proto files, from the running service itself, or a
    /// REST service from its OpenAPI document. What consumers rely on may break with a new major version only.
    Publish(Box<Publish>),
    /// List all services that the configuration names. Asks nobody.
    List {
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How they are shown.
        #[command(flatten)]
        reading: Reading,
    },
    /// Find services whose names, comments or methods have every one of these words. Capitals and marks do not count: "ho
    /// tich" finds "Hộ tịch".
    Search {
        /// The words.
        query: String,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How they are shown.
        #[command(flatten)]
        reading: Reading,
    },
    /// Show what a member says of a service: methods, version, contact, who may ask. Verified here.
    Show {
        /// Its full name.
        service: ServiceName,
        /// Who offers it, where several do.
        #[arg(long)]
        subsystem: Option<SubsystemId>,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How it is shown.
        #[command(flatten)]
        reading: Reading,
    },
    /// Write a service's .proto files to standard output, for people and compilers.
    Proto {
        /// Its full name.
        service: ServiceName,
        /// Who offers it, where several do.
        #[arg(long)]
        subsystem: Option<SubsystemId>,
        /// Write the descriptor set to this file instead, as grpcurl, buf and protoc take it.
        #[arg(long, value_name = "FILE")]
        descriptors: Option<PathBuf>,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How they are shown.
        #[command(flatten)]
        reading: Reading,
    },
    /// Write a service as an OpenAPI document: what this server's door for clients takes for it as JSON; of a REST service the
    /// document that its provider published.
    Openapi {
        /// Its full name.
        service: ServiceName,
        /// Who offers it, where several do.
        #[arg(long)]
        subsystem: Option<SubsystemId>,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// It is one JSON object either way; --json writes it in one line.
        #[command(flatten)]
        reading: Reading,
    },
}

/// A first call.
#[derive(Args)]
pub struct Snippet {
    /// What is called: package.Service/Method.
    pub method: MethodName,
    /// Who offers it, where several do.
    #[arg(long)]
    pub subsystem: Option<SubsystemId>,
    /// The system of ours that calls; none: the one of the first door.
    #[arg(long)]
    pub client: Option<SubsystemId>,
    /// Why: a purpose of the grant.
    #[arg(long)]
    pub purpose: PurposeCode,
    /// In which language.
    #[arg(long, value_enum)]
    pub lang: snippet::Language,
    /// Which server.
    #[command(flatten)]
    pub server: ConfigurationFile,
    /// How it is shown.
    #[command(flatten)]
    pub reading: Reading,
}

/// A method as people write it, with a slash before it or without.
#[derive(Clone, Debug)]
pub struct MethodName(pub MethodPath);

impl FromStr for MethodName {
    type Err = NotAnIdentifier;
    fn from_str(text: &str) -> Result<Self, NotAnIdentifier> {
        if text.starts_with('/') { text.parse().map(Self) } else { format!("/{text}").parse().map(Self) }
    }
}

/// Commands about data elements.
#[derive(Subcommand)]
pub enum Elements {
    /// List data elements with their sources, as the registry knows them.
    List {
        /// Words, each of which occurs in the element's name. Default: all elements.
        #[arg(default_value = "")]
        query: String,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How they are shown.
        #[command(flatten)]
        reading: Reading,
    },
    /// Show every service that carries an element, and in which field: as its member signed it, verified here.
    Show {
        /// Its name, as person.birth.date.
        element: ElementName,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How it is shown.
        #[command(flatten)]
        reading: Reading,
    },
    /// List what people are asked though a service is its source, by whom, and why.
    Duplicates {
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How they are shown.
        #[command(flatten)]
        reading: Reading,
    },
    /// Report how much of what services ask for is reused, and how much people are asked again: now, and version by version.
    Report {
        /// Only of this service.
        #[arg(long)]
        service: Option<ServiceName>,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How it is shown.
        #[command(flatten)]
        reading: Reading,
    },
}

/// What is published, and how.
#[derive(clap::Args)]
pub struct Publish {
    /// .proto files; all their services are listed, or those that --service names.
    #[arg(required_unless_present_any = ["reflection", "openapi"], conflicts_with_all = ["reflection", "openapi"], value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The OpenAPI 3.0 or 3.1 document of a REST service, JSON or YAML; --service names the service.
    #[arg(long, value_name = "FILE", requires = "services", conflicts_with_all = ["reflection", "include"])]
    pub openapi: Option<PathBuf>,
    /// A directory that imports are found below; may be given several times. Default: where the files are.
    #[arg(long, value_name = "DIRECTORY")]
    pub include: Vec<PathBuf>,
    /// Ask the service itself, at this address, over plain HTTP/2, by gRPC reflection v1.
    #[arg(long, value_name = "HOST:PORT")]
    pub reflection: Option<Address>,
    /// A service's full name; may be given several times. Default: all.
    #[arg(long = "service")]
    pub services: Vec<ServiceName>,
    /// The subsystem of ours that offers them.
    #[arg(long)]
    pub subsystem: SubsystemId,
    /// Whom people ask about them.
    #[arg(long)]
    pub contact: Text,
    /// Their name for people.
    #[arg(long)]
    pub title: Option<Text>,
    /// MAJOR.MINOR. Default: 1.0, then one minor version more each time.
    #[arg(long)]
    pub version: Option<Version>,
    /// A class of members, VN/GOV, or a member that may ask for them; may be given several times. Default: every member.
    #[arg(long = "open-to")]
    pub open_to: Vec<Audience>,
    /// They are deprecated: what to use instead.
    #[arg(long, value_name = "INSTEAD")]
    pub deprecated: Option<Text>,
    /// Which server.
    #[command(flatten)]
    pub server: ConfigurationFile,
    /// Whether it is carried out, and how the outcome is shown.
    #[command(flatten)]
    pub changing: Changing,
}

/// Whether a maintenance begins or is over.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub struct Notice {
    /// It begins: what whoever asks this server is told.
    #[arg(long)]
    pub notice: Option<Text>,
    /// It is over.
    #[arg(long)]
    pub over: bool,
}

/// Commands about the clock.
#[derive(Subcommand)]
pub enum Clock {
    /// Accept the clock as it is now, though the log holds later times: it was wrong then. Recorded in the audit log; what
    /// was received meanwhile is not taken a second time.
    Accept {
        /// How it is known that the clock is right now.
        #[arg(long)]
        reason: String,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
}

/// Commands about the message log.
#[derive(Subcommand)]
pub enum Log {
    /// Check every record, commit and signature of the message log, every peer's seal in it, and that each exchange has its
    /// messages in order and one end. Asks nobody; the server may run meanwhile.
    Verify {
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How the findings are shown.
        #[command(flatten)]
        reading: Reading,
    },
}

/// Commands about payloads that are kept.
#[derive(Subcommand)]
pub enum Payloads {
    /// Erase the payloads that are kept of an exchange, for good, by erasing their key. Its evidence proves all else as before.
    /// What stays in copies of the log cannot be read any more, unless somebody has a copy of the key.
    Erase {
        /// The id, from `causeway-exchange` in any answer.
        id: ExchangeId,
        /// Why: it is recorded.
        #[arg(long)]
        reason: Text,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
}

/// Commands about evidence.
#[derive(Subcommand)]
pub enum Evidence {
    /// Find exchanges in the message log, newest first. A running server answers, and notes what was asked.
    Find {
        /// With this id, from `causeway-exchange` in any answer.
        #[arg(long)]
        id: Option<ExchangeId>,
        /// About this person, whose identifier is written just as requests write it; - reads it from standard input.
        #[arg(long, value_name = "ID", allow_hyphen_values = true)]
        subject: Option<String>,
        /// Opened at this time or later, as 2026-03-01T00:00:00Z.
        #[arg(long)]
        since: Option<Time>,
        /// Opened before this time.
        #[arg(long)]
        until: Option<Time>,
        /// Older than this place, which a list with older ones names as `next`.
        #[arg(long, value_name = "NEXT")]
        before: Option<RowKey>,
        /// With this member or subsystem on the other side.
        #[arg(long)]
        peer: Option<Peer>,
        /// Of this method, exactly: /package.Service/Method.
        #[arg(long)]
        method: Option<MethodPath>,
        /// That ended so: answered, refused, aborted, unanswered, open, or the code of a refusal.
        #[arg(long)]
        result: Option<WantedResult>,
        /// At most so many, the newest: 1 to 1000.
        #[arg(long, default_value_t = 50, value_parser = limit)]
        limit: usize,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How they are shown.
        #[command(flatten)]
        reading: Reading,
    },
    /// Write the evidence of an exchange to standard output, or to a file.
    Get {
        /// The id, from `causeway-exchange` in any answer.
        id: ExchangeId,
        /// Write it here: NAME.zip is an archive with all of it as files for `openssl`, and a `verify.sh` that uses them;
        /// NAME.asice is the same as an ASiC-E container, signed by its holder (CAdES); NAME.json is the evidence file alone.
        #[arg(long, value_name = "FILE", value_parser = evidence_out)]
        out: Option<PathBuf>,
        /// Put in what was said, where it is kept; and say of each message without it whether it was never kept, has expired or
        /// was erased.
        #[arg(long)]
        with_payloads: bool,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// An evidence file is one JSON object either way.
        #[command(flatten)]
        reading: Reading,
    },
    /// List where a peer's log was found to contradict itself, or write the proof of one to standard output. Asks nobody.
    Contradiction {
        /// Which, as the list numbers them; none: the list.
        number: Option<usize>,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How the list is shown. A proof is one JSON object either way.
        #[command(flatten)]
        reading: Reading,
    },
    /// Write all messages exchanged with another member, with their seals and without payloads, to standard output: for
    /// `evidence reconcile`. A running server notes it.
    Traffic {
        /// The other member.
        peer: MemberId,
        /// Messages of this time and later, as 2026-03-01T00:00:00Z; none: from the log's beginning.
        #[arg(long)]
        since: Option<Time>,
        /// Messages before this time; none: to its end.
        #[arg(long)]
        until: Option<Time>,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// Such a file is JSON, an object a line, either way.
        #[command(flatten)]
        reading: Reading,
    },
    /// Hold two members' files of their common traffic against each other, and name every message that one has and the
    /// other lacks. Asks nobody.
    Reconcile {
        /// What `evidence traffic` wrote at one member.
        a: PathBuf,
        /// What it wrote at the other.
        b: PathBuf,
        /// The instance's anchor: its first root document, as global-configuration/anchor.json of any server.
        #[arg(long, value_name = "FILE")]
        anchor: PathBuf,
        /// How the findings are shown.
        #[command(flatten)]
        reading: Reading,
    },
    /// Verify evidence (a file, an archive or a container), or a contradiction's proof, with nothing but the anchor. Asks nobody.
    Verify {
        /// The file.
        file: PathBuf,
        /// The instance's anchor: its first root document, as global-configuration/anchor.json of any server.
        #[arg(long, value_name = "FILE")]
        anchor: PathBuf,
        /// How the findings are shown.
        #[command(flatten)]
        reading: Reading,
    },
}

/// Where evidence is written, in the form that its name says.
fn evidence_out(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let known = path.extension().is_some_and(|ending| ending == "zip" || ending == "asice" || ending == "json");
    known
        .then_some(path)
        .ok_or_else(|| "a name is wanted that ends in .asice, .zip or .json: it says in which form".to_owned())
}

/// How many exchanges are shown.
fn limit(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=MAX_FOUND).contains(number));
    number.ok_or_else(|| format!("a number from 1 to {MAX_FOUND} is wanted; `next` of a list goes on, with --before"))
}

fn disclosures_limit(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=MAX_DISCLOSURES).contains(number));
    let most = MAX_DISCLOSURES;
    number.ok_or_else(|| format!("a number from 1 to {most} is wanted; `next` of a list goes on, with --before"))
}

/// A code, in capitals or not.
fn code(text: &str) -> Result<Code, String> {
    text.to_uppercase().parse().map_err(|_| {
        let known = Code::ALL.iter().map(|code| code.as_str());
        let remedy = did_you_mean(text, known, "`security-server explain` shows all of them");
        format!("it is none of the closed list; {remedy}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_of_the_method_that_is_named_with_them_or_of_the_only_one() {
        let asked = |texts: &[&str]| texts.iter().map(|text| text.parse::<FieldsOf>().unwrap()).collect::<Vec<_>>();
        let methods = |methods: &[&str]| methods.iter().map(|method| (*method).to_owned()).collect::<BTreeSet<_>>();
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let one = by_method(&methods(&["/a.B/C"]), asked(&["person.name,born", "1.2"])).unwrap();
        assert_eq!(one, NamedFields::from([("/a.B/C".to_owned(), named(&["person.name", "born", "1.2"]))]));
        let two = methods(&["/a.B/C", "/a.B/D"]);
        assert!(by_method(&two, asked(&["name"])).unwrap_err().contains("there are several"));
        let of_one = by_method(&two, asked(&["/a.B/D=name"])).unwrap();
        assert_eq!(of_one, NamedFields::from([("/a.B/D".to_owned(), named(&["name"]))]));
        assert!(by_method(&two, Vec::new()).unwrap().is_empty());
        for wrong in ["", ",", "name,", "a b", "name=", "a.B/C=name", "/a.B/C=", "na\u{1b}me", "họ"] {
            assert!(wrong.parse::<FieldsOf>().is_err(), "{wrong:?}");
        }
    }
}
