//! etcd's watch service.

use super::state::Logged;
use super::{FakeEtcd, header};
use etcd_client::proto::{PbEvent, PbWatchRequest, PbWatchRequestUnion, PbWatchResponse, PbWatchService};
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// One watch of a stream.
struct Watcher {
    key: Vec<u8>,
    range_end: Vec<u8>,
    next: i64,
}

type Answers = mpsc::Sender<Result<PbWatchResponse, Status>>;

#[tonic::async_trait]
impl PbWatchService for FakeEtcd {
    type WatchStream = ReceiverStream<Result<PbWatchResponse, Status>>;

    async fn watch(&self, request: Request<Streaming<PbWatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let (answers, stream) = mpsc::channel(64);
        let etcd = self.clone();
        let asked = request.into_inner();
        tokio::spawn(async move {
            if let Err(status) = etcd.tell(asked, &answers).await {
                drop(answers.send(Err(status)).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl FakeEtcd {
    async fn tell(&self, mut asked: Streaming<PbWatchRequest>, answers: &Answers) -> Result<(), Status> {
        let mut changed = self.shared.changed.subscribe();
        let cut = self.trouble().cut;
        let mut watchers = BTreeMap::new();
        let mut last = 0;
        loop {
            tokio::select! {
                biased;
                request = asked.message() => match request?.and_then(|request| request.request_union) {
                    Some(PbWatchRequestUnion::CreateRequest(create)) => {
                        last += 1;
                        let next = if create.start_revision > 0 {
                            create.start_revision
                        } else {
                            self.state().revision() + 1
                        };
                        watchers.insert(last, Watcher { key: create.key, range_end: create.range_end, next });
                        let created = PbWatchResponse { watch_id: last, created: true, ..self.blank() };
                        if answers.send(Ok(created)).await.is_err() {
                            return Ok(());
                        }
                    }
                    Some(PbWatchRequestUnion::CancelRequest(cancel)) => drop(watchers.remove(&cancel.watch_id)),
                    Some(PbWatchRequestUnion::ProgressRequest(_)) => {}
                    None => return Ok(()),
                },
                signal = changed.changed() => if signal.is_err() {
                    return Ok(());
                },
                () = answers.closed() => return Ok(()),
            }
            let (is_cut, is_stalled) = {
                let trouble = self.trouble();
                (trouble.cut != cut, trouble.stalled)
            };
            if is_cut {
                return Err(Status::unavailable("etcdserver: no leader"));
            }
            if is_stalled {
                continue;
            }
            for answer in self.news(&mut watchers) {
                if answers.send(Ok(answer)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }

    fn blank(&self) -> PbWatchResponse {
        PbWatchResponse { header: Some(header(&self.state())), ..PbWatchResponse::default() }
    }

    /// What each watch has not heard yet. One whose past is forgotten is cancelled.
    fn news(&self, watchers: &mut BTreeMap<i64, Watcher>) -> Vec<PbWatchResponse> {
        let mut answers = Vec::new();
        let mut cancelled = Vec::new();
        for (id, watcher) in watchers.iter_mut() {
            let (changes, compacted, revision) = {
                let state = self.state();
                (state.since(watcher.next, &watcher.key, &watcher.range_end), state.compacted(), state.revision())
            };
            match changes {
                None => {
                    cancelled.push(*id);
                    let answer = PbWatchResponse {
                        watch_id: *id,
                        canceled: true,
                        compact_revision: compacted,
                        cancel_reason: "etcdserver: mvcc: required revision has been compacted".to_owned(),
                        ..self.blank()
                    };
                    answers.push(answer);
                }
                Some(changes) => {
                    watcher.next = watcher.next.max(revision + 1);
                    if !changes.is_empty() {
                        let events = changes.into_iter().map(event).collect();
                        answers.push(PbWatchResponse { watch_id: *id, events, ..self.blank() });
                    }
                }
            }
        }
        cancelled.iter().for_each(|id| drop(watchers.remove(id)));
        answers
    }
}

fn event(logged: Logged) -> PbEvent {
    // 0 is PUT, 1 is DELETE.
    PbEvent { r#type: i32::from(logged.is_deleted), kv: Some(logged.pair), prev_kv: None }
}
