//! Recorded texts. After a wanted change: `INSTA_UPDATE=always cargo nextest run -p bgctl-agent render`,
//! and read the difference.

use super::super::{ServiceShape, private};
use super::*;
use crate::release::Route;
use std::net::SocketAddrV4;

fn settings() -> Settings {
    Settings {
        switch_dir: "/var/lib/bgctl/switch".into(),
        socket: "/run/bgctl-nginx.sock".into(),
        listen: ListenMap::new(),
        ready: None,
        ipv6: false,
        keepalive_min_timeout: false,
    }
}

fn service(routes: Vec<Route>, net: u8) -> ServiceShape {
    let at = |host: u8| SocketAddrV4::new([172, 30, net, host].into(), 8080);
    ServiceShape { routes, berths: [at(2), at(3), at(4)] }
}

fn route(port: u16, names: &[&str]) -> Route {
    Route { address: None, port, server_names: names.iter().map(|name| name.to_string()).collect() }
}

fn shape(services: Vec<(&str, ServiceShape)>) -> Shape {
    Shape { services: services.into_iter().map(|(name, shape)| (name.parse().unwrap(), shape)).collect() }
}

fn text(shape: &Shape, settings: &Settings) -> String {
    seal(&body(shape, settings).unwrap()).text
}

#[test]
fn one_service_for_every_name() {
    insta::assert_snapshot!(text(&shape(vec![("web", service(vec![route(80, &[])], 0))]), &settings()));
}

#[test]
fn two_services_by_name_on_a_host_that_moves_ports_and_a_new_nginx() {
    let settings = Settings {
        listen: ListenMap::from([(80, "127.0.0.1:8081".parse().unwrap())]),
        ipv6: true,
        keepalive_min_timeout: true,
        ..settings()
    };
    let web = service(vec![route(80, &["example.com", "*.example.com"]), route(8443, &[])], 0);
    let api = service(vec![route(80, &["api.example.com"])], 1);
    insta::assert_snapshot!(text(&shape(vec![("web", web), ("api-v2", api)]), &settings));
}

/// What the lines of a lookup come to, and how many flags were looked for. `there`: which flag there is at the
/// time of the first, second, ... look.
fn looked_up(block: &str, there: impl Fn(usize) -> &'static str) -> (String, usize) {
    let (mut answer, mut looks) = (String::new(), 0);
    for line in block.lines().map(str::trim) {
        if line.starts_with('#') || line.starts_with("if (-f \"/var/lib/bgctl/spare/") {
            continue;
        }
        let statements = match line.strip_prefix("if (-f \"/var/lib/bgctl/switch/current/web.") {
            Some(test) => {
                let (flag, statements) = test.split_once("\") { ").unwrap();
                looks += 1;
                if there(looks) == flag { statements.trim_end_matches(" }") } else { "" }
            }
            None => line,
        };
        for statement in statements.split_terminator("; ") {
            match statement.trim_end_matches(';').split(' ').collect::<Vec<_>>()[..] {
                ["set", "$bgctl_web", upstream] => answer = upstream.to_owned(),
                ["return", .., last] => return (last.to_owned(), looks),
                ["break"] => return (answer, looks),
                _ => panic!("{statement:?} is not known to this test"),
            }
        }
    }
    (answer, looks)
}

#[test]
fn a_lookup_that_a_switch_falls_into_finds_the_old_flag_or_the_new_one() {
    const FLAGS: [&str; 4] = ["a", "b", "c", "none"];
    let text = text(&shape(vec![("web", service(vec![route(80, &[])], 0))]), &settings());
    let block = |from: &str, to: &str| {
        let start = text.find(from).unwrap() + from.len();
        &text[start..start + text[start..].find(to).unwrap()]
    };
    let users = block("disable_symlinks off;\n", "    location");
    let probes = block("location = /route/web {\n", "    }\n");
    for (block, none) in [(users, "503"), (probes, "none")] {
        let expected = |flag| if flag == "none" { none.to_owned() } else { format!("bgctl_web_{flag}") };
        assert_eq!(looked_up(block, |_| "no flag").0, "bgctl_web_lost");
        for (old, place) in FLAGS.into_iter().zip(1..) {
            assert_eq!(looked_up(block, |_| old), (expected(old), place), "the first that is found ends it");
            for (new, renamed_before) in FLAGS.into_iter().flat_map(|new| (1..=8).map(move |look| (new, look))) {
                let (found, _) = looked_up(block, |look| if look < renamed_before { old } else { new });
                let either = [expected(old), expected(new)];
                assert!(either.contains(&found), "{old} to {new} before look {renamed_before}: {found}");
            }
        }
    }
}

#[test]
fn no_service_at_all() {
    insta::assert_snapshot!(text(&Shape::default(), &settings()));
}

#[test]
fn the_private_instance_around_it() {
    insta::assert_snapshot!(private::main_config("/var/lib/bgctl/nginx", "1", true));
}

#[test]
fn the_digest_covers_everything_else() {
    let sealed = seal(&body(&shape(vec![("web", service(vec![route(80, &[])], 0))]), &settings()).unwrap());
    assert_eq!(digest(&sealed.text).as_ref(), Some(&sealed.digest));
    assert!(!sealed.text.contains(DIGEST_PLACE));
    for edited in [
        sealed.text.replace("172.30.0.2", "172.30.0.9"),
        sealed.text.clone() + "\n",
        sealed.text.replace(&sealed.digest, &"0".repeat(64)),
        sealed.text.replace("/shape", "/other"),
    ] {
        assert_eq!(digest(&edited), None, "{edited}");
    }
    let other = seal(&body(&Shape::default(), &settings()).unwrap());
    assert_ne!(other.digest, sealed.digest);
}

#[test]
fn the_services_of_a_text_are_those_it_was_rendered_from() {
    let shape = shape(vec![("web", service(vec![], 0)), ("api-v2", service(vec![], 1))]);
    let found: Vec<_> = services(&text(&shape, &settings())).collect();
    assert_eq!(found, shape.services.keys().cloned().collect::<Vec<_>>());
}

#[test]
fn no_path_can_break_out_of_its_quotes() {
    for bad in ["relative", "/a\"b", "/a$b", "/a;b", "/a\\b", "/a{b", "/a\nb", "/a<digest>b"] {
        let settings = Settings { switch_dir: bad.into(), ..settings() };
        let error = body(&Shape::default(), &settings).unwrap_err().to_string();
        assert!(error.contains("cannot stand in nginx's config"), "{bad}: {error}");
    }
    assert_eq!(quotable(Path::new("/home/me/my fleet/.x-1_2")), Ok("/home/me/my fleet/.x-1_2"));
}

#[test]
fn a_socket_path_that_the_kernel_would_cut_is_refused() {
    let settings = Settings { socket: format!("/{}", "s".repeat(107)).into(), ..settings() };
    let error = body(&Shape::default(), &settings).unwrap_err().to_string();
    assert!(error.contains("longer than 107 bytes"), "{error}");
}
