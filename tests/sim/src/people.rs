//! Operators: they ask whichever controller answers, ask again when it does not, and double-click.

use crate::clock::SimAmbient;
use crate::net::{CONTROLLER_PORT, SimDial};
use crate::timeline::Timeline;
use bgctl_proto::ambient::Ambient;
use bgctl_proto::link;
use bgctl_proto::operator::operator_client::OperatorClient;
use bgctl_proto::operator::{
    AbortRequest, ApplyRequest, DeployRequest, DeploymentEvent, HostsRequest, ReplaceHostRequest, RollbackRequest,
};
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// A controller that says nothing for so long is left for another.
const ANSWER_WITHIN: Duration = Duration::from_secs(6);

/// Somebody who has waited so long for a deployment goes to lunch.
const FOLLOW_FOR: Duration = Duration::from_secs(120);

/// Rounds through all controllers before a person gives up.
const ROUNDS: usize = 4;

/// Pause between two controllers.
const PAUSE: Duration = Duration::from_millis(500);

/// Between two looks at who waits for a person's word.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What somebody does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Records a service's spec.
    Apply {
        /// Which.
        service: String,
    },
    /// To a version.
    Deploy {
        /// Which.
        service: String,
        /// What.
        version: String,
    },
    /// The same twice at once, as two requests.
    DeployTwice {
        /// Which.
        service: String,
        /// What.
        version: String,
    },
    /// Back.
    Rollback {
        /// Which.
        service: String,
    },
    /// Ends what is open.
    Abort {
        /// Which.
        service: String,
    },
}

/// One operator.
#[derive(Clone)]
pub struct Person {
    /// The name of their machine.
    pub name: String,
    /// Their certificate.
    pub tls: Arc<ClientConfig>,
    /// The controllers they know.
    pub controllers: Vec<String>,
    /// How they make request ids.
    pub ambient: SimAmbient,
    /// Where they note what they see.
    pub timeline: Timeline,
    /// Who is told of each command.
    pub heard: Arc<dyn Fn(&Command) + Send + Sync>,
    /// Looks after hosts that wait for a person's word.
    pub keeps_door: bool,
    /// The text of a service's spec.
    pub spec: Arc<dyn Fn(&str) -> String + Send + Sync>,
}

impl Person {
    /// Does all of it, each at its time.
    pub async fn work(self, commands: Vec<(Duration, Command)>) {
        if self.keeps_door {
            drop(tokio::spawn(self.clone().keep_door()));
        }
        for (at, command) in commands {
            tokio::time::sleep(at.saturating_sub(turmoil::sim_elapsed().unwrap_or_default())).await;
            self.timeline.say(&self.name, format!("{command:?}"));
            (self.heard)(&command);
            let person = self.clone();
            // Nobody waits for a deployment before the next command; a person has more than one terminal.
            drop(tokio::spawn(async move { person.act(command).await }));
        }
        std::future::pending::<()>().await;
    }

    async fn act(self, command: Command) {
        match &command {
            Command::DeployTwice { service, version } => {
                tokio::join!(self.deploy(service, version), self.deploy(service, version));
            }
            Command::Deploy { service, version } => self.deploy(service, version).await,
            Command::Rollback { service } => {
                let request = self.request();
                self.ask(&command, |client| self.rollback(client, service.clone(), request.clone())).await;
            }
            Command::Abort { service } => {
                self.ask(&command, |mut client| {
                    let service = service.clone();
                    async move {
                        client
                            .abort(AbortRequest { service })
                            .await
                            .map(|reply| format!("{:?}", reply.into_inner().deployment.map(|end| (end.id, end.phase))))
                    }
                })
                .await;
            }
            Command::Apply { service } => {
                self.ask(&command, |mut client| {
                    let request = ApplyRequest { text: (self.spec)(service), file_name: format!("{service}.yaml") };
                    async move {
                        client.apply(request).await.map(|reply| format!("revision {}", reply.into_inner().revision))
                    }
                })
                .await;
            }
        }
    }

    /// Looks at the hosts time and again, and lets in those that are there on a new disk.
    async fn keep_door(self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            for controller in &self.controllers {
                let looked = tokio::time::timeout(ANSWER_WITHIN, self.let_in(controller)).await;
                if matches!(looked, Ok(Ok(()))) {
                    break;
                }
            }
        }
    }

    async fn let_in(&self, controller: &str) -> Result<(), Status> {
        let address = format!("{controller}:{CONTROLLER_PORT}");
        let channel = link::connect(&address, Arc::clone(&self.tls), Arc::new(SimDial)).await;
        let mut client = OperatorClient::new(channel.map_err(|error| Status::unavailable(error.to_string()))?);
        for host in client.hosts(HostsRequest {}).await?.into_inner().hosts {
            if host.waiting.contains("new life waiting") {
                let said = client.replace_host(ReplaceHostRequest { host: host.host.clone() }).await.map(drop);
                self.timeline.say(&self.name, format!("hosts replace {}: {said:?}", host.host));
            }
        }
        Ok(())
    }

    fn request(&self) -> String {
        format!("{:032x}", self.ambient.random())
    }

    async fn deploy(&self, service: &str, version: &str) {
        let command = Command::Deploy { service: service.to_owned(), version: version.to_owned() };
        // Asked again under the same name: it is the same wish.
        let request = DeployRequest {
            service: service.to_owned(),
            version: version.to_owned(),
            request_id: self.request(),
            force: false,
            exclude: Vec::new(),
        };
        self.ask(&command, |mut client| {
            let request = request.clone();
            async move { follow(client.deploy(request).await?.into_inner()).await }
        })
        .await;
    }

    async fn rollback(
        &self,
        mut client: OperatorClient<Channel>,
        service: String,
        request_id: String,
    ) -> Result<String, Status> {
        follow(client.rollback(RollbackRequest { service, request_id, exclude: Vec::new() }).await?.into_inner()).await
    }

    /// Asks one controller after the other, until one has an answer.
    async fn ask<F>(&self, command: &Command, act: impl Fn(OperatorClient<Channel>) -> F)
    where
        F: Future<Output = Result<String, Status>>,
    {
        let rounds = std::iter::repeat_n(&self.controllers, ROUNDS).flatten();
        for controller in rounds {
            let address = format!("{controller}:{CONTROLLER_PORT}");
            let asked = async {
                let channel = link::connect(&address, Arc::clone(&self.tls), Arc::new(SimDial)).await;
                let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
                act(OperatorClient::new(channel)).await
            };
            match tokio::time::timeout(FOLLOW_FOR, asked).await {
                Ok(Ok(answer)) => return self.timeline.say(&self.name, format!("{command:?}: {answer}")),
                Ok(Err(status)) => {
                    const NO_ANSWER: [Code; 5] =
                        [Code::Unavailable, Code::DeadlineExceeded, Code::Unknown, Code::Cancelled, Code::Internal];
                    if !NO_ANSWER.contains(&status.code()) {
                        return self.timeline.say(&self.name, format!("{command:?}: {}", status.message()));
                    }
                }
                Err(_) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.timeline.say(&self.name, format!("{command:?}: gave up"));
    }
}

/// Watches a deployment to its end.
async fn follow(mut events: Streaming<DeploymentEvent>) -> Result<String, Status> {
    let mut last = String::new();
    loop {
        let next = tokio::time::timeout(FOLLOW_FOR.max(ANSWER_WITHIN), events.message()).await;
        let next = next.map_err(|_| Status::deadline_exceeded("nothing was told"))??;
        let Some(event) = next else { return Err(Status::unavailable("the stream ended")) };
        if let Some(deployment) = &event.deployment {
            last = format!("{} {:?} {}", deployment.id, deployment.phase(), deployment.reason);
        }
        if event.last {
            return Ok(last);
        }
    }
}
