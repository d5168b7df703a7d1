//! A timestamping authority over HTTP, as others run one, with a certificate of the world's own authority; and what is wrong
//! with one that is not right.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use central_registry::authority::CertificateAuthority;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proto::digest::Digest;
use proto::global_configuration::document::{Der, TimestampingDocument};
use proto::signature::SigningKey;
use proto::time::Time;
use proto::timestamp::{Authority, NONCE_BYTES, Query, Statement};
use tokio::net::TcpListener;

use crate::world::World;

/// What is wrong with its answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    None,
    /// It takes the query and never answers.
    Silent,
    /// It refuses each query.
    Refuses,
    /// It repeats the query's nonce with a bit changed.
    OtherNonce,
    /// It stamps other bytes.
    OtherImprint,
    /// Its clock is an hour ahead.
    HourAhead,
    /// It signs with a key that is not its certificate's.
    OtherKey,
    /// It answers with a page.
    Page,
}

/// See the module.
pub struct Tsa {
    pub name: &'static str,
    pub address: String,
    pub key: Arc<SigningKey>,
    pub certificate: Der,
    fault: Arc<Mutex<Fault>>,
    asked: Arc<Mutex<usize>>,
    serving: Option<tokio::task::JoinHandle<()>>,
}

impl Tsa {
    /// Serves from now on, by this clock.
    pub async fn serve(world: &World, name: &'static str) -> Self {
        Self::serve_under(&world.authority, name, world.clock()).await
    }

    /// The same, under this authority.
    pub async fn serve_under(
        authority: &CertificateAuthority,
        name: &'static str,
        clock: Arc<dyn Fn() -> Time + Send + Sync>,
    ) -> Self {
        let (key, _) = SigningKey::generate();
        let certificate = authority.timestamping(key.public(), clock()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/tsr", listener.local_addr().unwrap());
        let (key, fault, asked) = (Arc::new(key), Arc::new(Mutex::new(Fault::None)), Arc::default());
        let mut tsa = Self { name, address, key, certificate, fault, asked, serving: None };
        let (key, der) = (tsa.key.clone(), tsa.certificate.clone());
        let (fault, asked) = (tsa.fault.clone(), tsa.asked.clone());
        let serving = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (key, der, fault, asked, clock) =
                    (key.clone(), der.clone(), fault.clone(), asked.clone(), clock.clone());
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    *asked.lock().unwrap() += 1;
                    let (fault, key, der, now) = (*fault.lock().unwrap(), key.clone(), der.clone(), clock());
                    async move {
                        let query = request.into_body().collect().await.unwrap().to_bytes();
                        if fault == Fault::Silent {
                            std::future::pending::<()>().await;
                        }
                        let kind = if fault == Fault::Page { "text/html" } else { "application/timestamp-reply" };
                        let answer = answer(&query, fault, &key, der.as_bytes(), now);
                        let response = http::Response::builder().header("content-type", kind);
                        Ok::<_, std::convert::Infallible>(response.body(Full::new(Bytes::from(answer))).unwrap())
                    }
                });
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        tsa.serving = Some(serving);
        tsa
    }

    /// Nobody listens any more.
    pub async fn is_gone(&mut self) {
        let serving = self.serving.take().unwrap();
        serving.abort();
        let _ = serving.await;
    }

    /// From now on this is wrong with it.
    pub fn goes_wrong(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }

    /// Its token over these bytes, as it would give one at this time.
    pub fn token(&self, over: &[u8], now: Time) -> Vec<u8> {
        let query = Query::new(Digest::of(&[over]), [7; NONCE_BYTES]);
        let statement = Statement::answering(&query.to_der(), [7; 16], now).unwrap();
        Authority { key: &self.key, certificate: self.certificate.as_bytes() }.token(&statement)
    }

    /// As the global configuration approves it: by its own certificate.
    pub fn approved(&self) -> TimestampingDocument {
        TimestampingDocument {
            name: self.name.parse().unwrap(),
            address: Some(self.address.clone()),
            certificate: self.certificate.clone(),
            policy: None,
        }
    }
}

fn answer(query: &[u8], fault: Fault, key: &SigningKey, certificate: &[u8], now: Time) -> Vec<u8> {
    let query = if fault == Fault::Refuses { &[] } else { query };
    let mut statement = match Statement::answering(query, [7; 16], now) {
        Ok(statement) => statement,
        Err(refused) => return refused.0,
    };
    match fault {
        Fault::OtherNonce => *statement.nonce.as_mut().unwrap().last_mut().unwrap() ^= 1,
        Fault::OtherImprint => statement.imprint = Digest::ZERO,
        Fault::HourAhead => statement.time = now.plus(std::time::Duration::from_secs(3600)),
        _ => {}
    }
    let (other, _) = SigningKey::generate();
    let key = if fault == Fault::OtherKey { &other } else { key };
    Authority { key, certificate }.answer(&statement)
}
