//! The peers' door: other security servers, over TLS 1.3 with both certificates.

use std::sync::Arc;

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use proto::access::MAX_ACCESS_BYTES;
use proto::consistency::SignedHead;
use proto::identifier::{ExchangeId, SubsystemId};
use proto::message::Cause;
use proto::refusal::Code;
use proto::signature::KeyId;
use proto::transport::{
    self, ACCESS_PATH, ALLOWED_PATH, CHECKPOINTS_PATH, CONSISTENCY_PATH, EXCHANGE_PATH, FETCH_PATH, FrameReader,
    GRANTS_PATH, MAX_ALLOWED_BYTES, MAX_CHECKPOINTS_ASKED_BYTES, MAX_GRANTS_BYTES, MAX_SIGNED_HEAD_BYTES,
};
use proto::wire::relay as wire;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{ClaimedOpening, FETCH_TIMEOUT, OPENING_TIMEOUT, accept, http2, refused_connection, speak};
use crate::body::{self, Outgoing};
use crate::refusal::BareRefusal;
use crate::relay::{self, LineSource};
use crate::tls::PeerTls;
use crate::way::{Stop, StopSwitch};
use crate::{SecurityServer, exchange, fields};

/// Serves the door until shutdown; then finishes what runs.
pub async fn serve(server: Arc<SecurityServer>, tls: Arc<PeerTls>, listener: TcpListener, shutdown: CancellationToken) {
    let (stopping, serving, limits) = (shutdown.clone(), Arc::clone(&server), server.limits);
    accept(&serving.lanes, limits, listener, shutdown, move |stream, _| {
        let (server, tls, stopping) = (Arc::clone(&server), Arc::clone(&tls), stopping.clone());
        async move {
            let config = match tls.accepting() {
                Ok(config) => config,
                Err(error) => return tracing::error!(%error, "the peers' door cannot accept"),
            };
            match tokio::time::timeout(limits.handshake(), TlsAcceptor::from(config).accept(stream)).await {
                Ok(Ok(stream)) => {
                    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                    match certificate.map(|certificate| proto::certificate::public_key(certificate)) {
                        Some(Ok(key)) => {
                            let key = key.id();
                            let Some(_place) = server.connection_of_peer(key) else {
                                return refused_connection("connections_of_peer");
                            };
                            // A registered server's connection is kept for the next call, and asked whether it lives.
                            let is_registered = server.configuration.load().authenticated(&key).is_some();
                            let idle = (!is_registered).then(|| limits.idle());
                            speak(idle, limits, http2(&limits), stream, stopping, move |request| {
                                let server = Arc::clone(&server);
                                async move { answer(&server, key, request).await }
                            })
                            .await;
                        }
                        Some(Err(_)) | None => tracing::warn!("a peer's certificate has no P-256 key"),
                    }
                }
                Ok(Err(error)) => tracing::warn!(%error, "a peer's TLS handshake failed"),
                Err(_) => tracing::warn!("a peer's TLS handshake took too long"),
            }
        }
    })
    .await;
}

async fn answer(server: &Arc<SecurityServer>, key: KeyId, request: Request<Incoming>) -> Response<Outgoing> {
    let answered = match (request.method(), request.uri().path()) {
        (&http::Method::POST, EXCHANGE_PATH) => open(server, key, request.into_body()).await,
        (&http::Method::POST, FETCH_PATH) => fetch(server, key, request.into_body()).await,
        (&http::Method::POST, CONSISTENCY_PATH) => join(server, key, request.into_body()).await,
        (&http::Method::POST, ACCESS_PATH) => access(server, key, request.into_body()).await,
        (&http::Method::POST, GRANTS_PATH) => grants(server, key, request.into_body()).await,
        (&http::Method::POST, ALLOWED_PATH) => allowed(server, key, request.into_body()).await,
        (&http::Method::POST, CHECKPOINTS_PATH) => checkpoints(server, key, request.into_body()).await,
        // Version negotiation: what this server does not know is unimplemented, and the peer may do without it.
        _ => {
            let unimplemented = [(fields::GRPC_STATUS, http::HeaderValue::from_static("12"))];
            return trailers_only(HeaderMap::from_iter(unimplemented));
        }
    };
    answered.unwrap_or_else(|refusal| {
        if refusal.code() == Code::TooManyExchanges {
            tracing::debug!(code = %refusal.code(), %refusal, "a peer is refused, and nothing recorded");
        } else {
            tracing::warn!(code = %refusal.code(), %refusal, "a peer is refused, and nothing recorded");
        }
        metrics::counter!("causeway_bare_refusals_total", "code" => refusal.code().as_str()).increment(1);
        trailers_only(fields::bare_refusal(refusal.code()))
    })
}

async fn open(server: &Arc<SecurityServer>, key: KeyId, mut body: Incoming) -> Result<Response<Outgoing>, BareRefusal> {
    let (of_peer, of_one) = server.permit_of_peer(key).map_err(|code| BareRefusal::new(code, "at the peers' door"))?;
    let mut frames = FrameReader::default();
    let frame = tokio::time::timeout(OPENING_TIMEOUT, relay::next_frame(&mut body, &mut frames)).await;
    let frame = match frame {
        Ok(Ok(frame)) => frame,
        Ok(Err(_)) => return Err(BareRefusal::unproven("the stream holds no frame")),
        Err(_) => return Err(BareRefusal::unproven("the opening took too long")),
    };
    let exchange = ExchangeId::try_from(frame.exchange.as_ref()).map_err(BareRefusal::unproven)?;
    let permit = server.permit().map_err(|code| BareRefusal::new(code, "at the peers' door"))?.of_peer(of_peer);
    let stop = StopSwitch::default();
    let gone = stop.clone();
    let (sender, outgoing) = body::outgoing(Some(Box::new(move || gone.stop(Stop::from(Cause::Disconnected)))));
    let source = LineSource::reading(body, frames, exchange);
    let opening = ClaimedOpening { permit, of_one, connection_key: key, frame, source, answer: sender, stop };
    let _running = exchange::provide(server, opening)?;
    Ok(streaming(outgoing))
}

/// What this server sealed in an exchange, for the server that was the other party to it.
async fn fetch(
    server: &Arc<SecurityServer>,
    key: KeyId,
    mut body: Incoming,
) -> Result<Response<Outgoing>, BareRefusal> {
    // Fetching reads the disk: a few at once, whoever asks.
    let permit = server.permit_to_fetch().map_err(|code| BareRefusal::new(code, "to fetch"))?;
    let mut frames = FrameReader::default();
    // A `FetchRequest` reads as a frame that names an exchange and nothing else.
    let asked = tokio::time::timeout(OPENING_TIMEOUT, relay::next_frame(&mut body, &mut frames)).await;
    let Ok(Ok(asked)) = asked else { return Err(BareRefusal::unproven("the stream holds no request")) };
    let exchange = ExchangeId::try_from(asked.exchange.as_ref()).map_err(BareRefusal::unproven)?;
    let peer = server.moment().in_force().ok().and_then(|configuration| configuration.authenticated(&key).cloned());
    let Some(peer) = peer else {
        return Err(BareRefusal::unproven("the connection's certificate is that of no server"));
    };
    let (found, permit) = server.sealed_for(exchange, peer, permit).await?;
    let (mut sender, outgoing) = body::outgoing(None);
    tokio::spawn(tokio::time::timeout(FETCH_TIMEOUT, async move {
        for frame in found {
            if sender.data(transport::encode(&frame)).await.is_err() {
                return;
            }
        }
        let ok = HeaderMap::from_iter([(fields::GRPC_STATUS, http::HeaderValue::from_static("0"))]);
        let _ = sender.finish(Some(ok));
        drop(permit);
    }));
    Ok(streaming(outgoing))
}

/// How this log goes on from a head that the asking server holds (PROTOCOL.md 5.6). Only who has a head that our key signed
/// learns anything.
async fn join(server: &Arc<SecurityServer>, key: KeyId, body: Incoming) -> Result<Response<Outgoing>, BareRefusal> {
    let configuration = server.moment().in_force().ok().cloned();
    let configuration = configuration.ok_or_else(|| BareRefusal::unproven("the configuration expired"))?;
    let Some(peer) = configuration.authenticated(&key) else {
        return Err(BareRefusal::unproven("the connection's certificate is that of no server"));
    };
    if !server.questions.within(peer) {
        return Err(BareRefusal::new(Code::TooManyExchanges, "it asks too often how our log goes on"));
    }
    let permit = server.permit_to_fetch().map_err(|code| BareRefusal::new(code, "to prove consistency"))?;
    let asked = tokio::time::timeout(OPENING_TIMEOUT, relay::read_alone(body, MAX_SIGNED_HEAD_BYTES)).await;
    let Ok(Ok(asked)) = asked else { return Err(BareRefusal::unproven("the stream holds no request")) };
    let asked = SignedHead::parse(&asked).map_err(BareRefusal::unproven)?;
    let ours = configuration.members.iter().find_map(|(member, of)| {
        let signing = of.signing_keys.get(&asked.key).filter(|signing| signing.server == server.id)?;
        Some((member.clone(), signing.key.clone()))
    });
    let Some((member, ours)) = ours else { return Err(BareRefusal::unproven("it asks about another's head")) };
    asked.signed_by(&ours).map_err(BareRefusal::unproven)?;
    let joined = server.joined(member, asked.head, permit).await.map_err(BareRefusal::unproven)?;
    Ok(alone(joined))
}

/// What a consumer asks to be granted, and what became of it (PROTOCOL.md 19.2).
async fn access(server: &Arc<SecurityServer>, key: KeyId, body: Incoming) -> Result<Response<Outgoing>, BareRefusal> {
    // Step 1: "The connection's key is that of a registered server, which asks within its quota."
    let peer = server.moment().in_force().ok().and_then(|configuration| configuration.authenticated(&key).cloned());
    let Some(peer) = peer else {
        return Err(BareRefusal::unproven("the connection's certificate is that of no server"));
    };
    if !server.requests.within(&peer) {
        return Err(BareRefusal::new(Code::TooManyExchanges, "it asks too often for access"));
    }
    let permit = server.permit_to_fetch().map_err(|code| BareRefusal::new(code, "to ask for access"))?;
    let asked = tokio::time::timeout(OPENING_TIMEOUT, relay::read_alone(body, MAX_ACCESS_BYTES)).await;
    let Ok(Ok(asked)) = asked else { return Err(BareRefusal::unproven("the stream holds no request")) };
    // In a task of its own: a peer that hangs up must not leave the log and what is known of it apart.
    let taking = Arc::clone(server);
    let answer = tokio::spawn(async move { taking.answer_about_access(peer, asked).await }).await;
    let answer =
        answer.map_err(BareRefusal::unproven)?.map_err(|ended| BareRefusal::new(Code::LogEnded, ended.to_string()))?;
    drop(permit);
    Ok(alone(answer))
}

/// What another server of this member has of grants, and lacks (PROTOCOL.md 19.7).
async fn grants(server: &Arc<SecurityServer>, key: KeyId, body: Incoming) -> Result<Response<Outgoing>, BareRefusal> {
    let peer = server.moment().in_force().ok().and_then(|configuration| configuration.authenticated(&key).cloned());
    let Some(peer) = peer else {
        return Err(BareRefusal::unproven("the connection's certificate is that of no server"));
    };
    if !server.requests.within(&peer) {
        return Err(BareRefusal::new(Code::TooManyExchanges, "it asks too often about grants"));
    }
    let permit = server.permit_to_fetch().map_err(|code| BareRefusal::new(code, "to ask about grants"))?;
    let asked = tokio::time::timeout(OPENING_TIMEOUT, relay::read_alone(body, MAX_GRANTS_BYTES)).await;
    let Ok(Ok(asked)) = asked else { return Err(BareRefusal::unproven("the stream holds no question")) };
    // In a task of its own: a peer that hangs up must not leave the log and what is in force apart.
    let taking = Arc::clone(server);
    let answer = tokio::spawn(async move { taking.answer_about_grants(&peer, asked).await }).await;
    let answer = answer.map_err(BareRefusal::unproven)??;
    drop(permit);
    Ok(alone(answer))
}

/// What a consumer may ask for, told to the server that hosts it and to nobody else (PROTOCOL.md 22.6).
async fn allowed(server: &Arc<SecurityServer>, key: KeyId, body: Incoming) -> Result<Response<Outgoing>, BareRefusal> {
    let configuration = server.moment().in_force().ok().cloned();
    let configuration = configuration.ok_or_else(|| BareRefusal::unproven("the configuration expired"))?;
    let Some(peer) = configuration.authenticated(&key) else {
        return Err(BareRefusal::unproven("the connection's certificate is that of no server"));
    };
    if !server.allowances.within(peer) {
        return Err(BareRefusal::new(Code::TooManyExchanges, "it asks too often what is allowed"));
    }
    let asked = tokio::time::timeout(OPENING_TIMEOUT, relay::read_alone(body, MAX_ALLOWED_BYTES)).await;
    let Ok(Ok(asked)) = asked else { return Err(BareRefusal::unproven("the stream holds no question")) };
    let wire::AllowedAsked { consumer, provider } = asked;
    let named = |text: String| text.parse::<SubsystemId>().map_err(BareRefusal::unproven);
    let (consumer, provider) = (named(consumer)?, named(provider)?);
    if !configuration.hosts(peer, &consumer) || !configuration.hosts(&server.id, &provider) {
        return Err(BareRefusal::unproven("it asks about subsystems that are not hosted at these servers"));
    }
    let paths = server.access_rights.allowed(&consumer, &provider, server.clock.now());
    Ok(alone(wire::AllowedMethods { paths: paths.into_iter().collect() }))
}

/// The checkpoints of the configuration's ledger that this server took (PROTOCOL.md 8.5). They are public; only registered servers
/// are answered, since each answer is work.
async fn checkpoints(
    server: &Arc<SecurityServer>,
    key: KeyId,
    body: Incoming,
) -> Result<Response<Outgoing>, BareRefusal> {
    let configuration = server.configuration.load();
    let Some(peer) = configuration.authenticated(&key) else {
        return Err(BareRefusal::unproven("the connection's certificate is that of no server"));
    };
    if !server.questions.within(peer) {
        return Err(BareRefusal::new(Code::TooManyExchanges, "it asks too often for checkpoints"));
    }
    let asked = tokio::time::timeout(OPENING_TIMEOUT, relay::read_alone(body, MAX_CHECKPOINTS_ASKED_BYTES)).await;
    let Ok(Ok(asked)) = asked else { return Err(BareRefusal::unproven("the stream holds no question")) };
    let wire::CheckpointsAsked { version } = asked;
    Ok(alone(server.checkpoints_of(version)))
}

/// An answer that is one message.
fn alone(answer: impl prost::Message + 'static) -> Response<Outgoing> {
    let (mut sender, outgoing) = body::outgoing(None);
    tokio::spawn(tokio::time::timeout(FETCH_TIMEOUT, async move {
        if sender.data(transport::encode_alone(&answer)).await.is_ok() {
            let ok = HeaderMap::from_iter([(fields::GRPC_STATUS, http::HeaderValue::from_static("0"))]);
            let _ = sender.finish(Some(ok));
        }
    }));
    streaming(outgoing)
}

fn streaming(body: Outgoing) -> Response<Outgoing> {
    let mut response = Response::new(body);
    response.headers_mut().insert(http::header::CONTENT_TYPE, fields::GRPC);
    response
}

fn trailers_only(trailers: HeaderMap) -> Response<Outgoing> {
    let mut response = streaming(Outgoing::empty().1);
    response.headers_mut().extend(trailers);
    response
}
