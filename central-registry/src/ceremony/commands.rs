//! `central-registry ceremony`, as its holders type it, each at a machine of their own.

use std::fs;
use std::path::{Path, PathBuf};

use command_line::{Changing, Ended, Exit, Foreseen, Reading, show};
use keystore::{Cost, Source};
use proto::global_configuration::update::{Files, root_file};
use proto::signature::{PublicKey, SigningKey};
use proto::wire::registry::File;
use serde_json::{Value, json};

use super::record::{Record, replace};
use super::{Ceremony, Changes, NoCeremony, public_key};
use crate::configuration::Configuration;
use crate::publish::{Publication, metadata};
use crate::spread::{self, NotTakenUp, PUBLIC};
use crate::system_clock;
use crate::usage::ConfigurationFile;

/// What is asked.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Make a holder's own key, encrypted, and beside it the public half that the others need.
    Key {
        /// The key file to make; the public half gets the same name and .pub.
        file: PathBuf,
        /// Where the key's own passphrase comes from: credential:NAME, fd:NUMBER or prompt.
        #[arg(long, default_value = "prompt", value_name = "SOURCE")]
        passphrase: Source,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Write the next root into a file that its holders sign. Without changes the same holders sign for another year.
    Begin {
        /// The file to write; never over another.
        file: PathBuf,
        /// What is published: the registry's public/, or a copy of it.
        #[arg(long, value_name = "DIRECTORY")]
        from: PathBuf,
        /// The public key of a new holder; may be given several times.
        #[arg(long, value_name = "FILE")]
        add: Vec<PathBuf>,
        /// A key that goes: its public key's file, or its name or first digits; may be given several times.
        #[arg(long, value_name = "KEY")]
        remove: Vec<String>,
        /// All holders that there are go, and those that are added take their place.
        #[arg(long, conflicts_with = "remove")]
        replace: bool,
        /// How many holders must sign from then on.
        #[arg(long)]
        threshold: Option<usize>,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Say what a ceremony would change, who signed, and who is still to sign.
    Show {
        /// Its file.
        file: PathBuf,
        /// How it is shown.
        #[command(flatten)]
        reading: Reading,
    },
    /// Sign it with a holder's key. What this key signed is noted beside it, and no version is signed twice.
    Sign {
        /// The ceremony's file.
        file: PathBuf,
        /// The holder's key file.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Where the key's passphrase comes from: credential:NAME, fd:NUMBER or prompt.
        #[arg(long, default_value = "prompt", value_name = "SOURCE")]
        passphrase: Source,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Put the signed root among the published files. The registry gives it to everybody from its next start on.
    Finish {
        /// The ceremony's file.
        file: PathBuf,
        /// Which registry.
        #[command(flatten)]
        registry: ConfigurationFile,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
}

/// Does as asked, on standard output.
pub fn run(command: Command) -> Result<Exit, Ended> {
    let done = match command {
        Command::Key { file, passphrase, changing } => make_key(&file, &passphrase, changing),
        Command::Begin { file, from, add, remove, replace, threshold, changing } => {
            let add = add.iter().map(|path| read_public_key(path)).collect::<Result<_, _>>();
            let remove = remove.into_iter().map(named).collect::<Result<_, _>>();
            let changes = add.and_then(|add| Ok(Changes { add, replace, remove: remove?, threshold }));
            changes.and_then(|changes| begin(&file, &from, &changes, changing))
        }
        Command::Show { file, reading } => open(&file).map(|ceremony| tell(&ceremony, reading.json)),
        Command::Sign { file, key, passphrase, changing } => sign(&file, &key, &passphrase, changing),
        Command::Finish { file, registry, changing } => finish(&file, &registry.config, changing),
    };
    done.map(|()| Exit::Ok).map_err(|error| Ended::new(error.exit(), error))
}

fn make_key(file: &Path, passphrase: &Source, changing: Changing) -> Result<(), NoCeremony> {
    let mut public_file = file.as_os_str().to_owned();
    public_file.push(".pub");
    let public_file = PathBuf::from(public_file);
    if let Some(there) = [file, &public_file].into_iter().find(|path| path.exists()) {
        return Err(exists(there));
    }
    if changing.dry_run {
        foresee(changing, vec![format!("make {}, a holder's key, and {}", file.display(), public_file.display())]);
        return Ok(());
    }
    let passphrase = passphrase.read_new()?;
    let (key, pkcs8) = SigningKey::generate();
    keystore::create(file, &pkcs8, &passphrase, Cost::FULL)?;
    let object = metadata::key_object(key.public());
    replace(&public_file, object["keyval"]["public"].as_str().unwrap_or_default().as_bytes())?;
    let name = metadata::key_id(key.public());
    let value = json!({ "key": name, "file": file.display().to_string(), "public": public_file.display().to_string() });
    show(changing.json, &value, || {
        format!(
            "{}\n  key     {name}\n  public  {}: hand this one in, and say the key's name over the telephone\n",
            file.display(),
            public_file.display()
        )
    });
    Ok(())
}

fn begin(file: &Path, from: &Path, changes: &Changes, changing: Changing) -> Result<(), NoCeremony> {
    if file.exists() {
        let begun = open(file)?;
        return Err(NoCeremony::Begun { path: file.display().to_string(), version: begun.version() });
    }
    let published = spread::copied(from)?;
    let ceremony = Ceremony::begin(newest_root(published.files()).1, changes, system_clock()())?;
    if changing.dry_run {
        foresee(changing, [vec![format!("write {}", file.display())], ceremony.changes()].concat());
        return Ok(());
    }
    replace(file, &ceremony.to_bytes())?;
    tell(&ceremony, changing.json);
    Ok(())
}

fn sign(file: &Path, key: &Path, passphrase: &Source, changing: Changing) -> Result<(), NoCeremony> {
    let mut ceremony = open(file)?;
    let key_file = key;
    let key = keystore::open(key_file, &passphrase.read()?)?;
    let record = Record::of(key_file)?;
    if changing.dry_run {
        ceremony.may_sign(&metadata::key_id(key.public()), &record)?;
        let what = format!("sign root version {}, sha256:{}", ceremony.version(), ceremony.digest());
        foresee(changing, [vec![what], ceremony.changes()].concat());
        return Ok(());
    }
    ceremony.sign(&key, &record)?;
    replace(file, &ceremony.to_bytes())?;
    tell(&ceremony, changing.json);
    Ok(())
}

fn finish(file: &Path, configuration: &Path, changing: Changing) -> Result<(), NoCeremony> {
    let ceremony = open(file)?;
    let root = ceremony.root()?;
    let public = Configuration::read(configuration)?.directory.join(PUBLIC);
    let published = spread::copied(&public)?;
    let (version, newest) = newest_root(published.files());
    if !ceremony.follows(newest) {
        return Err(NoCeremony::OtherRoot { published: version, place: public.display().to_string() });
    }
    // What is published must hold under the new root, or the registry would not start.
    let mut files = published.files().clone();
    files.insert(root_file(ceremony.version()), root.clone());
    Publication::read(&files).map_err(NotTakenUp::from)?;
    let place = public.join(root_file(ceremony.version()));
    if changing.dry_run {
        foresee(changing, [vec![format!("write {}", place.display())], ceremony.changes()].concat());
        return Ok(());
    }
    // A crash before this: nothing is published, and the file is finished again.
    let root = File { name: root_file(ceremony.version()), content: root };
    spread::write(&public, &[root]).map_err(|source| NoCeremony::File { path: place.display().to_string(), source })?;
    let value = json!({ "version": ceremony.version(), "sha256": ceremony.digest().to_string(), "file": place.display().to_string() });
    show(changing.json, &value, || {
        format!(
            "{}: root version {}, signed by enough holders\n\nNext: start the registry again; it gives the root to everybody\n",
            place.display(),
            ceremony.version()
        )
    });
    Ok(())
}

fn newest_root(files: &Files) -> (u64, &[u8]) {
    let versions = (1u64..).take_while(|version| files.contains_key(&root_file(*version)));
    let newest = versions.last().unwrap_or(1);
    (newest, files.get(&root_file(newest)).map_or(&[][..], |bytes| &bytes[..]))
}

fn foresee(changing: Changing, changes: Vec<String>) {
    let foreseen = Foreseen::new(changes);
    show(changing.json, &foreseen, || foreseen.to_string());
}

fn tell(ceremony: &Ceremony, json: bool) {
    let [before, next] = ceremony.signed();
    let is_enough = before.is_enough() && next.is_enough();
    let value: Value = json!({
        "version": ceremony.version(),
        "sha256": ceremony.digest().to_string(),
        "follows_sha256": ceremony.follows_digest().to_string(),
        "changes": ceremony.changes(),
        "present_holders": before,
        "new_holders": next,
        "enough": is_enough,
    });
    show(json, &value, || {
        let changes: String = ceremony.changes().iter().map(|change| format!("  {change}\n")).collect();
        format!(
            "Root version {}\n  sha256:{}  compare this with the other holders before you sign\n  it follows sha256:{}, \
             which you know from the last ceremony\n{changes}  the present root's holders: {before}\n  the new root's holders: \
             {next}\n{}\n",
            ceremony.version(),
            ceremony.digest(),
            ceremony.follows_digest(),
            if is_enough { "It may be finished." } else { "It is half finished: pass it on to who has not signed." }
        )
    });
}

fn open(file: &Path) -> Result<Ceremony, NoCeremony> {
    let path = file.display().to_string();
    let bytes = fs::read(file).map_err(|source| NoCeremony::File { path: path.clone(), source })?;
    Ceremony::read(&path, &bytes)
}

/// The name of the key in this file, or what was typed if it is none.
fn named(key: String) -> Result<String, NoCeremony> {
    let path = Path::new(&key);
    if path.is_file() { read_public_key(path).map(|key| metadata::key_id(&key)) } else { Ok(key) }
}

fn read_public_key(path: &Path) -> Result<PublicKey, NoCeremony> {
    let shown = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|source| NoCeremony::File { path: shown.clone(), source })?;
    public_key(&text).ok_or(NoCeremony::NoPublicKey(shown))
}

fn exists(path: &Path) -> NoCeremony {
    let source = std::io::Error::new(std::io::ErrorKind::AlreadyExists, "it is there, and a key is made once");
    NoCeremony::File { path: path.display().to_string(), source }
}
