//! A hub on loopback: the addresses, headers and refusals of Hugging Face's, and its faults on demand.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// What goes wrong with the next answers whose address contains a text.
#[derive(Clone, Copy)]
pub enum Fault {
    /// The connection is cut after so many bytes of the body.
    Cut(usize),
    /// As above, and the connection stays open.
    Stall(usize),
    /// A byte is another.
    Corrupt,
    /// The file is said to have so many bytes.
    Size(u64),
    Status(u16),
}

type Files = BTreeMap<String, Vec<u8>>;

#[derive(Default)]
struct Repository {
    /// By branch or commit.
    revisions: BTreeMap<String, (String, Files)>,
    gated: bool,
}

#[derive(Default)]
struct State {
    repositories: BTreeMap<String, Repository>,
    faults: Vec<(String, Fault, usize)>,
    /// Every request: method, address, range, and `+token` if it had one.
    log: Vec<String>,
    store: String,
}

/// The server; it ends with the test's process.
#[derive(Clone)]
pub struct Server {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

/// The token that reads everything, and one whose owner accepted no terms.
pub const TOKEN: &str = "hf_reader";
pub const UNLISTED: &str = "hf_unlisted";

/// Files from this size on lie in the store of large files, each under its SHA-256.
const LARGE: usize = 100_000;

impl Server {
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let listen = |answer: fn(&Arc<Mutex<State>>, TcpStream) -> std::io::Result<()>| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = format!("http://{}", listener.local_addr().unwrap());
            let state = Arc::clone(&state);
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = Arc::clone(&state);
                    std::thread::spawn(move || answer(&state, stream));
                }
            });
            address
        };
        let endpoint = listen(hub);
        let store = listen(store);
        state.lock().unwrap().store = store;
        Self { endpoint, state }
    }

    /// Puts files on a branch of a repository, `org/name` or `datasets/org/name`; returns the commit.
    pub fn push(&self, id: &str, branch: &str, files: &[(&str, &[u8])]) -> String {
        let files: Files =
            files.iter().map(|(name, contents)| ((*name).to_owned(), contents.to_vec())).collect();
        let commit = digest(format!("{files:?}").as_bytes())[..40].to_owned();
        let mut state = self.state.lock().unwrap();
        let repository = state.repositories.entry(id.to_owned()).or_default();
        for revision in [branch, &commit] {
            repository.revisions.insert(revision.to_owned(), (commit.clone(), files.clone()));
        }
        commit
    }

    pub fn gate(&self, id: &str) {
        self.state.lock().unwrap().repositories.get_mut(id).unwrap().gated = true;
    }

    /// The next `n` answers whose address contains `place` have a fault.
    pub fn fault(&self, place: &str, fault: Fault, n: usize) {
        self.state.lock().unwrap().faults.push((place.to_owned(), fault, n));
    }

    /// The requests since this was asked last.
    pub fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().log)
    }
}

pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// As `git hash-object` has it.
pub fn git_blob(bytes: &[u8]) -> String {
    let hasher = Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
    hex(&hasher.chain_update(bytes).finalize())
}

struct Request {
    method: String,
    path: String,
    token: Option<String>,
    start: usize,
}

/// Reads a request and notes it; also takes the fault that waits for it.
fn read(state: &Mutex<State>, stream: &TcpStream) -> Option<(Request, Option<Fault>)> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut words = first.split(' ').map(ToOwned::to_owned);
    let mut request = Request { method: words.next()?, path: words.next()?, token: None, start: 0 };
    for line in lines.take_while(|line| !line.is_empty()) {
        let (key, value) = line.split_once(": ")?;
        match key.to_lowercase().as_str() {
            "authorization" => request.token = Some(value.trim_start_matches("Bearer ").to_owned()),
            "range" => {
                request.start = value.trim_start_matches("bytes=").trim_end_matches('-').parse().ok()?;
            }
            _ => {}
        }
    }
    let mut state = state.lock().unwrap();
    let from = if request.start > 0 { format!(" from {}", request.start) } else { String::new() };
    let token = if request.token.is_some() { " +token" } else { "" };
    state.log.push(format!("{} {}{from}{token}", request.method, request.path));
    let waiting =
        state.faults.iter_mut().find(|(place, _, n)| *n > 0 && request.path.contains(place.as_str()));
    let fault = waiting.map(|(_, fault, n)| {
        *n -= 1;
        *fault
    });
    Some((request, fault))
}

/// Answers as `huggingface.co` does.
fn hub(state: &Arc<Mutex<State>>, stream: TcpStream) -> std::io::Result<()> {
    let Some((request, fault)) = read(state, &stream) else { return Ok(()) };
    if let Some(Fault::Status(status)) = fault {
        return send(stream, &request, status, &[], b"", None);
    }
    let state = state.lock().unwrap();
    let refuse = |stream, status, code: &str| {
        send(stream, &request, status, &[("X-Error-Code", code.to_owned())], b"", None)
    };
    if let Some(author) = request.path.strip_prefix("/api/models?author=") {
        let org = author.split('&').next().unwrap_or_default();
        let ids = state.repositories.keys().filter(|id| id.starts_with(&format!("{org}/")));
        let list: Vec<String> = ids.map(|id| format!(r#"{{"id": "{id}"}}"#)).collect();
        return send(stream, &request, 200, &[], format!("[{}]", list.join(", ")).as_bytes(), None);
    }
    let path = request.path.trim_start_matches("/api/resolve-cache").trim_start_matches("/api");
    let path = path.trim_start_matches("/models").trim_start_matches('/');
    let Some((id, repository)) =
        state.repositories.iter().find(|(id, _)| path.starts_with(&format!("{id}/")))
    else {
        // Who has no token is not told whether there is such a repository.
        return refuse(stream, if request.token.is_some() { 404 } else { 401 }, "RepoNotFound");
    };
    let parts: Vec<&str> = path[id.len() + 1..].splitn(3, '/').collect();
    let gated = repository.gated && parts[0] == "resolve";
    match request.token.as_deref() {
        Some(token) if token != TOKEN && token != UNLISTED => {
            return send(stream, &request, 401, &[], b"", None);
        }
        // What a gated repository has, anyone may know.
        None if gated => return refuse(stream, 401, "GatedRepo"),
        Some(UNLISTED) if gated => return refuse(stream, 403, "GatedRepo"),
        _ => {}
    }
    if parts[0] == "refs" {
        let named = repository.revisions.keys().filter(|name| name.len() < 40);
        let names: Vec<String> = named.map(|name| format!(r#"{{"name": "{name}"}}"#)).collect();
        let json = format!(r#"{{"branches": [{}], "tags": []}}"#, names.join(", "));
        return send(stream, &request, 200, &[], json.as_bytes(), None);
    }
    let Some((commit, files)) = repository.revisions.get(&parts[1].replace("%2F", "/")) else {
        return refuse(stream, 404, "RevisionNotFound");
    };
    if parts[0] == "revision" {
        let files: Vec<String> = files.keys().map(|file| format!(r#"{{"rfilename": "{file}"}}"#)).collect();
        let json = format!(r#"{{"sha": "{commit}", "siblings": [{}]}}"#, files.join(", "));
        return send(stream, &request, 200, &[], json.as_bytes(), None);
    }
    let Some(contents) = parts.get(2).and_then(|file| files.get(*file)) else {
        return refuse(stream, 404, "EntryNotFound");
    };
    let sha256 = digest(contents);
    let mut headers = vec![("X-Repo-Commit", commit.clone())];
    if contents.len() >= LARGE {
        headers.push(("X-Linked-Etag", format!("\"{sha256}\"")));
        let size = if let Some(Fault::Size(size)) = fault { size } else { contents.len() as u64 };
        headers.push(("X-Linked-Size", size.to_string()));
        headers.push(("Location", format!("{}/{sha256}", state.store)));
        return send(stream, &request, 302, &headers, b"Found. Redirecting", None);
    }
    if !request.path.starts_with("/api/resolve-cache") {
        headers.push(("Location", format!("/api/resolve-cache{}", request.path)));
        return send(stream, &request, 307, &headers, b"Temporary Redirect", None);
    }
    headers.push(("ETag", format!("\"{}\"", git_blob(contents))));
    send(stream, &request, 200, &headers, contents, fault)
}

/// Answers as the store of large files does.
fn store(state: &Arc<Mutex<State>>, stream: TcpStream) -> std::io::Result<()> {
    let Some((request, fault)) = read(state, &stream) else { return Ok(()) };
    let contents = {
        let state = state.lock().unwrap();
        let revisions = state.repositories.values().flat_map(|found| found.revisions.values());
        let mut files = revisions.flat_map(|(_, files)| files.values());
        files.find(|contents| request.path[1..] == digest(contents)).unwrap().clone()
    };
    let etag = [("ETag", "\"of the store\"".to_owned())];
    let status = if request.start > 0 { 206 } else { 200 };
    send(stream, &request, status, &etag, &contents[request.start..], fault)
}

fn send(
    mut stream: TcpStream,
    request: &Request,
    status: u16,
    headers: &[(&str, String)],
    body: &[u8],
    fault: Option<Fault>,
) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status} -\r\nConnection: close\r\nContent-Length: {}\r\n", body.len())?;
    for (key, value) in headers {
        write!(stream, "{key}: {value}\r\n")?;
    }
    write!(stream, "\r\n")?;
    if request.method == "HEAD" {
        return Ok(());
    }
    match fault {
        Some(Fault::Cut(n)) => stream.write_all(&body[..n.min(body.len())]),
        Some(Fault::Stall(n)) => {
            stream.write_all(&body[..n])?;
            std::thread::sleep(Duration::from_mins(10));
            Ok(())
        }
        Some(Fault::Corrupt) => {
            let mut body = body.to_vec();
            body[0] ^= 1;
            stream.write_all(&body)
        }
        _ => stream.write_all(body),
    }
}
