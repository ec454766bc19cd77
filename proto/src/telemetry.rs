//! Logs: one line an event, on standard error; systemd keeps them.

use tracing_subscriber::EnvFilter;

/// Starts logging. `RUST_LOG` says what; without it, information and worse. `BGCTL_LOG_FORMAT=json` makes
/// each line a JSON object; anything else, or nothing, is text for people.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // Below that, the Docker client logs request bodies, and with them environments and their secrets.
    let filter = filter.add_directive("bollard=info".parse().expect("a directive"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::env::var("BGCTL_LOG_FORMAT").is_ok_and(|format| format == "json") {
        lines.json().init();
    } else {
        lines.with_ansi(false).init();
    }
}
