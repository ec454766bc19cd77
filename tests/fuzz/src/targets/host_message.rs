//! What hosts say to a controller.

use crate::Verdict;
use crate::bytes::{Bytes, put_chunk};
use crate::fixture::{self, COMMITTED, HOSTS, IMAGE_ID, Lead, OPEN};
use bgctl_controller::session::heard;
use bgctl_proto::convert::{incarnation, slots, wire_slots};
use bgctl_proto::session as wire;
use bgctl_proto::session::agent_message::Kind;
use cutover::ids::HostId;
use prost::Message;
use std::collections::HashMap;

/// Messages in one case.
const MESSAGES_MAX: usize = 12;

/// Any frame is a message or none; any message is heard or ends its stream; what is read means on the way
/// back what it meant on the way in. Whatever hosts say in whatever order, no deployment falls over.
pub fn host_message(data: &[u8]) -> Verdict {
    let mut bytes = Bytes::new(data);
    fixture::run(async {
        let lead = Lead::on(&fixture::shelf()).await;
        let leader = lead.leader.clone().expect("the fixture can be read");
        let hosts = HOSTS.map(|(host, life)| (host.parse::<HostId>().expect("a host"), life));
        let _streams = hosts.each_ref().map(|(host, life)| fixture::link(&leader, host, *life));
        let mut verdict = Verdict::Refused;
        for _ in 0..MESSAGES_MAX {
            if bytes.is_empty() {
                break;
            }
            let (host, life) = &hosts[bytes.below(hosts.len())];
            let message = match bytes.below(3) {
                0 => wire::AgentMessage::decode(bytes.chunk()),
                _ => Ok(made(&mut bytes)),
            };
            let Ok(message) = message else { continue };
            let again = wire::AgentMessage::decode(message.encode_to_vec().as_slice());
            assert_eq!(again.as_ref(), Ok(&message));
            check_slots(&message);
            if heard(&leader, host, *life, message).is_ok() {
                verdict = Verdict::Accepted;
            }
            fixture::let_all_run().await;
        }
        drop(leader);
        lead.end().await;
        verdict
    })
}

/// What was read of a host's slots is what it wrote.
fn check_slots(message: &wire::AgentMessage) {
    let (life, said) = match &message.kind {
        Some(Kind::Hello(hello)) => (&hello.incarnation, &hello.applied),
        Some(Kind::Applied(applied)) => (&applied.incarnation, &applied.applied),
        Some(Kind::Vote(_) | Kind::Lost(_) | Kind::Images(_) | Kind::Progress(_) | Kind::Health(_)) | None => return,
    };
    if let Ok(read) = slots("applied", said) {
        assert_eq!(wire_slots(&read), *said);
    }
    if let Ok(read) = incarnation(life) {
        assert_eq!(read.to_string(), *life, "a life is written in one way only");
    }
}

#[allow(clippy::needless_update, reason = "a field that is added to a message needs no change here")]
fn made(bytes: &mut Bytes<'_>) -> wire::AgentMessage {
    let kind = match bytes.below(7) {
        0 => Kind::Hello(wire::Hello {
            incarnation: life(bytes),
            applied: applied(bytes),
            prepared: (0..bytes.below(3)).map(|_| (deployment(bytes), bytes.number())).collect(),
            protocol_min: number32(bytes),
            protocol_max: number32(bytes),
            agent_version: bytes.text("1"),
            docker_version: bytes.text("20"),
            nginx_version: bytes.text("1.22"),
            ..wire::Hello::default()
        }),
        1 => Kind::Vote(wire::Vote {
            deployment: deployment(bytes),
            incarnation: life(bytes),
            yes: bytes.flag(),
            reason: bytes.text(""),
            log_tail: (0..bytes.below(3)).map(|_| bytes.text("line")).collect(),
        }),
        2 => Kind::Lost(wire::Lost { deployment: deployment(bytes), incarnation: life(bytes), reason: bytes.text("") }),
        3 => Kind::Applied(wire::Applied {
            incarnation: life(bytes),
            applied: applied(bytes),
            times: bytes.flag().then(|| wire::SwitchTimes {
                state_to_rename_micros: bytes.number(),
                rename_micros: bytes.number(),
                rename_to_proof_micros: bytes.number(),
                rename_to_sent_micros: bytes.number(),
            }),
        }),
        4 => Kind::Images(wire::Images {
            request: bytes.number(),
            images: (0..bytes.below(3))
                .map(|_| wire::Image {
                    reference: bytes.text("registry.example.com/web:1"),
                    image_id: bytes.text(IMAGE_ID),
                    repo_digests: (0..bytes.below(3)).map(|_| bytes.text("web@sha256:")).collect(),
                    registry_digest: bytes.text(""),
                    error: bytes.text(""),
                })
                .collect(),
        }),
        5 => Kind::Progress(wire::Progress {
            deployment: deployment(bytes),
            phase: enumerated(bytes),
            detail: bytes.text(""),
            elapsed_micros: bytes.number(),
        }),
        _ => Kind::Health(wire::Health {
            slots: (0..bytes.below(3))
                .map(|_| wire::SlotHealth {
                    service: bytes.text("web"),
                    colour: enumerated(bytes),
                    generation: generation(bytes),
                    release: digest(bytes),
                    condition: enumerated(bytes),
                    detail: bytes.text(""),
                    active: bytes.flag(),
                })
                .collect(),
            docker_trouble: bytes.text(""),
            nginx_trouble: bytes.text(""),
            journal_trouble: bytes.text(""),
            warnings: vec![bytes.text("")],
            alarms: (0..bytes.below(3)).map(|_| bytes.text("alarm")).collect(),
            ..wire::Health::default()
        }),
    };
    wire::AgentMessage { kind: Some(kind) }
}

/// Mostly one that is known.
fn deployment(bytes: &mut Bytes<'_>) -> String {
    match bytes.below(4) {
        0 | 1 => OPEN.to_owned(),
        2 => COMMITTED.to_owned(),
        _ => bytes.text(""),
    }
}

fn life(bytes: &mut Bytes<'_>) -> String {
    match bytes.below(4) {
        0 | 1 => HOSTS[0].1.to_string(),
        2 => HOSTS[1].1.to_string(),
        _ => bytes.text(""),
    }
}

fn applied(bytes: &mut Bytes<'_>) -> HashMap<String, wire::Slot> {
    let slot = |bytes: &mut Bytes<'_>| wire::Slot {
        generation: generation(bytes),
        release: digest(bytes),
        colour: enumerated(bytes),
    };
    (0..bytes.below(3)).map(|_| (bytes.text("web"), slot(bytes))).collect()
}

fn generation(bytes: &mut Bytes<'_>) -> u64 {
    if bytes.flag() { bytes.number() } else { u64::from(bytes.byte() % 32) }
}

fn digest(bytes: &mut Bytes<'_>) -> Vec<u8> {
    if bytes.flag() { bytes.chunk().to_vec() } else { vec![7; 32] }
}

/// Mostly within the enumeration.
fn enumerated(bytes: &mut Bytes<'_>) -> i32 {
    match bytes.byte() {
        255 => i32::MIN,
        254 => i32::MAX,
        byte => i32::from(byte % 8),
    }
}

fn number32(bytes: &mut Bytes<'_>) -> u32 {
    u32::try_from(bytes.number()).unwrap_or(1)
}

/// Conversations that get somewhere, and each kind of message alone.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![Vec::new()];
    for kind in 0..7_u8 {
        for fill in [0_u8, 1, 2, 3, 7, 85, 128, 254] {
            seeds.push([&[0, 1, kind], &[fill; 48][..]].concat());
            seeds.push([&[1, 2, kind, fill, 0, 1, 2, 3], &[fill; 24][..]].concat());
        }
    }
    let yes = |host: u8| [host, 1, 1, 0, if host == 0 { 0 } else { 2 }, 1, 0, 0];
    let applied = |host: u8| [host, 1, 3, if host == 0 { 0 } else { 2 }, 1, 0, 0, 31, 0, 1, 1, 2, 2, 2, 2];
    let dead = |host: u8| [host, 1, 6, 1, 0, 1, 0, 31, 0, 4, 0, 1, 0, 0, 0, 0];
    seeds.push([&yes(0)[..], &yes(1)].concat());
    seeds.push([&yes(0)[..], &yes(1), &applied(0), &applied(1)].concat());
    seeds.push([&yes(0)[..], &yes(1), &applied(0), &applied(1), &dead(0)].concat());
    for frame in [
        &[][..],
        &[0x0a],
        &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0x12, 0x02, 0x0a, 0x00],
        &[0x12, 0x03, 0x0a, 0x01, 0xff],
        &[0x0a, 0x00, 0x12, 0x00],
        &[0x7a, 0x01, 0x00],
        &[0x3a, 0x04, 0x0a, 0x02, 0x28, 0x09],
    ] {
        let mut input = vec![0, 0];
        put_chunk(&mut input, frame);
        seeds.push(input);
    }
    seeds
}
