//! The doors: does the server run, does it listen where the file says, and where it does not run, does somebody else?

use std::collections::BTreeMap;

use checks::reach::{self, Listening};
use checks::{Found, Limit, Wrong, failed, not_checked, ok, warning};
use futures_util::future::join_all;
use proto::identifier::ServerId;

use super::peers::{Called, Dialled};
use super::{ANSWER, File, Here, Part, Sheet};
use crate::listen::operators::{Health, Status};
use crate::operate::{Failed, Operator};

/// Whether the server runs.
pub(super) enum State {
    /// It does, and says how it is.
    Running(Box<Health>),
    /// It does not.
    Stopped,
}

/// Asks the server itself, at its operators' door, as the command line does.
pub(super) async fn server(sheet: &Sheet, file: &Found<File>, token: &Found<Option<String>>) -> Found<State> {
    let at = file.get().map(|file| file.configuration.operators.to_string()).unwrap_or_default();
    let line = sheet.line(Part::Doors, "server", &at);
    let remedy = file.get().map(File::restart).unwrap_or_default();
    let looked = async {
        let (file, token) = (file.get()?, token.get()?);
        let (door, at) = (file.configuration.operators, file.at(&["operators", "listen"]));
        if reach::listening(door).await == Listening::Nobody {
            return Ok(warning(State::Stopped, "it does not run: nobody answers here", file.start()));
        }
        if token.is_none() {
            return Err(reach::taken(door, &at, "it never ran"));
        }
        let asked = Limit::new(ANSWER, "").cut(async { Operator::of(&file.path)?.read("/v1/status").await });
        let hangs =
            |_| reach::taken(door, &at, &format!("it does not answer: if it is this server, {}", file.restart()));
        let Status { server, health, running, grants, .. } =
            asked.await.map_err(hangs)?.map_err(|error| match error {
                Failed::Token(_) | Failed::Refused { .. } => {
                    let why = format!("a server that does not know this server's operators.token ({error})");
                    reach::taken(door, &at, &why)
                }
                Failed::Unreachable(..) | Failed::Answer(..) | Failed::TooLong(_) => {
                    reach::taken(door, &at, "it is no security server")
                }
                Failed::Configuration(error) => failed(error.to_string(), file.at(&[])),
            })?;
        if server != file.configuration.server {
            return Err(reach::taken(door, &at, &format!("it is {server}")));
        }
        let found = format!("{server} runs, with {running} exchanges and {grants} grants");
        Ok(ok(State::Running(Box::new(health)), found))
    };
    line.looks(Limit::new(2 * ANSWER, remedy), looked).await
}

/// How the server says it is, and each door of it.
pub(super) async fn each(sheet: &Sheet, here: &Here) {
    let Here { file, state, .. } = here;
    let health = || match state.get()? {
        State::Stopped => Err(not_checked("the server does not run")),
        State::Running(health) if health.message_log != "running" => {
            let remedy = format!("look into `dmesg` and df -h; then {}", file.get()?.restart());
            Err(failed(format!("its message log has {}: it exchanges nothing", health.message_log), remedy))
        }
        State::Running(health) if health.draining => {
            Ok(warning((), "it is shutting down: it takes nothing new", file.get()?.start()))
        }
        State::Running(health) if health.waits_after_restore_ms > 0 => {
            let seconds = health.waits_after_restore_ms.div_ceil(1000);
            let found = format!("it was put back from a backup: it refuses calls of peers for {seconds} s more");
            Ok(warning((), found, "wait: it goes on by itself"))
        }
        State::Running(health) if health.alarms > 0 => {
            let found = format!("{} alarms about peers' logs", health.alarms);
            Ok(warning((), found, "look at them with `security-server audit list`, and tell those peers"))
        }
        // Whatever else keeps it from being ready has a line of its own.
        State::Running(health) => Ok(ok((), if health.ready { "ready" } else { "not ready" })),
    };
    sheet.line(Part::Doors, "server's health", "").says(health());

    let mut doors = Vec::new();
    if let Ok(file) = file.get() {
        doors.push(("operators' door".to_owned(), file.configuration.operators, vec!["operators".to_owned()]));
        doors.push(("peers' door".to_owned(), file.configuration.peers, vec!["peers".to_owned()]));
        for (number, (listens, _)) in file.configuration.doors().enumerate() {
            let name = format!("clients' door {}", number + 1);
            doors.push((name, listens, vec!["clients".to_owned(), number.to_string()]));
        }
    }
    let lines = doors.into_iter().map(|(name, listens, mut path)| {
        path.push("listen".to_owned());
        let line = sheet.line(Part::Doors, name, listens.to_string());
        async move {
            let looked = async {
                let (file, state) = (file.get()?, state.get()?);
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                match (state, file.at(&path)) {
                    (State::Stopped, at) => reach::free(listens, &at).await,
                    (State::Running(_), at) => match reach::listening(listens).await {
                        Listening::Somebody => Ok(ok((), "open")),
                        Listening::Nobody => {
                            let finding =
                                "the server runs, and nobody listens here: was the file changed after it started?";
                            Err(failed(finding, format!("correct {at}: listen; or {}", file.restart())))
                        }
                    },
                }
            };
            line.looks(Limit::new(ANSWER, "look whether this machine is overloaded: uptime"), looked).await;
        }
    });
    join_all(lines).await;
}

/// Where others reach this server: what answers there is this server, by its own certificate.
pub(super) fn registered(
    sheet: &Sheet,
    here: &Here,
    called: &Called,
    dialled: &BTreeMap<ServerId, Dialled>,
    ours: Option<&Wrong>,
) {
    let address = called.own.as_ref().map(|(_, address)| address.clone()).unwrap_or_default();
    let looked = || {
        let (file, state) = (here.file.get()?, here.state.get()?);
        if matches!(state, State::Stopped) {
            return Err(not_checked("the server does not run"));
        }
        here.tls.get()?;
        let Some(dialled) = dialled.get(&file.configuration.server) else {
            return Err(not_checked("the registry knows no address of this server"));
        };
        match (dialled.reached(), ours) {
            (Ok(()), _) => Ok(ok((), "this server answers there")),
            (Err(_), Some(ours)) => Err(ours.clone()),
            (Err(why), None) => {
                let Wrong::Failed { finding, .. } = why else { return Err(why) };
                let finding = format!("others are told this address, and this server is not reached there: {finding}");
                let remedy = format!(
                    "look at the firewall, and at port forwarding to {}; where this machine cannot reach itself from outside, ask \
                     from another: nc -vz {}",
                    file.configuration.peers,
                    reach::apart(&address)
                );
                Ok(warning((), finding, remedy))
            }
        }
    };
    sheet.line(Part::Doors, "registered address", &address).says(looked());
}
