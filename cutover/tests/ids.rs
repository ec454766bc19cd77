//! What is a name, a digest, a colour and a life, and what is told about a text that is none.

use cutover::{Colour, DeploymentId, HostId, Incarnation, ReleaseDigest, ServiceName};

#[test]
fn names_are_dns_labels() {
    let longest = "a".repeat(63);
    for good in ["a", "0", "web", "web-1", "1-web", "a--b", "xn--bcher-kva", longest.as_str()] {
        let name: ServiceName = good.parse().unwrap_or_else(|error| panic!("{good:?}: {error}"));
        assert_eq!((name.as_str(), name.to_string().as_str()), (good, good));
    }
    let too_long = "a".repeat(64);
    let bad = [
        "",
        "-",
        "-web",
        "web-",
        "Web",
        "WEB",
        "we b",
        " web",
        "web\n",
        "web_1",
        "web.1",
        "web/1",
        "../web",
        "wéb",
        "web\0",
        "web;",
        "$web",
        "{web}",
        too_long.as_str(),
    ];
    for text in bad {
        let error = text.parse::<ServiceName>().expect_err(text).to_string();
        assert!(error.starts_with("service ") && error.contains("expected 1 to 63 of a-z, 0-9 and '-'"), "{error}");
    }
}

#[test]
fn an_error_names_the_kind_of_name_and_stays_short() {
    assert!("H1".parse::<HostId>().expect_err("upper case").to_string().starts_with("host \"H1\" is not a name"));
    let error = "D".repeat(1_000_000).parse::<DeploymentId>().expect_err("long").to_string();
    assert!(error.starts_with("deployment \"DDD") && error.len() < 400, "{} bytes", error.len());
    // Cut between characters, not within one.
    assert!("é".repeat(1000).parse::<HostId>().is_err());
}

#[test]
fn names_are_padded_in_tables() {
    let host: HostId = "h1".parse().expect("a name");
    assert_eq!(format!("[{host:<5}]"), "[h1   ]");
    assert_eq!(format!("[{:<6}]", Colour::Blue), "[blue  ]");
}

#[test]
fn a_digest_is_64_hexadecimal_digits() {
    let text = "00ff".repeat(16);
    let digest: ReleaseDigest = text.parse().expect("a digest");
    assert_eq!((digest.to_string(), digest.short()), (text.clone(), text[..12].to_owned()));
    assert_eq!(digest.0[..4], [0x00, 0xff, 0x00, 0xff]);
    assert_eq!(text.to_uppercase().parse(), Ok(digest));
    let (short, long) = (&text[..63], format!("{text}0"));
    let signed = format!("+{}", &text[1..]);
    let prefixed = format!("sha256:{text}");
    let wide = "é".repeat(32);
    for bad in ["", short, &long, &signed, &prefixed, &wide, &"g".repeat(64), &" ".repeat(64)] {
        let error = bad.parse::<ReleaseDigest>().expect_err(bad).to_string();
        assert!(error.contains("is not 64 hexadecimal digits"), "{error}");
    }
    assert!("f".repeat(1_000_000).parse::<ReleaseDigest>().expect_err("long").to_string().len() < 200);
}

#[test]
fn a_life_is_written_and_read_alike() {
    for life in [0, 1, 0xdead_beef, u128::MAX] {
        let text = Incarnation(life).to_string();
        assert_eq!(text.len(), 32);
        assert_eq!(text.parse(), Ok(Incarnation(life)));
    }
    for bad in ["", "g", "-1", "0x1", " 1", &"1".repeat(33)] {
        assert!(bad.parse::<Incarnation>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_colour_is_one_of_two() {
    for colour in Colour::BOTH {
        assert_eq!(colour.as_str().parse(), Ok(colour));
        assert_eq!(colour.other().other(), colour);
        assert_ne!(colour.other(), colour);
    }
    for bad in ["", "Blue", "green ", "red"] {
        let error = bad.parse::<Colour>().expect_err(bad).to_string();
        assert!(error.contains("neither \"blue\" nor \"green\""), "{error}");
    }
}
