//! One port for all protocols: TLS, PROXY headers, client certificates, health and reflection.

use std::path::Path;
use std::sync::Arc;

use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proto::v2::messaging_service_client::MessagingServiceClient;
use rocketmq_thin_proxy::front::port::{Tls, TlsConfig, TlsMode};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::access::offline;
use crate::support::{Proxy, code, message, receive, receive_request, request, resource, system};
use http_body_util::BodyExt;

/// Accepts any certificate, as Apache's clients do.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn connector(alpn: &[&str]) -> TlsConnector {
    connector_as(alpn, None)
}

/// A certificate with its chain, and its key.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A connector for a client with this certificate.
fn connector_as(alpn: &[&str], identity: Option<Identity>) -> TlsConnector {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting));
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some((chain, key)) => config.with_client_auth_cert(chain, key).expect("a certificate"),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("a name")
}

/// One call over a connection that is already open.
async fn route_over<S>(stream: S) -> pb::Code
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.expect("HTTP/2");
    tokio::spawn(connection);
    let service = Plain(sender);
    let mut client = MessagingServiceClient::with_origin(service, "http://localhost".parse().expect("a URI"));
    let query = pb::QueryRouteRequest { topic: resource("t"), endpoints: None };
    code(client.query_route(request(query)).await.expect("an answer").into_inner().status)
}

/// The generated client over a bare connection.
struct Plain(hyper::client::conn::http2::SendRequest<tonic::body::Body>);

impl tower_service::Service<http::Request<tonic::body::Body>> for Plain {
    type Response = http::Response<tonic::body::Body>;
    type Error = hyper::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let answer = self.0.send_request(request);
        Box::pin(async move {
            Ok(answer.await?.map(|body| {
                tonic::body::Body::new(body.map_err(|error| tonic::Status::unknown(error.to_string())))
            }))
        })
    }
}

#[tokio::test]
async fn plaintext_and_tls_share_the_port() {
    let proxy = Proxy::start().await;
    let plain = TcpStream::connect(proxy.address).await.expect("a connection");
    assert_eq!(route_over(plain).await, pb::Code::Ok);
    let stream = TcpStream::connect(proxy.address).await.expect("a connection");
    let encrypted = connector(&["h2"]).connect(localhost(), stream).await.expect("a handshake");
    assert_eq!(encrypted.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(route_over(encrypted).await, pb::Code::Ok);
}

#[tokio::test]
async fn tls_without_http2_is_closed_after_the_handshake() {
    let proxy = Proxy::start().await;
    for alpn in [&[][..], &["http/1.1"]] {
        let stream = TcpStream::connect(proxy.address).await.expect("a connection");
        let mut encrypted = connector(alpn).connect(localhost(), stream).await.expect("a handshake");
        let mut nothing = Vec::new();
        // The connection ends without any bytes, with or without an orderly end of TLS.
        let _ = encrypted.read_to_end(&mut nothing).await;
        assert!(nothing.is_empty());
    }
}

#[tokio::test]
async fn tls_can_be_required() {
    let proxy = Proxy::configured(|config| {
        config.tls.mode = rocketmq_thin_proxy::front::port::TlsMode::Required;
    })
    .await;
    let mut plain = TcpStream::connect(proxy.address).await.expect("a connection");
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("written");
    let mut nothing = Vec::new();
    let _ = plain.read_to_end(&mut nothing).await;
    assert!(nothing.is_empty());
}

#[tokio::test]
async fn a_proxy_header_from_a_trusted_network_sets_the_clients_address() {
    let proxy = Proxy::configured(|config| {
        config.trusted_proxies =
            vec!["10.0.0.0/8".parse().expect("a network"), "127.0.0.0/8".parse().expect("a network")];
    })
    .await;
    let mut stream = TcpStream::connect(proxy.address).await.expect("a connection");
    // In two pieces, as a network may deliver it.
    stream.write_all(b"PROXY TCP4 7.7.7.7 8.8.8.8 77").await.expect("written");
    stream.flush().await.expect("flushed");
    stream.write_all(b"7 888\r\n").await.expect("written");
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.expect("HTTP/2");
    tokio::spawn(connection);
    let mut behind =
        MessagingServiceClient::with_origin(Plain(sender), "http://localhost".parse().expect("a URI"));
    let sent = pb::SendMessageRequest { messages: vec![message("t", "m", "body")] };
    behind.send_message(request(sent)).await.expect("an answer");
    let received = receive(&mut proxy.client().await, receive_request("t", "g")).await;
    assert_eq!(system(&received.messages[0]).born_host, "7.7.7.7:777");
}

#[tokio::test]
async fn a_proxy_header_from_anywhere_else_is_refused() {
    for trusted in [Vec::new(), vec!["10.0.0.0/8".parse().expect("a network")]] {
        let proxy = Proxy::configured(|config| config.trusted_proxies = trusted).await;
        for header in [&b"PROXY TCP4 7.7.7.7 8.8.8.8 777 888\r\n"[..], b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"] {
            let mut stream = TcpStream::connect(proxy.address).await.expect("a connection");
            stream.write_all(header).await.expect("written");
            let mut nothing = Vec::new();
            let _ = stream.read_to_end(&mut nothing).await;
            assert!(nothing.is_empty());
        }
    }
}

#[tokio::test]
async fn health_and_reflection_are_served() {
    let proxy = Proxy::start().await;
    let channel = proxy.channel().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let check = tonic_health::pb::HealthCheckRequest::default();
    let answer = health.check(check).await.expect("an answer").into_inner();
    assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);

    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let mut reflection =
        tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(channel);
    let list = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers =
        reflection.server_reflection_info(tokio_stream::once(list)).await.expect("an answer").into_inner();
    let answer = answers.message().await.expect("no failure").expect("an answer");
    let Some(MessageResponse::ListServicesResponse(services)) = answer.message_response else {
        panic!("services");
    };
    let names: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
    assert!(names.contains(&"apache.rocketmq.v2.MessagingService".to_owned()), "{names:?}");
}

/// An authority that signs certificates of clients, and its own certificate.
struct Authority {
    pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut parameters = rcgen::CertificateParams::new([name.to_owned()]).expect("a name");
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = parameters.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: rcgen::Issuer::new(parameters, key) }
    }

    fn client(&self, name: &str) -> Identity {
        let key = rcgen::KeyPair::generate().expect("a key");
        let parameters = rcgen::CertificateParams::new([name.to_owned()]).expect("a name");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate");
        (vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    /// TLS for which clients need a certificate of this authority.
    fn required(&self, folder: &Path) -> TlsConfig {
        let file = folder.join("ca.pem");
        std::fs::write(&file, &self.pem).expect("written");
        TlsConfig { mode: TlsMode::Required, client_ca: Some(file), ..TlsConfig::default() }
    }
}

async fn encrypted(proxy: &Proxy, identity: Option<Identity>) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(proxy.address).await.expect("a connection");
    let encrypted = connector_as(&["h2"], identity).connect(localhost(), stream).await;
    encrypted.expect("the client's half of the handshake")
}

#[tokio::test]
async fn clients_need_a_certificate_of_the_configured_authority() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let tls = ours.required(folder.path());
    let refused = TlsConfig { mode: TlsMode::Permissive, ..tls.clone() };
    assert!(Tls::new(&refused).is_err(), "clients without TLS could not send a certificate");

    let proxy = Proxy::configured(|config| config.tls = tls).await;
    assert_eq!(route_over(encrypted(&proxy, Some(ours.client("a"))).await).await, pb::Code::Ok);
    for identity in [Some(theirs.client("a")), None] {
        let mut answer = [0];
        // The proxy sends an alert, or closes the connection.
        assert!(!matches!(encrypted(&proxy, identity).await.read(&mut answer).await, Ok(1..)));
    }
}

#[tokio::test]
async fn a_certificate_identifies_the_user() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("access.toml");
    offline(&file, &["user", "add", "shop", "--certificate", "shop.example.com"]);
    offline(&file, &["user", "add", "billing", "--certificate", "billing.example.com"]);
    offline(&file, &["acl", "add", "shop", "Topic:t", "pub"]);
    let ours = Authority::new("ours");
    let proxy = Proxy::configured(|config| {
        config.tls = ours.required(folder.path());
        config.access.file = Some(file);
    })
    .await;
    for (name, code) in [
        ("shop.example.com", pb::Code::Ok),
        ("billing.example.com", pb::Code::Unauthorized),
        ("admin", pb::Code::Unauthorized),
    ] {
        assert_eq!(route_over(encrypted(&proxy, Some(ours.client(name))).await).await, code, "{name}");
    }
}
