//! This machine's clock against the registry's, the peers', and what was written down.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use checks::{Found, Looked, failed, ok, warning};
use proto::identifier::ServerId;
use proto::time::Time;
use proto::transport::MAX_SKEW;

use super::doors::State;
use super::peers::Dialled;
use super::registry::Told;
use super::{Here, Part, Sheet};

/// A difference that somebody should look after, long before it refuses anything.
pub const ALARM: Duration = Duration::from_secs(5);

const REMEDY: &str = "timedatectl set-ntp true; timedatectl shows whether it is synchronised";

/// How far this machine's clock is ahead of another's, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Offset(i64);

impl Offset {
    /// From the `date` of an answer that was asked for at `asked` and was here at `came`. HTTP says whole seconds: half a
    /// second is the mean of what it leaves out.
    pub fn of(date: &str, asked: Time, came: Time) -> Option<Self> {
        let theirs = httpdate::parse_http_date(date).ok()?.duration_since(UNIX_EPOCH).ok()?.as_millis() + 500;
        let ours = asked.as_millis().midpoint(came.as_millis());
        Some(Self(i64::try_from(ours).ok()?.checked_sub(i64::try_from(theirs).ok()?)?))
    }

    /// How far apart the two are.
    pub fn apart(self) -> Duration {
        Duration::from_millis(self.0.unsigned_abs())
    }

    /// In words: this clock and the other's.
    pub fn to(self, other: &str) -> String {
        let seconds = (self.apart().as_millis() + 500) / 1000;
        match self.0 {
            _ if seconds <= 1 => format!("within a second of {other}"),
            0.. => format!("{seconds} s ahead of {other}"),
            _ => format!("{seconds} s behind {other}"),
        }
    }
}

/// Says how this machine's clock is. What judges by the clock rests on it.
pub(super) fn compare(
    sheet: &Sheet,
    here: &Here,
    told: &Found<Told>,
    dialled: &BTreeMap<ServerId, Dialled>,
    last_time: Option<Time>,
) -> Found<()> {
    let now = here.clock.now();
    let line = sheet.line(Part::Clock, "clock", now.to_string());
    let own = here.file.get().ok().map(|file| &file.configuration.server);
    let others = dialled.iter().filter(|(server, _)| Some(*server) != own);
    let peers: Vec<_> = others.filter_map(|(server, dialled)| Some((server.as_str(), dialled.offset()?))).collect();
    let behind_log = match (here.state.get(), last_time) {
        (Ok(State::Running(health)), _) => Duration::from_millis(health.clock_behind_ms),
        (_, Some(last)) if last > now => last.distance(now),
        _ => Duration::ZERO,
    };
    let signed = here.stored.get().ok().map(|stored| stored.configuration().signed_at);
    line.says(judged(now, told.get().ok().and_then(|told| told.offset), &peers, behind_log, signed))
}

fn judged(
    now: Time,
    registry: Option<Offset>,
    peers: &[(&str, Offset)],
    behind_log: Duration,
    signed: Option<Time>,
) -> Looked<()> {
    let registry = registry.map(|offset| ("the registry", offset));
    let agreeing = peers.iter().filter(|(_, offset)| offset.apart() <= ALARM).count();
    let off = peers.iter().filter(|(_, offset)| offset.apart() > ALARM);
    let mut told: Vec<_> = registry.iter().chain(off).map(|(other, offset)| offset.to(other)).collect();
    if agreeing > 0 {
        told.push(format!("within {} s of {agreeing} peers", ALARM.as_secs()));
    }
    let told = told.join(", ");
    // The registry's clock counts; without it the peer in the middle.
    let reference = registry.map(|(_, offset)| offset).or_else(|| {
        let mut offsets: Vec<_> = peers.iter().map(|(_, offset)| *offset).collect();
        offsets.sort();
        offsets.get(offsets.len() / 2).copied()
    });
    let beyond = format!("servers refuse openings whose time is more than {} s off", MAX_SKEW.as_secs());
    if reference.is_some_and(|offset| offset.apart() > MAX_SKEW) {
        return Err(failed(format!("{told}: {beyond}"), REMEDY));
    }
    if behind_log > MAX_SKEW {
        let told = format!("{} s behind the last time in the message log: {beyond}", behind_log.as_secs());
        return Err(failed(
            told,
            format!("{REMEDY}; if it was ahead before, the server is ready when the time has come"),
        ));
    }
    if let Some(signed) = signed.filter(|signed| *signed > now && signed.distance(now) > MAX_SKEW) {
        let told = format!(
            "{} s behind the time at which the global configuration was signed",
            signed.distance(now).as_secs()
        );
        return Err(failed(told, REMEDY));
    }
    match reference {
        Some(offset) if offset.apart() > ALARM => Ok(warning((), format!("{told}: {beyond}"), REMEDY)),
        Some(_) => Ok(ok((), told)),
        None => Ok(warning((), "compared with nobody: neither the registry nor a peer told its time", REMEDY)),
    }
}

/// A time as HTTP says it, for tests of what reads one.
#[cfg(test)]
fn date(time: Time) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(time.as_millis()))
}

#[cfg(test)]
mod tests {
    use checks::Wrong;

    use super::*;

    const NOW: Time = Time::from_millis(1_800_000_000_500);

    #[test]
    fn the_offset_is_of_the_middle_of_the_second_and_of_the_way() {
        let second = Time::from_millis(1_800_000_000_000);
        let offset = |ours: Time| {
            Offset::of(&date(second), ours.minus(Duration::from_millis(20)), ours.plus(Duration::from_millis(20)))
        };
        assert_eq!(offset(NOW), Some(Offset(0)));
        assert_eq!(offset(NOW.plus(Duration::from_secs(94))).unwrap().to("the registry"), "94 s ahead of the registry");
        assert_eq!(offset(NOW.minus(Duration::from_secs(94))).unwrap().to("the registry"), "94 s behind the registry");
        assert_eq!(offset(NOW.plus(Duration::from_millis(900))).unwrap().to("it"), "within a second of it");
        assert_eq!(Offset::of("yesterday", NOW, NOW), None);
    }

    #[test]
    fn a_clock_is_judged_on_each_side_of_its_limits() {
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap();
        let by = |offset: i64| Some(Offset(offset));
        let outcome = |looked: Looked<()>| match looked {
            Ok(seen) => format!("{:?}", seen.outcome()),
            Err(Wrong::Failed { finding, .. }) => format!("failed: {finding}"),
            Err(other) => panic!("{other:?}"),
        };
        let registry = |offset| outcome(judged(NOW, by(offset), &[], Duration::ZERO, None));
        for sign in [1, -1] {
            assert_eq!(registry(sign * ms(ALARM)), "Ok");
            assert_eq!(registry(sign * (ms(ALARM) + 1)), "Warning");
            assert_eq!(registry(sign * ms(MAX_SKEW)), "Warning");
            assert!(registry(sign * (ms(MAX_SKEW) + 1)).starts_with("failed: 60 s "));
        }
        let log = |behind| outcome(judged(NOW, by(0), &[], behind, None));
        assert_eq!(log(MAX_SKEW), "Ok");
        assert!(log(MAX_SKEW + ALARM).contains("65 s behind the last time in the message log"));
        let signed = |signed| outcome(judged(NOW, None, &[], Duration::ZERO, Some(signed)));
        assert_eq!(signed(NOW.plus(MAX_SKEW)), "Warning");
        assert!(signed(NOW.plus(MAX_SKEW + ALARM)).contains("65 s behind the time at which"));
        assert_eq!(signed(NOW.minus(MAX_SKEW * 100)), "Warning", "compared with nobody");
        // Without the registry one peer that is wrong is no more than that.
        let peers = [("a", Offset(90_000)), ("b", Offset(100)), ("c", Offset(-200))];
        assert_eq!(outcome(judged(NOW, None, &peers, Duration::ZERO, None)), "Ok");
    }
}
