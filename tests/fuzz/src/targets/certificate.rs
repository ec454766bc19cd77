//! Certificates: who they name.

use crate::Verdict;
use crate::bytes::{Bytes, put_chunk};
use bgctl_proto::link::Peer;
use rustls_pki_types::CertificateDer;

/// A first byte of a made certificate. Those of real ones begin with 0x30.
const MADE: u8 = 0;

/// Any bytes name somebody or nobody. A certificate with these alternative names names the one identity that
/// is among them, with its labels; two identities, or a label twice, name nobody.
pub fn certificate(data: &[u8]) -> Verdict {
    let mut bytes = Bytes::new(data);
    if bytes.byte() != MADE {
        return match Peer::from_certificate(&CertificateDer::from(data)) {
            Ok(peer) => {
                check(&peer);
                Verdict::Accepted
            }
            Err(_) => Verdict::Refused,
        };
    }
    let mut names = Vec::new();
    while !bytes.is_empty() && names.len() < 40 {
        names.push(bytes.chunk());
    }
    let made = made(&names);
    let Ok(peer) = Peer::from_certificate(&CertificateDer::from(made)) else { return Verdict::Refused };
    check(&peer);
    let ours: Vec<_> = names
        .iter()
        .filter_map(|name| std::str::from_utf8(name).ok()?.strip_prefix("bgctl://")?.split_once('/'))
        .collect();
    let of_kind =
        |kind: &str| ours.iter().filter(|(found, _)| *found == kind).map(|(_, value)| *value).collect::<Vec<_>>();
    let (hosts, operators, controllers) = (of_kind("host"), of_kind("operator"), of_kind("controller"));
    assert_eq!(hosts.len() + operators.len() + controllers.len(), 1, "{peer:?} of {ours:?}");
    match &peer {
        Peer::Host { host, labels } => {
            assert_eq!(hosts, [host.as_str()]);
            let said = of_kind("label");
            assert_eq!(said.len(), labels.len(), "a label is there twice: {said:?}");
            for label in said {
                let (key, value) = label.split_once('=').unwrap_or_else(|| panic!("{label:?} was read as a label"));
                assert_eq!(labels.get(key).map(String::as_str), Some(value));
            }
        }
        Peer::Operator { name } => assert_eq!(operators, [name.as_str()]),
        Peer::Controller => assert_eq!(controllers.len(), 1),
    }
    Verdict::Accepted
}

/// Names go into logs, history and terminals.
fn check(peer: &Peer) {
    let harmless = |text: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "_.@-".contains(c);
        assert!(!text.is_empty() && text.len() <= 63 && text.chars().all(fits), "{text:?}");
    };
    match peer {
        Peer::Host { host, labels } => {
            harmless(host.as_str());
            labels.iter().for_each(|(key, value)| [key, value].into_iter().for_each(|text| harmless(text)));
        }
        Peer::Operator { name } => harmless(name),
        Peer::Controller => {}
    }
}

/// A certificate with these URIs as alternative names. Nobody has signed it: who reads names comes after who
/// checks signatures.
fn made(uris: &[&[u8]]) -> Vec<u8> {
    const ED25519: &[u8] = &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70];
    const ALTERNATIVE_NAMES: &[u8] = &[6, 3, 0x55, 0x1d, 0x11];
    let names: Vec<u8> = uris.iter().flat_map(|uri| der(0x86, uri)).collect();
    let extension = der(0x30, &[ALTERNATIVE_NAMES, &der(4, &der(0x30, &names))].concat());
    let times = [der(0x17, b"200101000000Z"), der(0x17, b"490101000000Z")].concat();
    let key = der(0x30, &[ED25519, &der(3, &[0; 33])].concat());
    let body = [
        &der(0xa0, &der(2, &[2]))[..],
        &der(2, &[1]),
        ED25519,
        &der(0x30, &[]),
        &der(0x30, &times),
        &der(0x30, &[]),
        &key,
        &der(0xa3, &der(0x30, &extension)),
    ];
    der(0x30, &[&der(0x30, &body.concat())[..], ED25519, &der(3, &[0; 65])].concat())
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        Ok(_) | Err(_) => {
            let bytes = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
            out.push(0x84);
            out.extend(bytes);
        }
    }
    out.extend(content);
    out
}

/// Identities alone and together, with labels good and evil, and a real certificate in pieces.
pub fn seeds() -> Vec<Vec<u8>> {
    let sets: [&[&str]; 34] = [
        &["bgctl://host/host-1"],
        &["bgctl://host/host-1", "bgctl://label/role=web", "bgctl://label/zone=a"],
        &["bgctl://label/role=web", "bgctl://host/host-1"],
        &["bgctl://operator/alice"],
        &["bgctl://operator/alice@example.com", "https://example.com/"],
        &["bgctl://controller/main"],
        &["https://example.com/", "bgctl://controller/main"],
        &[],
        &["bgctl://host/"],
        &["bgctl://host/Host"],
        &["bgctl://host/a/b"],
        &["bgctl://host/a", "bgctl://host/b"],
        &["bgctl://host/a", "bgctl://host/a"],
        &["bgctl://host/a", "bgctl://operator/root"],
        &["bgctl://operator/root", "bgctl://host/a"],
        &["bgctl://host/a", "bgctl://controller/main"],
        &["bgctl://operator/a", "bgctl://operator/b"],
        &["bgctl://operator/"],
        &["bgctl://operator/\u{1b}[31m"],
        &["bgctl://operator/a\nb"],
        &["bgctl://operator/a b"],
        &["bgctl://operator/watch"],
        &["bgctl://operator/../../etc"],
        &["bgctl://label/role=web"],
        &["bgctl://host/a", "bgctl://label/role"],
        &["bgctl://host/a", "bgctl://label/=web"],
        &["bgctl://host/a", "bgctl://label/role="],
        &["bgctl://host/a", "bgctl://label/role=web", "bgctl://label/role=db"],
        &["bgctl://host/a", "bgctl://label/role=web", "bgctl://label/role=web"],
        &["bgctl://host/a", "bgctl://label/role=a=b"],
        &["bgctl://host/a", "bgctl://label/ro le=\u{0}"],
        &["bgctl://admin/a"],
        &["BGCTL://host/a"],
        &["bgctl://host"],
    ];
    let mut seeds: Vec<_> = sets
        .iter()
        .map(|names| {
            let mut input = vec![MADE];
            names.iter().for_each(|name| put_chunk(&mut input, name.as_bytes()));
            input
        })
        .collect();
    let long = format!("bgctl://operator/{}", "a".repeat(70));
    let mut input = vec![MADE];
    put_chunk(&mut input, long.as_bytes());
    seeds.push(input);
    let real = made(&[b"bgctl://host/host-1", b"bgctl://label/role=web"]);
    seeds.extend((0..real.len()).step_by(7).map(|cut| real[..cut].to_vec()));
    seeds.extend((0..real.len()).step_by(5).map(|at| {
        let mut flipped = real.clone();
        flipped[at] ^= 0x81;
        flipped
    }));
    seeds.push(real);
    seeds
}
