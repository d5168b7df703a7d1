//! What a running server answered its operator, in words.

use command_line::Paint;
use proto::access::Priority;
use proto::catalogue::{ElementName, Part, ServiceForm};
use proto::refusal::Language;
use proto::time::Time;
use serde::{Deserialize, Serialize};

use crate::access_requests::{Shown, ShownRequests};
use crate::access_rights::Grant;
use crate::archive::ArchiveHealth;
use crate::disclosures::Disclosures;
use crate::listen::operators::keys::Keys;
use crate::listen::operators::registration::Registered;
use crate::listen::operators::{Accepted, Changed, Records, Status, Verdict};
use crate::listings::elements::{AskedCounts, ElementLine, ElementLines, ElementShown, Reuse};
use crate::listings::{Published, ServiceLines, ServiceShown, Source};
use crate::lookout::Room;
use crate::message_log::exchanges::{FoundExchange, FoundExchanges, ResultKind};
use crate::payloads::ErasedPayloads;
use crate::renewal::KeyState;

/// How the server is.
pub fn status(status: &Status, paint: Paint) -> String {
    let health = &status.health;
    let well = |is: bool, word: &str| if is { paint.good(word) } else { paint.bad(word) };
    let ready = well(health.ready, if health.ready { "ready" } else { "NOT ready" });
    let freshness = match &*health.configuration {
        "fresh" => paint.good("fresh"),
        "stale" => paint.doubtful("stale"),
        other => paint.bad(other),
    };
    let mut text = format!(
        "{} is {ready}\n  message log    {}\n  configuration  {freshness}: version {}, good until {}\n  exchanges      {} running\n  \
         grants         {}\n",
        paint.name(status.server.as_str()),
        well(health.message_log == "running", &health.message_log),
        health.configuration_version,
        health.configuration_expires,
        status.running,
        status.grants,
    );
    if health.keys != "good" {
        text += &format!("  keys           {}\n", paint.bad(&health.keys));
    }
    if let Some(why) = &health.keys_not_renewed {
        text += &format!("  keys           {}: {why}\n", paint.doubtful("not renewed"));
    }
    for kept in &status.payloads {
        text += &format!("  payloads       of {} at {}: kept {}\n", kept.service, kept.subsystem, kept.keep);
    }
    if let Some(why) = &status.payloads_hindered {
        text += &format!("  payloads       {}: {why}\n", paint.bad("HINDERED"));
    }
    if health.draining {
        text += &format!("  {}  it ends when what runs has ended\n", paint.doubtful("shutting down"));
    }
    if health.clock_behind_ms > 0 {
        let behind = format!("{} ms behind the log's last time: set the clock", health.clock_behind_ms);
        text += &format!("  clock          {}\n", paint.bad(&behind));
    }
    let free = health.disk_free_bytes >> 20;
    match health.disk {
        Room::Ample => {}
        Room::Low => text += &format!("  disk           {}, {free} MiB are free\n", paint.doubtful("low")),
        Room::Full | Room::Spent => text += &format!("  disk           {}, {free} MiB are free\n", paint.bad("full")),
    }
    if let Some(archive) = &health.archive {
        let ArchiveHealth { archived, waiting, waiting_since, failing, differs, here, removed, kept_for, held } =
            archive;
        let since = waiting_since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
        text += &format!("  archive        {archived} segments archived, {waiting} waiting{since}\n");
        if let Some(kept_for) = kept_for {
            text += &format!(
                "                 kept here for {kept_for}: {here} segments are here, {removed} in the archive only\n"
            );
        }
        for why in [failing, differs, held].into_iter().flatten() {
            text += &format!("                 {}\n", paint.bad(why));
        }
    }
    for alarm in &health.raised {
        text += &format!("  alarm          {}\n", paint.bad(alarm));
    }
    if health.waits_after_restore_ms > 0 {
        let waits = format!("calls of peers are refused for {} ms more", health.waits_after_restore_ms);
        text += &format!("  restored       {}\n", paint.doubtful(&waits));
    }
    if health.alarms > 0 {
        let alarms = format!("{} about peers' logs: see `security-server audit list`", health.alarms);
        text += &format!("  ALARMS         {}\n", paint.bad(&alarms));
    }
    text
}

/// What `access list` shows: who asks, and who may.
#[derive(Serialize)]
pub struct AccessList {
    /// In the order of their numbers.
    pub grants: Vec<Grant>,
    /// The oldest first.
    pub requests: Vec<Shown>,
}

/// Who asks for access, and the grants.
pub fn access(list: &AccessList, paint: Paint) -> String {
    let waiting: Vec<&Shown> = list.requests.iter().filter(|request| request.standing == "waiting").collect();
    let asked = waiting.iter().map(|asked| {
        let id = named(asked);
        let next = format!("   next      access approve {id}, or access reject {id} --reason TEXT\n");
        format!("{}{next}", request(asked, paint))
    });
    let mut parts: Vec<String> = asked.collect();
    if list.grants.is_empty() {
        parts.push(
            "No grant: nobody may call anything here. Grant access: security-server access grant --help".to_owned(),
        );
    }
    parts.extend(list.grants.iter().map(grant));
    parts.join("\n")
}

/// What was asked of others.
pub fn requests_sent(sent: &ShownRequests, paint: Paint) -> String {
    if sent.requests.is_empty() {
        return "Nothing was asked of others. Ask for access: security-server access request --help".to_owned();
    }
    sent.requests.iter().map(|each| request(each, paint)).collect::<Vec<_>>().join("\n")
}

fn named(request: &Shown) -> &str {
    request.request.get(..12).unwrap_or(&request.request)
}

/// An access request, and what became of it.
pub fn request(request: &Shown, paint: Paint) -> String {
    let list = |items: &std::collections::BTreeSet<String>| items.iter().cloned().collect::<Vec<_>>().join(", ");
    let standing = match request.standing.as_str() {
        "granted" => paint.good("granted"),
        "waiting" => paint.doubtful("waiting"),
        other => paint.bad(other),
    };
    let Shown { consumer, provider, purpose, legal_basis, asked_at, until, .. } = request;
    let mut text = format!(
        "{}  {standing}  {consumer} asks to call {provider}\n   methods   {}\n   purpose   {purpose}\n   law       \
         {legal_basis}\n   asked     {asked_at}, until {until}\n",
        named(request),
        list(&request.methods)
    );
    if request.made == Some(false) {
        text += "   the same was asked before, and waits: this is that request\n";
    }
    if let Some(received) = &request.received_at {
        text += &format!("   received  {received}\n");
    }
    if let Some(at) = request.at.as_ref().filter(|_| request.standing == "waiting") {
        text += &format!("   waits at  {at}: its admin decides\n");
    }
    if let Some(why) = &request.hindered {
        text += &format!("   {} {why}; it is tried again every minute\n", paint.doubtful("hindered "));
    }
    if let Some(decided) = &request.decided_at {
        text += &format!("   decided   {decided}\n");
    }
    if let Some(reason) = &request.reason {
        text += &format!("   reason    {reason}\n");
    }
    if let Some(granted) = &request.grant {
        let signed = if request.countersigned { "countersigned by the consumer" } else { "not countersigned" };
        text += &format!("   granted   until {}, {signed}\n", Time::from_millis(granted.valid_until));
        text += &fields(granted);
    }
    if !request.differs.is_empty() {
        let differs = format!("it differs from what was asked in {}", request.differs.join(", "));
        text += &format!("   {}\n", paint.doubtful(&differs));
    }
    text
}

fn grant(grant: &Grant) -> String {
    let list = |items: &std::collections::BTreeSet<String>| items.iter().cloned().collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "{}  {} may call {}\n   methods   {}\n   purposes  {}\n   valid     {} to {}\n",
        grant.number.0,
        grant.consumer,
        grant.provider,
        list(&grant.methods),
        list(&grant.purposes),
        Time::from_millis(grant.valid_from),
        Time::from_millis(grant.valid_until),
    );
    if !grant.legal_basis.is_empty() {
        text += &format!("   law       {}\n", grant.legal_basis);
    }
    if let Some(per_second) = grant.per_second {
        text += &format!("   rate      {per_second} exchanges a second\n");
    }
    if grant.priority != Priority::Ordinary {
        text += &format!("   priority  {}\n", grant.priority);
    }
    text + &fields(grant)
}

/// What of the answers may be received, where not all.
fn fields(grant: &Grant) -> String {
    if grant.fields.is_empty() { String::new() } else { format!("   fields    {}\n", grant.fields) }
}

/// A grant that was made, and now is in force.
pub fn granted(changed: &Changed, paint: Paint) -> String {
    format!("{}\n{}{}", paint.good("Granted, and in force."), grant(&changed.grant), note(&changed.note, paint))
}

/// A grant that was ended.
pub fn ended(changed: &Changed, paint: Paint) -> String {
    format!("{}\n{}", paint.good("Ended, for running exchanges too."), grant(&changed.grant))
}

/// A clock that was accepted, and now counts.
pub fn clock_accepted(accepted: &Accepted, paint: Paint) -> String {
    let done = paint.good("Accepted, and recorded.");
    format!("{done}\n  the clock    {}\n  the log had  {}\n", accepted.clock, accepted.log_had)
}

/// Whether a call would be allowed.
pub fn verdict(verdict: &Verdict, paint: Paint) -> String {
    let note = note(&verdict.note, paint);
    if let Some(by) = verdict.grant.as_ref().filter(|_| verdict.allowed) {
        return format!("{} by\n{}{note}", paint.good("allowed"), grant(by));
    }
    let said = |text: &Option<String>| text.clone().unwrap_or_default();
    format!(
        "{}: {}\n  {}\n  {}\n{note}",
        paint.bad("not allowed"),
        said(&verdict.code),
        said(&verdict.title),
        said(&verdict.remedy)
    )
}

/// This server's own keys.
pub fn keys(keys: &Keys, paint: Paint) -> String {
    let line = |key: &KeyState| {
        let state = match key.state.as_str() {
            "in use" => paint.good("in use"),
            "revoked" => paint.bad("REVOKED"),
            other => paint.doubtful(other),
        };
        let good = key.not_after.as_ref().map_or_else(|| "no certificate yet".to_owned(), |end| format!("until {end}"));
        let from = key.used_from.as_ref().map(|from| format!(", used from {from}")).unwrap_or_default();
        format!("{} {}  {state}  {good}{from}\n  {}\n", key.what.word(), key.number, key.key)
    };
    keys.keys.iter().map(line).collect()
}

/// A key that was certified, beside those before it.
pub fn rotated(made: &Keys, paint: Paint) -> String {
    format!("{}\n{}", paint.good("Certified. Nothing stops while it waits."), keys(made, paint))
}

/// What the registry recorded at this server's wish.
pub fn registered(recorded: &Registered, paint: Paint) -> String {
    match recorded.version {
        Some(version) => paint.good(&format!("Recorded, and published as version {version} of the configuration.")),
        None => paint.good("Recorded. Nothing changes until the registry's admins decide."),
    }
}

fn note(note: &Option<String>, paint: Paint) -> String {
    note.as_ref().map(|note| format!("{} {note}\n", paint.doubtful("Note:"))).unwrap_or_default()
}

/// A record of an exchange, as the operators' door tells it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    position: String,
    kind: String,
    direction: Option<String>,
    number: Option<u64>,
    time: Option<String>,
    end: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    removed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    salt: Option<String>,
    #[serde(default)]
    payload: Option<String>,
}

/// Of which service nothing is kept, that is not said of each of its messages.
const NEVER_KEPT: &str = "never kept";

/// What a message of an exchange carries, and whether it is in the evidence.
#[derive(Debug, Serialize)]
pub struct PayloadLine {
    /// `request` or `answer`.
    pub direction: String,
    /// Its place in the direction.
    pub number: u64,
    /// `kept`, and until when; or why it is not there.
    pub payload: String,
}

/// The messages that carry something, and what became of it.
pub fn payloads(records: &Records<Line>) -> Vec<PayloadLine> {
    let of = |line: &Line| {
        let (direction, payload) = (line.direction.clone()?, line.payload.clone()?);
        Some(PayloadLine { direction, number: line.number?, payload })
    };
    records.records.iter().filter_map(of).collect()
}

/// The same in words.
pub fn payload_lines(lines: &[PayloadLine]) -> String {
    let line = |PayloadLine { direction, number, payload }: &PayloadLine| {
        format!("payload of {direction} {number}: {payload}\n")
    };
    lines.iter().map(line).collect()
}

/// Payloads that are erased.
pub fn payloads_erased(erased: &ErasedPayloads, paint: Paint) -> String {
    let ErasedPayloads { exchange, messages } = erased;
    let done = paint.good("Erased, and recorded.");
    format!("{done}\n  the payloads of {messages} messages of exchange {exchange}; what it proves stays\n")
}

/// What the log holds of an exchange: a line for each record.
pub fn records(records: &Records<Line>, paint: Paint) -> String {
    let mut text = format!(
        "exchange {}\n  {:<9} {:<8} {:>6}  {:<24}  {:<26} position\n",
        paint.name(&records.exchange),
        "record",
        "of the",
        "number",
        "time",
        "end"
    );
    for line in &records.records {
        let number = line.number.map(|number| number.to_string()).unwrap_or_default();
        text += &format!(
            "  {:<9} {:<8} {number:>6}  {:<24}  {:<26} {}\n",
            line.kind,
            line.direction.as_deref().unwrap_or_default(),
            line.time.as_deref().unwrap_or_default(),
            line.end.as_deref().unwrap_or_default(),
            line.position,
        );
        if let Some(commitment) = &line.removed {
            text += &format!("  {:<9} fields were removed: commitment {commitment}\n", "");
        }
        if let Some(salt) = &line.salt {
            text += &format!("  {:<9} its salt, which nobody else has: {salt}\n", "");
        }
        if let Some(payload) = line.payload.as_ref().filter(|payload| *payload != NEVER_KEPT) {
            text += &format!("  {:<9} its payload: {payload}\n", "");
        }
    }
    text
}

/// Exchanges that were found, a line each.
pub fn exchanges(found: &FoundExchanges, paint: Paint) -> String {
    let mut text = String::new();
    if found.exchanges.is_empty() {
        text += "none; times are of the openings, by their senders' clocks, in UTC\n";
    }
    for line in &found.exchanges {
        let (peer, way) = match line.side.as_str() {
            "consumer" => (&line.provider, "to"),
            _ => (&line.consumer, "from"),
        };
        let attempt = if line.attempt > 1 { format!(", attempt {}", line.attempt) } else { String::new() };
        let FoundExchange { time, exchange, operation, .. } = line;
        let exchange = paint.name(exchange);
        text += &format!("{time}  {exchange}  {way:<4} {peer}  {operation}  {}{attempt}\n", result(line, paint));
    }
    if let Some(next) = &found.next {
        text += &format!("and older ones: ask for more with --limit, or go on with --before {next}\n");
    }
    if let Some(last) = found.not_indexed {
        text += &format!(
            "NOT ALL: segments 1 to {last} were removed here before the index was built, and exchanges in them are not among these; \
             deploy/README.md says how they are brought back\n"
        );
    }
    text.trim_end().to_owned()
}

/// Who received what about a person: an entry each, for the person as much as for the clerk who reads it to them.
pub fn disclosures(told: &Disclosures, language: Language, paint: Paint) -> String {
    let word = |english: &'static str, vietnamese: &'static str| match language {
        Language::English => english,
        Language::Vietnamese => vietnamese,
    };
    let mut text = String::new();
    for each in &told.disclosures {
        let purpose = each.purpose_text.as_ref().map_or(each.purpose.as_str(), |text| text.in_language(language));
        let elements: Vec<&str> = each.elements.iter().map(ElementName::as_str).collect();
        let what = each.description.as_ref().or(each.service.as_ref()).unwrap_or(&each.method);
        let who = paint.name(&each.consumer_name);
        text += &format!("{}  {who} ({})\n", each.time, each.consumer);
        text += &format!("  {}: {what} ({})\n", word("what", "dữ liệu"), each.method);
        if !elements.is_empty() {
            text += &format!("  {}: {}\n", word("it tells", "nội dung"), elements.join(", "));
        }
        text += &format!("  {}: {purpose}\n", word("for", "mục đích"));
        text += &format!("  {}: {}\n", word("legal basis", "căn cứ pháp lý"), each.legal_basis);
        let result = result_in_words(each.result, language);
        let status = each.status.filter(|status| *status != 0).map(|status| format!(" (gRPC {status})"));
        let status = status.unwrap_or_default();
        text += &format!("  {}: {result}{status}  {}\n", word("result", "kết quả"), paint.name(&each.exchange));
    }
    if told.disclosures.is_empty() {
        let nothing = word("nobody asked this server about this person", "chưa có ai hỏi máy chủ này về cá nhân này");
        text += &format!("{nothing}\n");
    }
    if let Some(next) = &told.next {
        let older = word("and older ones: go on with", "còn các lượt cũ hơn: xem tiếp với");
        text += &format!("{older} --before {next}\n");
    }
    for server in &told.not_covered {
        let ask = word("not in this list is what was asked at", "danh sách này chưa gồm các yêu cầu đã gửi đến");
        text += &format!("{ask} {server}\n");
    }
    text.trim_end().to_owned()
}

/// How an exchange ended, for the person whom it was about.
pub fn result_in_words(result: ResultKind, language: Language) -> &'static str {
    let (english, vietnamese) = match result {
        ResultKind::Open => ("still running", "đang thực hiện"),
        ResultKind::Answered => ("answered", "đã trả lời"),
        ResultKind::Refused => ("refused", "đã từ chối"),
        ResultKind::Aborted => ("broken off", "bị ngắt giữa chừng"),
        ResultKind::Unanswered => ("no answer", "không có trả lời"),
    };
    match language {
        Language::English => english,
        Language::Vietnamese => vietnamese,
    }
}

fn result(line: &FoundExchange, paint: Paint) -> String {
    let said = |text: &Option<String>| text.clone().unwrap_or_default();
    match line.result {
        ResultKind::Open => paint.doubtful("open"),
        ResultKind::Answered => match line.status.unwrap_or_default() {
            0 => paint.good("answered"),
            status => paint.doubtful(&format!("answered with status {status}")),
        },
        ResultKind::Refused => paint.bad(&format!("refused {}", said(&line.code))),
        ResultKind::Aborted => paint.bad(&format!("aborted: {}", said(&line.cause))),
        ResultKind::Unanswered => paint.bad(&format!("unanswered: {}", said(&line.outcome))),
    }
}

/// Services, a line each.
pub fn services(found: &ServiceLines, paint: Paint) -> String {
    if found.services.is_empty() {
        return "none; a service that was published a moment ago is found when its version of the configuration is here".into();
    }
    let mut text = String::new();
    for line in &found.services {
        let title = line.title.as_ref().map(|title| format!("  {title}")).unwrap_or_default();
        let old = line.deprecated.as_ref().map(|instead| format!("  deprecated: {instead}")).unwrap_or_default();
        let (service, old) = (paint.name(line.service.as_str()), paint.doubtful(&old));
        text += &format!("{service} {}  {}{title}{old}\n", line.version, line.subsystem);
    }
    if found.more {
        text += "and more; give another word\n";
    }
    text.trim_end().to_owned()
}

/// All that an entry says.
pub fn service(found: &ServiceShown, paint: Paint) -> String {
    let audience = found.open_to.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let audience = if audience.is_empty() { "every member".to_owned() } else { audience };
    let mut text = services(&ServiceLines { services: vec![found.line.clone()], more: false }, paint);
    for line in found.description.lines() {
        text += &format!("\n  {line}");
    }
    for method in &found.methods {
        let stream = |streams: bool| if streams { "stream " } else { "" };
        let (request, response) = (stream(method.client_streaming), stream(method.server_streaming));
        let name = paint.name(&method.name);
        text += &match &method.place {
            Some(place) => format!("\n  {name}  {place}"),
            None => format!("\n  {name}({request}{}) returns ({response}{})", method.request, method.response),
        };
        for line in method.description.lines() {
            text += &format!("\n    {line}");
        }
    }
    for field in &found.elements {
        let why = field.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        text += &format!("\n  {:<13}{}  {}{why}", field.part.word(), field.element, field.field);
    }
    let content = if found.form == ServiceForm::Rest { "openapi    " } else { "descriptors" };
    text + &format!(
        "\n  contact      {}\n  open to      {audience}\n  signed       {} with the key {}\n  entry        {}\n  {content}  {}",
        found.contact, found.signed_at, found.signed_with, found.entry, found.descriptors
    )
}

/// What was listed.
pub fn published(made: &Published, paint: Paint) -> String {
    let lines = services(&ServiceLines { services: made.services.clone(), more: false }, paint);
    let told = paint.good(&format!("Listed, from version {} of the configuration on.", made.configuration_version));
    let remarks: String = made.remarks.iter().map(|remark| format!("\n{}", paint.doubtful(remark))).collect();
    format!("{told}\n{lines}{remarks}")
}

/// Elements, a line each.
pub fn elements(found: &ElementLines, paint: Paint) -> String {
    if found.elements.is_empty() {
        return "none; fields that say which element they carry are listed with `security-server services publish`"
            .into();
    }
    let mut text = String::new();
    for line in &found.elements {
        let source = line.source.as_ref().map_or_else(|| "no source".to_owned(), |source| source.to_string());
        let ElementLine { element, given, taken, collected, .. } = line;
        let again = match line.asked_again.len() {
            0 => String::new(),
            _ => paint.doubtful("  asked again"),
        };
        let element = paint.name(element.as_str());
        text += &format!("{element}  {source}  given {given}, taken {taken}, collected {collected}{again}\n");
    }
    text + if found.more { "and more; give a word of their names" } else { "" }
}

/// What people are asked though it has a source.
pub fn duplicates(found: &ElementLines, paint: Paint) -> String {
    if found.elements.is_empty() {
        return "Nobody is asked for what a service is the source of.".into();
    }
    let mut text = String::new();
    for line in &found.elements {
        let source = line.source.as_ref().map(ToString::to_string).unwrap_or_default();
        text += &format!("{}  its source: {source}\n", paint.name(line.element.as_str()));
        for offer in &line.asked_again {
            let why = offer.reason.as_deref().unwrap_or("no reason given: it was listed before the source was");
            text += &format!("  asked again by {offer}: {}\n", paint.doubtful(why));
        }
    }
    text + if found.more { "and more; `security-server elements list WORDS` shows some of them" } else { "" }
}

/// Who carries an element.
pub fn element(found: &ElementShown, paint: Paint) -> String {
    let mut text = format!("{}\n", paint.name(found.element.as_str()));
    for user in &found.services {
        let why = user.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let (part, field, service) = (user.part.word(), &user.field, &user.service);
        text += &format!("  {part:<13}  {field}  {service} {} of {}{why}\n", user.version, user.subsystem);
        if user.part == Part::Authoritative {
            text += &format!("  {:<13}  ask {} for access\n", "", user.contact);
        }
    }
    text + if found.more { "  and more" } else { "" }
}

/// How much is reused.
pub fn reuse(found: &Reuse, paint: Paint) -> String {
    let counts = |asked: &AskedCounts| {
        let AskedCounts { reused, first, again } = asked;
        format!("{reused} reused, {first} asked once, {again} asked again")
    };
    let mut text = format!("{}\n", paint.good(&format!("all services: {}", counts(&found.sum))));
    for service in &found.services {
        let name = paint.name(service.service.as_str());
        text += &format!("{name}  {}  {}\n", service.subsystem, counts(&service.now));
        for version in &service.versions {
            text += &format!("  {:<6} {}  {}\n", version.version.to_string(), version.time, counts(&version.asked));
        }
    }
    text + if found.more { "and more; `--service` shows one" } else { "" }
}

/// .proto files, the service's own first.
pub fn source(found: &Source) -> String {
    let mut text = String::new();
    for (number, file) in found.files.iter().enumerate() {
        if number > 0 {
            text += &format!("\n// ---- {}\n\n", file.name);
        }
        text += &file.text;
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_shows_its_priority_where_it_is_not_ordinary() {
        let shown = |more: &str| {
            let text = format!(
                r#"{{"number":1,"consumer":"VN/GOV/portal/one-stop","provider":"VN/GOV/moj/civil-registry","methods":["/a.B/C"],
                    "purposes":["testing"],"legal_basis":"","valid_from":1,"valid_until":2{more}}}"#
            );
            grant(&serde_json::from_str(&text).unwrap())
        };
        assert!(!shown("").contains("priority"));
        for word in ["urgent", "bulk"] {
            assert!(shown(&format!(r#","priority":"{word}""#)).contains(&format!("   priority  {word}\n")));
        }
    }
}
