//! etcd's lease service.

use super::{FakeEtcd, header};
use etcd_client::proto::{
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse, PbLeaseLeasesRequest,
    PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse, PbLeaseService, PbLeaseTimeToLiveRequest,
    PbLeaseTimeToLiveResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

fn signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

#[tonic::async_trait]
impl PbLeaseService for FakeEtcd {
    type LeaseKeepAliveStream = ReceiverStream<Result<PbLeaseKeepAliveResponse, Status>>;

    async fn lease_grant(
        &self,
        request: Request<PbLeaseGrantRequest>,
    ) -> Result<Response<PbLeaseGrantResponse>, Status> {
        let PbLeaseGrantRequest { ttl, id } = request.into_inner();
        let granted = self.ask(move |state| {
            let id = state.grant(id, ttl)?;
            Ok(PbLeaseGrantResponse { header: Some(header(state)), id, ttl, error: String::new() })
        });
        granted.await.map(Response::new)
    }

    async fn lease_revoke(
        &self,
        request: Request<PbLeaseRevokeRequest>,
    ) -> Result<Response<PbLeaseRevokeResponse>, Status> {
        let id = request.into_inner().id;
        let revoked = self.ask(move |state| {
            state.revoke(id)?;
            Ok(PbLeaseRevokeResponse { header: Some(header(state)) })
        });
        revoked.await.map(Response::new)
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<PbLeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let mut asked = request.into_inner();
        let (answers, stream) = mpsc::channel(4);
        let etcd = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(PbLeaseKeepAliveRequest { id })) = asked.message().await {
                let renewed = etcd.ask(move |state| {
                    let ttl = state.renew(id).map_or(0, signed);
                    Ok(PbLeaseKeepAliveResponse { header: Some(header(state)), id, ttl })
                });
                if answers.send(renewed.await).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<PbLeaseTimeToLiveRequest>,
    ) -> Result<Response<PbLeaseTimeToLiveResponse>, Status> {
        let id = request.into_inner().id;
        let asked = self.ask(move |state| {
            let (granted_ttl, ttl) = state.left(id).map_or((0, -1), |(granted, left)| (signed(granted), signed(left)));
            Ok(PbLeaseTimeToLiveResponse { header: Some(header(state)), id, ttl, granted_ttl, keys: Vec::new() })
        });
        asked.await.map(Response::new)
    }

    async fn lease_leases(&self, _: Request<PbLeaseLeasesRequest>) -> Result<Response<PbLeaseLeasesResponse>, Status> {
        Err(Status::unimplemented("the store never lists leases"))
    }
}
