//! `cases/accepted.txt` and `cases/refused.txt`: each case says what it shows, changes the base spec, and
//! tells what came of it.
//!
//!     # What it shows
//!     - a line of the base spec
//!     + the lines that stand there instead
//!     > what came of it, recorded

use super::{BASE, parse, pins, version};
use crate::spec::{Spec, digest};
use std::path::Path;

struct Case {
    title: String,
    text: String,
    /// The case as it stands in the file, without what was recorded.
    source: String,
}

#[test]
fn accepted() {
    let base = told(BASE);
    check("accepted.txt", |case| {
        let told = told(&case.text);
        let changed: Vec<&str> = told.lines().filter(|line| !base.lines().any(|known| known == *line)).collect();
        match case.text == BASE {
            true => told,
            false => changed.join("\n"),
        }
    });
}

#[test]
fn refused() {
    check("refused.txt", |case| match Spec::parse(&case.text, "web.yaml") {
        Ok(_) => panic!("accepted: {}\n{}", case.title, case.text),
        Err(error) => error.to_string(),
    });
}

/// Everything a spec says, as it leaves the controller.
fn told(text: &str) -> String {
    let (spec, version) = (parse(text), version("2.3.1"));
    let release = spec.release(&version, &pins(&spec, &version)).expect("all images are pinned");
    let Spec { hosts, prepare_timeout, watch, missing_hosts, .. } = &spec;
    format!(
        "hosts {hosts:?}\nprepare_timeout {prepare_timeout:?}\nwatch {watch:?}\nmissing_hosts {missing_hosts}\ndigest {}\n{release:#?}",
        digest(&release)
    )
}

fn check(file: &str, outcome: impl Fn(&Case) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/spec/cases").join(file);
    let recorded = std::fs::read_to_string(&path).expect("the cases");
    let cases = cases(&recorded);
    assert!(!cases.is_empty(), "no case in {}", path.display());
    let mut now = String::new();
    for case in &cases {
        let told: String = outcome(case).lines().map(|line| format!("> {line}\n")).collect();
        now.push_str(&format!("{}{told}\n", case.source));
    }
    if std::env::var_os("RECORD_CASES").is_some() {
        std::fs::write(&path, &now).expect("recorded");
        return;
    }
    let recorded = recorded.trim_end();
    for (line, (now, recorded)) in now.trim_end().lines().zip(recorded.lines()).enumerate() {
        assert_eq!(now, recorded, "{}, line {}; all of it now:\n{}", file, line + 1, now);
    }
    assert_eq!(now.trim_end(), recorded, "{file}");
}

fn cases(file: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for block in file.split("\n# ").map(str::trim).filter(|block| !block.is_empty()) {
        let block = block.trim_start_matches("# ");
        let (title, rest) = block.split_once('\n').unwrap_or((block, ""));
        let mut text = BASE.to_owned();
        let mut source = format!("# {title}\n");
        let mut old = String::new();
        let mut new = String::new();
        let mut replace = |old: &mut String, new: &mut String| {
            if old.is_empty() && new.is_empty() {
                return;
            }
            let at = if old.is_empty() { text.len() } else { text.find(old.as_str()).expect("a line of the base") };
            text.replace_range(at..at + old.len(), new);
            old.clear();
            new.clear();
        };
        for line in rest.lines() {
            if let Some(line) = line.strip_prefix("- ") {
                if !new.is_empty() {
                    replace(&mut old, &mut new);
                }
                old.push_str(&format!("{line}\n"));
            } else if let Some(line) = line.strip_prefix('+') {
                new.push_str(&format!("{}\n", line.strip_prefix(' ').unwrap_or(line)));
            } else {
                assert!(line.is_empty() || line.starts_with('>'), "{title}: {line}");
                continue;
            }
            source.push_str(&format!("{line}\n"));
        }
        replace(&mut old, &mut new);
        cases.push(Case { title: title.to_owned(), text, source });
    }
    cases
}
