//! What a registered server asks of the registry for itself (PROTOCOL.md 14): the bytes that are signed, and the checks that
//! need no register. What these return was checked, and only they can make it.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::digest::Digest;
use crate::identifier::{InstanceId, MemberId, ServerId};
use crate::record::decode_canonical;
use crate::registration::{
    Address, COMMAND_WINDOW, CommandId, MAX_SIGNED_BYTES, Malformed, Text, key_of, notice, rule, signed_bytes, within,
};
use crate::signature::{KeyId, PublicKey, SigningKey, purpose};
use crate::time::Time;
use crate::wire::registry as wire;
use crate::wire::registry::server_request::What;

/// A new key is taken into use so long after its certificate began (PROTOCOL.md 15.4): by then no configuration that is
/// still valid anywhere lacks it. It is the validity of a configuration, and an hour for publishing.
pub const SETTLED_AFTER: Duration = Duration::from_secs(73 * 3600);
/// How long after another key was certified a signing key may still sign (PROTOCOL.md 15.5): until that one has settled,
/// and a day more.
pub const REPLACED_AFTER: Duration = Duration::from_secs(97 * 3600);
/// A certificate that ended no longer ago than this still lets its server ask for another (PROTOCOL.md 14.3): a server that
/// was off for some weeks comes back by itself.
pub const ENDED_AT_MOST: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a server asks for itself, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerRequest {
    /// The instance.
    pub instance: InstanceId,
    /// The server that asks.
    pub server: ServerId,
    /// Accepted once.
    pub id: CommandId,
    /// When, by the server's clock.
    pub time: Time,
    /// What.
    pub wish: Wish,
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wish {
    /// A certificate of another key by which the server is known in TLS.
    RenewAuthentication(PublicKey),
    /// A certificate of another key with which this member seals at the server.
    RenewSigning(MemberId, PublicKey),
    /// To be reached elsewhere.
    Move(Address),
    /// To be in maintenance and say so, or, without words, to be back.
    Maintain(Option<Text>),
    /// That this member be removed, and why. It stays until it is.
    Leave(MemberId, Text),
}

/// Which key of the server must sign a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Signer {
    /// One by which it is known in TLS.
    Authentication,
    /// One with which this member seals there.
    Signing(MemberId),
}

impl Wish {
    /// Who may ask for it: what is renewed, speaks for itself.
    pub fn signer(&self) -> Signer {
        match self {
            Self::RenewAuthentication(_) | Self::Move(_) | Self::Maintain(_) => Signer::Authentication,
            Self::RenewSigning(member, _) | Self::Leave(member, _) => Signer::Signing(member.clone()),
        }
    }

    /// The key that it brings.
    pub fn new_key(&self) -> Option<&PublicKey> {
        match self {
            Self::RenewAuthentication(key) | Self::RenewSigning(_, key) => Some(key),
            Self::Move(_) | Self::Maintain(_) | Self::Leave(..) => None,
        }
    }

    fn parse(what: What) -> Result<Self, Malformed> {
        Ok(match what {
            What::RenewAuthentication(renew) => Self::RenewAuthentication(key_of("the new key", &renew.key)?),
            What::RenewSigning(renew) => {
                Self::RenewSigning(renew.member.parse()?, key_of("the new signing key", &renew.key)?)
            }
            What::MoveTo(it) => Self::Move(it.address.parse()?),
            What::Maintenance(it) => Self::Maintain(notice(&it.notice)?),
            What::Leave(it) => Self::Leave(it.member.parse()?, it.reason.parse()?),
        })
    }

    fn to_wire(&self) -> What {
        match self {
            Self::RenewAuthentication(key) => {
                What::RenewAuthentication(wire::RenewAuthentication { key: key.to_spki().into() })
            }
            Self::RenewSigning(member, key) => {
                What::RenewSigning(wire::RenewSigning { member: member.to_string(), key: key.to_spki().into() })
            }
            Self::Move(address) => What::MoveTo(wire::MoveTo { address: address.to_string() }),
            Self::Maintain(notice) => What::Maintenance(wire::Maintenance {
                notice: notice.as_ref().map(Text::to_string).unwrap_or_default(),
            }),
            Self::Leave(member, reason) => {
                What::Leave(wire::Leave { member: member.to_string(), reason: reason.to_string() })
            }
        }
    }
}

impl ServerRequest {
    /// Signs the request with a key of the server, and with the new key where it brings one.
    pub fn sign(&self, key: &SigningKey, new_key: Option<&SigningKey>) -> wire::SignedServerRequest {
        let request = wire::ServerRequest {
            instance: self.instance.to_string(),
            server: self.server.to_string(),
            id: Bytes::copy_from_slice(&self.id),
            time: self.time.as_millis(),
            what: Some(self.wish.to_wire()),
        };
        let request = request.encode_to_vec();
        let signed = signed_bytes(purpose::SERVER, &request);
        wire::SignedServerRequest {
            key: key.public().id().to_wire(),
            signature: key.sign(&signed).into(),
            proof: new_key.map(|key| key.sign(&signed)).unwrap_or_default().into(),
            request: request.into(),
        }
    }
}

/// A request, read, whose new key, if it brings one, is held by whoever asks. Who asks is not known yet.
#[derive(Debug)]
pub struct ReceivedServerRequest {
    request: ServerRequest,
    key: KeyId,
    signed: Vec<u8>,
    signature: Bytes,
}

impl ReceivedServerRequest {
    /// Reads a request, and checks what needs no register (PROTOCOL.md 14.1 and 14.2).
    pub fn parse(request: wire::SignedServerRequest, instance: &InstanceId) -> Result<Self, Malformed> {
        within("the request", request.request.len(), MAX_SIGNED_BYTES)?;
        let read: wire::ServerRequest = decode_canonical(&request.request, "ServerRequest")?;
        let wanted = || rule("the request", "", "it must ask one thing that this registry knows");
        let parsed = ServerRequest {
            instance: read.instance.parse()?,
            server: read.server.parse()?,
            id: read.id[..]
                .try_into()
                .map_err(|_| rule("the request's id", &hex::encode(&read.id), "it is 16 bytes"))?,
            time: Time::from_millis(read.time),
            wish: Wish::parse(read.what.ok_or_else(wanted)?)?,
        };
        for instance_of in [&parsed.instance, &parsed.server.owner().instance()] {
            if instance_of != instance {
                return Err(Malformed::OtherInstance { theirs: instance_of.clone(), ours: instance.clone() });
            }
        }
        let key = Digest::try_from(&request.key[..])
            .map_err(|_| rule("the key's name", &hex::encode(&request.key), "it is 32 bytes"))?;
        let signed = signed_bytes(purpose::SERVER, &request.request);
        match parsed.wish.new_key() {
            Some(new_key) if new_key.id() == key => {
                return Err(rule("the new key", &key.to_string(), "it must be another key than the one that signs"));
            }
            Some(new_key) => {
                new_key.verify(&signed, &request.proof).map_err(|_| Malformed::Possession("new"))?;
            }
            None if request.proof.is_empty() => {}
            None => {
                return Err(rule("the proof", "(not shown)", "it is there only where the request brings a new key"));
            }
        }
        Ok(Self { request: parsed, key, signed, signature: request.signature })
    }

    /// What it says.
    pub fn request(&self) -> &ServerRequest {
        &self.request
    }

    /// The key that is said to have signed it.
    pub fn key(&self) -> KeyId {
        self.key
    }
}

/// A request that the holder of this key of the server signed at about this time. Not yet known to be new.
#[derive(Debug)]
pub struct VerifiedServerRequest {
    request: ServerRequest,
    key: KeyId,
}

impl VerifiedServerRequest {
    /// Checks signature and time (PROTOCOL.md 14.3). `key` is one that is registered for the server, for this use.
    pub fn verify(received: ReceivedServerRequest, key: &PublicKey, now: Time) -> Result<Self, Malformed> {
        let ReceivedServerRequest { request, key: named, signed, signature } = received;
        key.verify(&signed, &signature).map_err(|_| Malformed::Signature(named))?;
        let distance = request.time.distance(now);
        if distance > COMMAND_WINDOW {
            return Err(Malformed::Time(distance));
        }
        Ok(Self { request, key: key.id() })
    }

    /// What it says.
    pub fn request(&self) -> &ServerRequest {
        &self.request
    }

    /// The key that signed it.
    pub fn key(&self) -> KeyId {
        self.key
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Time = Time::from_millis(1_800_000_000_000);

    fn instance() -> InstanceId {
        "VN".parse().unwrap()
    }

    fn request(wish: Wish) -> ServerRequest {
        let server = "VN/GOV/moj/ss1".parse().unwrap();
        ServerRequest { instance: instance(), server, id: [7; 16], time: NOW, wish }
    }

    fn wishes(new: &SigningKey) -> Vec<Wish> {
        let key = new.public().clone();
        let member: MemberId = "VN/GOV/moj".parse().unwrap();
        vec![
            Wish::RenewAuthentication(key.clone()),
            Wish::RenewSigning(member.clone(), key),
            Wish::Move("new.moj.gov.vn:5500".parse().unwrap()),
            Wish::Maintain(Some("back at noon".parse().unwrap())),
            Wish::Maintain(None),
            Wish::Leave(member, "merged".parse().unwrap()),
        ]
    }

    #[test]
    fn a_request_reads_as_it_was_signed() {
        let ((key, _), (new, _)) = (SigningKey::generate(), SigningKey::generate());
        for wish in wishes(&new) {
            let asked = request(wish);
            let signed = asked.sign(&key, asked.wish.new_key().map(|_| &new));
            let received = ReceivedServerRequest::parse(signed, &instance()).unwrap();
            assert_eq!(received.key(), key.public().id());
            let verified = VerifiedServerRequest::verify(received, key.public(), NOW).unwrap();
            assert_eq!(*verified.request(), asked);
        }
    }

    #[test]
    fn who_does_not_hold_both_keys_gets_no_certificate() {
        let ((key, _), (new, _), (other, _)) = (SigningKey::generate(), SigningKey::generate(), SigningKey::generate());
        for wish in wishes(&new).into_iter().filter(|wish| wish.new_key().is_some()) {
            let asked = request(wish);
            let parse = |signed| ReceivedServerRequest::parse(signed, &instance());
            for proof in [None, Some(&other), Some(&key)] {
                assert_eq!(parse(asked.sign(&key, proof)).unwrap_err(), Malformed::Possession("new"));
            }
            let stolen = parse(asked.sign(&other, Some(&new))).unwrap();
            let refused = VerifiedServerRequest::verify(stolen, key.public(), NOW).unwrap_err();
            assert!(matches!(refused, Malformed::Signature(_)), "{refused}");
            let by_itself = parse(asked.sign(&new, Some(&new))).unwrap_err();
            assert!(by_itself.to_string().contains("another key"), "{by_itself}");
        }
    }

    #[test]
    fn a_request_of_another_instance_or_time_or_with_a_second_reading_is_refused() {
        let ((key, _), (new, _)) = (SigningKey::generate(), SigningKey::generate());
        let asked = request(Wish::RenewAuthentication(new.public().clone()));
        let parse = |signed, instance: &str| ReceivedServerRequest::parse(signed, &instance.parse().unwrap());
        let signed = asked.sign(&key, Some(&new));
        assert!(matches!(parse(signed.clone(), "LA"), Err(Malformed::OtherInstance { .. })));
        let foreign = ServerRequest { server: "LA/GOV/moj/ss1".parse().unwrap(), ..asked.clone() };
        assert!(matches!(parse(foreign.sign(&key, Some(&new)), "VN"), Err(Malformed::OtherInstance { .. })));
        for (late, taken) in [(COMMAND_WINDOW, true), (COMMAND_WINDOW + Duration::from_millis(1), false)] {
            for now in [NOW.plus(late), NOW.minus(late)] {
                let received = parse(signed.clone(), "VN").unwrap();
                assert_eq!(VerifiedServerRequest::verify(received, key.public(), now).is_ok(), taken);
            }
        }
        let mut longer = signed;
        longer.request = [&longer.request[..], &[0x78, 1]].concat().into();
        assert!(matches!(parse(longer, "VN"), Err(Malformed::NotCanonical(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let bytes = Bytes::from(bytes);
            let signed = wire::SignedServerRequest { request: bytes.clone(), key: bytes, ..Default::default() };
            let _ = ReceivedServerRequest::parse(signed, &instance());
        }

        #[test]
        fn a_request_with_a_byte_changed_is_refused(at in any::<proptest::sample::Index>(), to in any::<u8>()) {
            let ((key, _), (new, _)) = (SigningKey::generate(), SigningKey::generate());
            let mut signed = request(Wish::RenewAuthentication(new.public().clone())).sign(&key, Some(&new));
            let mut bytes = signed.request.to_vec();
            let at = at.index(bytes.len());
            let same = bytes[at] == to;
            bytes[at] = to;
            signed.request = bytes.into();
            let verified = ReceivedServerRequest::parse(signed, &instance())
                .and_then(|received| VerifiedServerRequest::verify(received, key.public(), NOW));
            prop_assert_eq!(verified.is_ok(), same);
        }
    }
}
