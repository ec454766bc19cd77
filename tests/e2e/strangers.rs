//! Who is let in: nobody without a certificate of the fleet's own CA, and nobody for what it was not made for.

use super::scene::{DONE, REFUSED, Scene, UNREACHABLE, bare};
use bgctl_proto::link::{Identity, TcpDial, connect};
use bgctl_proto::operator::HostsRequest;
use bgctl_proto::operator::operator_client::OperatorClient;
use bgctl_proto::session::session_client::SessionClient;
use bgctl_tests::workspace::program;
use rustls::ClientConfig;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// An identity put together from parts.
struct Parts {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Parts {
    fn of(folder: &Path, who: &str) -> Self {
        let file = |name: String| folder.join(name);
        Self { ca: file("ca.crt".to_owned()), certificate: file(format!("{who}.crt")), key: file(format!("{who}.key")) }
    }

    /// It trusts the fleet's controller, so that only its own certificate can be what is wrong.
    fn trusting(self, ca: &Path) -> Self {
        Self { ca: ca.to_owned(), ..self }
    }

    fn config(&self) -> Arc<ClientConfig> {
        let identity = Identity::load(&self.ca, &self.certificate, &self.key).expect("an identity");
        identity.client_config().expect("a config")
    }

    /// As `bgctl` wants it.
    fn as_operator(&self, folder: &Path) {
        fs::create_dir_all(folder).expect("a folder");
        for (from, to) in [(&self.ca, "ca.crt"), (&self.certificate, "operator.crt"), (&self.key, "operator.key")] {
            fs::copy(from, folder.join(to)).expect("a copy");
        }
    }
}

#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// What the operators' service and the agents' service say to a client.
async fn ask(scene: &Scene, config: Arc<ClientConfig>) -> [Result<(), String>; 2] {
    let address = scene.fleet().plan().controllers();
    let dialled = || connect(&address, config.clone(), Arc::new(TcpDial));
    let operator = match dialled().await {
        Ok(channel) => OperatorClient::new(channel).hosts(HostsRequest {}).await.map(drop).map_err(|no| no.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let agent = match dialled().await {
        Ok(channel) => {
            let silent = futures_util::stream::pending();
            SessionClient::new(channel).open(silent).await.map(drop).map_err(|no| no.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    [operator, agent]
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_fleets_own_people_and_hosts_are_let_in() {
    let scene = Scene::quiet(bare(1)).await;
    let dir = scene.fleet().plan().dir.clone();
    let host = scene.fleet().plan().host_dir(&scene.fleet().hosts()[0]).join("identity");
    let (operator, host) = (Parts::of(&scene.fleet().plan().operator_identity(), "operator"), Parts::of(&host, "host"));
    let made = Command::new(program("bgctl-controller").expect("it was built"))
        .args(["init", "--operator", "mallory", "--dir"])
        .arg(dir.join("elsewhere"))
        .output()
        .expect("it runs");
    assert!(made.status.success(), "{made:?}");
    let elsewhere = Parts::of(&dir.join("elsewhere/operators/mallory"), "operator");

    // Each is let in where it belongs: what follows is refused for what it says.
    assert_eq!(ask(&scene, operator.config()).await[0], Ok(()));
    assert_eq!(ask(&scene, host.config()).await[1], Ok(()));

    let [as_operator, as_agent] =
        [ask(&scene, host.config()).await[0].clone(), ask(&scene, operator.config()).await[1].clone()];
    for (refusal, who) in [(as_operator, "operator"), (as_agent, "host")] {
        let refusal = refusal.expect_err("let in with the wrong kind of certificate");
        assert!(refusal.contains("permission") && refusal.contains(who), "{refusal}");
    }
    let stranger = elsewhere.trusting(&operator.ca);
    let mut bare = (*operator.config()).clone();
    bare.client_auth_cert_resolver = Arc::new(NoCertificate);
    for (who, config) in [("another CA's", stranger.config()), ("no certificate", Arc::new(bare))] {
        for answer in ask(&scene, config).await {
            assert!(answer.is_err(), "{who}: let in");
        }
    }

    // The same for the command, as a person would meet it.
    for (name, parts) in [("host", &host), ("stranger", &stranger)] {
        let folder = dir.join("identity-of").join(name);
        parts.as_operator(&folder);
        let mut command = scene.fleet().bgctl_command(&["hosts"]).expect("bgctl");
        let output = command.env("BGCTL_IDENTITY", &folder).output().await.expect("bgctl runs");
        assert!(matches!(output.status.code(), Some(REFUSED | UNREACHABLE)), "{name}: {output:?}");
        assert!(output.stdout.is_empty(), "{name} was told something: {output:?}");
    }
    // A command that trusts another CA does not speak to this controller.
    let mut command = scene.fleet().bgctl_command(&["hosts"]).expect("bgctl");
    command.env("BGCTL_IDENTITY", dir.join("elsewhere/operators/mallory"));
    let output = command.output().await.expect("bgctl runs");
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    scene.expect(&["hosts"], DONE, &[scene.host(1), "connected"]).await;
    scene.down().await;
}
