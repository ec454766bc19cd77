//! Who gets through to whom.

use super::{DAY, Fleet, Subject, Validity, host, labels, load};
use bgctl_proto::link::{CONTROLLER_NAME, Identity, Link, Peer, TcpDial, connect, incoming};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, HandshakeKind};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_stream::StreamExt;
use tonic::transport::server::Connected;

/// Far longer than a handshake on loopback takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_host_is_known_with_its_labels_and_an_operator_by_name() {
    let fleet = Fleet::new();
    let seen = |client| meet(fleet.controller(), client);
    let expected = labels(&[("role", "web"), ("zone", "eu-west-1.a")]);
    assert_eq!(seen(fleet.host()).await.expect("let in"), Peer::Host { host: host("web-1"), labels: expected });
    assert_eq!(seen(fleet.operator()).await.expect("let in"), Peer::Operator { name: "alice".to_owned() });
    assert_eq!(fleet.controller().peer().expect("readable"), Peer::Controller);
}

/// As agents and operators dial in production.
#[tokio::test]
async fn a_channel_opens_to_a_controller_and_to_nobody_else() {
    let (fleet, other) = (Fleet::new(), Fleet::new());
    for (server, opens) in
        [(fleet.controller(), true), (other.controller(), false), (fleet.host(), false), (fleet.operator(), false)]
    {
        let (address, accepting) = listen(server).await;
        let config = fleet.host().client_config().expect("a config");
        let dialled = within(connect(&address.to_string(), config, Arc::new(TcpDial))).await;
        assert_eq!(dialled.is_ok(), opens, "{:?}", dialled.err());
        accepting.abort();
    }
}

#[tokio::test]
async fn a_client_of_another_ca_is_refused() {
    let (fleet, other) = (Fleet::new(), Fleet::new());
    // It trusts this controller, so that only its own certificate can be what is wrong.
    let stranger = mixed(&fleet, &other);
    let error = meet(fleet.controller(), stranger).await.expect_err("refused");
    assert!(error.contains("UnknownCA") || error.contains("DecryptError"), "{error}");
}

#[tokio::test]
async fn a_controller_of_another_ca_is_refused_by_the_client() {
    let (fleet, other) = (Fleet::new(), Fleet::new());
    let error = meet(other.controller(), fleet.host()).await.expect_err("refused");
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[tokio::test]
async fn a_host_or_operator_cannot_stand_in_for_a_controller() {
    let fleet = Fleet::new();
    for impostor in [fleet.host(), fleet.operator()] {
        let error = meet(impostor, fleet.operator()).await.expect_err("refused");
        assert!(error.contains("invalid peer certificate"), "{error}");
    }
}

/// The name alone does not make a controller: the extended key usage is checked too.
#[tokio::test]
async fn a_certificate_for_clients_with_the_controllers_name_is_refused_by_the_client() {
    let fleet = Fleet::new();
    let error = meet(usage_client_name_controller(&fleet), fleet.host()).await.expect_err("refused");
    assert!(error.contains("does not allow extended key usage for server authentication"), "{error}");
}

#[tokio::test]
async fn a_controllers_certificate_is_none_for_clients() {
    let fleet = Fleet::new();
    let error = meet(fleet.controller(), fleet.controller()).await.expect_err("refused");
    assert!(error.contains("UnsupportedCertificate") || error.contains("CertificateUnknown"), "{error}");
}

#[tokio::test]
async fn a_client_without_certificate_is_refused() {
    let fleet = Fleet::new();
    let trusting = fleet.host().client_config().expect("a config");
    let mut config = (*trusting).clone();
    config.client_auth_cert_resolver = Arc::new(NoCertificate);
    let error = meet_with(fleet.controller(), Arc::new(config)).await.expect_err("refused");
    assert!(error.contains("CertificateRequired"), "{error}");
}

#[tokio::test]
async fn a_certificate_that_expired_or_is_not_valid_yet_is_refused() {
    let fleet = Fleet::new();
    let now = SystemTime::now();
    let subject = || Subject::Host { host: host("web-1"), labels: labels(&[]) };
    let expired = Validity { from: now - 2 * DAY, to: now - DAY };
    let error = meet(fleet.controller(), fleet.odd(&subject(), expired)).await.expect_err("refused");
    assert!(error.contains("CertificateExpired"), "{error}");
    let early = Validity { from: now + DAY, to: now + 2 * DAY };
    let error = meet(fleet.controller(), fleet.odd(&subject(), early)).await.expect_err("refused");
    assert!(error.contains("CertificateExpired") || error.contains("CertificateUnknown"), "{error}");
    let controller = Subject::Controller { name: "main".to_owned(), dns: CONTROLLER_NAME };
    let error = meet(fleet.odd(&controller, expired), fleet.host()).await.expect_err("refused");
    assert!(error.contains("certificate expired"), "{error}");
    let valid = Validity { from: now - DAY, to: now + DAY };
    meet(fleet.odd(&controller, valid), fleet.odd(&subject(), valid)).await.expect("let in: only the dates differ");
}

/// With resumption, a certificate that has expired or was withdrawn since would go on being accepted.
#[tokio::test]
async fn no_session_is_resumed() {
    let fleet = Fleet::new();
    let (address, accepting) = listen(fleet.controller()).await;
    let mut config = (*fleet.host().client_config().expect("a config")).clone();
    // A client that would like to; ours would not even ask.
    config.resumption = tokio_rustls::rustls::client::Resumption::in_memory_sessions(8);
    let config = Arc::new(config);
    for _ in 0..3 {
        let stream = dial(address, Arc::clone(&config)).await.expect("let in");
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        let answer = within(read_all(stream)).await.expect("the server closes in order");
        assert_eq!(answer, b"welcome");
    }
    accepting.abort();
}

/// The same, with the client of production and a server that would resume.
#[tokio::test]
async fn our_client_asks_for_no_resumption() {
    let fleet = Fleet::new();
    let mut server = (*fleet.controller().server_config().expect("a config")).clone();
    server.session_storage = tokio_rustls::rustls::server::ServerSessionMemoryCache::new(8);
    server.send_tls13_tickets = 2;
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = acceptor.accept(stream).await.expect("a client of ours");
            greet(&mut stream).await;
        }
    });
    let config = fleet.host().client_config().expect("a config");
    for _ in 0..3 {
        let stream = dial(address, Arc::clone(&config)).await.expect("let in");
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        within(read_all(stream)).await.expect("the server closes in order");
    }
    accepting.abort();
}

/// Connects once. Answers who the server saw, or what the client was told.
async fn meet(server: Identity, client: Identity) -> Result<Peer, String> {
    meet_with(server, client.client_config().expect("a config")).await
}

async fn meet_with(server: Identity, client: Arc<ClientConfig>) -> Result<Peer, String> {
    let config = server.server_config().expect("a config");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut links = incoming(listener, config);
    let stream = dial(address, client).await.map_err(|error| error.to_string())?;
    // With TLS 1.3 a client learns that it is refused when it first reads.
    tokio::select! {
        answer = read_all(stream) => Err(answer.expect_err("nothing was sent").to_string()),
        link = links.next() => Ok(link.expect("a link").expect("a handshake").connect_info().peer),
        () = tokio::time::sleep(DEADLINE) => panic!("neither let in nor refused"),
    }
}

async fn dial(address: SocketAddr, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(CONTROLLER_NAME).expect("a name");
    let stream = TcpStream::connect(address).await?;
    within(TlsConnector::from(config).connect(name, stream)).await
}

/// A server as in production, which says `welcome` and closes; to HTTP/2, that is a server without a preface.
async fn listen(server: Identity) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut links = incoming(listener, server.server_config().expect("a config"));
    let accepting = tokio::spawn(async move {
        while let Some(Ok(mut link)) = links.next().await {
            greet::<Link>(&mut link).await;
        }
    });
    (address, accepting)
}

async fn greet<S: tokio::io::AsyncWrite + Unpin>(stream: &mut S) {
    use tokio::io::AsyncWriteExt;
    // The other end may be gone already.
    let _ = stream.write_all(b"welcome").await;
    let _ = stream.shutdown().await;
}

async fn read_all(mut stream: TlsStream<TcpStream>) -> io::Result<Vec<u8>> {
    use tokio::io::AsyncReadExt;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.map(|_| answer)
}

async fn within<T>(act: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, act).await.expect("in time")
}

/// Trusts the CA of one fleet, and has the certificate of another.
fn mixed(trusted: &Fleet, own: &Fleet) -> Identity {
    let folder = own.dir.path().join("web-1");
    std::fs::copy(trusted.dir.path().join("ca.crt"), folder.join("ca.crt")).expect("copied");
    load(&folder, "host")
}

/// Has the controller's DNS name, and is for clients.
fn usage_client_name_controller(fleet: &Fleet) -> Identity {
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
    let read = |name: &str| std::fs::read_to_string(fleet.dir.path().join(name)).expect("a file");
    let authority = KeyPair::from_pem(&read("ca.key")).expect("a key");
    let issuer = Issuer::from_ca_cert_pem(&read("ca.crt"), authority).expect("the CA");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![CONTROLLER_NAME.to_owned()]).expect("a name");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let folder = fleet.dir.path().join("odd");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("odd.crt"), certificate.pem()).expect("written");
    std::fs::write(folder.join("odd.key"), key.serialize_pem()).expect("written");
    std::fs::copy(fleet.dir.path().join("ca.crt"), folder.join("ca.crt")).expect("copied");
    load(&folder, "odd")
}

#[derive(Debug)]
struct NoCertificate;

impl tokio_rustls::rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[tokio_rustls::rustls::SignatureScheme],
    ) -> Option<Arc<tokio_rustls::rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
