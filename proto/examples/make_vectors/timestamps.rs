//! Timestamps: tokens that OpenSSL made (`tokens/make.sh`), tokens of ours, and each step of PROTOCOL.md 16.3 broken.

use proto::digest::Digest;
use proto::time::Time;
use proto::timestamp::{self, Approved, Authority, OWN_POLICY, Statement};
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};

use crate::{accept, key, pkcs8, refuse};

/// What OpenSSL made, by name.
macro_rules! made {
    ($name:literal) => {
        include_bytes!(concat!("tokens/", $name)).to_vec()
    };
}

/// An authority of these vectors' own, issued by another.
pub struct Tsa {
    pub root: Vec<u8>,
    pub certificate: Vec<u8>,
}

impl Tsa {
    /// The same one each time, so that what was made with it is.
    pub fn once() -> &'static Self {
        static ONCE: std::sync::OnceLock<Tsa> = std::sync::OnceLock::new();
        ONCE.get_or_init(|| Self::with(leaf(), authority()))
    }

    fn with(leaf: CertificateParams, root: CertificateParams) -> Self {
        let pair = |name| KeyPair::try_from(pkcs8(name)).expect("a P-256 key");
        let own = root.clone().self_signed(&pair("tsa root")).expect("it signs itself").der().to_vec();
        let issuer = Issuer::new(root, pair("tsa root"));
        let certificate = leaf.signed_by(&pair("tsa"), &issuer).expect("it is issued").der().to_vec();
        Self { root: own, certificate }
    }

    /// Its token over these bytes, `seconds` after the time of the headers.
    pub fn token(&self, over: &[u8], seconds: u64) -> Vec<u8> {
        let (imprint, time) = (Digest::of(&[over]), Time::from_millis(1_800_000_000_000 + 1000 * seconds));
        let statement = Statement { imprint, policy: OWN_POLICY.to_vec(), serial: [7; 16], time, nonce: None };
        Authority { key: &key("tsa"), certificate: &self.certificate }.token(&statement)
    }
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::new(vec![]).expect("no names");
    params.distinguished_name.push(DnType::CommonName, "root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// timeStamping and nothing else.
/// To make timestamps, of the purposes that RFC 5280 (4.2.1.12) numbers.
const TIMESTAMPS: u8 = 8;
/// To be a TLS server.
const SERVERS: u8 = 1;

fn usage(critical: bool, purpose: u8) -> CustomExtension {
    let purposes = vec![0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, purpose];
    let mut usage = CustomExtension::from_oid_content(&[2, 5, 29, 37], purposes);
    usage.set_criticality(critical);
    usage
}

fn leaf() -> CertificateParams {
    let mut params = CertificateParams::new(vec![]).expect("no names");
    params.distinguished_name.push(DnType::CommonName, "tsa");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.custom_extensions = vec![usage(true, TIMESTAMPS)];
    params
}

struct Cases(Vec<Value>);

impl Cases {
    /// One case; `step` is that which refuses it.
    fn add(
        &mut self,
        name: &str,
        step: Option<&str>,
        data: &[u8],
        token: &[u8],
        approved: &Approved,
        revoked: &[Digest],
    ) {
        let is_revoked = |key: &Digest| revoked.contains(key);
        let judged = timestamp::verify(token, &Digest::of(&[data]), std::slice::from_ref(approved), &is_revoked);
        let found = judged.as_ref().err().map(|refused| refused.step());
        assert_eq!(found, step, "{name}: {judged:?}");
        let mut listed = json!({ "name": approved.name, "certificate": hex::encode(&approved.certificate) });
        if let Some(policy) = &approved.policy {
            assert_eq!(timestamp::policy("1.2.3.4.1").as_ref() == Some(policy), step.is_none(), "{name}");
            listed["policy"] = json!(if step.is_none() { "1.2.3.4.1" } else { "1.2.3.4.2" });
        }
        let revoked: Vec<String> = revoked.iter().map(Digest::to_string).collect();
        let input = json!({
            "data": hex::encode(data), "token": hex::encode(token), "approved": [listed], "revoked": revoked,
        });
        self.0.push(match (judged, step) {
            (Ok(stamped), _) => accept(
                name,
                input,
                json!({
                    "authority": stamped.authority, "key": stamped.key.to_string(), "time": stamped.time.as_millis(),
                }),
            ),
            (Err(_), step) => refuse(name, input, step.unwrap_or_default()),
        });
    }
}

pub fn cases() -> Vec<Value> {
    let mut cases = Cases(Vec::new());
    let approved = |name: &str, certificate: Vec<u8>| Approved { name: name.into(), certificate, policy: None };
    let head = made!("head.txt");
    let (rsa, p256) =
        (approved("rsa", made!("root-rsa.certificate")), approved("p256", made!("root-p256.certificate")));
    let between = approved("between", made!("between-p384.certificate"));
    let own = approved("own", made!("tsa-rsa.certificate"));
    let (of_rsa, of_p384) = (made!("rsa-sha256.token"), made!("p384-under-an-authority-between.token"));
    for (name, step, token, approved) in [
        ("RSA with SHA-256, under an authority", None, of_rsa.clone(), &rsa),
        ("RSA with SHA-256, approved itself", None, of_rsa.clone(), &own),
        ("RSA with SHA-512, its certificate named by SHA-1", None, made!("rsa-sha512-named-by-sha1.token"), &rsa),
        ("P-384 with SHA-384, an authority between", None, of_p384.clone(), &p256),
        ("P-384 with SHA-384, the authority between approved", None, of_p384.clone(), &between),
        (
            "P-384 with SHA-256, the authority between not in the token",
            Some("16.3.5"),
            made!("p384-without-the-authority-between.token"),
            &p256,
        ),
        (
            "P-384 with SHA-256, the authority between approved and not in the token",
            None,
            made!("p384-without-the-authority-between.token"),
            &between,
        ),
        ("P-521 with SHA-512, an authority between with RSA", None, made!("p521-under-rsa.token"), &p256),
        ("RSA under another authority", Some("16.3.5"), of_rsa.clone(), &p256),
        ("P-384 under another authority", Some("16.3.5"), of_p384.clone(), &rsa),
    ] {
        cases.add(name, step, &head, &token, approved, &[]);
    }
    let policy = |text| Approved { policy: timestamp::policy(text), ..rsa.clone() };
    cases.add("the approved policy", None, &head, &of_rsa, &policy("1.2.3.4.1"), &[]);
    cases.add("another policy", Some("16.3.3"), &head, &of_rsa, &policy("1.2.3.4.2"), &[]);
    for (kind, token, approved) in [("RSA", &of_rsa, &rsa), ("P-384", &of_p384, &p256)] {
        let mut broken = |what: &str, step: &str, data: &[u8], token: &[u8], revoked: &[Digest]| {
            cases.add(&format!("{kind}: {what}"), Some(step), data, token, approved, revoked);
        };
        broken("over other bytes", "16.3.2", b"another head", token, &[]);
        broken("a byte more", "16.3.1", &head, &[&token[..], &[0]].concat(), &[]);
        broken("a byte less", "16.3.1", &head, &token[..token.len() - 1], &[]);
        broken("no bytes", "16.3.1", &head, &[], &[]);
        let mut other = token.clone();
        *other.last_mut().expect("not empty") ^= 1;
        broken("another signature", "16.3.6", &head, &other, &[]);
        let mut later = token.clone();
        let at = later.windows(3).position(|three| three == [0x18, 0x0f, b'2']).expect("its time");
        later[at + 5] += 1;
        broken("a year later than was signed", "16.3.6", &head, &later, &[]);
        let key = timestamp::key_of(token).expect("it has a signer");
        broken("its key revoked", "16.3.7", &head, token, &[key]);
    }
    ours(&mut cases);
    cases.0
}

/// Certificates that are none of a timestamping authority.
fn ours(cases: &mut Cases) {
    type Change = fn(&mut CertificateParams);
    let nothing: Change = |_| ();
    let rows: [(&str, Option<&str>, Change, Change); 13] = [
        ("ours", None, nothing, nothing),
        ("no extended key usage", Some("16.3.4"), |leaf| leaf.custom_extensions.clear(), nothing),
        (
            "an extended key usage that is not critical",
            Some("16.3.4"),
            |leaf| leaf.custom_extensions = vec![usage(false, TIMESTAMPS)],
            nothing,
        ),
        ("a certificate for TLS", Some("16.3.4"), |leaf| leaf.custom_extensions = vec![usage(true, SERVERS)], nothing),
        (
            "a certificate that is not to sign",
            Some("16.3.4"),
            |leaf| leaf.key_usages = vec![KeyUsagePurpose::KeyAgreement],
            nothing,
        ),
        ("a certificate without a key usage", None, |leaf| leaf.key_usages.clear(), nothing),
        (
            "the certificate of an authority",
            Some("16.3.4"),
            |leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            nothing,
        ),
        (
            "a critical extension of an unknown kind",
            Some("16.3.4"),
            |leaf| {
                let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
                extension.set_criticality(true);
                leaf.custom_extensions.push(extension);
            },
            nothing,
        ),
        ("a certificate that ended", Some("16.3.4"), |leaf| leaf.not_after = rcgen::date_time_ymd(2027, 1, 1), nothing),
        (
            "a certificate that begins later",
            Some("16.3.4"),
            |leaf| leaf.not_before = rcgen::date_time_ymd(2027, 2, 1),
            nothing,
        ),
        ("issued by what is no authority", Some("16.3.5"), nothing, |root| root.is_ca = IsCa::ExplicitNoCa),
        ("issued by an authority for other things", Some("16.3.5"), nothing, |root| {
            root.key_usages = vec![KeyUsagePurpose::CrlSign]
        }),
        ("issued by an authority that ended", Some("16.3.5"), nothing, |root| {
            root.not_after = rcgen::date_time_ymd(2027, 1, 1)
        }),
    ];
    let impostor = authority().self_signed(&KeyPair::try_from(pkcs8("stranger")).expect("a P-256 key"));
    let impostor = impostor.expect("it signs itself").der().to_vec();
    let approved = Approved { name: "ours".into(), certificate: impostor, policy: None };
    let token = Tsa::once().token(b"a head", 0);
    cases.add(
        "issued by an authority of the same name with another key",
        Some("16.3.5"),
        b"a head",
        &token,
        &approved,
        &[],
    );
    for (name, step, change, change_root) in rows {
        let (mut leaf, mut root) = (leaf(), authority());
        change(&mut leaf);
        change_root(&mut root);
        let tsa = Tsa::with(leaf, root);
        let approved = Approved { name: "ours".into(), certificate: tsa.root.clone(), policy: None };
        cases.add(name, step, b"a head", &tsa.token(b"a head", 0), &approved, &[]);
    }
}
