//! A registry with one image, as much of one as Docker asks for. It listens on loopback, where Docker is
//! content with plain HTTP.

use super::image::{Kind, append, config, digest, program};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// What it does beside serving.
#[derive(Clone, Copy)]
pub(super) enum Manner {
    Plain,
    /// Wants this as the `Authorization` header's value.
    Login(&'static str),
    /// Stops in the middle of every layer.
    Stalls,
}

pub(super) struct Registry {
    /// `127.0.0.1:PORT/NAME:v1`
    pub(super) tag: String,
    /// `127.0.0.1:PORT/NAME@sha256:...`
    pub(super) digest: String,
    /// How often a layer was asked for.
    pub(super) layer_requests: Arc<AtomicU32>,
    server: JoinHandle<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Content {
    /// By path, with its media type.
    answers: BTreeMap<String, (&'static str, Vec<u8>)>,
    layer_path: String,
    manner: Manner,
    layer_requests: Arc<AtomicU32>,
}

impl Registry {
    /// `name` must be new on this host, or Docker finds the image without asking.
    pub(super) async fn serve(name: &str, kind: Kind, manner: Manner) -> Self {
        // A file of its own makes this image's layer unlike all others, so that it has to be fetched.
        let mut layer = tar::Builder::new(Vec::new());
        append(&mut layer, "name", name.as_bytes());
        layer.append_path_with_name(program(), "program").unwrap();
        let layer = layer.into_inner().unwrap();
        let config = config(name, kind, &layer);
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest(&config), "size": config.len()},
            "layers": [{"mediaType": LAYER, "digest": digest(&layer), "size": layer.len()}],
        });
        let manifest = manifest.to_string().into_bytes();
        let manifest_digest = digest(&manifest);
        let layer_path = format!("/v2/{name}/blobs/{}", digest(&layer));
        let answers = BTreeMap::from([
            ("/v2/".to_owned(), ("application/json", b"{}".to_vec())),
            (format!("/v2/{name}/manifests/v1"), (MANIFEST, manifest.clone())),
            (format!("/v2/{name}/manifests/{manifest_digest}"), (MANIFEST, manifest)),
            (format!("/v2/{name}/blobs/{}", digest(&config)), ("application/octet-stream", config)),
            (layer_path.clone(), ("application/octet-stream", layer)),
        ]);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let layer_requests = Arc::new(AtomicU32::new(0));
        let content = Arc::new(Content { answers, layer_path, manner, layer_requests: layer_requests.clone() });
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // What goes wrong here, such as Docker's try with TLS, shows on Docker's side.
                tokio::spawn(answer(stream, content.clone()));
            }
        });
        let (tag, digest) = (format!("{address}/{name}:v1"), format!("{address}/{name}@{manifest_digest}"));
        Self { tag, digest, layer_requests, server }
    }
}

async fn answer(stream: TcpStream, content: Arc<Content>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let mut words = lines[0].split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let authorization = lines.iter().find_map(|line| line.strip_prefix("Authorization: "));
    let head = |status: &str, rest: &str| format!("HTTP/1.1 {status}\r\nConnection: close\r\n{rest}\r\n");
    let welcome = match content.manner {
        Manner::Login(wanted) => authorization == Some(wanted),
        Manner::Plain | Manner::Stalls => true,
    };
    if !welcome {
        let refusal = head("401 Unauthorized", "WWW-Authenticate: Basic realm=\"contract\"\r\nContent-Length: 0\r\n");
        return stream.write_all(refusal.as_bytes()).await;
    }
    let Some((media_type, body)) = content.answers.get(path) else {
        return stream.write_all(head("404 Not Found", "Content-Length: 0\r\n").as_bytes()).await;
    };
    let (length, digest) = (body.len(), digest(body));
    let rest = format!("Content-Type: {media_type}\r\nContent-Length: {length}\r\nDocker-Content-Digest: {digest}\r\n");
    stream.write_all(head("200 OK", &rest).as_bytes()).await?;
    if method == "HEAD" {
        return Ok(());
    }
    if path == content.layer_path {
        content.layer_requests.fetch_add(1, Ordering::SeqCst);
        if matches!(content.manner, Manner::Stalls) {
            stream.write_all(&body[..length / 2]).await?;
            std::future::pending::<()>().await;
        }
    }
    stream.write_all(body).await
}
