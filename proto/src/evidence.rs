//! Evidence: what a stranger verifies of one exchange, with the anchor and nothing else (PROTOCOL.md 7).
//!
//! Verifying never panics, whatever the bytes: they come from one of the parties.

pub mod archive;
pub mod container;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::global_configuration::Configuration;
use crate::global_configuration::excerpt::{Excerpt, Subjects, Unverified};
use crate::global_configuration::update::Files;
use crate::head::Head;
use crate::identifier::ExchangeId;
use crate::message::{Commitments, Direction, Directions, End, Header, Operation, Route};
use crate::record::{Genesis, Kind, NONCE_BYTES, Record, TreeName, decode_canonical};
use crate::seal::{self, MAX_RECORDS, Paths, Proven, Sender, Unproven};
use crate::signature::KeyId;
use crate::timestamp::{self, NotATimestamp, Stamped};
use crate::transport::MAX_SKEW;
use crate::wire::relay as wire;
use crate::zip;

/// What an evidence file calls its form.
pub const FORMAT: &str = "causeway/v1/evidence";
/// Longest evidence file, in bytes.
pub const MAX_EVIDENCE_BYTES: usize = 256 * 1024 * 1024;
/// Most messages in one.
pub const MAX_MESSAGES: usize = 100_000;

/// What a seal does not prove, whatever was verified.
pub const NOT_PROVEN: [&str; 4] = [
    "delivery: that what was sent arrived",
    "that the agency's own system asked or answered: the security server holds the key",
    "completeness of what was never sent to anybody",
    "that no key was revoked after the version of the configuration shown",
];

/// An evidence file, as it is written.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceFile {
    format: String,
    exchange: String,
    holder: Sender,
    configuration: BTreeMap<String, Base64>,
    messages: Vec<Kept>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamps: Option<Vec<Base64>>,
}

/// One message as a log keeps it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    header: Base64,
    seal: Base64,
    genesis: Base64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload: Option<Base64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<Base64>,
    /// What the log has of its time, before it is written down.
    #[serde(skip)]
    stamped: Option<(wire::Stamp, wire::Place)>,
}

impl Kept {
    /// A message with its seal, the genesis record of the seal's tree, and its payload where that was kept.
    pub fn new(header: &Header, seal: &wire::Seal, genesis: Bytes, payload: Option<&wire::Payload>) -> Self {
        Self {
            header: Base64(header.as_bytes().clone()),
            seal: Base64(seal.encode_to_vec().into()),
            genesis: Base64(genesis),
            payload: payload.map(|payload| Base64(payload.encode_to_vec().into())),
            place: None,
            stamped: None,
        }
    }

    /// The same, with a timestamp and the place of the message's record under the stamped head. Which of the file's timestamps
    /// it is, the file says.
    pub fn stamped(self, stamp: wire::Stamp, place: wire::Place) -> Self {
        Self { stamped: Some((stamp, place)), ..self }
    }
}

/// Why there is no evidence to be made.
#[derive(Debug, thiserror::Error)]
pub enum NoEvidence {
    /// Nothing was found.
    #[error("no message of this exchange is kept here; look at the other party's server, or in the archive")]
    NoMessages,
    /// What is kept is no header.
    #[error("a kept header does not read: {0}; check the log with the journal's own verification")]
    Header(#[from] crate::message::Malformed),
    /// The files are no repository.
    #[error("the kept configuration has no root document; its files are wanted as they were published")]
    NoRoot,
    /// The files do not prove what the parties were.
    #[error("the kept configuration does not prove who the parties were: {0}")]
    Configuration(#[from] Unverified),
}

impl EvidenceFile {
    /// Puts together what a log holds of one exchange. `configuration` are the files of a version that was in force
    /// when its last message was sealed; what proves nothing here is left out, a timestamp of an authority too that this
    /// version does not approve. The order of `messages` does not matter.
    pub fn new(
        exchange: ExchangeId,
        holder: Sender,
        configuration: &Files,
        messages: Vec<Kept>,
    ) -> Result<Self, NoEvidence> {
        let mut read = messages
            .into_iter()
            .map(|kept| Ok((Header::parse(kept.header.0.clone())?, kept)))
            .collect::<Result<Vec<_>, NoEvidence>>()?;
        read.sort_by_key(|(header, _)| (header.attempt, header.direction == Direction::Answer, header.position));
        let now = read.iter().map(|(header, _)| header.time).max().ok_or(NoEvidence::NoMessages)?;
        let root = first_root(configuration)?;
        let about = |kept: &[(Header, Kept)]| {
            let tokens = kept.iter().filter_map(|(_, kept)| kept.stamped.as_ref()).map(|(stamp, _)| &stamp.token);
            subjects(kept.iter().map(|(header, kept)| (header, &kept.seal.0)), tokens)
        };
        let mut excerpt = Excerpt::verify(root, configuration, &about(&read), now)?;
        let stamped = read.iter().filter(|(_, kept)| kept.stamped.is_some()).count();
        for (_, kept) in &mut read {
            kept.stamped.take_if(|(stamp, _)| time_proven(stamp, excerpt.configuration()).is_err());
        }
        if read.iter().filter(|(_, kept)| kept.stamped.is_some()).count() < stamped {
            excerpt = Excerpt::verify(root, configuration, &about(&read), now)?;
        }
        let mut timestamps: Vec<wire::Stamp> = Vec::new();
        for (_, kept) in &mut read {
            let Some((stamp, mut place)) = kept.stamped.take() else { continue };
            // Mostly the one of the message before.
            let at = timestamps.iter().rposition(|listed| *listed == stamp).unwrap_or_else(|| {
                timestamps.push(stamp);
                timestamps.len() - 1
            });
            place.timestamp = u32::try_from(at).unwrap_or(u32::MAX);
            kept.place = Some(Base64(place.encode_to_vec().into()));
        }
        let timestamps: Vec<_> = timestamps.iter().map(|stamp| Base64(stamp.encode_to_vec().into())).collect();
        Ok(Self {
            format: FORMAT.into(),
            exchange: exchange.to_string(),
            holder,
            configuration: excerpt.files().iter().map(|(file, bytes)| (file.clone(), Base64(bytes.clone()))).collect(),
            messages: read.into_iter().map(|(_, kept)| kept).collect(),
            timestamps: Some(timestamps).filter(|timestamps| !timestamps.is_empty()),
        })
    }

    /// The same evidence, its configuration taken anew from these files, so that it also says whether this key is revoked: that
    /// of who signs a container of it.
    pub fn about_also(self, key: KeyId, configuration: &Files) -> Result<Self, NoEvidence> {
        let read =
            self.messages.iter().map(|kept| Header::parse(kept.header.0.clone())).collect::<Result<Vec<_>, _>>()?;
        let now = read.iter().map(|header| header.time).max().ok_or(NoEvidence::NoMessages)?;
        let stamps: Vec<_> = self.timestamps.iter().flatten().filter_map(|stamp| read_stamp(&stamp.0)).collect();
        let messages = read.iter().zip(&self.messages).map(|(header, kept)| (header, &kept.seal.0));
        let mut about = subjects(messages, stamps.iter().map(|(_, stamp)| &stamp.token));
        about.keys.insert(key);
        let excerpt = Excerpt::verify(first_root(configuration)?, configuration, &about, now)?;
        let configuration = excerpt.files().iter().map(|(file, bytes)| (file.clone(), Base64(bytes.clone()))).collect();
        Ok(Self { configuration, ..self })
    }

    /// From whose log it says that it was taken.
    pub fn holder(&self) -> &Sender {
        &self.holder
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("an evidence file has string keys only")
    }

    /// Reads a file's form (PROTOCOL.md 7.1).
    pub fn parse(file: &[u8]) -> Result<Self, NotEvidence> {
        if file.len() > MAX_EVIDENCE_BYTES {
            return Err(NotEvidence::file(format!("{} bytes, and at most {MAX_EVIDENCE_BYTES} are taken", file.len())));
        }
        let file: Self = serde_json::from_slice(file).map_err(|error| NotEvidence::file(error.to_string()))?;
        if file.format != FORMAT {
            return Err(NotEvidence::file(format!("its format is {:?} and not {FORMAT:?}", file.format)));
        }
        let exchange: Option<ExchangeId> = file.exchange.parse().ok();
        if exchange.is_none_or(|exchange| exchange.to_string() != file.exchange) {
            return Err(NotEvidence::file(format!(
                "{:?} is no exchange: 32 lower-case digits are wanted",
                file.exchange
            )));
        }
        if file.messages.is_empty() || file.messages.len() > MAX_MESSAGES {
            return Err(NotEvidence::file(format!(
                "it has {} messages, 1 to {MAX_MESSAGES} are taken",
                file.messages.len()
            )));
        }
        if file.timestamps.as_ref().is_some_and(|listed| listed.is_empty() || listed.len() > file.messages.len()) {
            return Err(NotEvidence::file("its timestamps are none, or more than its messages"));
        }
        Ok(file)
    }
}

/// Bytes that are no evidence file (PROTOCOL.md 7.1), and no archive of one (7.20).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no evidence file: {why}")]
pub struct NotEvidence {
    step: &'static str,
    why: String,
}

impl NotEvidence {
    fn file(why: impl Into<String>) -> Self {
        Self { step: "7.1", why: why.into() }
    }

    fn archive(why: impl std::fmt::Display) -> Self {
        Self { step: "7.20", why: format!("an archive was given, and {why}") }
    }

    /// The step of PROTOCOL.md that refuses.
    pub fn step(&self) -> &'static str {
        self.step
    }
}

/// What was found in a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// The exchange that the file is about.
    pub exchange: String,
    /// From whose log it says that it was taken.
    pub holder: Sender,
    /// Each step that was judged, in order. The steps of the first section that refuses something are the last.
    pub findings: Vec<Finding>,
    /// What is proven, in sentences. Empty unless every step holds.
    pub proven: Vec<String>,
    /// What is not.
    pub not_proven: Vec<String>,
}

/// What one step found of one thing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// The step of PROTOCOL.md.
    pub step: &'static str,
    /// What was judged.
    pub subject: String,
    /// Whether it holds.
    pub verdict: Verdict,
    /// Why, for people.
    pub explanation: String,
}

/// Whether something holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It does.
    Holds,
    /// It does not, and the file proves nothing.
    Refused,
}

impl std::fmt::Display for Report {
    /// For people: what refuses, or how much holds; then what is proven, and what is not.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "Exchange {}, from the log of {} at {}", self.exchange, self.holder.member, self.holder.server)?;
        match self.refused() {
            None => writeln!(f, "Every one of {} findings holds.", self.findings.len())?,
            Some(refused) => {
                writeln!(f, "REFUSED by step {}: {}: {}", refused.step, refused.subject, refused.explanation)?;
            }
        }
        for proven in &self.proven {
            writeln!(f, "  proven      {proven}")?;
        }
        for not_proven in &self.not_proven {
            writeln!(f, "  not proven  {not_proven}")?;
        }
        Ok(())
    }
}

impl Report {
    /// Whether every step holds.
    pub fn holds(&self) -> bool {
        self.refused().is_none()
    }

    /// The first finding that refuses the file.
    pub fn refused(&self) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.verdict == Verdict::Refused)
    }
}

/// Verifies an evidence file, or an archive or a container of one, with the anchor and nothing else (PROTOCOL.md 7). Bytes that are neither
/// are an error; whatever else is wrong is a finding.
pub fn verify(file: &[u8], anchor: &[u8]) -> Result<Report, NotEvidence> {
    if !zip::is_one(file) {
        return Ok(judged(&EvidenceFile::parse(file)?, anchor, None, None).0);
    }
    // 7.20: "It is a zip of one form, with an evidence file in it."
    let files = zip::read(&Bytes::copy_from_slice(file)).map_err(NotEvidence::archive)?;
    let json = files.get(archive::EVIDENCE);
    let json = json.ok_or_else(|| NotEvidence::archive(format!("{} is not in it", archive::EVIDENCE)))?;
    let signer = container::claimed_key(&files);
    Ok(judged(&EvidenceFile::parse(json)?, anchor, Some((json, &files)), signer).0)
}

/// Judges a file, with the bytes of it and the files of its archive where it came in one, and with the key that signs a
/// container of it. Gives the excerpt of the configuration too, where every step holds.
fn judged(
    file: &EvidenceFile,
    anchor: &[u8],
    archive: Option<(&Bytes, &zip::Files)>,
    signer: Option<KeyId>,
) -> (Report, Option<Excerpt>) {
    let mut judge = Judge::default();
    // The judge has written down why, wherever there is nothing to go on with.
    let found = judge.proven(file, anchor, archive, signer).filter(|_| !judge.refused());
    let (excerpt, proven, more) = match found {
        Some((excerpt, proven, more)) => (Some(excerpt), proven, more),
        None => Default::default(),
    };
    let mut not_proven: Vec<String> = more.into_iter().chain(NOT_PROVEN.map(str::to_owned)).collect();
    if proven.is_empty() {
        not_proven.insert(0, "anything: a step was refused".into());
    }
    let (exchange, holder) = (file.exchange.clone(), file.holder.clone());
    (Report { exchange, holder, findings: judge.findings, proven, not_proven }, excerpt)
}

/// Writes down what each step finds.
#[derive(Default)]
struct Judge {
    findings: Vec<Finding>,
}

/// A message whose header reads.
struct Read<'f> {
    subject: String,
    header: Header,
    kept: &'f Kept,
}

impl Judge {
    /// What is proven, and what of the messages' times and of what was removed is not.
    fn proven(
        &mut self,
        file: &EvidenceFile,
        anchor: &[u8],
        archive: Option<(&Bytes, &zip::Files)>,
        signer: Option<KeyId>,
    ) -> Option<(Excerpt, Vec<String>, Vec<String>)> {
        self.holds("7.1", "file", format!("an evidence file of {} messages", file.messages.len()));
        let messages = self.headers(file)?;
        self.sequences(file, &messages)?;
        let excerpt = self.configuration(file, &messages, anchor, signer)?;
        let seals = self.seals(&messages, excerpt.configuration())?;
        let payloads = self.payloads(&messages)?;
        self.one_root_each(&seals)?;
        let times = self.times(file, &messages, excerpt.configuration())?;
        let signed = match archive {
            Some((json, files)) if container::is_one(files) => {
                let archived = container::archived(files);
                self.archive(json, file, &archived, excerpt.configuration())?;
                Some(self.container(file, files, &archived, excerpt.configuration())?)
            }
            Some((json, files)) => self.archive(json, file, files, excerpt.configuration()).map(|()| None)?,
            None => None,
        };
        let mut proven = sentences(&messages, &seals, payloads);
        let mut more = said_of_time(&messages, &times, &mut proven);
        if minimised(&messages).next().is_some() {
            more.push(
                "what was removed from the answer, and whether anything was: the salt is the provider's to give".into(),
            );
        }
        if let Some(container::Signed { key, at }) = signed {
            let Sender { member, server } = &file.holder;
            proven.push(format!(
                "{member} at {server} gave out this container as it is: it is signed with the key {key}."
            ));
            more.push(format!("that the container was signed at {at}: that is the clock of the server that signed it"));
        }
        Some((excerpt, proven, more))
    }

    /// 7.21: "Each of its files is the one that the evidence file makes."
    fn archive(
        &mut self,
        json: &[u8],
        file: &EvidenceFile,
        found: &zip::Files,
        configuration: &Configuration,
    ) -> Option<()> {
        match archive::files(json, file, configuration) {
            Err(why) => self.refuse("7.21", "archive", why),
            Ok(made) => match archive::difference(found, &made) {
                Some((name, why)) => self.refuse("7.21", &name, why),
                None => self.holds("7.21", "archive", format!("{} files, as the evidence file makes them", made.len())),
            },
        }
        self.go_on(())
    }

    /// 7.22: "Its type and its manifest are those of the other files", and 7.23: "the holder signed the manifest."
    fn container(
        &mut self,
        file: &EvidenceFile,
        found: &zip::Files,
        archived: &zip::Files,
        configuration: &Configuration,
    ) -> Option<container::Signed> {
        match container::wrapped(found, archived) {
            Err((name, why)) => self.refuse("7.22", name, why),
            Ok(()) => self.holds("7.22", container::ASIC_MANIFEST, format!("it lists {} files", archived.len())),
        }
        self.go_on(())?;
        match container::signed(found, &file.holder, configuration) {
            Err(why) => {
                self.refuse("7.23", container::SIGNATURE, why);
                None
            }
            Ok(signed) => {
                let explanation = format!("signed at {} by its own clock, key {}", signed.at, signed.key);
                self.holds("7.23", container::SIGNATURE, explanation);
                Some(signed)
            }
        }
    }

    /// 7.2: "Every header is canonical and well formed, and names the exchange."
    fn headers<'f>(&mut self, file: &'f EvidenceFile) -> Option<Vec<Read<'f>>> {
        let mut read = Vec::new();
        for (n, kept) in file.messages.iter().enumerate() {
            let subject = format!("messages[{n}].header");
            match Header::parse(kept.header.0.clone()) {
                Err(refused) => self.refuse(refused.step(), &subject, refused),
                Ok(header) if header.exchange.to_string() != file.exchange => {
                    self.refuse("7.2", &subject, format!("it is of the exchange {}", header.exchange));
                }
                Ok(header) => {
                    self.holds("7.2", &subject, described(&header));
                    read.push(Read { subject: format!("messages[{n}]"), header, kept });
                }
            }
        }
        self.go_on(read)
    }

    /// 7.3: "Each attempt's messages, its requests before its answers, form two directions."
    fn sequences(&mut self, file: &EvidenceFile, messages: &[Read<'_>]) -> Option<()> {
        let parties = |route: &Route| {
            let Route { instance, consumer, consumer_server, provider, operation, .. } = route.clone();
            (instance, consumer, consumer_server, provider, operation)
        };
        let first = &messages.first()?.header;
        let mut before = (0, false);
        for Read { subject, header, .. } in messages {
            let route = &header.route;
            let consumer = Sender { member: route.consumer.member(), server: route.consumer_server.clone() };
            let provider = Sender { member: route.provider.member(), server: route.provider_server.clone() };
            let place = (header.attempt, header.direction == Direction::Answer);
            if parties(&first.route) != parties(route) {
                self.refuse("7.3", subject, "it has another consumer, provider or operation than the first");
            }
            if file.holder != consumer && file.holder != provider {
                self.refuse("7.3", subject, "the holder is neither the consumer nor the provider of it");
            }
            if place < before {
                self.refuse("7.3", subject, "it stands after a later attempt, or a request after an answer");
            }
            before = place;
        }
        self.go_on(())?;
        let mut attempts: BTreeMap<u32, Directions> = BTreeMap::new();
        for Read { subject, header, .. } in messages {
            if let Err(refused) = attempts.entry(header.attempt).or_default().take(header) {
                self.refuse(refused.step(), subject, refused);
                return None;
            }
        }
        self.holds("7.3", "messages", "they form the directions of one exchange");
        Some(())
    }

    /// 7.4: "The configuration verifies from the anchor, at the greatest time of the messages."
    fn configuration(
        &mut self,
        file: &EvidenceFile,
        messages: &[Read<'_>],
        anchor: &[u8],
        signer: Option<KeyId>,
    ) -> Option<Excerpt> {
        let files = file.configuration.iter().map(|(name, bytes)| (name.clone(), bytes.0.clone())).collect();
        let stamps = file.timestamps.iter().flatten().filter_map(|stamp| read_stamp(&stamp.0)).collect::<Vec<_>>();
        let tokens = stamps.iter().map(|(_, stamp)| &stamp.token);
        let mut subjects = subjects(messages.iter().map(|read| (&read.header, &read.kept.seal.0)), tokens);
        subjects.keys.extend(signer);
        let now = messages.iter().map(|read| read.header.time).max()?;
        let excerpt = match Excerpt::verify(&Bytes::copy_from_slice(anchor), &files, &subjects, now) {
            Err(Unverified { step, reason }) => {
                self.refuse(step, "configuration", reason);
                return None;
            }
            Ok(excerpt) => excerpt,
        };
        let configuration = excerpt.configuration();
        for Read { subject, header, .. } in messages {
            if header.route.instance != configuration.instance {
                self.refuse("7.4", subject, format!("the configuration is that of {}", configuration.instance));
            }
            let named = header.configuration;
            if named.version == configuration.version && named.digest != configuration.digest {
                self.refuse("7.4", subject, format!("it names another configuration of version {}", named.version));
            }
        }
        let (version, signed_at) = (configuration.version, configuration.signed_at);
        self.holds(
            "7.4",
            "configuration",
            format!("version {version} of {}, signed {signed_at}", configuration.instance),
        );
        self.go_on(excerpt)
    }

    /// 7.5: "Every seal verifies, with the key good at the header's time."
    fn seals(&mut self, messages: &[Read<'_>], configuration: &Configuration) -> Option<Vec<Proven>> {
        let mut seals = Vec::new();
        for Read { subject, header, kept } in messages {
            let genesis = match Genesis::parse(kept.genesis.0.clone()) {
                Ok(genesis) => genesis,
                Err(refused) => {
                    self.refuse("5.4.2", &format!("{subject}.genesis"), refused);
                    continue;
                }
            };
            let subject = format!("{subject}.seal");
            // A seal that does not decode has no head, and is refused where a head is wanted.
            let decoded = decode_canonical::<wire::Seal>(&kept.seal.0, "Seal").unwrap_or_default();
            let head = Head::parse(&decoded.head).ok();
            let good = |sender: &Sender, key: &KeyId| {
                configuration.signing_key_of(&sender.member, &sender.server, key, header.time, head.as_ref()?)
            };
            match seal::verify(header, &decoded, &genesis, good, |_, _| false) {
                Err(refused) => self.refuse(refused.step(), &subject, refused),
                Ok(proven) => {
                    let head = &proven.head;
                    let explanation =
                        format!("sent under size {} of the tree {}, key {}", head.size, head.tree, proven.key);
                    self.holds("5.4", &subject, explanation);
                    seals.push(proven);
                }
            }
        }
        self.go_on(seals)
    }

    /// 7.6: "Every payload that is there verifies." Gives how many there are.
    fn payloads(&mut self, messages: &[Read<'_>]) -> Option<usize> {
        let mut verified = 0;
        let mut directions: BTreeMap<(u32, bool), (Commitments, bool)> = BTreeMap::new();
        for Read { subject, header, kept } in messages {
            let subject = format!("{subject}.payload");
            let (commitments, erased) =
                directions.entry((header.attempt, header.direction == Direction::Answer)).or_default();
            let Some(payload) = &kept.payload else {
                *erased |= commits(header);
                continue;
            };
            if *erased {
                self.refuse(
                    "7.6",
                    &subject,
                    "a payload before it in its direction was not kept, and with it the secret",
                );
                continue;
            }
            let Ok(payload) = decode_canonical::<wire::Payload>(&payload.0, "Payload") else {
                self.refuse("7.6", &subject, "not the canonical encoding of Payload");
                continue;
            };
            match commitments.check(header, Some(payload)) {
                Err(refused) => self.refuse(refused.step(), &subject, refused),
                Ok(_) => {
                    verified += 1;
                    self.holds("3.5", &subject, "what the header commits to");
                }
            }
        }
        self.go_on(verified)
    }

    /// 7.7: "Heads of one tree and size have one root."
    fn one_root_each(&mut self, seals: &[Proven]) -> Option<()> {
        let mut roots: BTreeMap<(TreeName, u64), Digest> = BTreeMap::new();
        for head in seals.iter().map(|proven| proven.head) {
            let root = *roots.entry((head.tree, head.size)).or_insert(head.root);
            if root != head.root {
                let explanation = "its key signed two roots of one size: this log was rewritten, and that is proven";
                self.refuse("7.7", &format!("tree {} at size {}", head.tree, head.size), explanation);
            }
        }
        self.go_on(())
    }

    /// 7.18: "Every place leads from its message's record to the head of its timestamp", and 7.19: "every token holds". Gives
    /// each message's timestamp.
    fn times(
        &mut self,
        file: &EvidenceFile,
        messages: &[Read<'_>],
        configuration: &Configuration,
    ) -> Option<Vec<Option<Stamped>>> {
        let mut stamps = Vec::new();
        for (n, stamp) in file.timestamps.iter().flatten().enumerate() {
            match read_stamp(&stamp.0) {
                Some(stamp) => stamps.push(stamp),
                None => self.refuse(
                    "7.18",
                    &format!("timestamps[{n}]"),
                    "not the canonical encoding of a Stamp with a head",
                ),
            }
        }
        let stamps = self.go_on(stamps)?;
        let mut named = BTreeSet::new();
        let mut of_message = Vec::new();
        for Read { subject, header, kept } in messages {
            let Some(place) = &kept.place else {
                of_message.push(None);
                continue;
            };
            let subject = format!("{subject}.place");
            match under(&place.0, header, &kept.seal.0, &stamps) {
                Err(why) => self.refuse("7.18", &subject, why),
                Ok((at, explanation)) => {
                    self.holds("7.18", &subject, explanation);
                    named.insert(at);
                    of_message.push(Some(at));
                }
            }
        }
        if named.len() < stamps.len() {
            self.refuse("7.18", "timestamps", "one of them is over no message of the file");
        }
        self.go_on(())?;
        let mut times = Vec::new();
        for (n, (_, stamp)) in stamps.iter().enumerate() {
            let subject = format!("timestamps[{n}]");
            match time_proven(stamp, configuration) {
                Err(refused) => self.refuse(refused.step(), &subject, refused),
                Ok(stamped) => {
                    let Stamped { authority, key, time } = &stamped;
                    self.holds("7.19", &subject, format!("existed at or before {time} by {authority}, key {key}"));
                    times.push(stamped);
                }
            }
        }
        let times = self.go_on(times)?;
        Some(of_message.into_iter().map(|at| Some(times[at?].clone())).collect())
    }

    fn holds(&mut self, step: &'static str, subject: &str, explanation: impl ToString) {
        self.write(step, subject, Verdict::Holds, explanation);
    }

    fn refuse(&mut self, step: &'static str, subject: &str, explanation: impl ToString) {
        self.write(step, subject, Verdict::Refused, explanation);
    }

    fn write(&mut self, step: &'static str, subject: &str, verdict: Verdict, explanation: impl ToString) {
        let (subject, explanation) = (subject.to_owned(), explanation.to_string());
        self.findings.push(Finding { step, subject, verdict, explanation });
    }

    fn refused(&self) -> bool {
        self.findings.iter().any(|finding| finding.verdict == Verdict::Refused)
    }

    fn go_on<T>(&self, with: T) -> Option<T> {
        (!self.refused()).then_some(with)
    }
}

/// The oldest root among the files: the anchor, as far as they know it.
fn first_root(configuration: &Files) -> Result<&Bytes, NoEvidence> {
    let roots = configuration.iter().filter_map(|(file, bytes)| {
        let version: u64 = file.strip_suffix(".root.json")?.parse().ok()?;
        Some((version, bytes))
    });
    roots.min_by_key(|(version, _)| *version).map(|(_, root)| root).ok_or(NoEvidence::NoRoot)
}

/// The record of a timestamp: its head, and the token over that.
fn read_stamp(bytes: &[u8]) -> Option<(Head, wire::Stamp)> {
    let stamp: wire::Stamp = decode_canonical(bytes, "Stamp").ok()?;
    Some((Head::parse(&stamp.head).ok()?, stamp))
}

/// What the token of a timestamp says, if it holds under this configuration (PROTOCOL.md 16.3).
pub fn time_proven(stamp: &wire::Stamp, configuration: &Configuration) -> Result<Stamped, NotATimestamp> {
    let approved = configuration.approved_for_timestamps();
    let is_revoked = |key: &KeyId| configuration.revoked.contains(key);
    timestamp::verify(&stamp.token, &Digest::of(&[&stamp.head]), &approved, &is_revoked)
}

/// Walks from a message's record to the head of the timestamp that its place names: which one, and in words where it is.
fn under(
    place: &[u8],
    header: &Header,
    seal: &Bytes,
    stamps: &[(Head, wire::Stamp)],
) -> Result<(usize, String), Box<dyn std::error::Error>> {
    let place: wire::Place = decode_canonical(place, "Place")?;
    let at = place.timestamp as usize;
    let (head, _) = stamps.get(at).ok_or("it names a timestamp that is not in the file")?;
    let nonce: &[u8; NONCE_BYTES] = place.nonce.as_ref().try_into().map_err(|_| Unproven::Malformed)?;
    if place.records > MAX_RECORDS {
        return Err(Unproven::Malformed.into());
    }
    // What the seal of a received message was is in its record, so that it was there too.
    let sealed = Digest::of(&[b"causeway/v1/seal\n", seal]);
    let (word, record) = match place.received {
        false => ("sent", Record::new(Kind::Sent, nonce, &[header.as_bytes()])),
        true => ("received", Record::new(Kind::Received, nonce, &[sealed.as_bytes(), header.as_bytes()])),
    };
    let wire::Place { record: index, records, record_path, commit, commit_path, .. } = &place;
    let paths = Paths { record: *index, records: *records, record_path, commit: *commit, commit_path };
    if paths.root(&record, head.size)? != head.root {
        return Err("its paths lead to another root than that of the stamped head".into());
    }
    Ok((at, format!("{word}, in commit {commit} of the tree {}, under timestamps[{at}]", head.tree)))
}

/// What the timestamps prove is added to what is proven; returned is what they do not.
fn said_of_time(messages: &[Read<'_>], times: &[Option<Stamped>], proven: &mut Vec<String>) -> Vec<String> {
    let all = messages.len();
    let mut counted: Vec<(&Stamped, usize)> = Vec::new();
    for stamped in times.iter().flatten() {
        match counted.iter_mut().find(|(listed, _)| *listed == stamped) {
            Some((_, count)) => *count += 1,
            None => counted.push((stamped, 1)),
        }
    }
    for (Stamped { authority, key, time }, count) in &counted {
        proven.push(format!(
            "{count} of {all} messages existed at or before {time}, by a timestamp of {authority}, key {key}."
        ));
    }
    let stamped = times.iter().flatten().count();
    let mut not_proven = Vec::new();
    if stamped < all {
        not_proven.push(format!(
            "the time of {} messages: no timestamp over them is in this file (heads are stamped every minute: get the evidence \
             again), and their times are the clock of the server that sealed them",
            all - stamped
        ));
    }
    if stamped > 0 {
        not_proven.push(format!(
            "how long before their timestamps {stamped} messages were made: their times are the clock of the server that sealed them"
        ));
    }
    let later = messages.iter().zip(times).filter(|(read, stamped)| {
        stamped.as_ref().is_some_and(|stamped| read.header.time > stamped.time.plus(MAX_SKEW))
    });
    let later = later.count();
    if later > 0 {
        not_proven.push(format!(
            "the times of {later} messages: they are later than the timestamps over them, so a clock was wrong"
        ));
    }
    not_proven
}

/// The two members, and the keys that the seals and the tokens name.
fn subjects<'a>(
    messages: impl Iterator<Item = (&'a Header, &'a Bytes)>,
    tokens: impl Iterator<Item = &'a Bytes>,
) -> Subjects {
    let mut subjects =
        Subjects { keys: tokens.filter_map(|token| timestamp::key_of(token)).collect(), ..Default::default() };
    for (header, seal) in messages {
        subjects.members.extend([header.route.consumer.member(), header.route.provider.member()]);
        let named = decode_canonical::<wire::Seal>(seal, "Seal").unwrap_or_default().key;
        subjects.keys.extend(KeyId::try_from(named.as_ref()).ok());
    }
    subjects
}

fn described(header: &Header) -> String {
    let direction = match header.direction {
        Direction::Request => "request",
        Direction::Answer => "answer",
    };
    format!("message {} of the {direction} of attempt {}, at {}", header.position, header.attempt, header.time)
}

/// What is proven, an attempt and direction a sentence.
fn sentences(messages: &[Read<'_>], seals: &[Proven], payloads: usize) -> Vec<String> {
    let mut directions: BTreeMap<(u32, bool), Vec<(&Header, &Proven)>> = BTreeMap::new();
    for (read, proven) in messages.iter().zip(seals) {
        let header = &read.header;
        directions.entry((header.attempt, header.direction == Direction::Answer)).or_default().push((header, proven));
    }
    let mut sentences: Vec<String> = directions.values().filter_map(|messages| sentence(messages)).collect();
    let commit = messages.iter().filter(|read| commits(&read.header));
    for header in minimised(messages) {
        let Some(commitment) = header.removed else { continue };
        sentences.push(format!(
            "The provider's server may have removed fields from message {} of attempt {}'s answer: it is not all that the service \
             answered, commitment {commitment}.",
            header.position, header.attempt
        ));
    }
    let said = format!("What was said is proven of {payloads} messages; {} commit to something.", commit.count());
    sentences.push(said);
    sentences
}

/// Whether a message commits to anything: else it needs no payload.
pub fn commits(header: &Header) -> bool {
    header.metadata.is_some() || !header.pieces.is_empty() || matches!(header.end, Some(End::Trailers { .. }))
}

/// The messages of answers that are minimised (PROTOCOL.md 3.6).
fn minimised<'m>(messages: &'m [Read<'_>]) -> impl Iterator<Item = &'m Header> {
    messages.iter().map(|read| &read.header).filter(|header| header.removed.is_some())
}

fn sentence(messages: &[(&Header, &Proven)]) -> Option<String> {
    let ((first, _), (last, _)) = (messages.first()?, messages.last()?);
    let route = &first.route;
    let sender = Sender::of(first);
    let keys: BTreeSet<String> = messages.iter().map(|(_, proven)| proven.key.to_string()).collect();
    let keys = keys.into_iter().collect::<Vec<_>>().join(", ");
    let operation = match &route.operation {
        Operation::Grpc(path) => path.to_string(),
        Operation::Http { verb, target } => format!("{verb} {target}"),
    };
    let said = match &first.opening {
        Some(opening) => format!(
            "{} asked {} for {operation} (purpose {:?}, legal basis {:?})",
            route.consumer, route.provider, opening.purpose, opening.legal_basis
        ),
        None => format!("{} answered {} about {operation}", route.provider, route.consumer),
    };
    let ended = match &last.end {
        None => "and no end of it is in this file".to_owned(),
        Some(End::HalfClose) => "to its end".to_owned(),
        Some(End::Trailers { status, .. }) => {
            let kind = if matches!(route.operation, Operation::Http { .. }) { "HTTP" } else { "gRPC" };
            format!("to its end, with {kind} status {status}")
        }
        Some(End::Abort(cause)) => format!("and broke it off: {}", cause.as_str_name()),
        Some(End::Refused(code)) => format!("and refused: {code}"),
    };
    Some(format!(
        "{said}, in {} messages from {} to {} {ended}: they are in the log of {} at {}, signed with the key {keys}.",
        messages.len(),
        first.time,
        last.time,
        sender.member,
        sender.server,
    ))
}

/// Bytes, written as standard base64 with padding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Base64(pub(crate) Bytes);

impl Serialize for Base64 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_ref()).map(|bytes| Self(bytes.into())).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UNARY: &[u8] = include_bytes!("../vectors/evidence/unary.json");
    const ANCHOR: &[u8] = include_bytes!("../vectors/evidence/anchor.json");

    #[test]
    fn a_file_of_another_form_is_no_evidence() {
        for file in ["", "{}", "[]", "null", r#"{"format":"causeway/v1/evidence"}"#] {
            assert_eq!(verify(file.as_bytes(), b"{}").unwrap_err().step(), "7.1", "{file}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_verifier_panic(
            header in proptest::collection::vec(any::<u8>(), 0..60),
            seal in proptest::collection::vec(any::<u8>(), 0..60),
            anchor in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let file = serde_json::json!({
                "format": FORMAT,
                "exchange": "07".repeat(16),
                "holder": { "member": "VN/GOV/portal", "server": "VN/GOV/portal/ss1" },
                "configuration": {},
                "messages": [{
                    "header": STANDARD.encode(header), "seal": STANDARD.encode(&seal), "genesis": STANDARD.encode(seal),
                }],
            });
            let report = verify(file.to_string().as_bytes(), &anchor).unwrap();
            prop_assert!(!report.holds());
            prop_assert!(report.proven.is_empty());
        }

        #[test]
        fn no_text_makes_the_file_reader_panic(
            text in ".{0,200}", field in 0usize..5, bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            prop_assert!(EvidenceFile::parse(&bytes).is_err());
            prop_assert!(EvidenceFile::parse(text.as_bytes()).is_err());
            let mut file: serde_json::Value = serde_json::from_slice(UNARY).unwrap();
            let field = ["format", "exchange", "holder", "configuration", "messages"][field];
            for value in [serde_json::json!(text), serde_json::json!([text]), serde_json::json!({ &text: text })] {
                file[field] = value;
                let _ = verify(file.to_string().as_bytes(), ANCHOR);
            }
        }

        #[test]
        fn a_byte_changed_in_any_part_proves_nothing_or_the_same(
            part in any::<proptest::sample::Index>(), at in any::<proptest::sample::Index>(), to in any::<u8>(),
        ) {
            let mut file = EvidenceFile::parse(UNARY).unwrap();
            let good = verify(UNARY, ANCHOR).unwrap();
            let mut parts: Vec<&mut Base64> = file.configuration.values_mut().collect();
            for kept in &mut file.messages {
                parts.extend([&mut kept.header, &mut kept.seal, &mut kept.genesis]);
                parts.extend(&mut kept.payload);
            }
            let part = part.index(parts.len());
            let mut bytes = parts[part].0.to_vec();
            let at = at.index(bytes.len());
            bytes[at] = to;
            parts[part].0 = bytes.into();
            let report = verify(&file.to_bytes(), ANCHOR).unwrap();
            prop_assert!(report.proven.is_empty() || report.proven == good.proven);
        }

        #[test]
        fn no_anchor_makes_the_verifier_panic(at in any::<proptest::sample::Index>(), to in any::<u8>(), cut: bool) {
            let mut anchor = ANCHOR.to_vec();
            let at = at.index(anchor.len());
            if cut { anchor.truncate(at) } else { anchor[at] = to }
            prop_assume!(anchor != ANCHOR);
            let _ = verify(UNARY, &anchor).unwrap();
            let _ = verify(UNARY, &anchor[..at.min(anchor.len())]).unwrap();
        }
    }
}
