//! A REST service over plain HTTP/1.1, as old systems are, before a civil registry's server; and a portal that asks it as an
//! application of X-Road's does.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use security_server::access_rights::Proposal;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::plain::{Plain, ask};
use crate::processes::{Member, PURPOSE};
use crate::realm::Realm;
use crate::soon;

/// What the service says of itself.
pub const DOCUMENT: &str = r##"{
  "openapi": "3.0.3",
  "info": {"title": "Pets", "version": "1.0.0", "description": "Pets of the town."},
  "servers": [{"url": "http://10.0.0.7/internal"}],
  "paths": {
    "/": {"get": {"operationId": "root", "responses": {"200": {"description": "all"}}}},
    "/pets": {
      "get": {"operationId": "listPets", "summary": "All pets.", "responses": {"200": {"description": "all"}}},
      "post": {"operationId": "addPet", "requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}},
               "responses": {"201": {"description": "added"}}}
    },
    "/pets/{petId}": {
      "parameters": [{"name": "petId", "in": "path", "required": true, "schema": {"type": "string"}}],
      "get": {"operationId": "getPet", "responses": {"200": {"description": "it"}}},
      "head": {"operationId": "headPet", "responses": {"200": {"description": "it"}}},
      "put": {"operationId": "putPet", "responses": {"204": {"description": "put"}}},
      "patch": {"operationId": "patchPet", "responses": {"200": {"description": "patched"}}},
      "delete": {"operationId": "deletePet", "responses": {"200": {"description": "gone"}}}
    },
    "/pets/secret": {"get": {"operationId": "secretPet", "responses": {"200": {"description": "it"}}}},
    "/status/{status}": {
      "parameters": [{"name": "status", "in": "path", "required": true, "schema": {"type": "integer"}}],
      "get": {"operationId": "status", "responses": {"default": {"description": "as asked"}}}
    },
    "/stream": {"get": {"operationId": "stream", "responses": {"200": {"description": "two halves"}}}}
  }
}"##;

/// The service's name, as it is listed.
pub const PETS: &str = "pets.v1";

/// What the service was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedPet {
    pub verb: String,
    pub target: String,
    pub fields: Vec<(String, String)>,
    pub body: Bytes,
}

impl AskedPet {
    /// The values of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(each, _)| each == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// A portal, and a civil registry with the service: listed, and all operations granted but `secretPet` and `deletePet`.
pub struct PetTown {
    pub realm: Realm,
    pub portal: Member,
    pub moj: Member,
    pub asked: mpsc::UnboundedReceiver<AskedPet>,
    /// Lets the second half of `stream` go: `true`, or cuts it.
    pub halves: mpsc::UnboundedSender<bool>,
}

impl PetTown {
    pub async fn new() -> Self {
        let (service, asked, halves) = serve().await;
        let mut realm = Realm::founded().await;
        let (portal, moj) = (Member::new("portal", "one-stop"), Member::new("moj", "civil-registry"));
        for member in [&portal, &moj] {
            realm.join(member, &[]).await;
        }
        let more = format!(
            "\n[[service]]\nsubsystem = \"{}\"\nname = \"{PETS}\"\naddress = \"http://{service}/town\"\nspeaks = \"rest\"\n",
            moj.subsystem
        );
        append(&realm, &moj, &more);
        append(
            &realm,
            &portal,
            &format!("\n[[xroad]]\nsubsystem = \"{}\"\npurpose = \"{PURPOSE}\"\n", portal.subsystem),
        );
        for member in [&portal, &moj] {
            realm.serve(member).await;
        }
        realm.list_rest(&moj, PETS, DOCUMENT).await.unwrap();
        let granted = ["root", "listPets", "addPet", "getPet", "headPet", "putPet", "patchPet", "status", "stream"];
        let proposal = Proposal {
            consumer: portal.subsystem.parse().unwrap(),
            provider: moj.subsystem.parse().unwrap(),
            methods: granted.map(|name| format!("/{PETS}/{name}")).into(),
            purposes: [PURPOSE.to_owned()].into(),
            legal_basis: "a test".into(),
            valid_from: None,
            valid_days: 3650,
            per_second: None,
            priority: Default::default(),
            fields: Default::default(),
        };
        realm.servers["moj"].server.access_rights.dangerously_grant(proposal, realm.now()).await.unwrap();
        Self { realm, portal, moj, asked, halves }
    }

    /// Where the portal's application calls.
    pub fn door(&self) -> SocketAddr {
        self.portal.clients
    }

    /// The base URL of the service, which is all that such an application changes.
    pub fn base(&self) -> String {
        format!("/r1/{}/{PETS}", self.moj.subsystem)
    }

    /// A request of an application that was written for X-Road.
    pub fn request(&self, verb: &str, path: &str) -> http::request::Builder {
        let uri = format!("{}{path}", self.base());
        Request::builder().method(verb).uri(uri).header("X-Road-Client", &self.portal.subsystem)
    }

    pub async fn ask(&self, request: http::request::Builder, body: impl Into<Bytes>) -> Plain {
        soon(ask(self.door(), request, body)).await
    }

    /// What the service was asked last; nothing if it was not.
    pub fn heard(&mut self) -> Option<AskedPet> {
        self.asked.try_recv().ok()
    }
}

fn append(realm: &Realm, member: &Member, more: &str) {
    let path = realm.path(&member.file());
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text + more).unwrap();
}

async fn serve() -> (SocketAddr, mpsc::UnboundedReceiver<AskedPet>, mpsc::UnboundedSender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asks, asked) = mpsc::unbounded_channel();
    let (halves, half) = mpsc::unbounded_channel();
    let half = std::sync::Arc::new(tokio::sync::Mutex::new(half));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (asks, half) = (asks.clone(), half.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (asks, half) = (asks.clone(), half.clone());
                async move { Ok::<_, Infallible>(answer(request, asks, half).await) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, asked, halves)
}

type Body = BoxBody<Bytes, std::io::Error>;

async fn answer(
    request: Request<Incoming>,
    asks: mpsc::UnboundedSender<AskedPet>,
    half: std::sync::Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<bool>>>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let fields = head.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
    let target = head.uri.path_and_query().unwrap().to_string();
    let fields: Vec<_> = fields.collect();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let _ = asks.send(AskedPet { verb: head.method.to_string(), target: target.clone(), fields, body: body.clone() });
    let full = |text: Bytes| Full::new(text).map_err(|never| match never {}).boxed();
    if let Some(status) = target.strip_prefix("/town/status/") {
        let status = StatusCode::from_bytes(status.split('?').next().unwrap().as_bytes());
        let status = status.unwrap_or(StatusCode::BAD_REQUEST);
        let mut response =
            Response::builder().status(status).header("x-road-error", "server.forged").header("x-a", "1");
        response = response.header("x-a", "2").header("location", "http://elsewhere/").header("server", "old/1.0");
        return response.body(full(Bytes::from_static(b"as asked"))).unwrap();
    }
    if target == "/town/stream" {
        let stream = futures_util::stream::unfold(0, move |turn| {
            let half = half.clone();
            async move {
                match turn {
                    0 => Some((Ok(Frame::data(Bytes::from_static(b"one half, "))), 1)),
                    1 if half.lock().await.recv().await? => {
                        Some((Ok(Frame::data(Bytes::from_static(b"and the other"))), 2))
                    }
                    1 => Some((Err(std::io::Error::other("cut")), 2)),
                    _ => None,
                }
            }
        });
        return Response::new(BodyExt::boxed(StreamBody::new(stream)));
    }
    let said = json!({ "verb": head.method.as_str(), "target": target, "bytes": body.len() }).to_string();
    Response::builder().header("content-type", "application/json").body(full(said.into())).unwrap()
}
