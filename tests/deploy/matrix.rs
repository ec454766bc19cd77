//! The failure matrix: every row is there once, and every test it names exists and is run.

use bgctl_tests::workspace;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Rows of the matrix.
const ROWS: usize = 71;
/// Fewest words of a reason why something cannot be reached.
const REASON_WORDS_MIN: usize = 6;
/// What starts a reason instead of a test.
const NOT_REACHED: &str = "not reached:";

#[derive(Debug)]
struct Row {
    number: usize,
    fault: String,
    happens: String,
    shown_by: String,
}

/// The table's lines: `| number | fault | what happens | shown by |`.
fn rows(text: &str) -> Vec<Row> {
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let rows = text.lines().filter(|line| line.starts_with("| ")).map(cells);
    let rows = rows.filter_map(|cells| Some((cells.first()?.parse().ok()?, cells)));
    rows.map(|(number, cells): (usize, Vec<String>)| match <[String; 4]>::try_from(cells) {
        Ok([_, fault, happens, shown_by]) => Row { number, fault, happens, shown_by },
        Err(cells) => panic!("row {number} has {} cells, not 4", cells.len()),
    })
    .collect()
}

/// What stands in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The names of all tests of the workspace. One that is ignored is none.
fn tests(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder of the checkout") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !matches!(name, "target" | "corpus") && !name.starts_with('.') {
            tests(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            tests_of(&fs::read_to_string(&path).expect("a source file"), found);
        }
    }
}

fn tests_of(source: &str, found: &mut BTreeSet<String>) {
    let mut attributes = String::new();
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[") {
            attributes.push_str(line);
            continue;
        }
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if let Some(name) = function.and_then(|rest| rest.split(['(', '<']).next())
            && (attributes.contains("#[test]") || attributes.contains("::test"))
            && !attributes.contains("#[ignore")
        {
            found.insert(name.to_owned());
        }
        attributes.clear();
    }
}

/// What is wrong with a row, if something is.
fn fault(row: &Row, tests: &BTreeSet<String>) -> Option<String> {
    let Row { number, fault, happens, shown_by } = row;
    if fault.is_empty() || happens.is_empty() {
        return Some(format!("row {number} has an empty cell"));
    }
    if let Some(reason) = shown_by.strip_prefix(NOT_REACHED) {
        let short = reason.split_whitespace().count() < REASON_WORDS_MIN;
        return short.then(|| format!("row {number} is not reached and does not say why"));
    }
    let mut named = quoted(shown_by).peekable();
    if named.peek().is_none() {
        return Some(format!("row {number} names no test"));
    }
    let unknown: Vec<_> = named.filter(|name| !tests.contains(*name)).collect();
    (!unknown.is_empty()).then(|| format!("row {number} names what is no test: {}", unknown.join(", ")))
}

#[test]
fn every_row_names_the_tests_that_show_it() {
    let path = workspace::root().join("docs/failure-matrix.md");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let rows = rows(&text);
    let numbers: Vec<_> = rows.iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=ROWS).collect::<Vec<_>>(), "each row once, in order");
    let mut found = BTreeSet::new();
    tests(workspace::root(), &mut found);
    let faults: Vec<_> = rows.iter().filter_map(|row| fault(row, &found)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_row_that_shows_nothing_is_noticed() {
    let mut found = BTreeSet::new();
    tests_of("#[test]\nfn it_holds() {}\n#[test]\n#[ignore]\nfn never_run() {}\nfn a_helper() {}\n", &mut found);
    let wrong = |line: &str| rows(line).first().and_then(|row| fault(row, &found));
    assert_eq!(wrong("| 1 | a fault | holds | `it_holds` |"), None);
    for (line, said) in [
        ("| 2 | a fault | holds | `it_held` |", "it_held"),
        ("| 3 | a fault | holds | `it_holds`, `never_run` |", "never_run"),
        ("| 4 | a fault | holds | `a_helper` |", "a_helper"),
        ("| 5 | a fault | holds | soon |", "names no test"),
        ("| 6 | a fault | holds | not reached: later |", "does not say why"),
        ("| 7 |  | holds | `it_holds` |", "empty cell"),
    ] {
        let wrong = wrong(line).unwrap_or_default();
        assert!(wrong.contains(said), "{line}: {wrong}");
    }
}
