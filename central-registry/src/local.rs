//! A socket in the registry's own directory, for whoever may open it: the registry's user on its machine, and root. It takes
//! notes for the journal, and decides nothing.
//!
//! One line of JSON each way. Who asks is what the kernel says of the process at the other end.

use std::fs;
use std::io::{self, BufRead, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::register::{Event, Refused};
use crate::registry::Registry;

/// The socket's file.
pub(crate) const SOCKET: &str = "local.sock";
/// Longest line.
const MAX_LINE_BYTES: u64 = 4096;
/// How long a caller may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Callers at a time.
const MAX_CALLERS: usize = 16;

/// What is to be noted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Note {
    /// A backup is begun.
    BackingUp {
        /// Whether with the keys that sign.
        signing_keys: bool,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Noted,
    Refused(String),
}

/// Opens the socket. The journal's lock is held: one that is there is of a process that is gone.
pub(crate) fn listen(directory: &Path) -> io::Result<UnixListener> {
    let path = directory.join(SOCKET);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    // The directory is its owner's only; so is the socket.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Takes notes until the registry closes.
pub(crate) async fn serve(registry: Arc<Registry>, listener: UnixListener) {
    let callers = Arc::new(Semaphore::new(MAX_CALLERS));
    loop {
        let accepted = tokio::select! {
            () = registry.closing.cancelled() => return,
            accepted = async {
                let permit = Arc::clone(&callers).acquire_owned().await.expect("it is never closed");
                listener.accept().await.map(|(stream, _)| (permit, stream))
            } => accepted,
        };
        let Ok((permit, stream)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let registry = registry.clone();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(TIMEOUT, answer(&registry, stream)).await;
            drop(permit);
        });
    }
}

async fn answer(registry: &Arc<Registry>, stream: UnixStream) -> io::Result<()> {
    let who = stream.peer_cred()?;
    let process = who.pid().map(|pid| format!(", process {pid}")).unwrap_or_default();
    let from = format!("this machine, user {}{process}", who.uid());
    let (reading, mut writing) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reading.take(MAX_LINE_BYTES)).read_line(&mut line).await?;
    let answer = match serde_json::from_str::<Note>(&line) {
        Err(error) => Answer::Refused(error.to_string()),
        Ok(note) => {
            // Runs to its end whoever hangs up: what was begun is recorded whole.
            let noted = tokio::spawn(take(Arc::clone(registry), note, from)).await;
            match noted.map_err(io::Error::other)? {
                Ok(()) => Answer::Noted,
                Err(refused) => Answer::Refused(refused.to_string()),
            }
        }
    };
    let answer = serde_json::to_string(&answer).map_err(io::Error::other)?;
    writing.write_all(format!("{answer}\n").as_bytes()).await
}

async fn take(registry: Arc<Registry>, note: Note, from: String) -> Result<(), Refused> {
    let mut desk = registry.desk.lock().await;
    let now = registry.now(&desk);
    let Note::BackingUp { signing_keys } = note;
    let admitted = desk.admit_from(from, now, None, Event::BackedUp { signing_keys })?;
    desk.record(admitted).await
}

/// Tells the registry that runs in this directory.
pub(crate) fn tell(directory: &Path, note: &Note) -> io::Result<()> {
    let mut stream = std::os::unix::net::UnixStream::connect(directory.join(SOCKET))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let note = serde_json::to_string(note).map_err(io::Error::other)?;
    stream.write_all(format!("{note}\n").as_bytes())?;
    let mut line = String::new();
    std::io::BufReader::new(std::io::Read::take(stream, MAX_LINE_BYTES)).read_line(&mut line)?;
    match serde_json::from_str(&line).map_err(io::Error::other)? {
        Answer::Noted => Ok(()),
        Answer::Refused(why) => Err(io::Error::other(why)),
    }
}
