//! Who may call what for which purpose, for whoever oversees it: what providers' servers report of their grants (PROTOCOL.md 20),
//! taken within limits and recorded where it is new, and what is shown of it. Nothing is allowed or refused by any of this.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use proto::digest::Digest;
use proto::identifier::MemberId;
use proto::oversight::{Checked, Day, GrantsWanted, ReceivedReport};
use proto::registration::MAX_TEXT_BYTES;
use proto::time::Time;
use proto::wire::registry as wire;

use crate::register::{Event, Overseen, Refused, Register};
use crate::registry::Registry;

/// After so many days without a use a grant is called unused.
pub const UNUSED_DAYS: u32 = 90;
/// A grant that ends within this is called expiring.
pub const EXPIRING: Duration = Duration::from_secs(30 * 86_400);
/// Most grants that one answer shows.
pub const MAX_SHOWN: usize = 2_000;
/// Most bytes of grants that one answer shows: above what two thousand usual ones have.
pub const MAX_SHOWN_BYTES: usize = 16 * 1024 * 1024;
/// Reports of one member's servers that are taken in a minute: all grants that it may have, by name and then with documents.
pub const MAX_REPORTS_A_MINUTE: usize = 120;
/// Bytes of one member's reports that are recorded in a day: the documents of all grants that it may have, several times.
pub const MAX_RECORDED_A_DAY: usize = 64 * 1024 * 1024;

/// What members' servers may still make the registry do: a member with many has no more. Kept for members whose server's signature
/// held: their number is bounded.
#[derive(Default)]
pub(crate) struct Allowances(Mutex<HashMap<MemberId, Allowance>>);

#[derive(Default)]
struct Allowance {
    minute: u64,
    reports: usize,
    day: u64,
    bytes: usize,
}

impl Allowances {
    /// One more report of a server of this member, with so many bytes to be recorded.
    fn take(&self, member: &MemberId, now: Time, reports: usize, bytes: usize) -> Result<(), Refused> {
        let mut of = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let allowance = of.entry(member.clone()).or_default();
        let (minute, day) = (now.as_millis() / 60_000, u64::from(Day::of(now).0));
        if allowance.minute != minute {
            (allowance.minute, allowance.reports) = (minute, 0);
        }
        if allowance.day != day {
            (allowance.day, allowance.bytes) = (day, 0);
        }
        if allowance.reports + reports > MAX_REPORTS_A_MINUTE {
            return Err(Refused::Limit { what: "reports of one member in a minute", limit: MAX_REPORTS_A_MINUTE });
        }
        if allowance.bytes + bytes > MAX_RECORDED_A_DAY {
            return Err(Refused::Limit { what: "bytes of one member's reports in a day", limit: MAX_RECORDED_A_DAY });
        }
        allowance.reports += reports;
        allowance.bytes += bytes;
        Ok(())
    }
}

/// Takes a report: receive, recognise, check its signatures, judge, record what is new.
pub(crate) async fn report(
    registry: Arc<Registry>,
    signed: wire::SignedReport,
    from: String,
) -> Result<wire::ReportTaken, Refused> {
    let received = ReceivedReport::parse(signed)?;
    let server = &received.report().server;
    {
        let desk = registry.desk.lock().await;
        let now = registry.now(&desk);
        desk.register.is_the_servers(&received, now)?;
        registry.allowances.take(&server.owner(), now, 1, 0)?;
    }
    let checked = check(&registry, &received).await?;
    let mut desk = registry.desk.lock().await;
    let now = registry.now(&desk);
    let judged = desk.register.judged_report(&received, now, &checked)?;
    for (grant, why) in &judged.not_believed {
        tracing::warn!(%server, %grant, %why, "what a server reports of a grant is not believed");
    }
    if !judged.adds_nothing() {
        desk.register.has_room_for_texts(&judged)?;
        let report = STANDARD.encode(received.to_bytes());
        registry.allowances.take(&server.owner(), now, 0, report.len())?;
        let admitted = desk.admit_from(from, now, None, Event::GrantsTold { report, checked })?;
        // A crash before the record leaves nothing, and the server was not answered: it reports again.
        desk.record(admitted).await?;
    }
    Ok(wire::ReportTaken {
        lacks: judged.lacks.iter().map(Digest::to_wire).collect(),
        not_believed: judged
            .not_believed
            .iter()
            .map(|(grant, why)| wire::NotBelieved { grant: grant.to_wire(), why: why.to_string() })
            .collect(),
    })
}

/// Which of its documents' signatures hold, found while nobody waits for the desk.
async fn check(registry: &Registry, received: &ReceivedReport) -> Result<Checked, Refused> {
    let one = Arc::clone(&registry.one_report).lock_owned().await;
    let signatures = registry.desk.lock().await.register.signatures(received);
    let checking = tokio::task::spawn_blocking(move || {
        // Until it is done, whether or not who asked still waits.
        let _one = one;
        Checked::of(&signatures)
    });
    let checking = checking.await;
    checking.map_err(|error| Refused::Failed(error.to_string()))
}

/// The grants that are wanted, in the order of provider and consumer.
pub(crate) fn grants(register: &Register, wanted: &GrantsWanted, now: Time) -> wire::Grants {
    let shown = register.overseen().filter(|(_, overseen)| is_asked_for(&overseen.grant, wanted));
    let shown =
        shown.map(|(name, overseen)| (overseen.grant.provider.member(), shown_grant(register, name, overseen, now)));
    let in_use = |grant: &wire::OverseenGrant| grant.ended == 0 && grant.valid_until > now.as_millis();
    let mut grants: Vec<_> = shown
        .filter(|(_, grant)| wanted.over || in_use(grant))
        .filter(|(_, grant)| (!wanted.expiring || grant.expiring) && (!wanted.unused || grant.unused))
        .collect();
    let order = |(_, grant): &(MemberId, wire::OverseenGrant)| {
        (grant.provider.clone(), grant.consumer.clone(), grant.valid_from, grant.number)
    };
    grants.sort_by_cached_key(order);
    let found = grants.len();
    let mut grants = fair_part(grants);
    grants.sort_by_cached_key(order);
    let more = (found - grants.len()) as u64;
    wire::Grants { grants: grants.into_iter().map(|(_, grant)| grant).collect(), more }
}

/// As many as one answer shows. Where that is not all, each provider's member has as much room as any other: nobody hides another's
/// behind its own, by their number or by their length.
fn fair_part(grants: Vec<(MemberId, wire::OverseenGrant)>) -> Vec<(MemberId, wire::OverseenGrant)> {
    let mut taken: HashMap<MemberId, usize> = HashMap::new();
    let mut in_turn: Vec<_> = grants
        .into_iter()
        .map(|(member, grant)| {
            let bytes = grant.encoded_len().max(MAX_SHOWN_BYTES / MAX_SHOWN);
            let of_member = taken.entry(member.clone()).or_default();
            *of_member += bytes;
            (*of_member, bytes, (member, grant))
        })
        .collect();
    in_turn.sort_by_key(|(of_member, ..)| *of_member);
    let mut room = MAX_SHOWN_BYTES;
    let fits = |(_, bytes, grant)| {
        room = room.checked_sub(bytes)?;
        Some(grant)
    };
    in_turn.into_iter().map_while(fits).collect()
}

fn is_asked_for(grant: &proto::access::Grant, wanted: &GrantsWanted) -> bool {
    let GrantsWanted { provider, consumer, purpose, .. } = wanted;
    provider.as_ref().is_none_or(|party| party.is(&grant.provider))
        && consumer.as_ref().is_none_or(|party| party.is(&grant.consumer))
        && purpose.as_ref().is_none_or(|purpose| grant.purposes.contains(purpose.as_str()))
}

fn shown_grant(register: &Register, name: Digest, overseen: &Overseen, now: Time) -> wire::OverseenGrant {
    let Overseen { grant, server, told, ended, countersigned, last_used } = overseen;
    let listed = register.purposes();
    let unlisted = |code: &&String| !listed.is_empty() && !listed.iter().any(|known| known.purpose.as_str() == *code);
    let standing = match ended {
        Some(_) => "ended",
        None if grant.valid_until <= now.as_millis() => "expired",
        None if grant.valid_from > now.as_millis() => "to come",
        None => "in force",
    };
    let in_force = standing == "in force";
    let since = last_used.unwrap_or(Day::of(Time::from_millis(grant.valid_from)));
    wire::OverseenGrant {
        grant: name.to_wire(),
        consumer: grant.consumer.to_string(),
        provider: grant.provider.to_string(),
        methods: grant.methods.iter().map(|method| plain(method)).collect(),
        purposes: grant.purposes.iter().map(|purpose| plain(purpose)).collect(),
        unlisted: grant.purposes.iter().filter(unlisted).map(|purpose| plain(purpose)).collect(),
        legal_basis: plain(&grant.legal_basis),
        valid_from: grant.valid_from,
        valid_until: grant.valid_until,
        per_second: grant.per_second.unwrap_or_default(),
        server: server.to_string(),
        number: grant.number.0,
        request: grant.request.map(|request| request.to_string()).unwrap_or_default(),
        countersigned: *countersigned,
        standing: standing.to_owned(),
        ended: ended.as_ref().map(|ended| ended.at.max(1)).unwrap_or_default(),
        reason: ended.as_ref().map(|ended| plain(&ended.reason)).unwrap_or_default(),
        last_used: last_used.map(|day| day.to_string()).unwrap_or_default(),
        expiring: in_force && grant.valid_until <= now.plus(EXPIRING).as_millis(),
        unused: in_force && Day::of(now).0.saturating_sub(since.0) >= UNUSED_DAYS,
        told: *told,
    }
}

/// What a provider wrote, as it may stand on an admin's screen: of one line, and not longer than other texts.
fn plain(text: &str) -> String {
    let strange =
        |letter: char| letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut plain: String = text.chars().map(|letter| if strange(letter) { '\u{fffd}' } else { letter }).collect();
    if plain.len() > MAX_TEXT_BYTES {
        plain.truncate(plain.floor_char_boundary(MAX_TEXT_BYTES));
        plain.push('…');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(1_800_000_000_000);

    #[test]
    fn a_member_may_report_so_often_in_a_minute_and_have_so_much_recorded_in_a_day() {
        let (allowances, member) = (Allowances::default(), "VN/GOV/moj".parse().unwrap());
        let report = |now| allowances.take(&member, now, 1, 0);
        assert!((0..MAX_REPORTS_A_MINUTE).all(|_| report(NOW).is_ok()));
        let refused = report(NOW).unwrap_err().to_string();
        assert!(refused.contains("reports of one member in a minute"), "{refused}");
        let minute = NOW.plus(Duration::from_secs(60));
        assert!(report(minute).is_ok(), "another minute");
        assert!(allowances.take(&"VN/GOV/portal".parse().unwrap(), NOW, 1, 0).is_ok(), "another member");
        let record = |now, bytes| allowances.take(&member, now, 0, bytes);
        assert!(record(minute, MAX_RECORDED_A_DAY).is_ok());
        let refused = record(minute, 1).unwrap_err().to_string();
        assert!(refused.contains("bytes of one member's reports in a day"), "{refused}");
        assert!(record(minute.plus(Duration::from_secs(86_400)), 1).is_ok(), "another day");
    }

    #[test]
    fn nobody_hides_others_grants_behind_the_number_or_the_length_of_its_own() {
        let grant = |member: &str, number: u64, length: usize| {
            let legal_basis = "x".repeat(length);
            (member.parse::<MemberId>().unwrap(), wire::OverseenGrant { number, legal_basis, ..Default::default() })
        };
        let numbers = |shown: &[(MemberId, wire::OverseenGrant)], member: &str| {
            let of_it = shown.iter().filter(|(of, _)| of.to_string() == member);
            of_it.map(|(_, grant)| grant.number).collect::<Vec<_>>()
        };
        let many = (0..2 * MAX_SHOWN as u64).map(|number| grant("VN/GOV/a", number, 0));
        let long = (0..100).map(|number| grant("VN/GOV/b", number, MAX_SHOWN_BYTES / 50));
        let few = (0..10).map(|number| grant("VN/GOV/c", number, 10));
        let shown = fair_part(many.clone().chain(long).chain(few).collect());
        assert_eq!(numbers(&shown, "VN/GOV/c"), (0..10).collect::<Vec<_>>());
        let (many_shown, long_shown) = (numbers(&shown, "VN/GOV/a").len(), numbers(&shown, "VN/GOV/b").len());
        assert!((20..=25).contains(&long_shown) && (900..=1000).contains(&many_shown), "{many_shown} {long_shown}");
        // Alone, a member has all the room; and what fits is shown whole.
        assert_eq!(numbers(&fair_part(many.clone().collect()), "VN/GOV/a"), (0..MAX_SHOWN as u64).collect::<Vec<_>>());
        assert_eq!(fair_part(many.take(5).collect()).len(), 5);
    }

    #[test]
    fn what_a_provider_wrote_forges_no_line_of_a_screen() {
        assert_eq!(plain("Điều 13"), "Điều 13");
        assert_eq!(plain("a\nb\u{1b}[2J\u{202e}c"), "a\u{fffd}b\u{fffd}[2J\u{fffd}c");
        let long = plain(&"Đ".repeat(MAX_TEXT_BYTES));
        assert!(long.len() <= MAX_TEXT_BYTES + '…'.len_utf8() && long.ends_with('…'));
    }
}
