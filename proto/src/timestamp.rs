//! Timestamps (PROTOCOL.md 16): what a timestamping authority (TSA) is asked by RFC 3161, and whether its token says that
//! these bytes were there at that time. A token counts only when every question that can be put to it was answered.

mod answer;
mod cms;

use std::fmt;

use der::asn1::{ObjectIdentifier, OctetStringRef};
use der::{Encode, Reader, SliceReader, Tag, Tagged};

pub use self::answer::{Authority, NoQuery, Statement};
pub(crate) use self::answer::{
    CONTENT_TYPE, ECDSA_WITH_SHA_256, MESSAGE_DIGEST, SIGNING_CERTIFICATE_V2, issuer_and_serial, signing_certificate,
};
pub use self::cms::Signer;
use crate::digest::Digest;
use crate::signature::KeyId;
use crate::time::Time;
use crate::transport::MAX_SKEW;

/// Longest token that is kept, in bytes.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// Longest answer that is read: a token, and what is around it.
pub const MAX_ANSWER_BYTES: usize = MAX_TOKEN_BYTES + 1024;
/// Longest query that is answered.
pub const MAX_QUERY_BYTES: usize = 512;
/// Length of a query's nonce.
pub const NONCE_BYTES: usize = 16;
/// The policy of the registry's own authority: 2.25 and a UUID, in DER without tag and length.
pub const OWN_POLICY: &[u8] =
    &[0x69, 0xba, 0xb6, 0xa6, 0x8a, 0xa0, 0xa7, 0xc2, 0xb8, 0xad, 0xb6, 0xb0, 0xfb, 0xc5, 0xf9, 0xcf, 0xf2, 0xf3, 0x10];

pub(crate) const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
pub(crate) const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
pub(crate) const A_TIME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");

/// A timestamping authority that the global configuration approves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Approved {
    /// What it is called.
    pub name: String,
    /// Its own certificate, or that of the authority under which it stands; DER.
    pub certificate: Vec<u8>,
    /// The policy that its tokens must name, as DER without tag and length. None: whatever it is.
    pub policy: Option<Vec<u8>>,
}

/// What is asked: a timestamp over bytes with this digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Query {
    imprint: Digest,
    nonce: [u8; NONCE_BYTES],
}

/// What a token says, once everything about it was checked. Only [`accept`] and [`verify`] make one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stamped {
    /// The authority's name in the configuration.
    pub authority: String,
    /// The key that signed it.
    pub key: KeyId,
    /// The time before which the bytes were there.
    pub time: Time,
}

/// Why an answer or a token proves no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotATimestamp {
    /// 16.2.1: the authority grants nothing.
    #[error("the authority refused: status {0}")]
    Status(u8),
    /// 16.2.1, 16.3.1: not of its form.
    #[error("not of the form that RFC 3161 gives it: {0}")]
    Form(&'static str),
    /// 16.3.2: over other bytes.
    #[error("it is over other bytes than these")]
    Imprint,
    /// 16.2.2: an answer to another question.
    #[error("it bears another nonce than the query: it answers another one")]
    Nonce,
    /// 16.3.3: not under the approved policy.
    #[error("it is given under another policy than the approved one")]
    Policy,
    /// 16.3.4: the certificate cannot be that of a timestamping authority.
    #[error("its certificate is none of a timestamping authority: {0}")]
    Certificate(&'static str),
    /// 16.3.5: nobody approved its authority.
    #[error("it is of no approved timestamping authority")]
    NotApproved,
    /// 16.3.6: the signature.
    #[error("its signature does not hold: {0}")]
    Signature(&'static str),
    /// 16.3.4: outside of its certificate's time.
    #[error("its certificate was not good at {0}, the time that it names")]
    Outside(Time),
    /// 16.3.7: the key is revoked.
    #[error("the authority's key {0} is revoked")]
    Revoked(KeyId),
    /// 16.2.3: the clocks differ.
    #[error("it says {theirs}, and our clock {ours}: more than {} s apart; check both clocks", MAX_SKEW.as_secs())]
    Time {
        /// What the token says.
        theirs: Time,
        /// What our clock said when it came.
        ours: Time,
    },
}

impl NotATimestamp {
    /// The step of PROTOCOL.md that refuses.
    pub fn step(&self) -> &'static str {
        match self {
            Self::Status(_) => "16.2.1",
            Self::Nonce => "16.2.2",
            Self::Time { .. } => "16.2.3",
            Self::Form(_) => "16.3.1",
            Self::Imprint => "16.3.2",
            Self::Policy => "16.3.3",
            Self::Certificate(_) | Self::Outside(_) => "16.3.4",
            Self::NotApproved => "16.3.5",
            Self::Signature(_) => "16.3.6",
            Self::Revoked(_) => "16.3.7",
        }
    }
}

/// Not DER, or not of the wanted form.
impl From<der::Error> for NotATimestamp {
    fn from(_: der::Error) -> Self {
        Self::Form("not the DER that is wanted")
    }
}

impl Query {
    /// A query for bytes with this digest. The nonce is drawn at random for it alone.
    pub fn new(imprint: Digest, mut nonce: [u8; NONCE_BYTES]) -> Self {
        // A positive number of this very length: an answer has one way to repeat it.
        nonce[0] = nonce[0] & 0x3f | 0x40;
        Self { imprint, nonce }
    }

    /// The query's bytes (RFC 3161, `TimeStampReq`): SHA-256, with the nonce, and the certificate wanted in the answer.
    pub fn to_der(&self) -> Vec<u8> {
        sequence(&[&integer(&[1]), &imprint(&self.imprint), &integer(&self.nonce), &[0x01, 0x01, 0xff]])
    }
}

/// Checks an answer to this query, read when our clock said `now`, completely (16.2). Returns the token's bytes, to be kept,
/// and what they say.
pub fn accept<'a>(
    answer: &'a [u8],
    query: &Query,
    approved: &[Approved],
    is_revoked: &dyn Fn(&KeyId) -> bool,
    now: Time,
) -> Result<(&'a [u8], Stamped), NotATimestamp> {
    // 16.2.1
    let (status, token) = answered(answer)?;
    let token = match (status, token) {
        (0, Some(token)) => token,
        (0, None) => return Err(NotATimestamp::Form("granted, and no token is there")),
        (status, _) => return Err(NotATimestamp::Status(status)),
    };
    let read = Token::read(token)?;
    // 16.2.2
    if read.nonce != Some(&query.nonce[..]) {
        return Err(NotATimestamp::Nonce);
    }
    let stamped = read.verified(&query.imprint, approved, is_revoked)?;
    // 16.2.3
    if stamped.time.distance(now) > MAX_SKEW {
        return Err(NotATimestamp::Time { theirs: stamped.time, ours: now });
    }
    Ok((token, stamped))
}

/// Checks a kept token over bytes with this digest (16.3), years later as on its first day.
pub fn verify(
    token: &[u8],
    imprint: &Digest,
    approved: &[Approved],
    is_revoked: &dyn Fn(&KeyId) -> bool,
) -> Result<Stamped, NotATimestamp> {
    Token::read(token)?.verified(imprint, approved, is_revoked)
}

/// The name of the key whose certificate the token says that it was signed with, unproven: of this one a verifier asks whether
/// it is revoked.
pub fn key_of(token: &[u8]) -> Option<KeyId> {
    Token::read(token).and_then(|token| token.signed.signer().map(|signer| signer.key())).ok()
}

/// The time that a token names, unproven: of a token that was checked before it was kept.
pub fn time_of(token: &[u8]) -> Option<Time> {
    Token::read(token).ok().map(|token| token.time)
}

/// Status and token of a `TimeStampResp`.
fn answered(answer: &[u8]) -> Result<(u8, Option<&[u8]>), NotATimestamp> {
    if answer.len() > MAX_ANSWER_BYTES {
        return Err(NotATimestamp::Form("too long"));
    }
    let read = whole(answer, |outer| {
        let status = outer.sequence(|granted| {
            let status = granted.decode::<u8>()?;
            rest(granted)?;
            Ok(status)
        })?;
        let token = if outer.is_finished() { None } else { Some(outer.tlv_bytes()?) };
        Ok((status, token))
    })?;
    Ok(read)
}

/// A token, read and not checked.
struct Token<'a> {
    signed: cms::SignedData<'a>,
    policy: &'a [u8],
    algorithm: ObjectIdentifier,
    imprint: &'a [u8],
    time: Time,
    nonce: Option<&'a [u8]>,
}

impl<'a> Token<'a> {
    /// 16.3.1
    fn read(token: &'a [u8]) -> Result<Self, NotATimestamp> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(NotATimestamp::Form("too long"));
        }
        let signed = cms::SignedData::read(token, A_TIME)?;
        let said = whole(signed.content, |said| {
            if said.decode::<u8>()? != 1 {
                return Ok(Err("its version is not 1"));
            }
            let policy = bytes_of(said, Tag::ObjectIdentifier)?;
            let (algorithm, imprint) = said.sequence(|imprint| {
                let algorithm = algorithm(imprint)?;
                Ok((algorithm, imprint.decode::<OctetStringRef<'_>>()?.as_bytes()))
            })?;
            bytes_of(said, Tag::Integer)?;
            let time = bytes_of(said, Tag::GeneralizedTime)?;
            let mut nonce = None;
            while !said.is_finished() {
                let tag = said.peek_header()?.tag;
                let value = bytes_of(said, tag)?;
                if tag == Tag::Integer {
                    nonce = Some(value);
                } else if matches!(tag, Tag::ContextSpecific { number, .. } if number.value() == 1) {
                    // What an extension would change about the rest, nobody here knows.
                    return Ok(Err("it has extensions"));
                }
            }
            Ok(Ok((policy, algorithm, imprint, time, nonce)))
        })?;
        let (policy, algorithm, imprint, time, nonce) = said.map_err(NotATimestamp::Form)?;
        let time = generalized_time(time).ok_or(NotATimestamp::Form("its time is none"))?;
        Ok(Self { signed, policy, algorithm, imprint, time, nonce })
    }

    /// 16.3.2 to 16.3.7
    fn verified(
        &self,
        imprint: &Digest,
        approved: &[Approved],
        is_revoked: &dyn Fn(&KeyId) -> bool,
    ) -> Result<Stamped, NotATimestamp> {
        if self.algorithm != SHA_256 || self.imprint != imprint.as_bytes() {
            return Err(NotATimestamp::Imprint);
        }
        let signer = self.signed.signer()?;
        signer.is_for_timestamps(self.time)?;
        let authority = signer.approved(approved, &self.signed.certificates, self.time)?;
        if authority.policy.as_ref().is_some_and(|policy| policy != self.policy) {
            return Err(NotATimestamp::Policy);
        }
        self.signed.signed_by(&signer)?;
        let key = signer.key();
        if is_revoked(&key) {
            return Err(NotATimestamp::Revoked(key));
        }
        Ok(Stamped { authority: authority.name.clone(), key, time: self.time })
    }
}

/// `YYYYMMDDhhmmss[.f]Z`, as RFC 3161 takes it.
fn generalized_time(bytes: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('Z')?;
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A leap second is one of no calendar here.
    if whole.len() != 14
        || whole.ends_with("60")
        || !digits(whole)
        || fraction.is_some_and(|text| !digits(text) || text.len() > 9)
    {
        return None;
    }
    let (date, time) = whole.split_at(8);
    let fraction = fraction.map(|fraction| format!(".{fraction}")).unwrap_or_default();
    let parts = (&date[..4], &date[4..6], &date[6..], &time[..2], &time[2..4], &time[4..]);
    format!("{}-{}-{}T{}:{}:{}{fraction}Z", parts.0, parts.1, parts.2, parts.3, parts.4, parts.5).parse().ok()
}

/// An object identifier of a policy, as DER without tag and length. None: it is none.
pub fn policy(dotted: &str) -> Option<Vec<u8>> {
    dotted.parse::<ObjectIdentifier>().ok().map(|policy| policy.as_bytes().to_vec())
}

// ---- DER

/// One SEQUENCE, and nothing after it.
pub(crate) fn whole<'a, T>(
    bytes: &'a [u8],
    read: impl FnOnce(&mut der::NestedReader<'_, SliceReader<'a>>) -> der::Result<T>,
) -> der::Result<T> {
    let mut reader = SliceReader::new(bytes)?;
    let value = reader.sequence(read)?;
    reader.finish(value)
}

/// What is left, of no interest.
pub(crate) fn rest<'a>(reader: &mut impl Reader<'a>) -> der::Result<()> {
    while !reader.is_finished() {
        reader.tlv_bytes()?;
    }
    Ok(())
}

/// The contents of the next value, which must have this tag.
pub(crate) fn bytes_of<'a>(reader: &mut impl Reader<'a>, tag: Tag) -> der::Result<&'a [u8]> {
    let any = reader.decode::<der::asn1::AnyRef<'a>>()?;
    any.tag().assert_eq(tag)?;
    Ok(any.value())
}

/// The algorithm of an AlgorithmIdentifier; its parameters are none or NULL wherever they are read here.
pub(crate) fn algorithm<'a>(reader: &mut impl Reader<'a>) -> der::Result<ObjectIdentifier> {
    reader.sequence(|algorithm| {
        let oid = algorithm.decode()?;
        rest(algorithm)?;
        Ok(oid)
    })
}

pub(crate) fn tlv(tag: Tag, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let any = der::asn1::AnyRef::new(tag, &contents).expect("it is far shorter than DER can say");
    any.to_der().expect("it is far shorter than DER can say")
}

pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(Tag::Sequence, parts)
}

/// A positive INTEGER of these bytes, which are the shortest and begin with a clear bit.
pub(crate) fn integer(bytes: &[u8]) -> Vec<u8> {
    tlv(Tag::Integer, &[bytes])
}

pub(crate) fn oid(oid: ObjectIdentifier) -> Vec<u8> {
    oid.to_der().expect("it is far shorter than DER can say")
}

/// `MessageImprint`
pub(crate) fn imprint(digest: &Digest) -> Vec<u8> {
    sequence(&[&sequence(&[&oid(SHA_256)]), &tlv(Tag::OctetString, &[digest.as_bytes()])])
}

/// Whether these bytes are DER of a query for SHA-256, and what it asks: imprint, policy, nonce, whether it wants certificates.
pub(crate) struct Asked<'a> {
    pub imprint: Digest,
    pub policy: Option<&'a [u8]>,
    pub nonce: Option<&'a [u8]>,
    pub certificate: bool,
}

impl<'a> Asked<'a> {
    pub fn read(query: &'a [u8]) -> Option<Self> {
        if query.len() > MAX_QUERY_BYTES {
            return None;
        }
        let read = whole(query, |query| {
            let version = query.decode::<u8>()?;
            let (algorithm, imprint) = query.sequence(|imprint| {
                let algorithm = algorithm(imprint)?;
                Ok((algorithm, imprint.decode::<OctetStringRef<'_>>()?.as_bytes()))
            })?;
            let (mut policy, mut nonce, mut certificate, mut extensions) = (None, None, false, false);
            while !query.is_finished() {
                let tag = query.peek_header()?.tag;
                let value = bytes_of(query, tag)?;
                match tag {
                    Tag::ObjectIdentifier => policy = Some(value),
                    Tag::Integer => nonce = Some(value),
                    Tag::Boolean => certificate = value != [0],
                    _ => extensions = true,
                }
            }
            Ok((version, algorithm, imprint, policy, nonce, certificate, extensions))
        });
        let (version, algorithm, imprint, policy, nonce, certificate, extensions) = read.ok()?;
        let imprint = Digest::try_from(imprint).ok()?;
        let taken = version == 1 && algorithm == SHA_256 && !extensions;
        taken.then_some(Self { imprint, policy, nonce, certificate })
    }
}

impl fmt::Display for Stamped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "before {} by {}", self.time, self.authority)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer};
    use rcgen::{KeyPair, KeyUsagePurpose};

    use super::*;
    use crate::signature::SigningKey;

    const NOW: Time = Time::from_millis(1_800_000_000_000);

    struct Tsa {
        key: SigningKey,
        certificate: Vec<u8>,
        root: Vec<u8>,
    }

    fn authority(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    }

    /// timeStamping and nothing else, critical.
    fn usage(critical: bool) -> CustomExtension {
        let mut usage =
            CustomExtension::from_oid_content(&[2, 5, 29, 37], hex::decode("300a06082b06010505070308").unwrap());
        usage.set_criticality(critical);
        usage
    }

    fn leaf() -> CertificateParams {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "tsa");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.custom_extensions = vec![usage(true)];
        params
    }

    fn tsa(params: CertificateParams) -> Tsa {
        let root_key = KeyPair::generate().unwrap();
        let root = authority("root").self_signed(&root_key).unwrap().der().to_vec();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &Issuer::new(authority("root"), root_key)).unwrap().der().to_vec();
        Tsa { key: SigningKey::from_pkcs8(&key.serialize_der()).unwrap(), certificate, root }
    }

    impl Tsa {
        fn as_authority(&self) -> Authority<'_> {
            Authority { key: &self.key, certificate: &self.certificate }
        }

        fn approved(&self) -> Vec<Approved> {
            vec![Approved { name: "tsa".into(), certificate: self.root.clone(), policy: None }]
        }

        fn answer(&self, query: &Query) -> Vec<u8> {
            self.as_authority().answer(&Statement::answering(&query.to_der(), [9; 16], NOW).unwrap())
        }

        fn accepts(&self, answer: &[u8], query: &Query) -> Result<Stamped, NotATimestamp> {
            accept(answer, query, &self.approved(), &|_| false, NOW).map(|(_, stamped)| stamped)
        }
    }

    fn query() -> Query {
        Query::new(Digest::of(&[b"a head"]), [0xff; NONCE_BYTES])
    }

    #[test]
    fn what_an_approved_authority_answers_is_taken() {
        let tsa = tsa(leaf());
        let stamped = tsa.accepts(&tsa.answer(&query()), &query()).unwrap();
        assert_eq!((stamped.authority.as_str(), stamped.time, stamped.key), ("tsa", NOW, tsa.key.public().id()));
        // Its own certificate may be the approved one.
        let own =
            [Approved { name: "own".into(), certificate: tsa.certificate.clone(), policy: Some(OWN_POLICY.to_vec()) }];
        assert!(accept(&tsa.answer(&query()), &query(), &own, &|_| false, NOW).is_ok());
    }

    #[test]
    fn a_time_is_never_before_the_clocks() {
        let tsa = tsa(leaf());
        let at = NOW.plus(std::time::Duration::from_millis(1));
        let statement = Statement::answering(&query().to_der(), [9; 16], at).unwrap();
        let answer = tsa.as_authority().answer(&statement);
        assert_eq!(tsa.accepts(&answer, &query()).unwrap().time, NOW.plus(std::time::Duration::from_secs(1)));
    }

    #[test]
    fn an_answer_that_differs_in_anything_is_refused() {
        let tsa = tsa(leaf());
        let good = Statement::answering(&query().to_der(), [9; 16], NOW).unwrap();
        let said = |change: fn(&mut Statement)| {
            let mut statement = good.clone();
            change(&mut statement);
            tsa.accepts(&tsa.as_authority().answer(&statement), &query()).unwrap_err()
        };
        assert_eq!(said(|it| it.imprint = Digest::of(&[b"another"])), NotATimestamp::Imprint);
        assert_eq!(said(|it| it.nonce = Some(vec![1; 16])), NotATimestamp::Nonce);
        assert_eq!(said(|it| it.nonce = None), NotATimestamp::Nonce);
        for by in [61, -61] {
            let mut statement = good.clone();
            statement.time = Time::from_millis(NOW.as_millis().saturating_add_signed(by * 1000));
            let answer = tsa.as_authority().answer(&statement);
            assert!(matches!(tsa.accepts(&answer, &query()), Err(NotATimestamp::Time { .. })), "{by}");
        }
        let policy = [Approved { policy: policy("1.2.3.4"), ..tsa.approved().remove(0) }];
        let answer = tsa.answer(&query());
        let refused = accept(&answer, &query(), &policy, &|_| false, NOW);
        assert_eq!(refused, Err(NotATimestamp::Policy));
        let revoked = accept(&answer, &query(), &tsa.approved(), &|_| true, NOW);
        assert_eq!(revoked, Err(NotATimestamp::Revoked(tsa.key.public().id())));
        assert_eq!(tsa.accepts(&answer::refused_for_tests(), &query()), Err(NotATimestamp::Status(2)));
    }

    #[test]
    fn an_authority_that_nobody_approved_is_refused() {
        let (ours, theirs) = (tsa(leaf()), tsa(leaf()));
        // The same names, other keys.
        assert_eq!(ours.accepts(&theirs.answer(&query()), &query()), Err(NotATimestamp::NotApproved));
        // Our certificate, signed with another key.
        let forged = Authority { key: &theirs.key, certificate: &ours.certificate };
        let answer = forged.answer(&Statement::answering(&query().to_der(), [9; 16], NOW).unwrap());
        assert!(matches!(ours.accepts(&answer, &query()), Err(NotATimestamp::Signature(_))));
    }

    #[test]
    fn a_certificate_for_anything_else_makes_no_timestamps() {
        type Change = fn(&mut CertificateParams);
        let changes: [(&str, Change); 6] = [
            ("no extended key usage", |it| it.custom_extensions.clear()),
            ("not critical", |it| it.custom_extensions = vec![usage(false)]),
            ("for TLS", |it| {
                it.custom_extensions.clear();
                it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
            ("not to sign", |it| it.key_usages = vec![KeyUsagePurpose::KeyAgreement]),
            ("an authority", |it| it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            ("an unknown critical extension", |it| {
                let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
                extension.set_criticality(true);
                it.custom_extensions.push(extension);
            }),
        ];
        for (what, change) in changes {
            let mut params = leaf();
            change(&mut params);
            let tsa = tsa(params);
            let refused = tsa.accepts(&tsa.answer(&query()), &query());
            assert!(matches!(refused, Err(NotATimestamp::Certificate(_))), "{what}: {refused:?}");
            // Approving that very certificate does not make it one either.
            let own = [Approved { name: "own".into(), certificate: tsa.certificate.clone(), policy: None }];
            assert!(accept(&tsa.answer(&query()), &query(), &own, &|_| false, NOW).is_err(), "{what}");
        }
    }

    #[test]
    fn a_certificate_that_ended_stamps_nothing() {
        let mut params = leaf();
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let tsa = tsa(params);
        assert_eq!(tsa.accepts(&tsa.answer(&query()), &query()), Err(NotATimestamp::Outside(NOW)));
    }

    #[test]
    fn what_is_no_query_is_refused_and_answered() {
        let good = query().to_der();
        assert!(Statement::answering(&good, [1; 16], NOW).is_ok());
        let asks = |bytes: &[u8]| Statement::answering(bytes, [1; 16], NOW).is_ok();
        assert!(!asks(&[]) && !asks(&[&good[..], &[0]].concat()) && !asks(&vec![0x30; MAX_QUERY_BYTES + 1]));
        let sha_1 = sequence(&[&oid(ObjectIdentifier::new_unwrap("1.3.14.3.2.26"))]);
        let imprint_of = |algorithm: &[u8], bytes: &[u8]| sequence(&[algorithm, &tlv(Tag::OctetString, &[bytes])]);
        let certificate: &[u8] = &[0x01, 0x01, 0xff];
        assert!(!asks(&sequence(&[&integer(&[1]), &imprint_of(&sha_1, &[0; 20]), certificate])));
        let sha_256 = sequence(&[&oid(SHA_256)]);
        assert!(!asks(&sequence(&[&integer(&[1]), &imprint_of(&sha_256, &[0; 31]), certificate])));
        assert!(asks(&sequence(&[&integer(&[1]), &imprint_of(&sha_256, &[0; 32]), certificate])));
        assert!(!asks(&sequence(&[&integer(&[1]), &imprint_of(&sha_256, &[0; 32])])));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = accept(&bytes, &query(), &[], &|_| false, NOW);
            let _ = verify(&bytes, &Digest::ZERO, &[], &|_| false);
            let _ = Statement::answering(&bytes, [1; 16], NOW);
            let _ = Signer::read(&bytes);
        }
    }

    /// Every byte of a token that can be changed without being noticed would be a byte that nobody signed.
    #[test]
    fn an_answer_with_a_byte_changed_says_the_same_or_nothing() {
        let tsa = tsa(leaf());
        let answer = tsa.answer(&query());
        let stamped = tsa.accepts(&answer, &query()).unwrap();
        let mut unnoticed = 0;
        for at in 0..answer.len() {
            let mut changed = answer.clone();
            changed[at] ^= 1;
            if let Ok(said) = tsa.accepts(&changed, &query()) {
                assert_eq!(said, stamped);
                unnoticed += 1;
            }
        }
        // Versions, and the names of algorithms that stand twice.
        assert!(unnoticed <= 20, "{unnoticed}");
    }
}
