//! TLS, credentials, and that no secret is logged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures::future::try_join_all;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rocketmq_thin::{Client, ClientOptions, Credentials, ErrorKind, Message, ProducerOptions, Startup, Tls};
use rocketmq_thin_proto::v2::{Code, SendMessageRequest, SendMessageResponse};
use tokio::sync::Notify;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::{
    log::Log,
    server::{Script, TestServer, status, stored},
};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("authority {:?}", SystemTime::now()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.as_ref().pem()
    }

    /// A certificate for `name` and for the address in routes, and its key.
    fn certify(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned(), "127.0.0.1".to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// A server with a certificate for `name`.
    fn server(&self, name: &str) -> ServerTlsConfig {
        let (certificate, key) = self.certify(name);
        ServerTlsConfig::new().identity(Identity::from_pem(certificate, key))
    }
}

fn serve(tls: ServerTlsConfig) -> TestServer {
    TestServer::at("127.0.0.1:0".parse().unwrap(), Script::default(), Some(tls))
}

async fn connect(server: &TestServer, tls: Tls) -> rocketmq_thin::Result<Client> {
    let endpoints = format!("localhost:{}", server.address.port());
    Client::connect(ClientOptions::new(endpoints).tls(tls)).await
}

async fn refusal(server: &TestServer, tls: Tls) -> String {
    let error = connect(server, tls).await.unwrap_err();
    assert_eq!((error.kind(), error.retryable()), (ErrorKind::Tls, false), "{error}");
    error.message().to_owned()
}

#[tokio::test]
async fn the_server_s_certificate_is_verified() {
    let authority = Authority::new();
    let server = serve(authority.server("localhost"));
    let client = connect(&server, Tls::ca(authority.pem())).await.unwrap();
    client.producer(ProducerOptions::new(["t"])).await.unwrap();
    for tls in [Tls::ca(Authority::new().pem()), Tls::system_roots()] {
        assert!(refusal(&server, tls).await.contains("as the CA"));
    }
}

#[tokio::test]
async fn the_name_of_the_server_can_be_given() {
    let authority = Authority::new();
    let server = serve(authority.server("mq.example"));
    let tls = Tls::ca(authority.pem());
    assert!(refusal(&server, tls.clone()).await.contains("TLS server name"));
    let client = connect(&server, tls.clone().server_name("mq.example")).await.unwrap();
    client.producer(ProducerOptions::new(["t"])).await.unwrap();
    assert!(refusal(&server, tls.server_name("other.example")).await.contains("another name"));
}

#[tokio::test]
async fn a_server_may_require_a_client_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    let requiring = authority.server("localhost").client_ca_root(Certificate::from_pem(authority.pem()));
    let server = serve(requiring);
    let tls = Tls::ca(authority.pem());
    let message = refusal(&server, tls.clone()).await;
    assert!(message.contains("requires a client certificate"), "{message}");
    let (certificate, key) = other.certify("client");
    let message = refusal(&server, tls.clone().client_certificate(certificate, key)).await;
    assert!(message.contains("does not accept the client's certificate"), "{message}");
    let (certificate, key) = authority.certify("client");
    let client = connect(&server, tls.client_certificate(certificate, key)).await.unwrap();
    let producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    producer.send(Message::new("t", "x")).await.unwrap();
}

#[tokio::test]
async fn verification_can_be_skipped_with_a_warning_for_each_connection() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.subscriber());
    let server = serve(Authority::new().server("elsewhere.example"));
    let tls = Tls::system_roots().dangerously_skip_verification();
    for connections in 1..3 {
        let client = connect(&server, tls.clone()).await.unwrap();
        client.producer(ProducerOptions::new(["t"])).await.unwrap();
        let text = log.text();
        assert_eq!(text.matches("certificate is not verified").count(), connections, "{text}");
    }
}

/// The access key of the latest send.
fn access_key(server: &TestServer) -> String {
    let metadata = server.seen.metadata.lock().unwrap();
    let authorization = metadata["send"].get("authorization").unwrap().to_str().unwrap();
    authorization.split("Credential=").nth(1).unwrap().split(',').next().unwrap().to_owned()
}

/// Options with a provider of the access keys `key-1`, `key-2`, ..., and a count of its calls.
fn provided(server: &TestServer) -> (ClientOptions, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    (providing(server, &calls), calls)
}

fn providing(server: &TestServer, calls: &Arc<AtomicUsize>) -> ClientOptions {
    let calls = calls.clone();
    ClientOptions::new(server.endpoints()).credentials_provider(move || {
        let call = calls.fetch_add(1, Ordering::SeqCst) + 1;
        let credentials = Credentials::new(format!("key-{call}"), "secret");
        async move { Ok(credentials.session_token(format!("token-{call}"))) }
    })
}

/// Refuses the credentials of the first `count` sends.
fn refuse_sends(count: usize) -> Script {
    let send = move |request: &SendMessageRequest, before| match before < count {
        true => SendMessageResponse { status: status(Code::Unauthorized, "who?"), entries: Vec::new() },
        false => stored(request),
    };
    Script { send: Box::new(send), ..Script::default() }
}

#[tokio::test]
async fn refused_credentials_are_replaced_once_and_the_call_is_repeated() {
    let server = TestServer::start(refuse_sends(1));
    let (options, calls) = provided(&server);
    let client = Client::connect(options).await.unwrap();
    let producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    producer.send(Message::new("t", "x")).await.unwrap();
    assert_eq!((calls.load(Ordering::SeqCst), access_key(&server).as_str()), (2, "key-2"));
    let metadata = server.seen.metadata.lock().unwrap()["send"].clone();
    assert_eq!(metadata.get("x-mq-session-token").unwrap(), "token-2");
}

#[tokio::test]
async fn credentials_that_are_always_refused_cause_few_requests() {
    let server = TestServer::start(refuse_sends(usize::MAX));
    let (options, calls) = provided(&server);
    let client = Client::connect(options).await.unwrap();
    let producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    let error = producer.send(Message::new("t", "x")).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unauthenticated, Some(40100)));
    assert!(!error.retryable() && !error.maybe_delivered(), "{error}");
    assert_eq!(server.seen.counted("send"), 2);
    for _ in 0..10 {
        producer.send(Message::new("t", "x")).await.unwrap_err();
    }
    assert_eq!((calls.load(Ordering::SeqCst), server.seen.counted("send")), (2, 12));
}

#[tokio::test]
async fn many_calls_share_one_replacement() {
    // Sends are refused until the provider is called again.
    let calls = Arc::new(AtomicUsize::new(0));
    let asked = calls.clone();
    let send = move |request: &SendMessageRequest, _| match asked.load(Ordering::SeqCst) {
        1 => SendMessageResponse { status: status(Code::Unauthorized, "who?"), entries: Vec::new() },
        _ => stored(request),
    };
    let server = TestServer::start(Script { send: Box::new(send), ..Script::default() });
    let options = providing(&server, &calls);
    let client = Client::connect(options).await.unwrap();
    let producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    try_join_all((0..100).map(|_| producer.send(Message::new("t", "x")))).await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_provider_that_fails_is_the_cause_of_the_failed_start() {
    let server = TestServer::start(Script::default());
    let failing = || ClientOptions::new(server.endpoints()).startup_timeout(Duration::MAX);
    let error = Client::connect(failing().credentials_provider(async || Err("the vault is sealed".into())));
    let error = error.await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Unauthenticated, "connect"));
    assert!(error.message().contains("the vault is sealed"), "{error}");
    let error = Client::connect(failing().credentials_provider(async || panic!("no vault")));
    assert!(error.await.unwrap_err().message().contains("panicked"));

    let silent =
        failing().credentials_provider(std::future::pending).startup_timeout(Duration::from_millis(50));
    let error = Client::connect(silent).await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Timeout, "connect"));
    assert!(error.message().contains("credentials provider"), "{error}");
}

#[tokio::test]
async fn expiring_credentials_are_replaced_while_calls_continue() {
    let server = TestServer::start(Script::default());
    let (asked, vault) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let provider = {
        let (asked, vault) = (asked.clone(), vault.clone());
        move || {
            let (asked, vault) = (asked.clone(), vault.clone());
            async move {
                asked.notify_one();
                vault.notified().await;
                Ok(Credentials::new("new", "secret"))
            }
        }
    };
    let expired = Credentials::new("old", "secret").expires_at(SystemTime::UNIX_EPOCH);
    let options = ClientOptions::new(server.endpoints()).credentials(expired).credentials_provider(provider);
    let client = Client::connect(options).await.unwrap();
    let producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    asked.notified().await;
    producer.send(Message::new("t", "x")).await.unwrap();
    assert_eq!(access_key(&server), "old");
    vault.notify_one();
    while access_key(&server) == "old" {
        producer.send(Message::new("t", "x")).await.unwrap();
    }
    assert_eq!(access_key(&server), "new");
}

#[tokio::test]
async fn the_application_replaces_credentials() {
    let server = TestServer::start(Script::default());
    let options = ClientOptions::new(server.endpoints()).credentials(Credentials::new("old", "secret"));
    let client = Client::connect(options).await.unwrap();
    let producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    client.update_credentials(&Credentials::new("new", "secret")).unwrap();
    producer.send(Message::new("t", "x")).await.unwrap();
    assert_eq!(access_key(&server), "new");
    let error = client.update_credentials(&Credentials::new("ü", "secret")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
}

#[tokio::test]
async fn the_error_of_a_refused_call_says_why_there_are_no_other_credentials() {
    let server = TestServer::start(refuse_sends(usize::MAX));
    let options = ClientOptions::new(server.endpoints()).credentials(Credentials::new("old", "secret"));
    let options = options.credentials_provider(async || Err("the vault is sealed".into()));
    let client = Client::connect(options).await.unwrap();
    let producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    let error = producer.send(Message::new("t", "x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(error.message().contains("the vault is sealed"), "{error}");
}

#[tokio::test]
async fn no_secret_is_shown_anywhere() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.subscriber());
    let authority = Authority::new();
    let script = refuse_sends(2);
    let server = TestServer::at("127.0.0.1:0".parse().unwrap(), script, Some(authority.server("localhost")));
    let (certificate, key) = authority.certify("client");
    let lines: Vec<_> = key.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned).collect();
    let secret = || Credentials::new("ak", "hush-key").session_token("hush-token");
    let options = ClientOptions::new(format!("localhost:{}", server.address.port()))
        .credentials(secret())
        .credentials_provider(async || Ok(Credentials::new("ak", "hush-key-2").session_token("hush-token-2")))
        .startup(Startup::Wait)
        .tls(Tls::ca(authority.pem()).client_certificate(certificate, &*key));
    let mut shown = format!("{options:?} {:?} {:?}", options.credentials, options.tls);
    let client = Client::connect(options).await.unwrap();
    let producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    let error = producer.send(Message::new("t", "x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    client.update_credentials(&secret()).unwrap();
    producer.send(Message::new("t", "x")).await.unwrap();
    shown += &format!("{client:?} {producer:?} {error:?} {error} {:?}", client.health());
    let wrong = Credentials::new("ak", "hush-key").session_token("hush-\n");
    shown += &format!("{:?}", client.update_credentials(&wrong).unwrap_err());
    shown += &log.text();
    assert!(shown.contains("ak") && !log.text().is_empty());
    for secret in ["hush", "Signature="].iter().map(|it| (*it).to_owned()).chain(lines) {
        let line = shown.lines().find(|line| line.contains(&secret));
        assert!(line.is_none(), "{secret}: {line:?}");
    }
}
