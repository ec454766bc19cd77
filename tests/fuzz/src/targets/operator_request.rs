//! What operators, and whoever has an operator's certificate, ask of a controller.

use crate::Verdict;
use crate::bytes::Bytes;
use crate::fixture::{self, COMMITTED, HOSTS, Lead, OPEN, SPEC};
use bgctl_controller::api::Operators;
use bgctl_proto::link::{Caller, Peer};
use bgctl_proto::operator as wire;
use bgctl_proto::operator::operator_server::Operator;
use cutover::ids::HostId;
use prost::Message;
use tonic::{Request, Status};

/// Requests in one case.
const REQUESTS_MAX: usize = 6;

/// Any frame is a request or none; any request is answered, with what it asked for or with a reason a
/// terminal can show. Never is a task of the controller left dead.
pub fn operator_request(data: &[u8]) -> Verdict {
    let mut bytes = Bytes::new(data);
    fixture::run(async {
        let lead = Lead::on(&fixture::shelf()).await;
        let leader = lead.leader.clone().expect("the fixture can be read");
        let are_linked = bytes.flag();
        let _streams: Vec<_> = HOSTS
            .iter()
            .filter(|_| are_linked)
            .map(|(host, life)| fixture::link(&leader, &host.parse::<HostId>().expect("a host"), *life))
            .collect();
        let operators = Operators::new(lead.seat.clone());
        let mut verdict = Verdict::Refused;
        for _ in 0..REQUESTS_MAX {
            if bytes.is_empty() {
                break;
            }
            match ask(&operators, &mut bytes).await {
                None => {}
                Some(Ok(())) => verdict = Verdict::Accepted,
                Some(Err(status)) => {
                    let message = status.message();
                    assert!(!message.is_empty(), "it was refused without a reason");
                    assert!(!message.contains(|c: char| c.is_control() && c != '\n'), "{message:?}");
                    let is_ours = !matches!(status.code(), tonic::Code::Internal | tonic::Code::Unknown);
                    assert!(is_ours, "a request is the asker's fault, not ours: {status:?}");
                }
            }
            fixture::let_all_run().await;
        }
        drop((leader, operators));
        lead.end().await;
        verdict
    })
}

/// None: it was no request.
async fn ask(operators: &Operators, bytes: &mut Bytes<'_>) -> Option<Result<(), Status>> {
    let kind = bytes.below(10);
    let is_raw = bytes.below(4) == 0;
    macro_rules! asked {
        ($type:ident, $call:ident, $made:expr) => {{
            let message = if is_raw { wire::$type::decode(bytes.chunk()).ok()? } else { $made };
            assert_eq!(wire::$type::decode(message.encode_to_vec().as_slice()).as_ref(), Ok(&message));
            operators.$call(from_operator(message)).await.map(drop)
        }};
    }
    Some(match kind {
        0 => asked!(ApplyRequest, apply, apply(bytes)),
        1 => asked!(
            DeployRequest,
            deploy,
            wire::DeployRequest {
                service: service(bytes),
                version: bytes.text("2"),
                request_id: bytes.text("a-request"),
                force: bytes.flag(),
                exclude: excluded(bytes),
            }
        ),
        2 => asked!(
            RollbackRequest,
            rollback,
            wire::RollbackRequest {
                service: service(bytes),
                request_id: bytes.text("another"),
                exclude: excluded(bytes),
            }
        ),
        3 => asked!(AbortRequest, abort, wire::AbortRequest { service: service(bytes) }),
        4 => asked!(
            WatchRequest,
            watch,
            wire::WatchRequest {
                deployment: match bytes.below(3) {
                    0 => OPEN.to_owned(),
                    1 => COMMITTED.to_owned(),
                    _ => bytes.text(""),
                },
                until_settled: bytes.flag(),
            }
        ),
        5 => asked!(StatusRequest, status, wire::StatusRequest { service: service(bytes) }),
        6 => asked!(
            HistoryRequest,
            history,
            wire::HistoryRequest { service: service(bytes), limit: u32::try_from(bytes.number()).unwrap_or(u32::MAX) }
        ),
        7 => asked!(HostsRequest, hosts, wire::HostsRequest {}),
        8 => asked!(ControllersRequest, controllers, wire::ControllersRequest {}),
        _ => asked!(
            ForgetControllerRequest,
            forget_controller,
            wire::ForgetControllerRequest { name: bytes.text("main") }
        ),
    })
}

fn from_operator<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let peer = Peer::Operator { name: "alice".to_owned() };
    request.extensions_mut().insert(Caller { peer, from: "somewhere".to_owned() });
    request
}

/// Hosts that are there, and some that are not.
fn excluded(bytes: &mut Bytes<'_>) -> Vec<String> {
    (0..bytes.below(3)).map(|_| bytes.text(HOSTS[0].0)).collect()
}

fn service(bytes: &mut Bytes<'_>) -> String {
    match bytes.below(5) {
        0 | 1 => "web".to_owned(),
        2 => "api".to_owned(),
        3 => String::new(),
        _ => bytes.text("x"),
    }
}

/// A spec with a line put into it.
fn apply(bytes: &mut Bytes<'_>) -> wire::ApplyRequest {
    let at = bytes.below(20);
    let line = bytes.text("# a comment");
    let mut lines: Vec<_> = SPEC.lines().collect();
    lines.insert(at.min(lines.len()), &line);
    wire::ApplyRequest { text: lines.join("\n"), file_name: bytes.text("") }
}

/// Each request, with hosts and without, plain and with evil names.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![Vec::new()];
    for linked in 0..2_u8 {
        for kind in 0..10_u8 {
            for choice in 0..5_u8 {
                seeds.push([&[linked, kind, 1], &[choice; 12][..]].concat());
                seeds.push([&[linked, kind, 1, choice, 4, 27, b'[', b'A', b'\n'], &[2, b'$', 0, 1][..]].concat());
                seeds.push([&[linked, kind, 0, 2, 0x0a, 0xff], &[choice; 4][..]].concat());
            }
        }
        // Abort what is open, roll back twice, look at it.
        seeds.push(vec![linked, 3, 1, 0, 2, 1, 0, 0, 2, 1, 0, 1, b'b', 5, 1, 3, 6, 1, 0, 2, 7, 1]);
        // Deploy to a version that is committed, by force and not.
        seeds.push(vec![linked, 3, 1, 0, 1, 1, 0, 1, b'1', 0, 0, 1, 1, 0, 1, b'1', 1, b'f', 1]);
    }
    seeds
}
