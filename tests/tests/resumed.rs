//! A large document that is cut off on its way goes on where it was, and is the document that it was begun as.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use examples::agencies::archive::{self, Download, NotWhole};
use examples::agencies::{Line, Peer, Running};
use examples::wire::archive::ReadRequest;
use examples::wire::archive::archive_client::ArchiveClient;
use security_server::access_rights::Proposal;
use tests::processes::{Member, PURPOSE};
use tests::realm::Realm;
use tests::tap::{Tap, Toward, Weather};
use tokio::net::TcpListener;

const MIB: usize = 1 << 20;
/// 50 MB, and not a whole number of chunks.
const DOCUMENT: usize = 50_000_003;
const NAME: &str = "land-register.bin";

/// Bytes that are nowhere the same for long.
fn document(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let runs = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    runs.flatten().take(DOCUMENT).collect()
}

fn client(address: SocketAddr, fields: &[(String, String)]) -> ArchiveClient<Line> {
    ArchiveClient::new(Peer::new(&format!("http://{address}"), fields).unwrap().line())
}

async fn serving(documents: &Path) -> Running {
    archive::start(TcpListener::bind("127.0.0.1:0").await.unwrap(), documents).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_of_50_mb_that_is_cut_off_goes_on_over_the_bus_where_it_was() {
    let (documents, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bytes = document(1);
    fs::write(documents.path().join(NAME), &bytes).unwrap();
    let archive = serving(documents.path()).await;

    let mut realm = Realm::founded().await;
    let (portal, moj) = (Member::new("portal", "one-stop"), Member::new("moj", "archive"));
    for (member, services) in [(&portal, &[][..]), (&moj, &[("archive.v1.Archive", archive.address())])] {
        realm.join(member, services).await;
        realm.serve(member).await;
    }
    let proposal = Proposal {
        consumer: portal.subsystem.parse().unwrap(),
        provider: moj.subsystem.parse().unwrap(),
        methods: ["/archive.v1.Archive/Read".to_owned()].into(),
        purposes: [PURPOSE.to_owned()].into(),
        legal_basis: "a test".into(),
        valid_from: None,
        valid_days: 30,
        per_second: None,
        priority: Default::default(),
        fields: Default::default(),
    };
    realm.servers["moj"].server.access_rights.dangerously_grant(proposal, realm.now()).await.unwrap();
    realm.settled().await;

    let line = Tap::before(portal.clients).await;
    let fields = [("causeway-service", moj.subsystem.clone()), ("causeway-purpose", PURPOSE.to_owned())];
    let fields = fields.map(|(name, value)| (name.to_owned(), value));
    let into = kept.path().join("document");
    let mut had = 0;
    for cut_after in [5 * MIB, 12 * MIB, MIB, 20 * MIB] {
        line.befall(Toward::Origin, Weather::CutAfter(cut_after as u64));
        // Each time a new program, which knows what stands in its files.
        let cut = Download::new(NAME, &into).go_on(&mut client(line.address, &fields)).await.unwrap_err();
        let NotWhole::CutOff(has, _) = cut else { panic!("{cut}") };
        assert!(has > had, "{has} bytes, and {had} before");
        assert!(!into.exists(), "what is not whole is not there");
        had = has;
    }
    let came = Download::new(NAME, &into).go_on(&mut client(line.address, &fields)).await.unwrap();
    assert_eq!(had + came, DOCUMENT as u64, "no byte was asked for twice");
    assert!(fs::read(&into).unwrap() == bytes);
    assert_eq!(fs::read_dir(kept.path()).unwrap().count(), 1, "and nothing else is left");
    // On the line, too, little more than the document went: what was on its way when it was cut.
    let went = line.given(Toward::Origin);
    assert!(went < (DOCUMENT + 4 * MIB) as u64, "{went} bytes");
    realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_begun_of_one_document_is_not_gone_on_with_of_another() {
    let (documents, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(documents.path().join(NAME), &document(1)[..MIB]).unwrap();
    let archive = serving(documents.path()).await;
    let line = Tap::before(archive.address()).await;
    line.befall(Toward::Origin, Weather::CutAfter(MIB as u64 / 2));
    let into = kept.path().join("document");
    let download = Download::new(NAME, &into);
    assert!(matches!(download.go_on(&mut client(line.address, &[])).await, Err(NotWhole::CutOff(1.., _))));
    archive.shutdown().await;

    let other = document(2);
    fs::write(documents.path().join(NAME), &other[..MIB]).unwrap();
    let archive = serving(documents.path()).await;
    let mut client = client(archive.address(), &[]);
    let refused = download.go_on(&mut client).await.unwrap_err();
    let NotWhole::Refused(status) = refused else { panic!("{refused}") };
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    download.throw_away().unwrap();
    assert_eq!(download.go_on(&mut client).await.unwrap(), MIB as u64);
    assert!(fs::read(&into).unwrap() == other[..MIB]);

    // Bytes that were spoiled where they were kept are found by the digest of the whole.
    fs::write(kept.path().join("document.part"), vec![0; 1000]).unwrap();
    assert!(matches!(download.go_on(&mut client).await, Err(NotWhole::NotTheDocument)));
    assert_eq!(download.go_on(&mut client).await.unwrap(), MIB as u64);

    for (name, offset, code) in [
        ("../etc/passwd", 0, tonic::Code::NotFound),
        ("", 0, tonic::Code::NotFound),
        (NAME, MIB as u64 + 1, tonic::Code::OutOfRange),
    ] {
        let asked = ReadRequest { document: name.into(), offset, sha256: Vec::new() };
        assert_eq!(client.read(asked).await.unwrap_err().code(), code, "{name:?}");
    }
    let asked = ReadRequest { document: NAME.into(), offset: MIB as u64, sha256: Vec::new() };
    let mut nothing = client.read(asked).await.unwrap().into_inner();
    assert_eq!(nothing.message().await.unwrap().unwrap().data.len(), 0, "all but the name has come");
    assert_eq!(nothing.message().await.unwrap(), None);
}
