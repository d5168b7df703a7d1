//! The archive: large documents, and how a caller that was cut off goes on where it was. Nothing of it is the bus's: a request
//! says from which byte on, the first chunk says the digest of the whole, and what has come is kept until all of it has.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use futures_util::{Stream, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

use super::{Line, Running, serve, until_stopped};
use crate::wire::archive::archive_client::ArchiveClient;
use crate::wire::archive::archive_server::{Archive, ArchiveServer};
use crate::wire::archive::{Chunk, Document, ReadRequest};

/// Bytes of one chunk: well below what gRPC libraries take by default, 4 MiB.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that wait for a reader.
const WAITING_CHUNKS: usize = 4;

// ---- the agency

/// Starts the archive with the files of a directory, as they are now. A file that changes later is not sent.
pub async fn start(listener: TcpListener, documents: &Path) -> io::Result<Running> {
    let mut known = BTreeMap::new();
    for entry in fs::read_dir(documents)? {
        let path = entry?.path();
        if let (true, Some(name)) = (path.is_file(), path.file_name().and_then(|name| name.to_str())) {
            known.insert(name.to_owned(), (digested(&path)?, path));
        }
    }
    let stop = CancellationToken::new();
    let archive = ArchiveServer::new(Documents { known: Arc::new(known), stop: stop.clone() });
    serve(listener, stop, Routes::new(archive))
}

struct Documents {
    /// By name. A name is looked up here and never made a path.
    known: Arc<BTreeMap<String, (Document, PathBuf)>>,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl Archive for Documents {
    type ReadStream = Pin<Box<dyn Stream<Item = Result<Chunk, Status>> + Send>>;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let ReadRequest { document, offset, sha256 } = request.into_inner();
        let unknown = || Status::not_found("document: the archive has none of this name");
        let (known, path) = self.known.get(&document).cloned().ok_or_else(unknown)?;
        if !sha256.is_empty() && sha256 != known.sha256 {
            return Err(Status::failed_precondition("sha256: the document is another one now; begin it again"));
        }
        if offset > known.bytes {
            return Err(Status::out_of_range(format!("offset: the document has {} bytes", known.bytes)));
        }
        let (chunks, reading) = mpsc::channel(WAITING_CHUNKS);
        // Files are read where waiting for a disk holds up nobody. Whoever reads no more ends it.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = send(&path, &known, offset, &chunks) {
                let _ = chunks.blocking_send(Err(Status::data_loss(format!("the document cannot be read: {error}"))));
            }
        });
        Ok(Response::new(until_stopped(ReceiverStream::new(reading), self.stop.clone()).boxed()))
    }
}

fn send(path: &Path, known: &Document, offset: u64, chunks: &mpsc::Sender<Result<Chunk, Status>>) -> io::Result<()> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut rest = file.take(known.bytes - offset);
    let mut document = Some(known.clone());
    loop {
        let mut data = Vec::with_capacity(CHUNK_BYTES);
        (&mut rest).take(CHUNK_BYTES as u64).read_to_end(&mut data)?;
        if data.is_empty() && document.is_none() {
            return Ok(());
        }
        if chunks.blocking_send(Ok(Chunk { document: document.take(), data })).is_err() {
            return Ok(());
        }
    }
}

fn digested(path: &Path) -> io::Result<Document> {
    let (mut file, mut digest, mut bytes) = (File::open(path)?, Context::new(&SHA256), 0);
    let mut run = vec![0; CHUNK_BYTES];
    loop {
        let count = file.read(&mut run)?;
        if count == 0 {
            return Ok(Document { sha256: digest.finish().as_ref().to_vec(), bytes });
        }
        digest.update(&run[..count]);
        bytes += count as u64;
    }
}

// ---- whoever reads

/// A document that comes into a file. What has come stands in `NAME.part` and, of which document it is, in `NAME.sha256`: a new
/// process goes on where the one before was cut off.
pub struct Download {
    document: String,
    into: PathBuf,
}

/// Why a document has not come.
#[derive(Debug, thiserror::Error)]
pub enum NotWhole {
    /// The line broke, or the archive refuses for now: what has come is kept, and [`Download::go_on`] goes on there.
    #[error("cut off after {0} bytes: {1}; go on")]
    CutOff(u64, Box<Status>),
    /// The archive refuses, or its document is another one now.
    #[error("the archive refuses: {0}")]
    Refused(Box<Status>),
    /// All bytes came, and they are not the document's.
    #[error("what came is not the document that the archive named; it was thrown away: begin again")]
    NotTheDocument,
    /// The disk.
    #[error("the document cannot be kept: {0}")]
    Disk(#[from] io::Error),
}

impl Download {
    /// Of this document, into this file.
    pub fn new(document: &str, into: &Path) -> Self {
        Self { document: document.to_owned(), into: into.to_owned() }
    }

    /// Reads what is missing, and how many bytes that was. The file is there when all of it is, and is the document.
    pub async fn go_on(&self, archive: &mut ArchiveClient<Line>) -> Result<u64, NotWhole> {
        let part = self.beside("part");
        let mut file = File::options().create(true).append(true).open(&part)?;
        let offset = file.metadata()?.len();
        let sha256 = if offset == 0 { Vec::new() } else { fs::read(self.beside("sha256")).unwrap_or_default() };
        let asked = ReadRequest { document: self.document.clone(), offset, sha256 };
        let mut came = 0;
        let answer = archive.read(asked).await;
        let mut chunks = answer.map_err(|status| self.not_whole(offset, status))?.into_inner();
        let mut named = None;
        while let Some(chunk) = chunks.message().await.map_err(|status| self.not_whole(offset + came, status))? {
            if let Some(document) = chunk.document {
                // Before any of its bytes: a crash in between leaves a digest without bytes, which is not asked with.
                fs::write(self.beside("sha256"), &document.sha256)?;
                named = Some(document);
            }
            file.write_all(&chunk.data)?;
            came += chunk.data.len() as u64;
        }
        file.sync_all()?;
        if named != Some(digested(&part)?) {
            self.throw_away()?;
            return Err(NotWhole::NotTheDocument);
        }
        fs::rename(&part, &self.into)?;
        fs::remove_file(self.beside("sha256"))?;
        Ok(came)
    }

    /// What has come so far counts no more.
    pub fn throw_away(&self) -> io::Result<()> {
        fs::remove_file(self.beside("part"))?;
        fs::remove_file(self.beside("sha256"))
    }

    fn not_whole(&self, has: u64, status: Status) -> NotWhole {
        match status.code() {
            Code::NotFound | Code::FailedPrecondition | Code::OutOfRange | Code::PermissionDenied => {
                NotWhole::Refused(Box::new(status))
            }
            _ => NotWhole::CutOff(has, Box::new(status)),
        }
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.into.clone().into_os_string();
        name.push(format!(".{ending}"));
        name.into()
    }
}
