//! What befalls whom, and when: drawn from the seed alone. The processes' own timing is not, so that the same faults of
//! the same seed may find a server in another moment.

use std::fmt;
use std::time::Duration;

use super::chance::Chance;
use crate::tap::{Toward, Weather};

/// The members, each with a server and a service.
pub const MEMBERS: [&str; 3] = ["portal", "moj", "vss"];
/// Who asks whom: a client each.
pub const EDGES: [(usize, usize); 4] = [(0, 1), (0, 2), (1, 2), (2, 1)];

/// A process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Who {
    Registry,
    Server(usize),
    Service(usize),
    /// Of an edge.
    Client(usize),
}

/// A line between two processes, with a tap in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Between {
    /// A member's clients and its server. Not encrypted.
    Clients(usize),
    /// The other servers and a member's: where it is registered. TLS.
    Peers(usize),
    /// A member's server and its service. Not encrypted.
    Service(usize),
    /// A member's server and the registry. TLS.
    Registry(usize),
}

/// Something that befalls, and for how long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// From the round's beginning.
    pub at: Duration,
    pub lasting: Duration,
    pub what: What,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// SIGKILL; started again when the fault is over, and killed again so long after each of these beginnings.
    Killed(Who, Vec<Duration>),
    /// SIGSTOP, and SIGCONT when the fault is over.
    Stopped(Who),
    /// No file of the server's grows beyond so many bytes more: what a full disk is to its log. The server is restarted
    /// when the fault is over, as its alarm asks.
    Full(usize, u64),
    /// The weather on a line, toward the side that was connected to and back.
    Line(Between, Weather, Weather),
}

/// Faults that begin together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Round {
    pub number: u64,
    pub faults: Vec<Fault>,
}

/// Rounds of this length, but each sixteenth is a long one: no connection's keep-alive and no deadline outlasts it.
const SHORT: Duration = Duration::from_millis(3_500);
const LONG: Duration = Duration::from_secs(35);
const LONG_EACH: u64 = 16;
/// Most faults of a round, and fewest.
const MOST_FAULTS: u64 = 7;
const FEWEST_FAULTS: u64 = 2;

impl Round {
    /// The round of this number. No process and no line has two faults at once.
    pub fn drawn(seed: u64, number: u64) -> Self {
        let mut chance = Chance::of(&[seed, number]);
        let length = if number % LONG_EACH == LONG_EACH - 1 { LONG } else { SHORT };
        let mut faults: Vec<Fault> = Vec::new();
        for _ in 0..FEWEST_FAULTS + chance.below(MOST_FAULTS - FEWEST_FAULTS + 1) {
            let what = What::drawn(&mut chance);
            let at = chance.up_to(length / 2);
            // Half are over soon: what is broken again while it heals shows more.
            let longest = if chance.below(2) == 0 { length / 8 } else { length };
            let lasting = chance.up_to(longest.min(length - at));
            if !faults.iter().any(|fault| fault.what.befalls_the_same_as(&what)) {
                faults.push(Fault { at, lasting, what });
            }
        }
        faults.sort_by_key(|fault| fault.at);
        Self { number, faults }
    }
}

impl What {
    fn drawn(chance: &mut Chance) -> Self {
        match chance.below(20) {
            0..=6 => {
                let who = Who::drawn(chance);
                let again = (0..chance.below(3)).map(|_| chance.up_to(Duration::from_millis(400))).collect();
                Self::Killed(who, again)
            }
            7..=9 => Self::Stopped(Who::drawn(chance)),
            10 => Self::Full(member(chance), chance.below(64 * 1024)),
            _ => {
                let between = Between::drawn(chance);
                let (out, back) = weather(chance, between.is_encrypted());
                Self::Line(between, out, back)
            }
        }
    }

    fn befalls_the_same_as(&self, other: &Self) -> bool {
        self.process().is_some_and(|who| other.process() == Some(who))
            || matches!((self, other), (Self::Line(one, ..), Self::Line(another, ..)) if one == another)
    }

    fn process(&self) -> Option<Who> {
        match self {
            Self::Killed(who, _) | Self::Stopped(who) => Some(*who),
            Self::Full(member, _) => Some(Who::Server(*member)),
            Self::Line(..) => None,
        }
    }
}

fn member(chance: &mut Chance) -> usize {
    chance.one(&[0, 1, 2])
}

impl Who {
    /// A server more often than another.
    fn drawn(chance: &mut Chance) -> Self {
        match chance.below(10) {
            0..=5 => Self::Server(member(chance)),
            6 => Self::Registry,
            7..=8 => Self::Service(member(chance)),
            _ => Self::Client(chance.one(&[0, 1, 2, 3])),
        }
    }
}

impl Between {
    fn drawn(chance: &mut Chance) -> Self {
        match chance.below(10) {
            0..=4 => Self::Peers(member(chance)),
            5..=6 => Self::Service(member(chance)),
            7..=8 => Self::Clients(member(chance)),
            _ => Self::Registry(member(chance)),
        }
    }

    /// Where nothing is encrypted, nobody can tell a flipped bit from what was said.
    fn is_encrypted(self) -> bool {
        matches!(self, Self::Peers(_) | Self::Registry(_))
    }
}

/// What befalls a line, there and back.
fn weather(chance: &mut Chance, encrypted: bool) -> (Weather, Weather) {
    let one_way = |weather, there| if there { (weather, Weather::Fair) } else { (Weather::Fair, weather) };
    let there = chance.below(2) == 0;
    let bytes = chance.one(&[200, 2_000, 20_000, 200_000]);
    let bytes = chance.below(bytes);
    match chance.below(if encrypted { 11 } else { 9 }) {
        0 => {
            let late = Weather::Late(chance.up_to(Duration::from_millis(300)));
            (late, late)
        }
        1 => {
            let slow = Weather::Slow(u32::try_from(2_000 + chance.below(100_000)).unwrap());
            one_way(slow, there)
        }
        2 => (Weather::HeldBack, Weather::HeldBack),
        3 => one_way(Weather::HeldBack, there),
        4 => (Weather::Swallowed, Weather::Swallowed),
        5 => one_way(Weather::Swallowed, there),
        6 => (Weather::Reset, Weather::Reset),
        7 | 8 => one_way(Weather::CutAfter(bytes), there),
        _ => one_way(Weather::FlippedAfter(bytes), there),
    }
}

// ---- for people

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry => write!(f, "the registry"),
            Self::Server(member) => write!(f, "{}'s server", MEMBERS[*member]),
            Self::Service(member) => write!(f, "{}'s service", MEMBERS[*member]),
            Self::Client(edge) => {
                let (consumer, provider) = EDGES[*edge];
                write!(f, "{}'s client of {}", MEMBERS[consumer], MEMBERS[provider])
            }
        }
    }
}

impl fmt::Display for Between {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clients(member) => write!(f, "clients -> {}'s server", MEMBERS[*member]),
            Self::Peers(member) => write!(f, "peers -> {}'s server", MEMBERS[*member]),
            Self::Service(member) => write!(f, "{0}'s server -> {0}'s service", MEMBERS[*member]),
            Self::Registry(member) => write!(f, "{}'s server -> the registry", MEMBERS[*member]),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:6} ms, for {:5} ms: ", self.at.as_millis(), self.lasting.as_millis())?;
        match &self.what {
            What::Killed(who, again) if again.is_empty() => write!(f, "{who} is killed"),
            What::Killed(who, again) => write!(f, "{who} is killed, and again {again:?} after its starts"),
            What::Stopped(who) => write!(f, "{who} is stopped"),
            What::Full(member, room) => write!(f, "{}'s disk has room for {room} bytes", MEMBERS[*member]),
            What::Line(between, out, back) => {
                write!(f, "{between}:")?;
                for (weather, toward) in [(out, Toward::Target), (back, Toward::Origin)] {
                    if *weather != Weather::Fair {
                        write!(f, " {weather:?} toward {}", if toward == Toward::Target { "there" } else { "back" })?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "round {}", self.number)?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_round_always_draw_the_same_faults_and_another_seed_others() {
        for number in 0..200 {
            assert_eq!(Round::drawn(1, number), Round::drawn(1, number));
        }
        assert_ne!(Round::drawn(1, 0), Round::drawn(2, 0));
        assert_ne!(Round::drawn(1, 0).faults, Round::drawn(1, 1).faults);
    }

    #[test]
    fn every_kind_of_fault_is_drawn_and_none_befalls_one_thing_twice_at_once() {
        let mut kinds = std::collections::BTreeSet::new();
        for number in 0..400 {
            let round = Round::drawn(7, number);
            for (at, fault) in round.faults.iter().enumerate() {
                assert!(round.faults[at + 1..].iter().all(|other| !other.what.befalls_the_same_as(&fault.what)));
                assert!(fault.at + fault.lasting <= LONG, "{fault}");
                match &fault.what {
                    What::Killed(who, _) => _ = kinds.insert(format!("killed {who}")),
                    What::Stopped(who) => _ = kinds.insert(format!("stopped {who}")),
                    What::Full(member, _) => _ = kinds.insert(format!("full {member}")),
                    What::Line(between, out, back) => {
                        for (way, weather) in [("out", out), ("back", back)] {
                            let name = format!("{weather:?}");
                            let name = name.split('(').next().unwrap().to_owned();
                            assert!(between.is_encrypted() || name != "FlippedAfter", "{fault}");
                            let kind = format!("{between:?}").split('(').next().unwrap().to_owned();
                            kinds.insert(format!("{kind} {way} {name}"));
                        }
                    }
                }
            }
        }
        // 11 processes killed and stopped; 3 disks; 4 kinds of line, both ways: 7 kinds of weather, 8 where it is TLS.
        assert_eq!(kinds.len(), 22 + 3 + 2 * (2 * 7 + 2 * 8), "{kinds:#?}");
    }
}
