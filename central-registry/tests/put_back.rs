//! A registry that was put back from a backup: nobody is ever told one version twice, and what everybody was told counts.

#![allow(
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    reason = "tests are read, not called; the office serves others too"
)]

#[path = "registration/office.rs"]
mod office;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use central_registry::backup::{self, BackupError};
use keystore::Passphrase;
use office::{Applicant, Office, refusal};
use proto::global_configuration::Configuration;
use proto::global_configuration::update::Files;
use proto::registration::{Order, Revocation};
use proto::time::Time;
use security_server::global_configuration::{Applied, Store};
use tonic::Code;

/// A security server, as far as it takes up what is published.
struct Told {
    store: Store,
}

impl Told {
    async fn first(office: &Office, directory: &Path) -> Self {
        let files = pushed(office, 0).await;
        let now = Time::from_millis(office.time.load(std::sync::atomic::Ordering::SeqCst));
        let anchor = Bytes::copy_from_slice(office.running.anchor());
        Self { store: Store::create(directory, anchor, &files, now).unwrap() }
    }

    /// Takes the next version, or says why not.
    async fn next(&self, office: &Office) -> Result<u64, String> {
        let now = Time::from_millis(office.time.load(std::sync::atomic::Ordering::SeqCst));
        let files = pushed(office, self.store.current().load().version).await;
        match self.store.apply(&files, now) {
            Ok(Applied::InForce(version) | Applied::Known(version)) => Ok(version),
            Err(error) => Err(error.to_string()),
        }
    }

    fn configuration(&self) -> std::sync::Arc<Configuration> {
        self.store.current().load()
    }
}

async fn pushed(office: &Office, version: u64) -> Files {
    let version = office.watch(version).await.message().await.unwrap().unwrap();
    version.files.into_iter().map(|file| (file.name, file.content)).collect()
}

/// A member, approved, with keys of its own.
async fn enrolled(office: &Office, name: &str, request: &str) -> Applicant {
    let (member, server) = (format!("VN/GOV/{name}"), format!("VN/GOV/{name}/ss1"));
    let invitation = office.invite(&member, &server, &[&format!("{member}/a")]).await;
    let mut applicant = Applicant::new(&invitation.token);
    (applicant.application.member, applicant.application.server) = (member.parse().unwrap(), server.parse().unwrap());
    office.apply(applicant.request()).await.unwrap();
    office.approve(request).await;
    applicant
}

/// What a mirror took when the backup was made.
fn mirror_of(old: &Path) -> PathBuf {
    old.with_file_name("mirror")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else if from.is_file() {
            fs::copy(from, to).unwrap();
        }
    }
}

struct Lost {
    office: Office,
    told: Told,
    backup: PathBuf,
    passphrase: Passphrase,
    old: PathBuf,
    /// The newest version that anybody was told.
    version: u64,
    revoked: proto::signature::KeyId,
}

/// Backed up with one member, while it runs; then another member, a revocation and a suspension, and what is in the place of
/// the lost directory.
async fn put_back(published: impl FnOnce(&Path) -> Vec<PathBuf>) -> Lost {
    let office = Office::open().await;
    let moj = enrolled(&office, "moj", "R-1").await;
    let told = Told::first(&office, &office.directory.path().join("told")).await;
    let (backup, passphrase) = (office.directory.path().join("backup"), Passphrase::random());
    let config = office.path().join("central-registry.toml");
    backup::create(&config, &backup, &passphrase, true, &office.settings().clock).unwrap();

    copy(&office.path().join("public"), &office.directory.path().join("mirror"));

    office.pass(Duration::from_secs(120));
    enrolled(&office, "mps", "R-2").await;
    let revoked = moj.signing.public().id();
    let revocation = Revocation { key: revoked, reason: "stolen".parse().unwrap(), last_head: None };
    office.admin.submit(&Order::Revoke(revocation)).await.unwrap();
    let suspend = Order::Suspend("VN/GOV/mps".parse().unwrap(), "a test".parse().unwrap());
    office.admin.submit(&suspend).await.unwrap();
    let version = told.next(&office).await.unwrap();

    let (old, passphrase_of_backup) = (office.directory.path().join("old"), passphrase.clone());
    let office = office
        .restarted(|directory| {
            fs::rename(directory, &old).unwrap();
            let published = published(&old);
            let (_, newest) = backup::restore(&backup, directory, &passphrase_of_backup, &published).unwrap();
            assert!(newest.version() <= version);
        })
        .await;
    let old = office.directory.path().join("old");
    Lost { office, told, backup, passphrase, old, version, revoked }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_put_back_signs_no_version_twice_and_takes_up_what_was_published() {
    let Lost { office, told, version, revoked, .. } = put_back(|old| vec![mirror_of(old), old.join("public")]).await;
    let first =
        told.next(&office).await.expect("a server that was told more than the backup knows takes the next version");
    assert!(first > version + 1_000_000, "{first} may have been given to somebody: {version} was");
    let known = told.configuration();
    let standing = known.ledger.as_ref().expect("it keeps a ledger");
    assert_eq!(
        (standing.ledger.geneses().len(), standing.lost),
        (2, None),
        "another ledger, and all of the one before"
    );
    assert!(known.members.contains_key(&"VN/GOV/mps".parse().unwrap()), "it joined after the backup");
    assert!(known.active_member(&"VN/GOV/mps".parse().unwrap()).is_none(), "and was suspended");
    assert!(known.revoked.contains(&revoked), "a key that was revoked since is not good again");
    assert_eq!(office.running.heard_of_forgotten(), None);

    // What was lost may be told again: no command is carried out that may have been.
    let restore = Order::Restore("VN/GOV/mps".parse().unwrap());
    let (code, why) = refusal(office.admin.submit(&restore).await);
    assert!(code == Code::FailedPrecondition && why.contains("put back from a backup"), "{why}");
    office.pass(Duration::from_secs(60));
    assert_eq!(refusal(office.admin.submit(&restore).await).0, Code::FailedPrecondition, "the last moment");
    office.pass(Duration::from_millis(1));
    office.admin.submit(&restore).await.unwrap();
    assert!(told.next(&office).await.unwrap() < first + 10);
    assert!(told.configuration().active_member(&"VN/GOV/mps".parse().unwrap()).is_some());

    // The keys of what was taken up have their use, and the next start is one like any other.
    let server = "VN/GOV/mps/ss1";
    let again = office.admin.invite(&office::invitation("VN/GOV/mps", None, server, &[])).await;
    assert!(again.is_err(), "the server is registered");
    let office = office.restarted(|_| {}).await;
    assert!(told.next(&office).await.unwrap() < first + 20);
}

/// A copy that is not the newest is one that nobody can tell: what was decided after it is gone. No server takes a version in which a revoked key is good
/// again: each keeps what it has until the admins have revoked it again. Otherwise nothing goes back behind what it has seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_copy_that_is_too_old_no_revoked_key_comes_back_and_the_registry_hears_of_it() {
    let Lost { office, told, version, revoked, .. } = put_back(|old| vec![mirror_of(old)]).await;
    assert_eq!(office.running.heard_of_forgotten(), None);
    let refused = told.next(&office).await.unwrap_err();
    assert!(refused.contains("a revoked key never comes back"), "{refused}");
    assert_eq!(told.configuration().version, version);
    assert_eq!(office.running.heard_of_forgotten(), Some(version), "the server said which version it has");
    office.pass(Duration::from_secs(61));
    let again = Revocation { key: revoked, reason: "once more".parse().unwrap(), last_head: None };
    office.admin.submit(&Order::Revoke(again)).await.unwrap();
    let first = told.next(&office).await.expect("no role goes back behind what the server has seen");
    assert!(first > version + 1_000_000, "{first}");
    let known = told.configuration();
    let standing = known.ledger.as_ref().expect("it keeps a ledger");
    let lost = standing.lost.expect("what was published since the copy is in no ledger, and the server says so");
    assert_eq!((lost.held, standing.ledger.geneses().len()), (version, 2));
    assert!(lost.ended < version);
    assert!(!known.members.contains_key(&"VN/GOV/mps".parse().unwrap()), "it is to be approved again");
    assert!(known.revoked.contains(&revoked));
}

/// A crash in the first start: what was not noted is done again, further on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_is_done_again_passes_over_more() {
    let Lost { office, told, .. } = put_back(|old| vec![old.join("public")]).await;
    let first = told.next(&office).await.unwrap();
    let office = office.restarted(|directory| fs::write(directory.join("journal/restored"), "again").unwrap()).await;
    assert!(told.next(&office).await.unwrap() > first + 1_000_000);
    assert!(!office.path().join("journal/restored").exists());
}

/// The same backup once more, over what was made of it.
async fn put_back_again(lost: &Lost, office: Office, at: &str, newest: impl FnOnce(&Path) -> PathBuf) -> Office {
    let aside = office.directory.path().join(at);
    office
        .restarted(|directory| {
            fs::rename(directory, &aside).unwrap();
            backup::restore(&lost.backup, directory, &lost.passphrase, &[newest(&aside)]).unwrap();
        })
        .await
}

/// The ledger that the first restore began is in no backup: it is taken up from what was published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_put_back_twice_from_one_backup_is_followed_still() {
    let mut lost = put_back(|old| vec![old.join("public")]).await;
    lost.told.next(&lost.office).await.unwrap();
    let office = std::mem::replace(&mut lost.office, Office::open().await);
    let office = put_back_again(&lost, office, "second", |aside| aside.join("public")).await;
    lost.told.next(&office).await.expect("what follows is of a ledger that follows the one that it holds");
    let held = lost.told.configuration().ledger.clone().unwrap();
    assert_eq!((held.ledger.geneses().len(), held.lost), (3, None), "nothing of what was published is in no ledger");
    // A start reads the leaves of all of them again from the journal.
    let office = office.restarted(|directory| fs::remove_dir_all(directory.join("public/ledger")).unwrap()).await;
    lost.told.next(&office).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_was_published_of_this_instance_and_not_before_the_backup_is_taken() {
    let Lost { office, backup, passphrase, old, .. } = put_back(|old| vec![old.join("public")]).await;
    let place = office.directory.path();
    let restore = |newest: &Path| backup::restore(&backup, &place.join("new"), &passphrase, &[newest.to_owned()]);
    let refused = |newest: &Path, why: &str| {
        let error = restore(newest).map(drop).unwrap_err();
        assert!(matches!(error, BackupError::Published { .. }) && error.to_string().contains(why), "{error}");
        assert!(!place.join("new").exists());
    };
    // The store of a security server will do as well.
    assert!(backup::would_restore(&backup, &place.join("new"), &passphrase, &[place.join("told")]).is_ok());
    for nothing in [
        backup::restore(&backup, &place.join("new"), &passphrase, &[]),
        backup::would_restore(&backup, &place.join("new"), &passphrase, &[]),
    ] {
        assert!(matches!(nothing, Err(BackupError::NothingPublished)));
        assert!(!place.join("new").exists(), "nothing is restored that forgets what was published");
    }
    refused(&place.join("nowhere"), "No such file");
    let other = Office::open().await;
    refused(&other.path().join("public"), "another instance");
    let early = backup::verify(&backup, &passphrase).unwrap().published.version();
    let newer = place.join("newer");
    backup::create(&office.path().join("central-registry.toml"), &newer, &passphrase, true, &office.settings().clock)
        .unwrap();
    let error = backup::restore(&newer, &place.join("new"), &passphrase, &[old.join("public")]).map(drop);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("and the backup itself holds version"), "{error}");
    assert!(backup::verify(&newer, &passphrase).unwrap().published.version() > early);
    // A file of it that was changed.
    let timestamp = old.join("public/timestamp.json");
    let text = fs::read_to_string(&timestamp).unwrap();
    fs::write(&timestamp, text.replacen("\"version\":", "\"version\":1", 1)).unwrap();
    refused(&old.join("public"), "give a mirror's copy");
}

/// Nothing tells a registry that its directory is an older copy, put there by hand: the first server that asks does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_directory_put_there_by_hand_hears_that_it_is_older() {
    let office = Office::open().await;
    let older = office.directory.path().join("older");
    let office = office.restarted(|directory| copy(directory, &older)).await;
    let told = Told::first(&office, &office.directory.path().join("told")).await;
    enrolled(&office, "moj", "R-1").await;
    let version = told.next(&office).await.unwrap();
    assert_eq!(office.running.heard_of_forgotten(), None);
    let office = office
        .restarted(|directory| {
            fs::rename(directory, directory.with_file_name("newer")).unwrap();
            fs::rename(&older, directory).unwrap();
        })
        .await;
    let _watching = office.watch(version).await;
    assert_eq!(office.running.heard_of_forgotten(), Some(version));
}
