//! What a controller says to a host.

use crate::Verdict;
use crate::bytes::{Bytes, put_chunk};
use crate::fixture;
use bgctl_agent::release::Release;
use bgctl_agent::session::{Told, read};
use bgctl_controller::spec;
use bgctl_proto::session as wire;
use bgctl_proto::session::controller_message::Kind;
use prost::Message;
use std::collections::BTreeSet;

/// A frame is a message or none; a message is read, and then every release in it is the content its digest
/// names and belongs to the service it came for, or it is refused.
pub fn controller_message(data: &[u8]) -> Verdict {
    let mut bytes = Bytes::new(data);
    let message = match bytes.below(3) {
        0 => wire::ControllerMessage::decode(bytes.rest()),
        _ => Ok(made(&mut bytes)),
    };
    let Ok(message) = message else { return Verdict::Refused };
    let again = wire::ControllerMessage::decode(message.encode_to_vec().as_slice());
    assert_eq!(again.as_ref(), Ok(&message));
    match (read(message.clone()), message.kind) {
        (Err(_), _) => return Verdict::Refused,
        (Ok(None), kind) => assert_eq!(kind, None),
        (Ok(Some(Told::Prepare { message, releases, is_rollback, at: _ })), Some(Kind::Prepare(said))) => {
            assert_eq!(message.epoch.0, said.epoch);
            assert_eq!(message.deployment.as_str(), said.deployment);
            assert_eq!((message.generation.0, message.revision.0), (said.generation, said.revision));
            assert_eq!(is_rollback, said.rollback);
            check_releases(&releases, &said.services.iter().collect::<Vec<_>>());
            assert_eq!(message.services.len(), said.services.len(), "a service is there twice");
            for release in &releases {
                assert_eq!(message.services.get(&release.service), Some(&release.digest));
            }
        }
        (Ok(Some(Told::State { message, releases, at: _ })), Some(Kind::State(said))) => {
            assert_eq!((message.epoch.0, message.revision.0), (said.epoch, said.revision));
            assert_eq!(message.services.len(), said.services.len(), "a service is there twice");
            let committed = said.services.iter().filter(|service| service.generation > 0);
            let committed: Vec<_> = committed.filter_map(|service| service.committed.as_ref()).collect();
            check_releases(&releases, &committed);
            for service in &said.services {
                let read = message.services.iter().find(|(name, _)| name.as_str() == service.service);
                let (name, read) = read.unwrap_or_else(|| panic!("{} is lost", service.service));
                assert_eq!(read.pending.as_ref().map_or("", |pending| pending.as_str()), service.pending);
                let Some(committed) = read.committed else { continue };
                assert_eq!(committed.generation.0, service.generation);
                let release = releases.iter().find(|release| release.digest == committed.release);
                assert_eq!(release.map(|release| &release.service), Some(name), "it is another service's release");
            }
        }
        (Ok(Some(Told::FindImages(read))), Some(Kind::FindImages(said))) => assert_eq!(read, said),
        (Ok(Some(_)), said) => panic!("it was read as something else than {said:?}"),
    }
    Verdict::Accepted
}

fn check_releases(releases: &[Release], said: &[&wire::ServiceRelease]) {
    assert_eq!(releases.len(), said.len());
    for (release, said) in releases.iter().zip(said) {
        let wire = said.release.as_ref().expect("it was read");
        assert_eq!(release.encoded[..], wire.encode_to_vec()[..]);
        assert_eq!(spec::digest(wire), release.digest);
        assert_eq!(release.service.as_str(), said.service, "it is another service's release");
        let kept = Release::decode(&release.encoded).expect("the journal gives back what it was given");
        assert!(kept == *release);
        let names: BTreeSet<_> = release.containers.iter().map(|container| &container.name).collect();
        assert_eq!(names.len(), release.containers.len(), "two containers have one name");
    }
}

fn made(bytes: &mut Bytes<'_>) -> wire::ControllerMessage {
    let kind = match bytes.below(3) {
        0 => Kind::State(wire::State {
            epoch: bytes.number(),
            revision: bytes.number(),
            services: (0..bytes.below(4))
                .map(|_| wire::ServiceState {
                    service: bytes.text("web"),
                    generation: bytes.number(),
                    committed: bytes.flag().then(|| service_release(bytes)),
                    pending: if bytes.flag() { bytes.text("web-1") } else { String::new() },
                })
                .collect(),
        }),
        1 => Kind::Prepare(wire::Prepare {
            epoch: bytes.number(),
            deployment: bytes.text("web-1"),
            generation: bytes.number(),
            revision: bytes.number(),
            services: (0..bytes.below(4)).map(|_| service_release(bytes)).collect(),
            rollback: bytes.flag(),
        }),
        _ => Kind::FindImages(wire::FindImages {
            request: bytes.number(),
            references: (0..bytes.below(4)).map(|_| bytes.text("web:1")).collect(),
            ask_registry: bytes.flag(),
        }),
    };
    wire::ControllerMessage { kind: Some(kind) }
}

/// Mostly with the digest that is its own.
fn service_release(bytes: &mut Bytes<'_>) -> wire::ServiceRelease {
    let mut release = fixture::release("1");
    for _ in 0..bytes.below(3) {
        change(&mut release, bytes);
    }
    let own = spec::digest(&release).0.to_vec();
    wire::ServiceRelease {
        service: bytes.text("web"),
        digest: if bytes.below(8) == 7 { bytes.chunk().to_vec() } else { own },
        release: (bytes.below(16) != 15).then_some(release),
    }
}

fn change(release: &mut wire::Release, bytes: &mut Bytes<'_>) {
    let number32 = |bytes: &mut Bytes<'_>| u32::try_from(bytes.number()).unwrap_or(u32::MAX);
    match bytes.below(10) {
        0 => release.service = bytes.text("api"),
        1 => release.containers.clear(),
        2 => release.containers.extend(release.containers.clone()),
        3 => release.drain_millis = bytes.number(),
        4 => release.keep_standby_millis = bytes.number(),
        5 => release.routes.push(wire::Route {
            address: bytes.text(""),
            port: number32(bytes),
            server_names: (0..bytes.below(3)).map(|_| bytes.text("example.com")).collect(),
        }),
        kind => {
            let Some(container) = release.containers.first_mut() else { return };
            match kind {
                6 => container.pin = bytes.flag().then(|| wire::container::Pin::RepoDigest(bytes.text(""))),
                7 => container.port = number32(bytes),
                8 => container.name = bytes.text(""),
                _ => {
                    container.healthcheck = bytes.flag().then(|| wire::Healthcheck {
                        kind: bytes.flag().then(|| wire::healthcheck::Kind::HttpPath(bytes.text("/"))),
                        port: number32(bytes),
                        interval_millis: bytes.number(),
                        timeout_millis: bytes.number(),
                        successes: number32(bytes),
                        retries: number32(bytes),
                        start_period_millis: bytes.number(),
                        settle_millis: bytes.number(),
                    });
                }
            }
        }
    }
}

/// Messages a controller sends, each changed in some place, and frames that are none.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = (0..3_u8)
        .flat_map(|kind| [0_u8, 1, 2, 3, 9, 15, 64, 200].map(|fill| [&[1, kind], &[fill; 64][..]].concat()))
        .collect();
    for change in 0..10_u8 {
        for choice in 0..4_u8 {
            // A Prepare, and a State, of one service with one change.
            seeds.push(vec![1, 1, 5, 7, 0, 0, 5, 1, 0, 5, 2, 0, 1, 1, change, choice, choice, choice, choice]);
            seeds.push(vec![1, 0, 7, 5, 7, 6, 1, 0, 1, 1, 1, change, choice, choice, choice, choice]);
        }
    }
    let release = fixture::release("1");
    let own = spec::digest(&release).0.to_vec();
    let of = |service: &str| wire::ServiceRelease {
        service: service.to_owned(),
        digest: own.clone(),
        release: Some(release.clone()),
    };
    let state = |services: Vec<(&str, u64, wire::ServiceRelease)>| {
        let services = services.into_iter().map(|(service, generation, committed)| wire::ServiceState {
            service: service.to_owned(),
            generation,
            committed: Some(committed),
            pending: String::new(),
        });
        Kind::State(wire::State { epoch: 1, revision: 2, services: services.collect() })
    };
    let prepare = |services| {
        let deployment = "web-1".to_owned();
        Kind::Prepare(wire::Prepare { epoch: 1, deployment, generation: 3, revision: 2, services, rollback: false })
    };
    let messages = [
        prepare(vec![of("web")]),
        prepare(vec![of("api")]),
        prepare(vec![of("web"), of("web")]),
        prepare(Vec::new()),
        state(vec![("web", 3, of("web"))]),
        state(vec![("api", 3, of("web"))]),
        state(vec![("web", 3, of("api"))]),
        state(vec![("web", 3, of("web")), ("web", 4, of("web"))]),
        state(vec![("web", 0, of("web"))]),
        state(Vec::new()),
    ];
    for kind in messages {
        let frame = wire::ControllerMessage { kind: Some(kind) }.encode_to_vec();
        seeds.push([&[0], &frame[..]].concat());
        seeds.push([&[0], &frame[..frame.len() / 2]].concat());
    }
    let mut unknown = vec![0];
    put_chunk(&mut unknown, &[0x7a, 0x00]);
    seeds.extend([unknown, vec![0], vec![0, 0x0a, 0xff], vec![0, 0x0a, 0x00, 0x12, 0x00]]);
    seeds
}
