//! Between one agent and Docker: stopping it stops Docker for that host alone, and it can lie about images.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

const DOCKER: &str = "/var/run/docker.sock";
const CHUNK_BYTES: usize = 64 * 1024;

/// What Docker is like, seen through the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// This image is not on the host.
    Lacks(String),
    /// As after SIGSTOP: it takes requests, and answers none until it is well again.
    Hangs,
}

/// A socket that leads to Docker.
pub struct Relay {
    path: PathBuf,
    mood: watch::Sender<Mood>,
    serving: Option<JoinHandle<()>>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Relay {
    pub fn start(path: &Path) -> Self {
        let mut relay = Self { path: path.to_owned(), mood: watch::Sender::new(Mood::Well), serving: None };
        relay.resume();
        relay
    }

    /// As `systemctl stop docker` with live-restore: nobody listens, streams break, containers go on.
    pub fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            // Gone already where the fleet went first.
            drop(std::fs::remove_file(&self.path));
        }
    }

    pub fn resume(&mut self) {
        let listener = UnixListener::bind(&self.path).expect("a socket");
        let mood = self.mood.subscribe();
        self.serving = Some(tokio::spawn(async move {
            // Dropped with this task, and with it every connection.
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(serve(client, mood.clone()));
            }
        }));
    }

    /// From now on Docker is like this.
    pub fn mood(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }
}

/// One connection; requests on it come one after the other, so an answer of our own cannot get in another's way.
async fn serve(client: UnixStream, mut mood: watch::Receiver<Mood>) {
    let Ok(docker) = UnixStream::connect(DOCKER).await else { return };
    let (mut from_client, to_client) = client.into_split();
    let (mut from_docker, mut to_docker) = docker.into_split();
    let to_client = Arc::new(tokio::sync::Mutex::new(to_client));
    let answers = Arc::clone(&to_client);
    let forward = async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(count @ 1..) = from_client.read(&mut chunk).await {
            let Ok(mood) = mood.wait_for(|mood| *mood != Mood::Hangs).await.map(|mood| mood.clone()) else { return };
            let request = &chunk[..count];
            let sent = match mood {
                Mood::Lacks(image) if asks_for(request, &image) => answers.lock().await.write_all(&not_found()).await,
                Mood::Well | Mood::Lacks(_) | Mood::Hangs => to_docker.write_all(request).await,
            };
            if sent.is_err() {
                return;
            }
        }
    };
    let back = async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(count @ 1..) = from_docker.read(&mut chunk).await {
            if to_client.lock().await.write_all(&chunk[..count]).await.is_err() {
                return;
            }
        }
    };
    // Either end of the conversation ends it.
    tokio::select! {
        () = forward => {}
        () = back => {}
    }
}

/// `GET /v1.41/images/NAME/json`, with or without escapes in the name.
fn asks_for(request: &[u8], image: &str) -> bool {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).replace("%2F", "/").replace("%3A", ":");
    line.starts_with("GET ") && line.contains(&format!("/images/{image}/json"))
}

fn not_found() -> Vec<u8> {
    let body = r#"{"message":"No such image"}"#;
    let length = body.len();
    format!("HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").into()
}
