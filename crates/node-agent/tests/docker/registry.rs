//! A registry that answers as a test wants, over real HTTP. Its images have one layer
//! of their own each.
//!
//! What it does is in the name of the repository: `slow` and what begins with
//! it, whose layer comes only as far as it was let go; `code-404` and the like, which answers with that code
//! each time; `once-503` and the like, which does so once; `cut`, which breaks the
//! first connection.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

/// Bytes of each image's layer, without the padding of its archive.
pub const LAYER_BYTES: usize = 1 << 20;
/// How a slow layer comes.
const PIECE_BYTES: usize = 16 << 10;
const PACE: Duration = Duration::from_millis(20);
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

pub struct Registry {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    /// How often each repository's manifest was looked for. An engine that was
    /// refused asks once more, to be told why: that does not count.
    asked: Mutex<BTreeMap<String, usize>>,
    /// How often each repository's layer was asked for.
    layers: Mutex<BTreeMap<String, usize>>,
    released: watch::Sender<usize>,
}

impl Registry {
    pub fn start(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let serving = Arc::clone(&shared);
        let serve = async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                drop(tokio::runtime::Handle::current().spawn(answer(stream, Arc::clone(&serving))));
            }
        };
        Self { address, shared, task: tokio::runtime::Handle::current().spawn(serve) }
    }

    pub fn image(&self, repository: &str) -> String {
        format!("{}/{repository}:1", self.address)
    }

    pub fn asked(&self, repository: &str) -> usize {
        self.shared.asked.lock().unwrap().get(repository).copied().unwrap_or_default()
    }

    /// Lets slow layers come up to this byte.
    pub fn release(&self, bytes: usize) {
        self.shared.released.send_replace(bytes);
    }

    /// How often a repository's layer was asked for.
    pub fn layers(&self, repository: &str) -> usize {
        self.shared.layers.lock().unwrap().get(repository).copied().unwrap_or_default()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The parts of an image: digest and bytes of each.
struct Image {
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

pub fn digest(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().fold("sha256:".to_owned(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The digest of a repository's image.
pub fn digest_of(repository: &str) -> String {
    digest(&image(repository).manifest)
}

fn image(repository: &str) -> Image {
    let content: Vec<u8> = repository.bytes().cycle().take(LAYER_BYTES).collect();
    let layer = archive("content", &content);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    });
    let config = config.to_string().into_bytes();
    let part =
        |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "size": bytes.len(), "digest": digest(bytes) });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": part("application/vnd.docker.container.image.v1+json", &config),
        "layers": [part("application/vnd.docker.image.rootfs.diff.tar", &layer)],
    });
    Image { layer, config, manifest: manifest.to_string().into_bytes() }
}

/// A tar archive with one file.
pub fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let size = format!("{:011o}", content.len());
    for (at, text) in [(0, name), (100, "0000644"), (108, "0000000"), (116, "0000000"), (124, &size)] {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    for (at, text) in [(136, "00000000000"), (148, "        "), (156, "0"), (257, "ustar\u{0}00")] {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive
}

async fn answer(mut stream: TcpStream, shared: Arc<Shared>) {
    let Some((method, path)) = request(&mut stream).await else { return };
    let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
    let (repository, kind, what) = match parts[..] {
        ["v2", repository, kind, what] => (repository, kind, what),
        _ => return send(&mut stream, &method, 200, "application/json", b"{}").await,
    };
    let image = image(repository);
    if kind == "manifests" {
        let asked = {
            let mut asked = shared.asked.lock().unwrap();
            let asked = asked.entry(repository.to_owned()).or_default();
            *asked += usize::from(method == "HEAD");
            *asked
        };
        let code = |text: &str| text.parse::<u16>().unwrap();
        match repository.split_once('-') {
            Some(("code", status)) => return refuse(&mut stream, &method, code(status)).await,
            Some(("once", status)) if asked == 1 => return refuse(&mut stream, &method, code(status)).await,
            _ if repository == "cut" && asked == 1 => return,
            _ => {}
        }
        return send(&mut stream, &method, 200, MANIFEST, &image.manifest).await;
    }
    let binary = "application/octet-stream";
    if what == digest(&image.config) {
        send(&mut stream, &method, 200, binary, &image.config).await;
    } else if what != digest(&image.layer) {
        refuse(&mut stream, &method, 404).await;
    } else {
        *shared.layers.lock().unwrap().entry(repository.to_owned()).or_default() += 1;
        if repository.starts_with("slow") {
            return slowly(&mut stream, &image.layer, &shared).await;
        }
        send(&mut stream, &method, 200, binary, &image.layer).await;
    }
}

async fn request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.ok()?);
        // An engine tries TLS first, and would wait long for an answer to it.
        if bytes == [0x16] {
            return None;
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    let mut words = text.split(' ');
    Some((words.next()?.to_owned(), words.next()?.to_owned()))
}

fn head(status: u16, kind: &str, body: &[u8]) -> String {
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\n\
         Retry-After: 1\r\nConnection: close\r\n\r\n",
        body.len(),
        digest(body)
    )
}

async fn send(stream: &mut TcpStream, method: &str, status: u16, kind: &str, body: &[u8]) {
    // An engine that goes away is its own affair.
    let _ = stream.write_all(head(status, kind, body).as_bytes()).await;
    if method != "HEAD" {
        let _ = stream.write_all(body).await;
    }
    let _ = stream.shutdown().await;
}

async fn refuse(stream: &mut TcpStream, method: &str, status: u16) {
    let (code, message) = match status {
        401 => ("UNAUTHORIZED", "authentication required"),
        403 => ("DENIED", "requested access to the resource is denied"),
        404 => ("MANIFEST_UNKNOWN", "manifest unknown"),
        429 => ("TOOMANYREQUESTS", "retry-after: 1.2s, allowed: 44000/minute"),
        _ => ("UNKNOWN", "unknown error"),
    };
    let error: Value = json!({ "errors": [{ "code": code, "message": message }] });
    send(stream, method, status, "application/json", error.to_string().as_bytes()).await;
}

/// Sends a layer as far as it was let go, for as long as somebody takes it.
async fn slowly(stream: &mut TcpStream, layer: &[u8], shared: &Shared) {
    let mut released = shared.released.subscribe();
    if stream.write_all(head(200, "application/octet-stream", layer).as_bytes()).await.is_err() {
        return;
    }
    let mut sent = 0;
    loop {
        let until = (*released.borrow_and_update()).min(layer.len());
        if sent < until {
            // The pace of a slow line: what comes at once, an engine does not tell of bit by bit.
            sleep(PACE).await;
        }
        let until = until.min(sent + PIECE_BYTES);
        if stream.write_all(&layer[sent..until]).await.is_err() {
            return;
        }
        sent = until;
        if sent == layer.len() {
            return;
        }
        if sent < *released.borrow() {
            continue;
        }
        // Cancel-safe: a wish to send more stays, and nothing is ever read here but the end.
        tokio::select! {
            changed = released.changed() => changed.unwrap(),
            _ = stream.read_u8() => return,
        }
    }
}
