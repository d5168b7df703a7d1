//! The global configuration in force: is the registry's newest one that this server takes, is it fresh, does the server
//! follow?

use checks::{Found, blocking, failed, ok, warning};
use proto::global_configuration::Freshness;
use proto::global_configuration::update::{Rejected, Trusted, update};

use super::doors::State;
use super::registry::Told;
use super::{Here, Part, Sheet};

/// Verifies what the registry gave on top of what is trusted, as the server does before it takes it.
pub(super) async fn newest(sheet: &Sheet, here: &Here, clock: &Found<()>, told: &Found<Told>) -> Found<Trusted> {
    let version = told.get().map(|told| format!("version {}", told.version)).unwrap_or_default();
    let line = sheet.line(Part::InForce, "newest configuration", version);
    let looked = async {
        let (stored, files) = (here.stored.get()?.clone(), told.get()?.files.clone());
        clock.get()?;
        let now = here.clock.now();
        blocking(move || {
            let taken = update(&stored, &files, now);
            let taken =
                taken.map_err(|error| failed(format!("this server does not take it: {error}"), remedy(&error)))?;
            let configuration = taken.configuration();
            let found =
                format!("verified, signed {}, good until {}", configuration.signed_at, configuration.expires_at);
            Ok(ok(taken, found))
        })
        .await
    };
    line.says(looked.await)
}

fn remedy(error: &Rejected) -> &'static str {
    match error {
        Rejected::Expired { .. } => {
            "tell the registry's admin: it does not sign again (there: central-registry doctor, and look into its diagnostics)"
        }
        _ => "tell the registry's admin, with this line: what it publishes is not what was trusted before",
    }
}

/// Whether what is in force will be for long, and whether a server that runs follows the registry.
pub(super) fn freshness(sheet: &Sheet, here: &Here, clock: &Found<()>, newest: &Found<Trusted>) {
    let Here { stored, state, file, .. } = here;
    let version = stored.get().map(|stored| format!("version {}", stored.version())).unwrap_or_default();
    let looked = || {
        clock.get()?;
        let configuration = stored.get()?.configuration();
        let (signed, expires) = (configuration.signed_at, configuration.expires_at);
        let theirs =
            "the registry signs every minute: see what is said of it above; then security-server status shows it fresh";
        let now = here.clock.now();
        match configuration.freshness(now) {
            Freshness::Fresh => Ok(ok((), format!("fresh: signed {signed}"))),
            Freshness::Stale if newest.get().is_ok() && is_stopped(state) => {
                Ok(ok((), "stale, as the server is stopped: it takes the newest when it starts"))
            }
            Freshness::Stale => {
                let finding = format!("stale: signed {signed}; from {expires} on nothing is exchanged");
                Ok(warning((), finding, theirs))
            }
            Freshness::Expired if newest.get().is_ok() && is_stopped(state) => {
                Ok(ok((), "expired while the server was stopped: it takes the newest when it starts"))
            }
            Freshness::Expired => {
                let ago = now.distance(expires).as_secs() / 3600;
                let finding =
                    format!("expired at {expires}, {ago} h ago: nothing is exchanged (CONFIGURATION_EXPIRED)");
                Err(failed(finding, theirs))
            }
        }
    };
    sheet.line(Part::InForce, "freshness", version).says(looked());

    let looked = || {
        let State::Running(health) = state.get()? else { return Err(checks::not_checked("the server does not run")) };
        let newest = newest.get()?;
        let has = format!("the server has version {}, the registry {}", health.configuration_version, newest.version());
        // One is signed while the other is asked.
        if health.configuration_version + 1 < newest.version() {
            let remedy = format!(
                "look for `the registry is not being followed` in its diagnostics; then: {}",
                file.get()?.restart()
            );
            return Ok(warning((), has, remedy));
        }
        Ok(ok((), has))
    };
    sheet.line(Part::InForce, "following", "").says(looked());
}

fn is_stopped(state: &Found<State>) -> bool {
    matches!(state.get(), Ok(State::Stopped))
}
