//! The lookout: a tide that looks at the disk, the log, the clock and the configuration each second, says once when one
//! of them needs somebody, and once when it no longer does. The doors ask what it saw last; they wait for nothing.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use journal::{Disk, Space};
use proto::global_configuration::Freshness;
use proto::refusal::Code;
use proto::time::Time;
use proto::transport::MAX_SKEW;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::SecurityServer;
use crate::archive::Archive;
use crate::clock::Clock;

/// How often it looks.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A batch that so many looks find waiting for the disk: the disk hangs.
pub const LOOKS_UNTIL_IT_HANGS: u32 = 5;
/// After so many nothing new is taken: it would only wait.
pub const LOOKS_UNTIL_REFUSED: u32 = 20;
/// Segments for which there is always room in the reserve: a start copies one, and the ends of all exchanges that can
/// run fill less than another.
pub const RESERVED_SEGMENTS: u64 = 3;

/// At how many percent used the disk is called low, and from where on it is kept for what already runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskMarks {
    warn: u8,
    refuse: u8,
}

impl Default for DiskMarks {
    fn default() -> Self {
        Self { warn: Self::WARN, refuse: Self::REFUSE }
    }
}

impl DiskMarks {
    /// Where the disk is called low, if nothing else was said.
    pub const WARN: u8 = 90;
    /// Where new exchanges are refused, if nothing else was said.
    pub const REFUSE: u8 = 97;
    /// Least percentage of either mark.
    pub const LEAST: u8 = 50;
    /// Greatest percentage at which new exchanges are refused: the last 3 % are for answers and ends.
    pub const GREATEST: u8 = 97;

    /// Between [`DiskMarks::LEAST`] and [`DiskMarks::GREATEST`], the warning first.
    pub fn new(warn_at_percent: u8, refuse_at_percent: u8) -> Option<Self> {
        let within = Self::LEAST <= warn_at_percent
            && warn_at_percent < refuse_at_percent
            && refuse_at_percent <= Self::GREATEST;
        within.then_some(Self { warn: warn_at_percent, refuse: refuse_at_percent })
    }

    /// What so much space means, where a log's segment has so many bytes.
    fn room(self, space: Space, segment_bytes: u64) -> Room {
        let left_at = |percent: u8| space.total / 100 * u64::from(100 - percent);
        let reserve = left_at(self.refuse).max(RESERVED_SEGMENTS * segment_bytes);
        if space.free <= reserve / 2 {
            Room::Spent
        } else if space.free <= reserve {
            Room::Full
        } else if space.free <= left_at(self.warn).max(2 * reserve) {
            Room::Low
        } else {
            Room::Ample
        }
    }
}

impl std::fmt::Display for DiskMarks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "low at {} %, full at {} %", self.warn, self.refuse)
    }
}

/// How much room the logs have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Room {
    /// Enough.
    Ample,
    /// It will not last: an alarm, and nothing else.
    Low,
    /// What is left is for what runs: nothing new is taken.
    Full,
    /// Half of that is gone too: what runs is stopped, and its ends are written.
    Spent,
}

/// What needs somebody.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Alarm {
    /// The disk will be full.
    DiskLow,
    /// The disk is full but for the reserve.
    DiskFull,
    /// The disk does not come back from a write.
    LogHangs,
    /// The message log has ended.
    LogFinished,
    /// The audit log has ended.
    AuditFinished,
    /// The clock is behind what the log has recorded.
    ClockBehind,
    /// The clock stands still.
    ClockStuck,
    /// The configuration was not signed again for a while.
    ConfigurationStale,
    /// The configuration is past its validity.
    ConfigurationExpired,
    /// No timestamping authority stamps the message log.
    LogNotStamped,
    /// None has for longer than is tolerated.
    LogStampOverdue,
    /// Segments of the message log wait for the archive for an hour.
    LogNotArchived,
    /// Something else is in the archive under a segment's name.
    ArchiveDiffers,
    /// A segment that should be in the archive only stays here for an hour.
    SegmentsNotRemoved,
    /// A key is not renewed for a day, and its certificate ends.
    KeysNotRenewed,
    /// Nobody speaks with the keys in use.
    KeysUnusable,
    /// Keys for payloads that are to be kept cannot be made, or those that are over not be erased.
    PayloadKeysMissing,
    /// The registry shows a peer another configuration.
    SplitView,
}

impl Alarm {
    /// All of them.
    pub const ALL: [Alarm; 18] = [
        Self::DiskLow,
        Self::DiskFull,
        Self::LogHangs,
        Self::LogFinished,
        Self::AuditFinished,
        Self::ClockBehind,
        Self::ClockStuck,
        Self::ConfigurationStale,
        Self::ConfigurationExpired,
        Self::LogNotStamped,
        Self::LogStampOverdue,
        Self::LogNotArchived,
        Self::ArchiveDiffers,
        Self::SegmentsNotRemoved,
        Self::KeysNotRenewed,
        Self::KeysUnusable,
        Self::PayloadKeysMissing,
        Self::SplitView,
    ];

    /// In health and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DiskLow => "disk_low",
            Self::DiskFull => "disk_full",
            Self::LogHangs => "log_hangs",
            Self::LogFinished => "log_ended",
            Self::AuditFinished => "audit_ended",
            Self::ClockBehind => "clock_behind",
            Self::ClockStuck => "clock_stuck",
            Self::ConfigurationStale => "configuration_stale",
            Self::ConfigurationExpired => "configuration_expired",
            Self::LogNotStamped => "log_not_stamped",
            Self::LogStampOverdue => "log_stamp_overdue",
            Self::LogNotArchived => "log_not_archived",
            Self::ArchiveDiffers => "archive_differs",
            Self::SegmentsNotRemoved => "segments_not_removed",
            Self::KeysNotRenewed => "keys_not_renewed",
            Self::KeysUnusable => "keys_unusable",
            Self::PayloadKeysMissing => "payload_keys_missing",
            Self::SplitView => "split_view",
        }
    }

    /// What is the matter, and what to do.
    pub fn cry(self) -> &'static str {
        match self {
            Self::DiskLow => "THE DISK WILL BE FULL: make room for the logs, or enlarge the disk",
            Self::DiskFull => {
                "THE DISK IS FULL but for the reserve: no new exchange is taken until there is room. Nothing has to be \
                 restarted then"
            }
            Self::LogHangs => {
                "THE DISK HANGS: a write of the message log does not come back. If it lasts, no new exchange is taken"
            }
            Self::LogFinished => {
                "THE MESSAGE LOG HAS ENDED: nothing is exchanged. Check the disk, then restart the server"
            }
            Self::AuditFinished => {
                "THE AUDIT LOG HAS ENDED: no grant can be made or ended. Check the disk, then restart the server"
            }
            Self::ClockBehind => {
                "THE CLOCK IS BEHIND what the message log has recorded: no new exchange is taken until it has caught up. \
                 If it was wrong before and is right now: `security-server clock accept`"
            }
            Self::ClockStuck => "THE CLOCK STANDS STILL: no new exchange is taken until it goes again",
            Self::ConfigurationStale => {
                "THE GLOBAL CONFIGURATION IS STALE: is the registry reachable? Exchanges go on until it expires"
            }
            Self::ConfigurationExpired => {
                "THE GLOBAL CONFIGURATION HAS EXPIRED: nothing is exchanged until the registry is reached"
            }
            Self::LogNotStamped => {
                "NO TIMESTAMPING AUTHORITY STAMPS THE MESSAGE LOG: `doctor` says which does not answer, and why. Exchanges go \
                 on for as long as an outage is tolerated"
            }
            Self::LogStampOverdue => {
                "THE MESSAGE LOG IS NOT STAMPED FOR TOO LONG: no new exchange is taken until a timestamping authority answers. \
                 Nothing has to be restarted then"
            }
            Self::LogNotArchived => {
                "THE MESSAGE LOG IS NOT ARCHIVED for an hour: `status` says why. Exchanges go on, and segments wait here"
            }
            Self::ArchiveDiffers => {
                "THE ARCHIVE HOLDS SOMETHING ELSE under the name of a segment of this log: `status` says which. Nothing of it was \
                 touched. Find out who wrote it"
            }
            Self::SegmentsNotRemoved => {
                "SEGMENTS OF THE MESSAGE LOG ARE NOT REMOVED though they are archived and old enough: `status` says why. They stay here, \
                 and take room"
            }
            Self::KeysNotRenewed => {
                "A KEY OF THIS SERVER IS NOT RENEWED for a day, and its certificate ends: `status` says why"
            }
            Self::PayloadKeysMissing => {
                "THE KEYS OF PAYLOADS CANNOT BE MADE OR ERASED: `status` says why. Where none are left, exchanges of services whose \
                 payloads are kept are refused. Nothing has to be restarted where it was the disk"
            }
            Self::SplitView => {
                "THE REGISTRY SHOWS TWO CONFIGURATIONS: `evidence contradiction` writes the proof. Tell the other members and the \
                 holders of the root, on another way than this bus. Exchanges go on as far as both say the same"
            }
            Self::KeysUnusable => "PEERS DO NOT SPEAK WITH THIS SERVER'S KEYS: `status` says why, and what to do",
        }
    }
}

/// What was seen last, and what has to be remembered to see the next change.
pub(crate) struct Lookout {
    disks: Vec<Arc<dyn Disk>>,
    marks: DiskMarks,
    segment_bytes: u64,
    room: watch::Sender<Room>,
    free: AtomicU64,
    /// Looks that have found one batch waiting.
    waits: AtomicU32,
    stuck: AtomicBool,
    alarms: Mutex<BTreeSet<Alarm>>,
    memory: Mutex<Memory>,
}

/// From one look to the next.
struct Memory {
    hands: Hands,
    /// The batch that waited for the disk.
    waiting: Option<u64>,
    /// Whether it was said that the room of a disk cannot be told.
    untold: bool,
}

impl Lookout {
    pub fn new(disks: Vec<Arc<dyn Disk>>, marks: DiskMarks, segment_bytes: u64, clock: &Clock) -> Self {
        let memory = Memory { hands: Hands::of(clock), waiting: None, untold: false };
        Self {
            disks,
            marks,
            segment_bytes,
            room: watch::Sender::new(Room::Ample),
            free: AtomicU64::new(u64::MAX),
            waits: AtomicU32::new(0),
            stuck: AtomicBool::new(false),
            alarms: Mutex::default(),
            memory: Mutex::new(memory),
        }
    }

    /// The room that was seen last.
    pub fn room(&self) -> Room {
        *self.room.borrow()
    }

    /// Bytes that were free, on the disk that has less.
    pub fn free_bytes(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// Whether a write does not come back.
    pub fn hangs(&self) -> bool {
        self.waits.load(Ordering::Relaxed) >= LOOKS_UNTIL_IT_HANGS
    }

    /// Whether the clock stands still.
    pub fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Relaxed)
    }

    /// The alarms that are raised.
    pub fn raised(&self) -> Vec<String> {
        let alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        alarms.iter().map(|alarm| alarm.as_str().to_owned()).collect()
    }

    /// Tells when it is another one.
    pub(crate) fn rooms(&self) -> watch::Receiver<Room> {
        self.room.subscribe()
    }
}

/// Looks each second, and when the log ends at once.
pub(crate) async fn watch(server: Arc<SecurityServer>, last: CancellationToken) {
    let ended = server.message_log.until_ended();
    let mut ended = std::pin::pin!(futures_util::FutureExt::fuse(ended));
    loop {
        let looking = Arc::clone(&server);
        // A panic of a look is no reason not to look again.
        let _ = tokio::task::spawn_blocking(move || looking.look_around()).await;
        tokio::select! {
            () = last.cancelled() => return,
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            _ = &mut ended => {}
        }
    }
}

impl SecurityServer {
    /// Why nothing new is taken, as far as the disk, the clock and the timestamps go.
    pub(crate) fn lags(&self) -> Result<(), Code> {
        if self.lookout.room() >= Room::Full {
            return Err(Code::LogFull);
        }
        let waits = self.lookout.waits.load(Ordering::Relaxed);
        if self.clock_behind() > MAX_SKEW || self.lookout.is_stuck() || waits >= LOOKS_UNTIL_REFUSED {
            return Err(Code::NotReady);
        }
        if self.stamping.is_overdue(self.clock.now()) {
            return Err(Code::NotStamped);
        }
        Ok(())
    }

    /// By how much the machine's clock is behind the last time that the log has.
    pub(crate) fn clock_behind(&self) -> Duration {
        let (clock, last) = (self.clock.now(), self.message_log.last_time());
        if clock < last { last.distance(clock) } else { Duration::ZERO }
    }

    /// One look of the lookout's. Blocks on the disk.
    pub fn look_around(&self) {
        let lookout = &self.lookout;
        let mut memory = lookout.memory.lock().unwrap_or_else(PoisonError::into_inner);
        self.look_at_disks(&mut memory);

        let writing = self.message_log.writing().filter(|_| self.message_log.ended().is_none());
        let before = std::mem::replace(&mut memory.waiting, writing);
        if writing.is_some() && writing == before {
            lookout.waits.fetch_add(1, Ordering::Relaxed);
        } else {
            lookout.waits.store(0, Ordering::Relaxed);
        }

        match memory.hands.turn(self.clock.now(), self.clock.ticks()) {
            Turn::On => {}
            Turn::Jumped(way, by) => {
                metrics::counter!("causeway_clock_jumps_total", "server" => self.id.to_string()).increment(1);
                tracing::warn!(?by, "THE CLOCK JUMPED {way}: check this machine's time synchronisation");
            }
        }
        lookout.stuck.store(memory.hands.lost > MAX_SKEW, Ordering::Relaxed);
        drop(memory);

        // In force no longer, and then never again: also where the clock is set back.
        if self.freshness() == Freshness::Expired
            && let Err(error) = self.store.keep_that_it_expired()
        {
            tracing::error!(%error, "it cannot be kept that the global configuration expired; trying again");
        }
        self.sound(self.what_needs_somebody());
    }

    fn look_at_disks(&self, memory: &mut Memory) {
        let lookout = &self.lookout;
        let (mut room, mut free, mut untold) = (Room::Ample, u64::MAX, false);
        for disk in &lookout.disks {
            match disk.space() {
                Ok(space) => {
                    room = room.max(lookout.marks.room(space, lookout.segment_bytes));
                    free = free.min(space.free);
                }
                Err(error) => {
                    if !memory.untold {
                        tracing::error!(%error, "how much room {disk} has cannot be told: taken to be low");
                    }
                    (room, untold) = (room.max(Room::Low), true);
                }
            }
        }
        memory.untold = untold;
        lookout.free.store(free, Ordering::Relaxed);
        lookout.room.send_if_modified(|now| std::mem::replace(now, room) != room);
    }

    fn what_needs_somebody(&self) -> BTreeSet<Alarm> {
        let (room, freshness) = (self.lookout.room(), self.freshness());
        let needs = |alarm: &Alarm| match alarm {
            Alarm::DiskLow => room >= Room::Low,
            Alarm::DiskFull => room >= Room::Full,
            Alarm::LogHangs => self.lookout.hangs(),
            Alarm::LogFinished => self.message_log.ended().is_some(),
            Alarm::AuditFinished => self.audit.ended().is_some(),
            Alarm::ClockBehind => self.clock_behind() > MAX_SKEW,
            Alarm::ClockStuck => self.lookout.is_stuck(),
            Alarm::ConfigurationStale => freshness != Freshness::Fresh,
            Alarm::ConfigurationExpired => freshness == Freshness::Expired,
            Alarm::LogNotStamped => self.stamping.is_late(self.clock.now()),
            Alarm::LogStampOverdue => self.stamping.is_overdue(self.clock.now()),
            Alarm::LogNotArchived => self.archive.as_ref().is_some_and(|archive| archive.is_late(self.clock.now())),
            Alarm::ArchiveDiffers => self.archive.as_ref().is_some_and(Archive::differs),
            Alarm::SegmentsNotRemoved => self.archive.as_ref().is_some_and(|archive| archive.is_held(self.clock.now())),
            Alarm::KeysNotRenewed => self.renewal.as_ref().is_some_and(|renewal| renewal.is_overdue(self.clock.now())),
            Alarm::KeysUnusable => self.keys_are_unusable(),
            Alarm::PayloadKeysMissing => self.payloads.hindered().is_some(),
            Alarm::SplitView => self.sees_a_split_view(),
        };
        Alarm::ALL.into_iter().filter(needs).collect()
    }

    /// Says what changed since the last look.
    fn sound(&self, now: BTreeSet<Alarm>) {
        let mut alarms = self.lookout.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        for alarm in Alarm::ALL {
            let labels = [("server", self.id.to_string()), ("alarm", alarm.as_str().to_owned())];
            metrics::gauge!("causeway_alarm", &labels).set(f64::from(u8::from(now.contains(&alarm))));
        }
        for alarm in now.difference(&alarms) {
            tracing::error!(
                server = %self.id, alarm = alarm.as_str(), room = ?self.lookout.room(),
                free_bytes = self.lookout.free_bytes(), clock = %self.clock.now(), clock_behind = ?self.clock_behind(),
                "{}", alarm.cry()
            );
        }
        for alarm in alarms.difference(&now) {
            tracing::warn!(server = %self.id, alarm = alarm.as_str(), "this alarm is over");
        }
        *alarms = now;
        drop(alarms);
        if self.lookout.free_bytes() != u64::MAX {
            metrics::gauge!("causeway_disk_free_bytes", "server" => self.id.to_string())
                .set(self.lookout.free_bytes() as f64);
        }
    }
}

/// The clock beside the machine's own ticking, which nobody sets.
struct Hands {
    time: Time,
    ticks: Duration,
    /// How long the clock stood still, and has not made up for.
    lost: Duration,
}

#[derive(PartialEq, Eq, Debug)]
enum Turn {
    On,
    Jumped(&'static str, Duration),
}

impl Hands {
    fn of(clock: &Clock) -> Self {
        Self { time: clock.now(), ticks: clock.ticks(), lost: Duration::ZERO }
    }

    fn turn(&mut self, time: Time, ticks: Duration) -> Turn {
        let (went, ran) = (time.distance(self.time), ticks.saturating_sub(self.ticks));
        let back = time < self.time;
        (self.time, self.ticks) = (time, ticks);
        if back && went > MAX_SKEW {
            self.lost = Duration::ZERO;
            return Turn::Jumped("BACK", went);
        }
        if !back && went > ran + MAX_SKEW {
            self.lost = Duration::ZERO;
            return Turn::Jumped("AHEAD", went.saturating_sub(ran));
        }
        let went = if back { Duration::ZERO } else { went };
        if went * 2 < ran {
            // Less than half as fast as it should: no correction of a clock is as slow as that.
            self.lost += ran - went;
        } else {
            self.lost = (self.lost + ran).saturating_sub(went.max(ran));
        }
        Turn::On
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const SEGMENT: u64 = 64 << 20;

    #[test]
    fn each_mark_holds_from_its_percentage_on() {
        let marks = DiskMarks::default();
        let at = |percent_free: f64, more: u64| {
            let free = (100.0 * GIB as f64 * percent_free / 100.0) as u64 + more;
            marks.room(Space { total: 100 * GIB, free }, SEGMENT)
        };
        assert_eq!((at(10.0, 1), at(10.0, 0)), (Room::Ample, Room::Low));
        assert_eq!((at(3.0, 1), at(3.0, 0)), (Room::Low, Room::Full));
        assert_eq!((at(1.5, 1), at(1.5, 0)), (Room::Full, Room::Spent));
        assert_eq!(at(0.0, 0), Room::Spent);
    }

    #[test]
    fn on_a_small_disk_a_start_and_the_ends_have_their_room_all_the_same() {
        let at = |free| DiskMarks::default().room(Space { total: GIB, free }, SEGMENT);
        assert_eq!((at(3 * SEGMENT + 1), at(3 * SEGMENT)), (Room::Low, Room::Full));
        assert_eq!(at(6 * SEGMENT + 1), Room::Ample);
    }

    #[test]
    fn marks_are_within_their_bounds_and_never_off() {
        for (warn, refuse, good) in [
            (90, 97, true),
            (50, 51, true),
            (49, 97, false),
            (90, 98, false),
            (90, 100, false),
            (97, 97, false),
            (95, 90, false),
            (0, 0, false),
        ] {
            assert_eq!(DiskMarks::new(warn, refuse).is_some(), good, "{warn} {refuse}");
        }
    }

    #[test]
    fn a_clock_that_jumps_or_stands_still_is_told_from_one_that_goes() {
        let seconds = Duration::from_secs;
        let began = Time::from_millis(1_800_000_000_000);
        let clock = Clock::from_fns(move || began, || Duration::ZERO);
        let mut hands = Hands::of(&clock);
        // It goes, a little slow or fast, for a month.
        for second in 1..=30 * 24 * 3600u64 {
            let time = began.plus(Duration::from_micros(second * 999_500));
            assert_eq!(hands.turn(time, seconds(second)), Turn::On);
        }
        assert_eq!(hands.lost, Duration::ZERO);

        let mut hands = Hands::of(&clock);
        assert_eq!(hands.turn(began.plus(seconds(61)), seconds(1)), Turn::On, "a minute is what clocks may differ by");
        let mut hands = Hands::of(&clock);
        assert_eq!(hands.turn(began.plus(seconds(601)), seconds(1)), Turn::Jumped("AHEAD", seconds(600)));
        assert_eq!(hands.turn(began.plus(seconds(2)), seconds(2)), Turn::Jumped("BACK", seconds(599)));

        let mut hands = Hands::of(&clock);
        for second in 1..=60 {
            hands.turn(began, seconds(second));
            assert!(hands.lost <= MAX_SKEW);
        }
        hands.turn(began, seconds(61));
        assert!(hands.lost > MAX_SKEW, "it stands still");
        hands.turn(began.plus(seconds(1)), seconds(62));
        assert!(hands.lost > MAX_SKEW, "it goes again, and is late");
        assert_eq!(hands.turn(began.plus(seconds(130)), seconds(63)), Turn::Jumped("AHEAD", seconds(128)));
        assert_eq!(hands.lost, Duration::ZERO, "it was set right");
    }
}
