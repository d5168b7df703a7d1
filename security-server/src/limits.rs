//! What one of those who reach a server may take of it: `[limits]` of the configuration file. Each limit has a default, a least
//! and a greatest value, and none of them means "without end". What is a constant, and why, stands in SECURITY.md.

use std::time::Duration;

use serde::Deserialize;

/// Resets that a connection may have at once, as a multiple of what it may have in a second.
const BURST_OF_RESETS: f64 = 10.0;

/// Makes the limits and their rows of one table, so that neither can have an entry that the other lacks.
macro_rules! limits {
    ($($(#[$what:meta])* $key:ident = $default:literal, $least:literal to $most:literal;)*) => {
        /// The limits, each within its least and greatest value: made by default, or by [`RawLimits::checked`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Limits {
            $($(#[$what])* pub $key: u64,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl Limits {
            /// By name, in the order of the file.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($key), self.$key),)*].into_iter()
            }
        }

        /// The limits as a file says them.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct RawLimits {
            $($key: i64,)*
        }

        impl Default for RawLimits {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl RawLimits {
            /// Each within its least and greatest value, or which one is not.
            pub fn checked(self) -> Result<Limits, Beyond> {
                Ok(Limits { $($key: within(stringify!($key), self.$key, $least, $most)?,)* })
            }
        }

        #[cfg(test)]
        const ROWS: &[(&str, i64, i64, i64)] = &[$((stringify!($key), $least, $default, $most),)*];
    };
}

limits! {
    /// Connections that a door holds at once; one more waits to be accepted.
    connections = 4096, 64 to 16_384;
    /// Of these, connections from one address, and of IPv6 from one network of 64 bits; one more is closed.
    connections_of_address = 1024, 16 to 16_384;
    /// Of these, connections at the peers' door with the key of one server; one more is closed.
    connections_of_peer = 256, 64 to 4096;
    /// How long a TLS handshake may take.
    handshake_seconds = 5, 1 to 60;
    /// How long a client may take to begin, or to send the head of an HTTP/1.1 request.
    begin_seconds = 30, 1 to 300;
    /// How long a connection without a call is kept. It is told to go, and whoever goes on connects again.
    idle_seconds = 900, 10 to 86_400;
    /// Calls of one connection that may be reset before they are answered, in a second; ten times as many at once. The connection of
    /// whoever resets more is told to go.
    resets_per_second = 200, 1 to 10_000;
    /// Exchanges that one subsystem of ours may have running at once; one more is refused.
    exchanges_of_client = 2048, 16 to 4096;
    /// Calls that one subsystem of ours may begin in a second, and as many at once; one more is refused.
    calls_of_client_per_second = 50_000, 1 to 1_000_000;
    /// How long an exchange may take, whatever its caller allows.
    exchange_seconds = 86_400, 1 to 2_592_000;
    /// Bytes that one of our systems may say in one exchange: a client in its request, a service in its answer.
    stream_bytes = 274_877_906_944, 1_048_576 to 1_125_899_906_842_624;
    /// Questions how this server is that one asks at once, and as many that watch it: one of our subsystems, or, where it shows no
    /// credential, one address; one more is refused.
    health_of_one = 64, 1 to 256;
}

/// A limit that a file may not ask for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is a number from {least} to {most}")]
pub struct Beyond {
    /// Which.
    pub key: &'static str,
    /// What was asked for.
    pub value: i64,
    /// The least that may be.
    pub least: i64,
    /// The greatest that may be.
    pub most: i64,
}

fn within(key: &'static str, value: i64, least: i64, most: i64) -> Result<u64, Beyond> {
    let beyond = Beyond { key, value, least, most };
    u64::try_from(value).ok().filter(|_| (least..=most).contains(&value)).ok_or(beyond)
}

impl Limits {
    /// How long a TLS handshake may take.
    pub fn handshake(&self) -> Duration {
        Duration::from_secs(self.handshake_seconds)
    }

    /// How long a client may take to begin.
    pub fn begin(&self) -> Duration {
        Duration::from_secs(self.begin_seconds)
    }

    /// How long a connection without a call is kept.
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }

    /// How long an exchange may take.
    pub fn exchange(&self) -> Duration {
        Duration::from_secs(self.exchange_seconds)
    }

    /// Resets of a connection: a burst, and a second's worth.
    pub(crate) fn resets(&self) -> (f64, f64) {
        let per_second = rate(self.resets_per_second);
        (per_second * BURST_OF_RESETS, per_second)
    }

    /// Calls of a subsystem: a burst, and a second's worth.
    pub(crate) fn calls_of_client(&self) -> (f64, f64) {
        let per_second = rate(self.calls_of_client_per_second);
        (per_second, per_second)
    }
}

/// A limit that counts what memory holds.
pub(crate) fn count(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn rate(limit: u64) -> f64 {
    f64::from(u32::try_from(limit).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use command_line::read_toml;

    use super::*;

    fn read(key: &str, value: i64) -> Result<Limits, Beyond> {
        read_toml::<RawLimits>(&format!("{key} = {value}")).unwrap().checked()
    }

    #[test]
    fn each_limit_has_a_least_and_a_greatest_value_and_none_is_infinite() {
        for &(key, least, default, most) in ROWS {
            assert!(0 < least && least <= default && default <= most && most < i64::MAX, "{key}");
            for value in [least, default, most] {
                let read = read(key, value).unwrap();
                assert_eq!(read.each().find(|(name, _)| *name == key), Some((key, value as u64)));
                // And nothing else is another.
                let others = |limits: Limits| limits.each().filter(|(name, _)| *name != key).collect::<Vec<_>>();
                assert_eq!(others(read), others(Limits::default()), "{key}");
            }
            for value in [i64::MIN, -1, 0, least - 1, most + 1, i64::MAX] {
                assert_eq!(read(key, value), Err(Beyond { key, value, least, most }));
            }
        }
    }

    #[test]
    fn the_defaults_are_within_their_limits() {
        assert_eq!(RawLimits::default().checked(), Ok(Limits::default()));
        assert!(read_toml::<RawLimits>("connection = 64").is_err(), "what is no limit is none");
    }
}
