//! Where archives are kept: a directory, or a bucket of an S3-compatible store. Nothing that is there is ever overwritten, and
//! nothing but the doctor's own word is ever removed: how long archives are kept is the store's own rule.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use command_line::file_remedy;
use futures_util::{StreamExt, TryStreamExt};
use journal::{segment_name, segment_number};
use keystore::{NoPassphrase, Source};
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{
    Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
};
use proto::digest::Digest;
use proto::identifier::ServerId;

use super::transport::Transport;

/// How long one request to the store may take: a full segment at a megabit a second.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(600);
/// Longest object that is read: a segment with its last batch, and what encryption adds.
pub const MAX_OBJECT_BYTES: u64 = 320 << 20;
/// Most objects below one server's name that are listed.
pub const MAX_LISTED: usize = 1_000_000;
/// What encrypted segments are called besides.
const SEALED: &str = ".sealed";
/// What the doctor writes, reads and removes.
const DOCTORS_WORD: &str = "doctor.txt";

/// Where archives go, as the configuration file says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    to: To,
    /// Of a bucket: where the store is asked, if not at AWS.
    pub endpoint: Option<String>,
    /// Of a bucket: its region.
    pub region: String,
    /// Where the credentials come from.
    pub credentials: Option<Source>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum To {
    Directory(PathBuf),
    Bucket { bucket: String, prefix: String },
}

/// Neither of both.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it is file:///DIRECTORY or s3://BUCKET/PREFIX, of letters, digits, '.', '_', '-' and '/'")]
pub struct NotAPlace;

impl FromStr for To {
    type Err = NotAPlace;
    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let is_path = |path: &str| {
            let segments = path.split('/');
            path.is_empty()
                || segments
                    .into_iter()
                    .all(|each| !each.is_empty() && each != "." && each != ".." && each.bytes().all(fits))
        };
        if let Some(path) = text.strip_prefix("file:///") {
            let path = path.trim_end_matches('/');
            return if is_path(path) && !path.is_empty() {
                Ok(Self::Directory(format!("/{path}").into()))
            } else {
                Err(NotAPlace)
            };
        }
        let rest = text.strip_prefix("s3://").ok_or(NotAPlace)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let is_bucket = (3..=63).contains(&bucket.len())
            && bucket
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-'));
        if !is_bucket || !is_path(prefix) {
            return Err(NotAPlace);
        }
        Ok(Self::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "file://{}", path.display()),
            Self::Bucket { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to.fmt(f)
    }
}

/// What is wrong with a setting of the place: the setting, and its rule.
pub type Wrong = (&'static str, &'static str);

impl Place {
    /// From the settings of `[archive]`.
    pub fn of(to: &str, endpoint: Option<String>, region: String, credentials: &str) -> Result<Self, Wrong> {
        let to: To = to.parse().map_err(|_| {
            ("to", "it is file:///DIRECTORY or s3://BUCKET/PREFIX, of letters, digits, '.', '_', '-' and '/'")
        })?;
        if matches!(to, To::Directory(_)) && endpoint.is_some() {
            return Err(("endpoint", "a directory has none: it is for s3://"));
        }
        if let Some(endpoint) = &endpoint {
            let rule = "it is https://HOST:PORT, or http://HOST:PORT of a loopback address: what is archived does not travel in clear";
            match endpoint.parse::<http::Uri>() {
                Ok(uri) if Transport::takes(&uri) && uri.path() == "/" && uri.query().is_none() => {}
                _ => return Err(("endpoint", rule)),
            }
        }
        if region.is_empty() || !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(("region", "it is the store's name of a region, as us-east-1"));
        }
        let credentials = match credentials {
            "environment" => None,
            named => match named.parse::<Source>() {
                Ok(source @ Source::Credential(_)) => Some(source),
                _ => return Err(("credentials", "it is environment or credential:NAME")),
            },
        };
        Ok(Self {
            to,
            endpoint: endpoint.map(|endpoint| endpoint.trim_end_matches('/').to_owned()),
            region,
            credentials,
        })
    }

    /// With its credentials: the store, for this server's archive.
    pub fn open(&self, server: &ServerId) -> Result<Store, NotOpened> {
        let credentials = match &self.to {
            To::Directory(_) => None,
            To::Bucket { .. } => Some(Credentials::read(self.credentials.as_ref())?),
        };
        Ok(self.of_server(server, credentials))
    }
}

impl Place {
    /// The same, with credentials that the caller holds.
    pub fn open_with(&self, server: &ServerId, id: String, secret: String) -> Store {
        self.of_server(server, Some(Credentials { id, secret: secret.into(), token: None }))
    }

    fn of_server(&self, server: &ServerId, credentials: Option<Credentials>) -> Store {
        Store { place: self.clone(), credentials, server: server.clone(), transport: Arc::default() }
    }
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum NotOpened {
    /// Nobody gave credentials.
    #[error(
        "the archive is a bucket, and {0} is not in the environment; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name \
         credentials = \"credential:NAME\" under [archive]"
    )]
    NoCredentials(&'static str),
    /// They cannot be read.
    #[error("the archive's credentials: {0}")]
    Unreadable(#[from] NoPassphrase),
    /// They are of no form.
    #[error(
        "the archive's credentials in {0} are not fit; write the access key's id, a blank and its secret on one line"
    )]
    Unfit(String),
}

#[derive(Clone)]
struct Credentials {
    id: String,
    secret: zeroize::Zeroizing<String>,
    token: Option<String>,
}

impl Credentials {
    fn read(source: Option<&Source>) -> Result<Self, NotOpened> {
        if let Some(source) = source {
            let line = source.read()?;
            let words: Vec<_> = line.reveal().split_whitespace().collect();
            let [id, secret] = words[..] else { return Err(NotOpened::Unfit(source.to_string())) };
            return Ok(Self { id: id.to_owned(), secret: secret.to_owned().into(), token: None });
        }
        let named = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let wanted = |name| named(name).ok_or(NotOpened::NoCredentials(name));
        Ok(Self {
            id: wanted("AWS_ACCESS_KEY_ID")?,
            secret: wanted("AWS_SECRET_ACCESS_KEY")?.into(),
            token: named("AWS_SESSION_TOKEN"),
        })
    }
}

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// Nobody may do it, or nobody is there.
    #[error("{place}: {why}")]
    Failed {
        /// Where.
        place: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// It takes too long.
    #[error("{0}: it did not answer within ten minutes; ask who runs the store")]
    Slow(String),
    /// There is more than anybody wrote.
    #[error("{0}: it is longer than any segment; look at what is there")]
    TooLong(String),
}

/// One server's archive.
#[derive(Clone)]
pub struct Store {
    place: Place,
    credentials: Option<Credentials>,
    server: ServerId,
    /// Made once: the authorities that this machine trusts are read from many files.
    transport: Arc<OnceLock<Transport>>,
}

/// An object as it was when it was read: as long as it is the same, so is what was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version(ObjectMeta);

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({self})")
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/message-log", self.place, self.server)
    }
}

/// An object of an archive.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Object {
    /// The segment that it holds; none where its name is none of ours.
    pub segment: Option<u64>,
    /// Whether it is encrypted.
    pub sealed: bool,
    /// Its name within the archive.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

impl Object {
    /// The object of a segment.
    pub fn of(segment: u64, sealed: bool, bytes: u64) -> Self {
        let name = format!("{}{}", segment_name(segment), if sealed { SEALED } else { "" });
        Self { segment: Some(segment), sealed, name, bytes }
    }

    fn named(name: &str, bytes: u64) -> Self {
        let (plain, sealed) = name.strip_suffix(SEALED).map_or((name, false), |plain| (plain, true));
        Self { segment: segment_number(plain), sealed, name: name.to_owned(), bytes }
    }
}

/// What became of an object that was put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// It is there now.
    New,
    /// One of this name was there before, and was left as it is.
    Existed,
}

impl Store {
    /// The archive as the configuration file names it: the same bucket at another endpoint is another.
    pub fn to(&self) -> String {
        match &self.place.endpoint {
            None => self.place.to_string(),
            Some(endpoint) => format!("{} at {endpoint}", self.place),
        }
    }

    /// Whether what was archived before can be there at all: a place where a file system is mounted exists without it, and there
    /// the archive would be begun anew, on another disk.
    pub async fn is_begun(&self) -> Result<(), Unavailable> {
        let To::Directory(path) = &self.place.to else { return Ok(()) };
        let directory = path.join(self.server.to_string()).join("message-log");
        let looked = directory.clone();
        match tokio::task::spawn_blocking(move || looked.is_dir()).await {
            Ok(true) => Ok(()),
            _ => Err(self.failed(format!(
                "the audit log says that segments were archived, and {} is not there; mount what it stands on, or make it if \
                 the archive is to be begun anew",
                directory.display()
            ))),
        }
    }

    /// Looked up anew for every use: a file system that is not mounted is no archive, and nothing is made in its place.
    async fn inner(&self) -> Result<(Arc<dyn ObjectStore>, Key), Unavailable> {
        let store = self.clone();
        let looked = tokio::task::spawn_blocking(move || store.looked_up()).await;
        looked.map_err(|error| self.failed(format!("it ended early: {error}")))?
    }

    fn transport(&self) -> Result<Transport, Unavailable> {
        if let Some(transport) = self.transport.get() {
            return Ok(transport.clone());
        }
        let made = Transport::new().map_err(|error| self.failed(error.to_string()))?;
        Ok(self.transport.get_or_init(|| made).clone())
    }

    /// Blocks.
    fn looked_up(&self) -> Result<(Arc<dyn ObjectStore>, Key), Unavailable> {
        match (&self.place.to, &self.credentials) {
            (To::Bucket { bucket, prefix }, Some(credentials)) => {
                let transport = self.transport()?;
                let mut builder = AmazonS3Builder::new()
                    .with_bucket_name(bucket)
                    .with_region(&self.place.region)
                    .with_access_key_id(&credentials.id)
                    .with_secret_access_key(credentials.secret.as_str())
                    .with_conditional_put(S3ConditionalPut::ETagMatch)
                    .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
                    .with_http_connector(transport);
                if let Some(token) = &credentials.token {
                    builder = builder.with_token(token);
                }
                if let Some(endpoint) = &self.place.endpoint {
                    builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
                }
                let store = builder.build().map_err(|error| self.why(error))?;
                Ok((Arc::new(store), Key::from(format!("{prefix}/{}/message-log", self.server))))
            }
            (To::Bucket { .. }, None) => Err(self.failed("there are no credentials")),
            (To::Directory(path), _) => {
                // Synced before it counts.
                let store = LocalFileSystem::new_with_prefix(path).map_err(|error| {
                    let missing = io::Error::from(io::ErrorKind::NotFound);
                    tracing::debug!(%error, "the archive's directory");
                    self.failed(format!(
                        "the directory {} cannot be used; {}",
                        path.display(),
                        file_remedy(&missing, "make it, or mount what it stands on; nothing is made in its place")
                    ))
                })?;
                // The doctor's word leaves no directory behind that was not there.
                let store = store.with_fsync(true).with_automatic_cleanup(true);
                Ok((Arc::new(store), Key::from(format!("{}/message-log", self.server))))
            }
        }
    }

    fn failed(&self, why: impl Into<String>) -> Unavailable {
        Unavailable::Failed { place: self.to_string(), why: why.into() }
    }

    /// What the store said, in one line.
    fn why(&self, error: StoreError) -> Unavailable {
        let said: String =
            error.to_string().split_whitespace().collect::<Vec<_>>().join(" ").chars().take(400).collect();
        let refused =
            || format!("it refuses these credentials: {said}; check them, and what they may do: put, get and list");
        self.failed(match error {
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => refused(),
            _ if said.contains("403 Forbidden") => refused(),
            StoreError::InvalidPath { .. } => {
                format!("{said}; nobody archived that: look at what it is, and move it away")
            }
            StoreError::NotFound { .. } => format!("it is not there: {said}; make the bucket, or correct its name"),
            _ => format!("{said}; is it reachable, and is there room?"),
        })
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, Attempt> {
        match tokio::time::timeout(REQUEST_TIMEOUT, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(Attempt::Store(error)),
            Err(_) => Err(Attempt::Slow),
        }
    }

    fn unavailable(&self, attempt: Attempt) -> Unavailable {
        match attempt {
            Attempt::Store(error) => self.why(error),
            Attempt::Slow => Unavailable::Slow(self.to_string()),
        }
    }

    /// Puts an object where none of its name is. A crash meanwhile leaves all of it or nothing.
    pub async fn put(&self, object: &Object, content: Bytes) -> Result<Put, Unavailable> {
        let (store, prefix) = self.inner().await?;
        let (key, payload) = (prefix.join(object.name.as_str()), PutPayload::from(content));
        let put = self.within(create(store.as_ref(), &key, payload)).await;
        put.map_err(|attempt| self.unavailable(attempt))
    }

    /// What is there under an object's name now, without reading it. None: nothing is.
    pub async fn version(&self, object: &Object) -> Result<Option<Version>, Unavailable> {
        let (store, prefix) = self.inner().await?;
        let key = prefix.join(object.name.as_str());
        match self.within(store.head(&key)).await {
            Ok(meta) => Ok(Some(Version(meta))),
            Err(Attempt::Store(StoreError::NotFound { .. })) => Ok(None),
            Err(attempt) => Err(self.unavailable(attempt)),
        }
    }

    /// Reads an object to its end and keeps nothing of it: its SHA-256. None: it is not there.
    pub async fn digest(&self, object: &Object) -> Result<Option<(Digest, Version)>, Unavailable> {
        let mut hash = digest::Context::new(&digest::SHA256);
        let read = self.read(object, &mut |chunk| hash.update(chunk)).await?;
        let digest = hash.finish();
        Ok(read.map(|version| (Digest::try_from(digest.as_ref()).expect("SHA-256 has 32 bytes"), version)))
    }

    /// A whole object. None: it is not there.
    pub async fn get(&self, object: &Object) -> Result<Option<Bytes>, Unavailable> {
        let mut whole = BytesMut::new();
        let read = self.read(object, &mut |chunk| whole.extend_from_slice(chunk)).await?;
        Ok(read.map(|_| whole.freeze()))
    }

    async fn read(
        &self,
        object: &Object,
        each: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<Option<Version>, Unavailable> {
        let (store, prefix) = self.inner().await?;
        let key = prefix.join(object.name.as_str());
        let reading = async {
            let got = store.get(&key).await?;
            let version = Version(got.meta.clone());
            if version.0.size > MAX_OBJECT_BYTES {
                return Ok((version.0.size, version));
            }
            let (mut chunks, mut read) = (got.into_stream(), 0);
            while let Some(chunk) = chunks.try_next().await? {
                read += chunk.len() as u64;
                if read > MAX_OBJECT_BYTES {
                    return Ok((read, version));
                }
                each(&chunk);
            }
            Ok((read, version))
        };
        match self.within(reading).await {
            Ok((read, _)) if read > MAX_OBJECT_BYTES => Err(Unavailable::TooLong(format!("{self}/{}", object.name))),
            Ok((_, version)) => Ok(Some(version)),
            Err(Attempt::Store(StoreError::NotFound { .. })) => Ok(None),
            Err(attempt) => Err(self.unavailable(attempt)),
        }
    }

    /// What is there, in the order of the segments.
    pub async fn list(&self) -> Result<Vec<Object>, Unavailable> {
        let (store, prefix) = self.inner().await?;
        let listing = async {
            let mut listed = Vec::new();
            let mut objects = store.list(Some(&prefix)).take(MAX_LISTED + 1);
            while let Some(object) = objects.try_next().await? {
                let name = object.location.as_ref().strip_prefix(prefix.as_ref()).unwrap_or_default();
                listed.push(Object::named(name.trim_start_matches('/'), object.size));
            }
            Ok(listed)
        };
        let mut listed = self.within(listing).await.map_err(|attempt| self.unavailable(attempt))?;
        if listed.len() > MAX_LISTED {
            return Err(self.failed("more is there than anybody archived; look at what it is"));
        }
        listed.retain(|object| object.name != DOCTORS_WORD);
        listed.sort();
        Ok(listed)
    }

    /// Writes a word, has it refused a second time, reads it and removes it again. Returns whether it could not be removed: a
    /// store that keeps what it has may forbid that.
    pub async fn try_out(&self) -> Result<bool, Unavailable> {
        let (store, prefix) = self.inner().await?;
        let (key, word) = (prefix.join(DOCTORS_WORD), Bytes::from_static(b"security-server doctor was here\n"));
        let tried = async {
            // One of an earlier time may be there.
            create(store.as_ref(), &key, PutPayload::from(word.clone())).await?;
            let again = create(store.as_ref(), &key, PutPayload::from(word.clone())).await?;
            Ok((again, store.get(&key).await?.bytes().await?))
        };
        let (again, read) = self.within(tried).await.map_err(|attempt| self.unavailable(attempt))?;
        if again == Put::New {
            return Err(self.failed(
                "it overwrites what is there although it is asked not to (If-None-Match); it is no archive: take another store",
            ));
        }
        if read != word {
            return Err(self.failed("what is read is not what was written; look at the store"));
        }
        Ok(self.within(store.delete(&key)).await.is_err())
    }
}

/// The only way in which anything is written: where nothing is.
async fn create(store: &dyn ObjectStore, key: &Key, payload: PutPayload) -> Result<Put, StoreError> {
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    match store.put_opts(key, payload, options).await {
        Ok(_) => Ok(Put::New),
        Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => Ok(Put::Existed),
        Err(error) => Err(error),
    }
}

enum Attempt {
    Store(StoreError),
    Slow,
}

/// Whether this host is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_place_is_a_directory_or_a_bucket_and_nothing_else() {
        for good in ["file:///var/archive", "s3://evidence", "s3://evidence/vn/moj"] {
            assert_eq!(good.parse::<To>().unwrap().to_string(), good);
        }
        assert_eq!("s3://evidence/vn/".parse::<To>().unwrap().to_string(), "s3://evidence/vn");
        let long = format!("s3://{}", "a".repeat(64));
        for bad in [
            "",
            "/var/archive",
            "file://var/archive",
            "file:///",
            "file:///a/../b",
            "file:///a//b",
            "s3:/a",
            "s3://",
            "s3://ab",
            "s3://Bucket",
            "s3://bucket/../x",
            "s3://bucket//x",
            "s3://key:secret@bucket",
            "http://bucket/x",
            "file:///a b",
            &long,
        ] {
            assert!(bad.parse::<To>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_bucket_at_another_endpoint_is_another_archive() {
        let server = "VN/GOV/moj/ss1".parse().unwrap();
        let to = |endpoint: Option<&str>| {
            let place = Place::of("s3://bucket/a", endpoint.map(str::to_owned), "us-east-1".into(), "environment");
            place.unwrap().open_with(&server, "id".into(), "secret".into()).to()
        };
        assert_eq!(to(None), "s3://bucket/a");
        assert_eq!(to(Some("https://s3.gov.vn:9000/")), "s3://bucket/a at https://s3.gov.vn:9000");
        assert_ne!(to(Some("https://s3.gov.vn")), to(Some("https://other.gov.vn")));
    }

    #[test]
    fn in_clear_only_within_this_machine() {
        let of = |endpoint: &str| Place::of("s3://bucket", Some(endpoint.into()), "us-east-1".into(), "environment");
        for good in [
            "https://s3.gov.vn",
            "https://s3.gov.vn:9000/",
            "http://127.0.0.1:9000",
            "http://[::1]:9000",
            "http://localhost:9000",
        ] {
            assert!(of(good).is_ok(), "{good}");
        }
        for bad in [
            "http://s3.gov.vn",
            "http://10.0.0.1:9000",
            "ftp://s3.gov.vn",
            "s3.gov.vn",
            "https://s3.gov.vn/x",
            "https://a:b@s3.gov.vn",
            "",
        ] {
            assert_eq!(of(bad).unwrap_err().0, "endpoint", "{bad}");
        }
        let place = |to, region: &str, credentials| Place::of(to, None, region.into(), credentials);
        assert_eq!(place("s3://bucket", "", "environment").unwrap_err().0, "region");
        assert_eq!(place("s3://bucket", "a", "AKIA SECRET").unwrap_err().0, "credentials");
        assert_eq!(place("s3://bucket", "a", "prompt").unwrap_err().0, "credentials");
        assert!(place("s3://bucket", "a", "credential:archive").is_ok());
        assert_eq!(
            Place::of("file:///a", Some("https://x".into()), "a".into(), "environment").unwrap_err().0,
            "endpoint"
        );
    }

    #[test]
    fn an_objects_name_says_which_segment_it_holds() {
        for (object, name) in
            [(Object::of(7, false, 1), "0000000007.segment"), (Object::of(7, true, 1), "0000000007.segment.sealed")]
        {
            assert_eq!(object.name, name);
            assert_eq!(Object::named(name, 1), object);
        }
        for other in ["7.segment", "0000000007.segment.gz", "x/0000000007.segment", "0000000007.segment.sealed.sealed"]
        {
            assert_eq!(Object::named(other, 1).segment, None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,100}") {
            let _ = text.parse::<To>();
            let _ = Place::of("s3://bucket", Some(text), "a".into(), "environment");
        }
    }
}
