//! What an operator's own nginx config does to ours: read from `nginx -T`, said in the log, never changed.

/// What is worth a warning in the output of `nginx -T`.
pub(super) fn lint(dump: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut shutdown_is_bounded = false;
    for (file, directive) in shared_directives(dump) {
        let mut words = directive.split_whitespace();
        match (words.next(), words.next()) {
            (Some("open_file_cache"), Some(value)) if value != "off" => warnings.push(format!(
                "{file}: open_file_cache is on; our servers switch it off, but a server of yours that reads the \
                 switch would be frozen by it: write `open_file_cache off;` there"
            )),
            (Some("worker_shutdown_timeout"), Some(_)) => shutdown_is_bounded = true,
            (Some(_) | None, _) => {}
        }
    }
    if !shutdown_is_bounded {
        warnings.push(
            "worker_shutdown_timeout is not set: after a reload, one open WebSocket keeps an old worker for ever; \
             set it in nginx.conf, for example to 60s"
                .to_owned(),
        );
    }
    warnings
}

/// The directives that hold for every server: outside all blocks of a file, or right inside `http {}`.
/// `nginx -T` prints each included file on its own, under a line with its name.
fn shared_directives(dump: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let (mut file, mut blocks, mut words) = (String::new(), Vec::<String>::new(), String::new());
    let mut quote = None;
    for line in dump.lines() {
        if let Some(name) = line.strip_prefix("# configuration file ") {
            (file, blocks, words, quote) = (name.trim_end_matches(':').to_owned(), Vec::new(), String::new(), None);
            continue;
        }
        for c in line.chars() {
            match (quote, c) {
                (None, '#') if words.is_empty() || words.ends_with(' ') => break,
                (None, '"' | '\'') => quote = Some(c),
                (Some(open), c) if open == c => quote = None,
                (None, '{') => blocks.push(std::mem::take(&mut words).trim().to_owned()),
                (None, '}') => _ = blocks.pop(),
                (None, ';') => {
                    let directive = std::mem::take(&mut words).trim().to_owned();
                    if blocks.iter().all(|block| block == "http") {
                        found.push((file.clone(), directive));
                    }
                }
                (Some(_) | None, c) => words.push(c),
            }
        }
        words.push(' ');
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDED: &str = "# configuration file /etc/nginx/nginx.conf:\nworker_shutdown_timeout 60s;\n";

    #[test]
    fn a_cache_that_holds_for_all_servers_is_found() {
        let in_http = format!("{BOUNDED}http {{\n  open_file_cache max=100;\n}}\n");
        assert!(lint(&in_http)[0].starts_with("/etc/nginx/nginx.conf: open_file_cache is on"));
        let in_include = format!("{BOUNDED}# configuration file /etc/nginx/conf.d/c.conf:\nopen_file_cache\n max=1;");
        assert!(lint(&in_include)[0].starts_with("/etc/nginx/conf.d/c.conf: open_file_cache is on"));
    }

    #[test]
    fn nothing_is_said_of_a_cache_elsewhere() {
        for fine in [
            "http { open_file_cache off; }",
            "http { server { open_file_cache max=100; } }",
            "http { # open_file_cache max=100;\n }",
            "http { log_format x '} open_file_cache max=1;'; }",
            "http { open_file_cache_valid 10s; }",
        ] {
            assert_eq!(lint(&format!("{BOUNDED}{fine}\n")), [""; 0], "{fine}");
        }
    }

    #[test]
    fn an_unbounded_shutdown_is_found() {
        assert!(lint("# configuration file /etc/nginx/nginx.conf:\nuser www-data;\n")[0].contains("worker_shutdown"));
    }
}
