//! HTTP/1.1 for stores of archives: a connection for each request, TLS 1.3 with the authorities that this machine trusts, and in
//! clear only within this machine. It follows no redirection, and asks nobody else where the store is.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{HOST, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use http_body_util::{BodyExt, Limited};
use hyper_util::rt::TokioIo;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::store::{MAX_OBJECT_BYTES, is_loopback};

/// How long connecting may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest answer that says why something was not done: whoever reads it keeps all of it.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// Longest page of a list: a thousand objects with names as long as S3 allows.
const MAX_PAGE_BYTES: usize = 8 << 20;
/// Longest other answer: so much more than an object may have that its reader sees it to be too long.
const MAX_ANSWER_BYTES: usize = MAX_OBJECT_BYTES as usize + (1 << 20);

/// How long an answer may be.
fn longest(status: StatusCode, query: Option<&str>) -> usize {
    let is_page = || query.is_some_and(|query| query.split('&').any(|each| each.starts_with("list-type=")));
    match status.is_success() {
        false => MAX_ERROR_BYTES,
        true if is_page() => MAX_PAGE_BYTES,
        true => MAX_ANSWER_BYTES,
    }
}

/// See the module.
#[derive(Clone)]
pub(super) struct Transport(TlsConnector);

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Transport")
    }
}

impl Transport {
    /// With the authorities that this machine trusts.
    pub fn new() -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::trusting(roots)
    }

    fn trusting(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Whether it would go there.
    pub fn takes(uri: &Uri) -> bool {
        let host = uri.host().unwrap_or_default();
        let named = !host.is_empty() && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        match uri.scheme_str() {
            Some("https") => named,
            Some("http") => named && is_loopback(host),
            _ => false,
        }
    }

    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if !Self::takes(request.uri()) {
            let refused = format!("{} would travel in clear", request.uri().host().unwrap_or_default());
            return Err(HttpError::new(HttpErrorKind::Unknown, std::io::Error::other(refused)));
        }
        let uri = request.uri().clone();
        let authority = uri.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
        let (mut parts, body) = request.into_parts();
        // HTTP/1.1 names the host in a field, and the path alone in its first line.
        let host = HeaderValue::from_str(&authority).map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        parts.headers.insert(HOST, host);
        parts.uri = Uri::from(uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
        let request = http::Request::from_parts(parts, body);
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, self.connect(&uri)).await;
        let connected = connected.map_err(|slow| HttpError::new(HttpErrorKind::Connect, slow))?;
        let mut sender = connected.map_err(|error| HttpError::new(HttpErrorKind::Connect, Named(error.to_string())))?;
        let failed = |error: hyper::Error| HttpError::new(HttpErrorKind::Request, error);
        let response = sender.send_request(request).await.map_err(failed)?;
        let longest = longest(response.status(), uri.query());
        let cut = |error: Box<dyn Error + Send + Sync>| HttpError::new_boxed(HttpErrorKind::Interrupted, error);
        Ok(response.map(|body| HttpResponseBody::new(Limited::new(body, longest).map_err(cut))))
    }

    async fn connect(&self, uri: &Uri) -> Result<Sender, Box<dyn Error + Send + Sync>> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let is_tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        stream.set_nodelay(true)?;
        if !is_tls {
            return begin(stream).await;
        }
        begin(self.0.connect(ServerName::try_from(host)?, stream).await?).await
    }
}

type Sender = hyper::client::conn::http1::SendRequest<object_store::client::HttpRequestBody>;

async fn begin<S>(stream: S) -> Result<Sender, Box<dyn Error + Send + Sync>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with its one request.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the archive");
        }
    });
    Ok(sender)
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Named(String);

impl HttpConnector for Transport {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for Transport {
    fn call<'life0, 'async_trait>(
        &'life0 self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.ask(request))
    }
}

#[cfg(test)]
mod tests {
    use hyper::service::service_fn;
    use object_store::client::HttpRequestBody;
    use rustls::ServerConfig;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A store over TLS that answers with the host and the path that it was asked for.
    async fn store(versions: &[&'static rustls::SupportedProtocolVersion]) -> (u16, RootCertStore) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (CertificateDer::from(made.cert.der().to_vec()), made.signing_key.serialize_der());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let key = PrivateKeyDer::try_from(key).unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, acceptor) = (listener.local_addr().unwrap().port(), TlsAcceptor::from(Arc::new(config)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let answer = service_fn(async |request: http::Request<hyper::body::Incoming>| {
                    let host = request.headers()[HOST].to_str().unwrap_or_default().to_owned();
                    let said = format!("{host} {}", request.uri());
                    Ok::<_, std::convert::Infallible>(http::Response::new(said))
                });
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
            }
        });
        (port, roots)
    }

    async fn asked(transport: &Transport, uri: String) -> Result<String, String> {
        let request = http::Request::get(uri).body(HttpRequestBody::empty()).unwrap();
        let answered = transport.ask(request).await.map_err(|error| format!("{error:?}"))?;
        let body = answered.into_body().bytes().await.map_err(|error| format!("{error:?}"))?;
        Ok(String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_store_is_asked_over_tls_and_believed_by_its_certificate() {
        let (port, roots) = store(&[&rustls::version::TLS13]).await;
        let transport = Transport::trusting(roots).unwrap();
        let answered = asked(&transport, format!("https://localhost:{port}/evidence/a?x=1")).await;
        assert_eq!(answered, Ok(format!("localhost:{port} /evidence/a?x=1")));
        // Under another name, and to whoever trusts others.
        let refused = asked(&transport, format!("https://127.0.0.1:{port}/evidence/a")).await.unwrap_err();
        assert!(refused.contains("NotValidForName") || refused.contains("not valid for name"), "{refused}");
        let (_, others) = store(&[&rustls::version::TLS13]).await;
        let refused =
            asked(&Transport::trusting(others).unwrap(), format!("https://localhost:{port}/evidence/a")).await;
        assert!(refused.is_err(), "{refused:?}");
    }

    #[tokio::test]
    async fn nothing_travels_in_clear_beyond_this_machine() {
        let transport = Transport::trusting(RootCertStore::empty()).unwrap();
        for uri in ["http://s3.gov.vn/evidence", "http://192.0.2.1:9000/evidence"] {
            let refused = asked(&transport, uri.to_owned()).await.unwrap_err();
            assert!(refused.contains("would travel in clear"), "{refused}");
        }
    }

    /// A store that answers each request with this head, and then with as many bytes. None: without end.
    async fn answers(head: &'static str, bytes: Option<usize>) -> u16 {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut asked = [0; 4096];
                let _ = stream.read(&mut asked).await;
                let _ = stream.write_all(head.as_bytes()).await;
                let mut left = bytes.unwrap_or(usize::MAX);
                while left > 0 {
                    let now = left.min(8192);
                    if stream.write_all(&vec![b'x'; now]).await.is_err() {
                        break;
                    }
                    left -= now;
                }
            }
        });
        port
    }

    #[tokio::test]
    async fn what_a_store_answers_has_an_end() {
        let transport = Transport::trusting(RootCertStore::empty()).unwrap();
        let at = async |head, bytes, query: &str| {
            let port = answers(head, bytes).await;
            asked(&transport, format!("http://127.0.0.1:{port}/evidence{query}")).await
        };
        let (failed, fine) = ("HTTP/1.1 500 Internal Server Error\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n");
        let refused = at(failed, None, "").await.unwrap_err();
        assert!(refused.contains("LengthLimit"), "{refused}");
        assert_eq!(at(failed, Some(MAX_ERROR_BYTES), "").await.unwrap().len(), MAX_ERROR_BYTES);
        assert!(at(failed, Some(MAX_ERROR_BYTES + 1), "").await.is_err());
        let page = "?list-type=2&prefix=a";
        assert!(at(fine, None, page).await.unwrap_err().contains("LengthLimit"));
        assert_eq!(at(fine, Some(MAX_PAGE_BYTES), page).await.unwrap().len(), MAX_PAGE_BYTES);
        assert!(at(fine, Some(MAX_PAGE_BYTES + 1), page).await.is_err());
        assert_eq!(longest(StatusCode::OK, None), MAX_ANSWER_BYTES);
        assert_eq!(longest(StatusCode::OK, Some("prefix=list-type=2")), MAX_ANSWER_BYTES);
    }
}
