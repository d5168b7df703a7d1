//! The command line as people type it: every command with its options, what it does, and examples of it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use command_line::{Changing, Command, Does, Exit, LogFormat, Reading, Shell};
use keystore::Source;
use proto::identifier::{InstanceId, MemberId, NotAnIdentifier, ServerId, SubsystemId};
use proto::oversight::Party;
use proto::purposes::PurposeCode;
use proto::registration::{Address, Registered, RequestId, Text};
use proto::signature::KeyId;
use registry_client::Fingerprint;

use crate::caution::Caution;
use crate::persons::Appointed;
use crate::{audit, backup, ceremony, doctor};

/// Every command: what it does, and examples of it. A command that is not here does not pass the tests.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "",
        does: Does::Groups,
        examples: &[
            "central-registry serve --config registry/central-registry.toml",
            "central-registry requests --admin registry/admin-admin.toml",
        ],
    },
    Command {
        name: "init",
        does: Does::Changes,
        examples: &[
            "central-registry init registry --instance VN --name \"National data bus\" \\\n      \
             --admin an --person binh:registrar --person chi:auditor",
            "central-registry init trial --instance VN --name \"A trial\" \\\n      \
             --admin an --persons-threshold 1 --dry-run",
        ],
    },
    Command {
        name: "person",
        does: Does::Changes,
        examples: &["central-registry person binh", "central-registry person binh keys --dry-run"],
    },
    Command {
        name: "serve",
        does: Does::Serves,
        examples: &[
            "central-registry serve --config registry/central-registry.toml",
            "central-registry serve --config registry/central-registry.toml --log-format json",
        ],
    },
    Command {
        name: "doctor",
        does: Does::Reads,
        examples: &[
            "central-registry doctor --config registry/central-registry.toml",
            "central-registry doctor --config registry/central-registry.toml \\\n      \
             --no-passphrase --json",
        ],
    },
    Command {
        name: "invite",
        does: Does::Changes,
        examples: &[
            "central-registry invite VN/GOV/moj --name \"Ministry of Justice\" \\\n      \
             --server VN/GOV/moj/ss1 --subsystem VN/GOV/moj/civil-registry",
            "central-registry invite VN/GOV/moj --server VN/GOV/moj/ss2 \\\n      \
             --subsystem VN/GOV/moj/civil-registry --valid-hours 24 --dry-run",
        ],
    },
    Command {
        name: "requests",
        does: Does::Reads,
        examples: &["central-registry requests", "central-registry requests --json"],
    },
    Command {
        name: "approve",
        does: Does::Changes,
        examples: &["central-registry approve R-1 --dry-run", "central-registry approve R-1"],
    },
    Command {
        name: "reject",
        does: Does::Changes,
        examples: &[
            "central-registry reject R-1 --reason \"the address is another agency's\"",
            "central-registry reject R-1 --reason \"no mandate yet\" --dry-run",
        ],
    },
    Command {
        name: "members",
        does: Does::Reads,
        examples: &["central-registry members", "central-registry members --json"],
    },
    Command {
        name: "suspend",
        does: Does::Changes,
        examples: &[
            "central-registry suspend VN/GOV/moj --reason \"a key was lost\" --dry-run",
            "central-registry suspend VN/GOV/moj --reason \"a key was lost\" --yes",
        ],
    },
    Command {
        name: "restore",
        does: Does::Changes,
        examples: &["central-registry restore VN/GOV/moj", "central-registry restore VN/GOV/moj --dry-run"],
    },
    Command {
        name: "revoke",
        does: Does::Changes,
        examples: &[
            "central-registry revoke \\\n      \
             0000000000000000000000000000000000000000000000000000000000000000 \\\n      \
             --reason \"the disk was stolen\" --dry-run",
            "central-registry revoke \\\n      \
             0000000000000000000000000000000000000000000000000000000000000000 \\\n      \
             --reason \"the disk was stolen\" --yes",
        ],
    },
    Command {
        name: "move",
        does: Does::Changes,
        examples: &[
            "central-registry move VN/GOV/moj/ss1 ss1.moj.gov.vn:5500 --dry-run",
            "central-registry move VN/GOV/moj/ss1 ss1.moj.gov.vn:5500",
        ],
    },
    Command {
        name: "maintenance",
        does: Does::Changes,
        examples: &[
            "central-registry maintenance VN/GOV/moj/ss1 --notice \"back at noon\"",
            "central-registry maintenance VN/GOV/moj/ss1 --over",
        ],
    },
    Command {
        name: "host",
        does: Does::Changes,
        examples: &[
            "central-registry host VN/GOV/moj/civil-registry VN/GOV/moj/ss2 --dry-run",
            "central-registry host VN/GOV/moj/civil-registry VN/GOV/moj/ss2",
        ],
    },
    Command {
        name: "unhost",
        does: Does::Changes,
        examples: &[
            "central-registry unhost VN/GOV/moj/civil-registry VN/GOV/moj/ss2 --dry-run",
            "central-registry unhost VN/GOV/moj/civil-registry VN/GOV/moj/ss2 --yes",
        ],
    },
    Command {
        name: "remove",
        does: Does::Changes,
        examples: &[
            "central-registry remove member VN/GOV/moj --reason \"merged\" --dry-run",
            "central-registry remove server VN/GOV/moj/ss2 --reason \"replaced by ss3\" --yes",
        ],
    },
    Command {
        name: "proposals",
        does: Does::Reads,
        examples: &["central-registry proposals", "central-registry proposals --json"],
    },
    Command {
        name: "confirm",
        does: Does::Changes,
        examples: &["central-registry confirm P-1 --dry-run", "central-registry confirm P-1 --yes"],
    },
    Command {
        name: "purposes",
        does: Does::Groups,
        examples: &[
            "central-registry purposes list",
            "central-registry purposes remove marriage --reason \"the law has changed\"",
        ],
    },
    Command {
        name: "purposes list",
        does: Does::Reads,
        examples: &["central-registry purposes list", "central-registry purposes list --json"],
    },
    Command {
        name: "purposes set",
        does: Does::Changes,
        examples: &[
            "central-registry purposes set birth-registration \\\n      \
             --en \"To register a birth\" --vi \"Đăng ký khai sinh\" --dry-run",
            "central-registry purposes set birth-registration \\\n      \
             --en \"To register a birth\" --vi \"Đăng ký khai sinh\"",
        ],
    },
    Command {
        name: "purposes remove",
        does: Does::Changes,
        examples: &[
            "central-registry purposes remove marriage --reason \"the law has changed\" --dry-run",
            "central-registry purposes remove marriage --reason \"the law has changed\"",
        ],
    },
    Command {
        name: "grants",
        does: Does::Reads,
        examples: &["central-registry grants --unused", "central-registry grants --provider VN/GOV/moj --over --json"],
    },
    Command {
        name: "audit",
        does: Does::Groups,
        examples: &[
            "central-registry audit list --config registry/central-registry.toml",
            "central-registry audit verify --config registry/central-registry.toml",
        ],
    },
    Command {
        name: "audit list",
        does: Does::Reads,
        examples: &[
            "central-registry audit list --last 20 --config registry/central-registry.toml",
            "central-registry audit list --json --config registry/central-registry.toml",
        ],
    },
    Command {
        name: "audit verify",
        does: Does::Reads,
        examples: &[
            "central-registry audit verify --config registry/central-registry.toml",
            "central-registry audit verify --key \"$JOURNAL_KEY\" --published mirror/public \\\n      \
             --config registry/central-registry.toml --json",
        ],
    },
    Command {
        name: "ceremony",
        does: Does::Groups,
        examples: &[
            "central-registry ceremony show root-2.json",
            "central-registry ceremony sign root-2.json --key an.pem",
        ],
    },
    Command {
        name: "ceremony key",
        does: Does::Changes,
        examples: &["central-registry ceremony key an.pem", "central-registry ceremony key an.pem --dry-run"],
    },
    Command {
        name: "ceremony begin",
        does: Does::Changes,
        examples: &[
            "central-registry ceremony begin root-2.json --from registry/public --replace \\\n      \
             --add an.pem.pub --add binh.pem.pub --add chi.pem.pub --threshold 2",
            "central-registry ceremony begin root-3.json --from registry/public \\\n      \
             --remove chi.pem.pub --add dung.pem.pub --dry-run",
        ],
    },
    Command {
        name: "ceremony show",
        does: Does::Reads,
        examples: &["central-registry ceremony show root-2.json", "central-registry ceremony show root-2.json --json"],
    },
    Command {
        name: "ceremony sign",
        does: Does::Changes,
        examples: &[
            "central-registry ceremony sign root-2.json --key an.pem --dry-run",
            "central-registry ceremony sign root-2.json --key an.pem",
        ],
    },
    Command {
        name: "ceremony finish",
        does: Does::Changes,
        examples: &[
            "central-registry ceremony finish root-2.json \\\n      \
             --config registry/central-registry.toml --dry-run",
            "central-registry ceremony finish root-2.json \\\n      \
             --config registry/central-registry.toml",
        ],
    },
    Command {
        name: "backup",
        does: Does::Groups,
        examples: &[
            "central-registry backup create registry.backup --config registry/central-registry.toml",
            "central-registry backup verify registry.backup",
        ],
    },
    Command {
        name: "backup create",
        does: Does::Changes,
        examples: &[
            "central-registry backup create registry.backup --passphrase credential:backup \\\n      \
             --config registry/central-registry.toml",
            "central-registry backup create registry.backup --with-signing-keys --dry-run \\\n      \
             --config registry/central-registry.toml",
        ],
    },
    Command {
        name: "backup verify",
        does: Does::Reads,
        examples: &[
            "central-registry backup verify registry.backup",
            "central-registry backup verify registry.backup --passphrase credential:backup --json",
        ],
    },
    Command {
        name: "backup restore",
        does: Does::Changes,
        examples: &[
            "central-registry backup restore registry.backup registry --published mirror/public",
            "central-registry backup restore registry.backup registry \\\n      \
             --published moj/global-configuration --dry-run",
        ],
    },
    Command {
        name: "completions",
        does: Does::Generates,
        examples: &["source <(central-registry completions bash)", "central-registry completions fish | source"],
    },
];

/// The governing authority's record of who is who.
#[derive(Parser)]
#[command(name = "central-registry", version, arg_required_else_help = true, after_help = Exit::table())]
pub struct CommandLine {
    /// The command.
    #[command(subcommand)]
    pub what: What,
}

/// The commands.
#[derive(Subcommand)]
pub enum What {
    /// Begin an instance: keys, authority, first admin, first configuration.
    Init(Init),
    /// Make a person's own key, before `init`: that person keeps it, and `init` is given its public half.
    Person {
        /// Who; names the files.
        name: Text,
        /// The directory in which they are made.
        #[arg(default_value = ".")]
        directory: PathBuf,
        /// Where the passphrase of the key comes from: credential:NAME, fd:NUMBER or prompt.
        #[arg(long, default_value = "prompt")]
        passphrase: Source,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Run the registry until SIGTERM.
    Serve(Serve),
    /// Look at this registry and at all that it rests on, and name the first cause of what is wrong. Changes nothing.
    Doctor(doctor::Arguments),
    /// Let a server join, once: prints a one-time token.
    Invite(Invite),
    /// Show requests to join.
    Requests {
        /// Who commands which registry.
        #[command(flatten)]
        admin: AdminArgs,
        /// How the answer is shown.
        #[command(flatten)]
        reading: Reading,
    },
    /// Grant what a request asks: certifies its keys and publishes the member.
    Approve {
        /// The request, like R-1.
        request: RequestId,
        /// Who commands which registry.
        #[command(flatten)]
        admin: AdminArgs,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Refuse what a request asks.
    Reject {
        /// The request, like R-1.
        request: RequestId,
        /// Why: the applicant reads it.
        #[arg(long)]
        reason: Text,
        /// Who commands which registry.
        #[command(flatten)]
        admin: AdminArgs,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Show members.
    Members {
        /// Who commands which registry.
        #[command(flatten)]
        admin: AdminArgs,
        /// How the answer is shown.
        #[command(flatten)]
        reading: Reading,
    },
    /// Take a member off the road for a time: in force on the next message.
    Suspend {
        /// The member.
        member: MemberId,
        /// Why: stands in the audit journal.
        #[arg(long)]
        reason: Text,
        /// Whether the admin is asked.
        #[command(flatten)]
        caution: Caution,
        /// Who commands which registry.
        #[command(flatten)]
        admin: AdminArgs,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Let a suspended member back.
    Restore {
        /// The member.
        member: MemberId,
        /// Who commands which registry.
        #[command(flatten)]
        admin: AdminArgs,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Revoke one key for good: in force on the next message, for open connections and streams too.
    Revoke {
        /// The key's SHA-256, as `members` shows it.
        key: KeyId,
        /// Why: stands in the audit journal.
        #[arg(long)]
        reason: Text,
        /// Of a signing key: a file with the last head that it may have signed. What is under that head stays proven.
        #[arg(long, value_name = "FILE")]
        last_head: Option<PathBuf>,
        /// Whether the admin is asked.
        #[command(flatten)]
        caution: Caution,
        /// Who commands which registry.
        #[command(flatten)]
        admin: AdminArgs,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Have everybody reach a server elsewhere. Its own admin can do the same: `security-server move`.
    Move {
        /// The server.
        server: ServerId,
        /// Its peers' door from now on: host:port.
        address: Address,
        /// Who commands which registry.
        #[command(flatten)]
        admin: AdminArgs,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Send a server into maintenance, so that nobody asks it, or bring it back. Its own admin can do the same.
    Maintenance {
        /// The server.
        server: ServerId,
        /// Whether it begins or is over.
        #[command(flatten)]
        notice: Notice,
        /// Who commands which registry.
        #[command(flatten)]
        admin: AdminArgs,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Let another server of the member speak for a subsystem too.
    Host {
        /// The subsystem; one that is not registered yet is registered with it.
        subsystem: SubsystemId,
        /// The server: the subsystem's member has a signing key there.
        server: ServerId,
        /// Who commands which registry.
        #[command(flatten)]
        admin: AdminArgs,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Let a server speak for a subsystem no more. The subsystem stays registered.
    Unhost {
        /// The subsystem.
        subsystem: SubsystemId,
        /// The server.
        server: ServerId,
        /// Whether the admin is asked.
        #[command(flatten)]
        caution: Caution,
        /// Who commands which registry.
        #[command(flatten)]
        admin: AdminArgs,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Remove a member, a server or a subsystem for good: nobody ever gets its name again.
    Remove {
        /// What kind of thing.
        #[arg(value_enum)]
        kind: RemovedKind,
        /// Its name.
        id: String,
        /// Why: stands in the audit journal, and whoever waits to join with it reads it.
        #[arg(long)]
        reason: Text,
        /// Whether the admin is asked.
        #[command(flatten)]
        caution: Caution,
        /// Who commands which registry.
        #[command(flatten)]
        admin: AdminArgs,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Show what one person ordered and others are to confirm.
    Proposals {
        /// Who commands which registry.
        #[command(flatten)]
        admin: AdminArgs,
        /// How the answer is shown.
        #[command(flatten)]
        reading: Reading,
    },
    /// Confirm what another person ordered: just the command that this one signed. It is shown first.
    Confirm {
        /// The proposal, like P-1.
        proposal: String,
        /// Whether the admin is asked.
        #[command(flatten)]
        caution: Caution,
        /// Who commands which registry.
        #[command(flatten)]
        admin: AdminArgs,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Say for what data may be asked: the list that grants and access requests name their purposes from.
    #[command(subcommand)]
    Purposes(Purposes),
    /// Show every service in use: by whom, for what, by which law, used last on which day. As the providers' servers told it.
    Grants(Grants),
    /// Show who decided what here and when, and verify that record.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Make, verify and put back an encrypted copy of all that this registry is.
    #[command(subcommand)]
    Backup(backup::Command),
    /// Hold the ceremony of the root: make holders' keys, begin, sign and finish the next root.
    #[command(subcommand)]
    Ceremony(ceremony::Command),
    /// Print what makes a shell complete these commands.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

/// What can be removed.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
pub enum RemovedKind {
    /// A member, with its subsystems and servers.
    Member,
    /// A server, with what is hosted there.
    Server,
    /// A subsystem.
    Subsystem,
}

impl RemovedKind {
    /// The thing of this kind and name.
    pub fn named(self, id: &str) -> Result<Registered, NotAnIdentifier> {
        Ok(match self {
            Self::Member => Registered::Member(id.parse()?),
            Self::Server => Registered::Server(id.parse()?),
            Self::Subsystem => Registered::Subsystem(id.parse()?),
        })
    }
}

/// The instance's purposes.
#[derive(Subcommand)]
pub enum Purposes {
    /// Show them, with their texts.
    List {
        /// Who commands which registry.
        #[command(flatten)]
        admin: AdminArgs,
        /// How the answer is shown.
        #[command(flatten)]
        reading: Reading,
    },
    /// Put a purpose on the list, or change its texts. The first one makes the list: nothing else is granted from then on.
    Set {
        /// Its code, like birth-registration.
        purpose: PurposeCode,
        /// What it means, in English.
        #[arg(long)]
        en: Option<String>,
        /// What it means, in Vietnamese.
        #[arg(long)]
        vi: Option<String>,
        /// Who commands which registry.
        #[command(flatten)]
        admin: AdminArgs,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Take a purpose off the list. Grants that name it go on to their end; no other is made for it.
    Remove {
        /// Its code.
        purpose: PurposeCode,
        /// Why: stands in the audit journal.
        #[arg(long)]
        reason: Text,
        /// Who commands which registry.
        #[command(flatten)]
        admin: AdminArgs,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
}

/// Which grants are shown.
#[derive(Args)]
pub struct Grants {
    /// Only of this provider: a member, VN/GOV/moj, or one of its subsystems.
    #[arg(long, value_name = "PARTY")]
    pub provider: Option<Party>,
    /// Only of this consumer: a member or one of its subsystems.
    #[arg(long, value_name = "PARTY")]
    pub consumer: Option<Party>,
    /// Only for this purpose.
    #[arg(long)]
    pub purpose: Option<Text>,
    /// Only those that end within 30 days.
    #[arg(long)]
    pub expiring: bool,
    /// Only those in force that were not used for 90 days.
    #[arg(long)]
    pub unused: bool,
    /// Those that ended, or expired in the last 90 days, too.
    #[arg(long)]
    pub over: bool,
    /// Who commands which registry.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// How the answer is shown.
    #[command(flatten)]
    pub reading: Reading,
}

/// Whether a maintenance begins or is over.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct Notice {
    /// It begins: what whoever asks the server is told.
    #[arg(long)]
    pub notice: Option<Text>,
    /// It is over.
    #[arg(long)]
    pub over: bool,
}

/// A new instance.
#[derive(Args)]
pub struct Init {
    /// The directory to make.
    pub directory: PathBuf,
    /// The instance, like VN.
    #[arg(long)]
    pub instance: InstanceId,
    /// Its name for people.
    #[arg(long)]
    pub name: Text,
    /// Who commands first, as registrar and security officer; names the admin's files.
    #[arg(long)]
    pub admin: Text,
    /// Who else has a key: NAME:ROLE or NAME:ROLE+ROLE, the roles registrar, security-officer and auditor; followed by @FILE
    /// with the public half of the key that `person` made for them, else one is made here; may be given several times.
    #[arg(long = "person", value_name = "NAME:ROLE[@FILE]")]
    pub persons: Vec<Appointed>,
    /// How many persons an approval, a return, a removal and the like need.
    #[arg(long, default_value_t = 2)]
    pub persons_threshold: usize,
    /// Where the registry will listen.
    #[arg(long, default_value = "0.0.0.0:4001")]
    pub listen: SocketAddr,
    /// Where servers and admins will reach it.
    #[arg(long, default_value = "127.0.0.1:4001")]
    pub address: Address,
    /// How many root keys are made.
    #[arg(long, default_value_t = 3)]
    pub root_keys: usize,
    /// How many of them must sign a new root.
    #[arg(long, default_value_t = 2)]
    pub root_threshold: usize,
    /// Where the passphrase of the new keys comes from: credential:NAME, fd:NUMBER or prompt.
    #[arg(long, default_value = "prompt")]
    pub passphrase: Source,
    /// Where `serve` will get it from; as --passphrase if not given.
    #[arg(long)]
    pub unlock: Option<Source>,
    /// Whether it is carried out, and how the outcome is shown.
    #[command(flatten)]
    pub changing: Changing,
}

/// A registry that runs.
#[derive(Args)]
pub struct Serve {
    /// The configuration file that `init` wrote.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Where the passphrase comes from, instead of what the file says.
    #[arg(long)]
    pub unlock: Option<Source>,
    /// How diagnostics are written. They never hold credentials.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Who is invited.
#[derive(Args)]
pub struct Invite {
    /// The member, like VN/GOV/moj.
    pub member: MemberId,
    /// The member's name for people; leave it out for a member that is registered.
    #[arg(long)]
    pub name: Option<Text>,
    /// The server that may join, like VN/GOV/moj/ss1.
    #[arg(long)]
    pub server: ServerId,
    /// A subsystem that it may host; may be given several times.
    #[arg(long = "subsystem")]
    pub subsystems: Vec<SubsystemId>,
    /// How long the token is good, in hours.
    #[arg(long, default_value_t = 72, value_parser = clap::value_parser!(u64).range(1..=720))]
    pub valid_hours: u64,
    /// Who commands which registry.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Whether it is carried out, and how the outcome is shown.
    #[command(flatten)]
    pub changing: Changing,
}

/// Who commands which registry.
#[derive(Args)]
pub struct AdminArgs {
    /// The admin's file, as `init` wrote it; the options below stand in for what it says.
    #[arg(long, env = "CAUSEWAY_ADMIN", value_name = "FILE")]
    pub admin: Option<PathBuf>,
    /// The instance.
    #[arg(long)]
    pub instance: Option<InstanceId>,
    /// Where the registry is.
    #[arg(long, value_name = "HOST:PORT")]
    pub registry: Option<Address>,
    /// What the registry's key must be: sha256:...
    #[arg(long)]
    pub fingerprint: Option<Fingerprint>,
    /// The admin's key file.
    #[arg(long, value_name = "FILE")]
    pub admin_key: Option<PathBuf>,
    /// Where the passphrase of the admin's key comes from: credential:NAME, fd:NUMBER or prompt.
    #[arg(long, default_value = "prompt")]
    pub passphrase: Source,
}

/// Which registry on this machine is meant.
#[derive(Args)]
pub struct ConfigurationFile {
    /// The registry's configuration file, as `init` wrote it.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}
