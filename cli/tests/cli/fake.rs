//! A controller that says what the test tells it to, over the real link.

use crate::pki::Pki;
use bgctl_proto::link::{Identity, incoming};
use bgctl_proto::operator::operator_server::{Operator, OperatorServer};
use bgctl_proto::operator::{
    AbortReply, AbortRequest, ApplyReply, ApplyRequest, ConfirmStoreReply, ConfirmStoreRequest, ControllersReply,
    ControllersRequest, DeployRequest, DeploymentEvent, ForgetControllerReply, ForgetControllerRequest, HistoryReply,
    HistoryRequest, HostsReply, HostsRequest, RemoveHostReply, RemoveHostRequest, ReplaceHostReply, ReplaceHostRequest,
    RollbackRequest, StatusReply, StatusRequest, WatchRequest,
};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status};

/// What came in.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    Apply(ApplyRequest),
    Deploy(DeployRequest),
    Rollback(RollbackRequest),
    Abort(AbortRequest),
    Watch(WatchRequest),
    Status(StatusRequest),
    History(HistoryRequest),
    Hosts,
    Controllers,
    ReplaceHost(ReplaceHostRequest),
    RemoveHost(RemoveHostRequest),
    ForgetController(ForgetControllerRequest),
    ConfirmStore,
}

/// What the unary calls answer.
#[derive(Debug, Clone)]
pub struct Answers {
    pub apply: Result<ApplyReply, Status>,
    pub abort: Result<AbortReply, Status>,
    pub status: Result<StatusReply, Status>,
    pub history: Result<HistoryReply, Status>,
    pub hosts: Result<HostsReply, Status>,
    pub controllers: Result<ControllersReply, Status>,
    pub forget_controller: Result<ForgetControllerReply, Status>,
    pub replace_host: Result<ReplaceHostReply, Status>,
    pub remove_host: Result<RemoveHostReply, Status>,
    pub confirm_store: Result<ConfirmStoreReply, Status>,
}

type Told = Result<DeploymentEvent, Status>;

/// The other end of one stream. Dropped, the stream ends.
#[derive(Debug)]
pub struct Teller(UnboundedSender<Told>);

impl Teller {
    pub fn tell(&self, event: DeploymentEvent) -> &Self {
        // A client that has gone needs no news.
        drop(self.0.send(Ok(event)));
        self
    }

    pub fn fail(self, status: Status) {
        drop(self.0.send(Err(status)));
    }
}

#[derive(Debug)]
struct Shared {
    calls: Mutex<Vec<Call>>,
    streams: Mutex<VecDeque<Result<UnboundedReceiver<Told>, Status>>>,
    answers: Mutex<Answers>,
}

/// A controller on a free port of the loopback.
#[derive(Debug)]
pub struct Fake {
    pub pki: Arc<Pki>,
    address: SocketAddr,
    shared: Arc<Shared>,
    server: Option<Runtime>,
}

impl Fake {
    pub fn new() -> Self {
        Self::with(Arc::new(Pki::new()))
    }

    /// With the certificates of another one.
    pub fn with(pki: Arc<Pki>) -> Self {
        let unexpected = || Status::internal("the test expects no such call");
        let answers = Answers {
            apply: Err(unexpected()),
            abort: Err(unexpected()),
            status: Err(unexpected()),
            history: Err(unexpected()),
            hosts: Err(unexpected()),
            controllers: Err(unexpected()),
            forget_controller: Err(unexpected()),
            replace_host: Err(unexpected()),
            remove_host: Err(unexpected()),
            confirm_store: Err(unexpected()),
        };
        let shared =
            Arc::new(Shared { calls: Mutex::default(), streams: Mutex::default(), answers: Mutex::new(answers) });
        let mut fake = Self { pki, address: SocketAddr::from(([127, 0, 0, 1], 0)), shared, server: None };
        fake.start();
        fake
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Sets what a unary call answers.
    pub fn answer(&self, set: impl FnOnce(&mut Answers)) {
        set(&mut self.shared.answers.lock().unwrap());
    }

    /// The next streaming call that comes gets this.
    pub fn stream(&self) -> Teller {
        let (teller, stream) = unbounded_channel();
        self.shared.streams.lock().unwrap().push_back(Ok(stream));
        Teller(teller)
    }

    /// The next streaming call that comes is refused.
    pub fn refuse(&self, status: Status) {
        self.shared.streams.lock().unwrap().push_back(Err(status));
    }

    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// As `kill -9`: all connections break.
    pub fn kill(&mut self) {
        let server = self.server.take().expect("it runs");
        server.shutdown_timeout(Duration::from_secs(5));
    }

    /// Where it was before, if it was anywhere.
    pub fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let folder = self.pki.controller();
        let [ca, crt, key] = ["ca.crt", "controller.crt", "controller.key"].map(|name| folder.join(name));
        let config = Identity::load(&ca, &crt, &key).unwrap().server_config().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(self.address)).unwrap();
        self.address = listener.local_addr().unwrap();
        let service = OperatorServer::new(Service(Arc::clone(&self.shared)));
        runtime.spawn(async move {
            let links = incoming(listener, config);
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(links).await
        });
        self.server = Some(runtime);
    }
}

struct Service(Arc<Shared>);

impl Service {
    fn note(&self, call: Call) {
        self.0.calls.lock().unwrap().push(call);
    }

    fn next_stream(&self) -> Result<Response<UnboundedReceiverStream<Told>>, Status> {
        let next = self.0.streams.lock().unwrap().pop_front();
        let stream = next.unwrap_or_else(|| Err(Status::internal("the test expects no such call")))?;
        Ok(Response::new(UnboundedReceiverStream::new(stream)))
    }

    fn answer<R>(&self, pick: impl FnOnce(Answers) -> Result<R, Status>) -> Result<Response<R>, Status> {
        pick(self.0.answers.lock().unwrap().clone()).map(Response::new)
    }
}

#[async_trait::async_trait]
impl Operator for Service {
    type DeployStream = UnboundedReceiverStream<Told>;
    type RollbackStream = UnboundedReceiverStream<Told>;
    type WatchStream = UnboundedReceiverStream<Told>;

    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyReply>, Status> {
        self.note(Call::Apply(request.into_inner()));
        self.answer(|answers| answers.apply)
    }
    async fn deploy(&self, request: Request<DeployRequest>) -> Result<Response<Self::DeployStream>, Status> {
        self.note(Call::Deploy(request.into_inner()));
        self.next_stream()
    }
    async fn rollback(&self, request: Request<RollbackRequest>) -> Result<Response<Self::RollbackStream>, Status> {
        self.note(Call::Rollback(request.into_inner()));
        self.next_stream()
    }
    async fn abort(&self, request: Request<AbortRequest>) -> Result<Response<AbortReply>, Status> {
        self.note(Call::Abort(request.into_inner()));
        self.answer(|answers| answers.abort)
    }
    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.note(Call::Watch(request.into_inner()));
        self.next_stream()
    }
    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        self.note(Call::Status(request.into_inner()));
        self.answer(|answers| answers.status)
    }
    async fn history(&self, request: Request<HistoryRequest>) -> Result<Response<HistoryReply>, Status> {
        self.note(Call::History(request.into_inner()));
        self.answer(|answers| answers.history)
    }
    async fn controllers(&self, _: Request<ControllersRequest>) -> Result<Response<ControllersReply>, Status> {
        self.note(Call::Controllers);
        self.answer(|answers| answers.controllers)
    }

    async fn forget_controller(
        &self,
        request: Request<ForgetControllerRequest>,
    ) -> Result<Response<ForgetControllerReply>, Status> {
        self.note(Call::ForgetController(request.into_inner()));
        self.answer(|answers| answers.forget_controller)
    }

    async fn hosts(&self, _: Request<HostsRequest>) -> Result<Response<HostsReply>, Status> {
        self.note(Call::Hosts);
        self.answer(|answers| answers.hosts)
    }
    async fn replace_host(&self, request: Request<ReplaceHostRequest>) -> Result<Response<ReplaceHostReply>, Status> {
        self.note(Call::ReplaceHost(request.into_inner()));
        self.answer(|answers| answers.replace_host)
    }
    async fn remove_host(&self, request: Request<RemoveHostRequest>) -> Result<Response<RemoveHostReply>, Status> {
        self.note(Call::RemoveHost(request.into_inner()));
        self.answer(|answers| answers.remove_host)
    }
    async fn confirm_store(&self, _: Request<ConfirmStoreRequest>) -> Result<Response<ConfirmStoreReply>, Status> {
        self.note(Call::ConfirmStore);
        self.answer(|answers| answers.confirm_store)
    }
}
