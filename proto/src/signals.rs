//! How the daemons are told to stop.

use tokio_util::sync::CancellationToken;

/// Cancels on SIGTERM, as systemd stops a unit, and on SIGINT, as a terminal does. To be spawned.
pub async fn stop_on_signal(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    shutdown.cancel();
}
