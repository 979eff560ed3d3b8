//! A hub that means no good: slow, endless, lying, or somebody else.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use sha2::{Digest, Sha256};
use ureq::tls::RootCerts;

use super::refusal::Token;
use super::*;
use crate::snapshot::digest::hex;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A server on loopback that does with every request, given as its lines, what `answer` does; and the requests.
fn serve(
    answer: impl Fn(&str, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (answer, log) = (Arc::new(answer), Arc::new(Mutex::new(Vec::new())));
    let requests = Arc::clone(&log);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
            std::thread::spawn(move || {
                let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let request = lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
                log.lock().unwrap().push(request.clone());
                // Whoever hangs up has had enough.
                let _ = answer(&request, &mut stream);
            });
        }
    });
    (endpoint, requests)
}

fn send(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let length = body.len();
    write!(stream, "HTTP/1.1 {status} -\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n")?;
    stream.write_all(body)
}

/// A byte at a time.
fn trickle(stream: &mut TcpStream, bytes: &[u8], pause: Duration) -> std::io::Result<()> {
    for byte in bytes {
        stream.write_all(&[*byte])?;
        std::thread::sleep(pause);
    }
    Ok(())
}

/// So small that every test is over in seconds.
fn limits() -> Limits {
    Limits {
        headers: Duration::from_millis(400),
        answer: Duration::from_millis(800),
        window: Duration::from_millis(300),
        least_bytes: 1000,
        most_bytes: 100_000,
        most_files: 3,
        retries: 2,
        pause: Duration::from_millis(1),
        ..Limits::default()
    }
}

/// What fetching the data set `a/b` from a hub comes to.
fn fetch(endpoint: &str, token: Option<&str>) -> (Result<Fetched, HubError>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let token = token.map(|text| Token { text: text.to_owned(), place: "`HF_TOKEN`".to_owned() });
    let client = Client::new(endpoint, token, RootCerts::WebPki, limits());
    let hub = Hub { client, cache: Cache(folder.path().to_owned()), offline: false };
    let fetched = hub.fetch(&Name::parse("datasets/a/b").unwrap(), Wanted::Data, &mut |_| ());
    (fetched, folder)
}

/// How it fails, and how often the hub was asked. Nothing takes long.
fn failure(
    answer: impl Fn(&str, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> (HubError, usize) {
    let (endpoint, log) = serve(answer);
    let started = Instant::now();
    let (fetched, _folder) = fetch(&endpoint, None);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    let n = log.lock().unwrap().len();
    (fetched.unwrap_err(), n)
}

/// A list of files with these names.
fn list<T: AsRef<str>>(files: impl IntoIterator<Item = T>) -> Vec<u8> {
    let files: Vec<_> = files.into_iter().map(|file| json!({ "rfilename": file.as_ref() })).collect();
    json!({ "sha": COMMIT, "siblings": files }).to_string().into_bytes()
}

const CONTENT: &[u8] = &[b'x'; 20_000];

/// A hub that has one file of [`CONTENT`], which `body` sends from an offset on.
fn one_file(
    body: impl Fn(&str, usize, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> impl Fn(&str, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static {
    move |request, stream| {
        if request.starts_with("GET /api/") {
            return send(stream, 200, "", &list(["a.jsonl"]));
        }
        let start = request
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
        let start = start.map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
        if request.starts_with("HEAD") {
            let etag = hex(&Sha256::digest(CONTENT));
            let length = CONTENT.len();
            return write!(
                stream,
                "HTTP/1.1 200 -\r\nConnection: close\r\nETag: \"{etag}\"\r\nContent-Length: {length}\r\n\r\n"
            );
        }
        body(request, start, stream)
    }
}

/// The headers of a body from an offset on.
fn begin(stream: &mut TcpStream, start: usize) -> std::io::Result<()> {
    let (status, length) = (if start > 0 { 206 } else { 200 }, CONTENT.len() - start);
    write!(stream, "HTTP/1.1 {status} -\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n")
}

#[test]
fn an_answer_a_byte_at_a_time_is_given_up() {
    let pause = Duration::from_millis(100);
    let (error, n) =
        failure(move |_, stream| trickle(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n", pause));
    let said = error.to_string();
    assert!(
        matches!(error, HubError::Slow { .. }) && said.contains("headers were not whole within 0.4 s"),
        "{said}"
    );
    assert_eq!(n, 1);
    let (error, _) = failure(move |_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")?;
        trickle(stream, &[b' '; 9999], pause)
    });
    assert!(
        matches!(&error, HubError::Slow { why, .. } if why == "it was not whole within 0.8 s"),
        "{error}"
    );
    let (error, _) = failure(|_, _| {
        std::thread::sleep(Duration::from_secs(20));
        Ok(())
    });
    assert!(matches!(&error, HubError::Slow { why, .. } if why == "nothing came for 0.3 s"), "{error}");
}

#[test]
fn a_file_a_byte_at_a_time_is_given_up_and_a_slow_one_is_not() {
    let (error, n) = failure(one_file(|_, start, stream| {
        begin(stream, start)?;
        trickle(stream, &CONTENT[start..], Duration::from_millis(50))
    }));
    let HubError::Interrupted { done, source, .. } = error else { panic!("{error}") };
    assert!(source.to_string().contains("and 1000 in 0.3 s are the least"), "{source}");
    // A list, a head, and three tries, of which none moved on by 1000 bytes.
    assert!(n == 5 && done < 100, "{n} {done}");

    // Ten times as long as an answer that is no file may take.
    let (endpoint, log) = serve(one_file(|_, start, stream| {
        begin(stream, start)?;
        for chunk in CONTENT[start..].chunks(1000) {
            stream.write_all(chunk)?;
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }));
    let (fetched, _folder) = fetch(&endpoint, None);
    assert_eq!(std::fs::read(fetched.unwrap().folder.join("a.jsonl")).unwrap(), CONTENT);
    assert_eq!(log.lock().unwrap().len(), 3, "it was cut");
}

#[test]
fn a_crumb_in_every_connection_is_no_progress_and_a_piece_is() {
    let (error, n) = failure(one_file(|_, start, stream| {
        begin(stream, start)?;
        stream.write_all(&CONTENT[start..start + 10])
    }));
    assert!(matches!(error, HubError::Interrupted { done: 30, .. }) && n == 5, "{error} {n}");
    let (endpoint, log) = serve(one_file(|_, start, stream| {
        begin(stream, start)?;
        stream.write_all(&CONTENT[start..CONTENT.len().min(start + 2000)])
    }));
    let (fetched, _folder) = fetch(&endpoint, None);
    assert_eq!(std::fs::read(fetched.unwrap().folder.join("a.jsonl")).unwrap(), CONTENT);
    assert_eq!(log.lock().unwrap().len(), 2 + 10);
}

#[test]
fn more_than_a_list_of_files_takes_is_not_read() {
    let (error, n) = failure(|_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\n\r\n")?;
        loop {
            stream.write_all(&[b' '; 1 << 13])?;
        }
    });
    assert!(matches!(&error, HubError::TooMuch { most, .. } if most == "100000 bytes") && n == 1, "{error}");
    let (error, _) =
        failure(|_, stream| send(stream, 200, &format!("X-A: {}\r\n", "a".repeat(1 << 17)), b""));
    assert!(matches!(&error, HubError::TooMuch { most, .. } if most == "65536 bytes of headers"), "{error}");
    let many = (0..1000).fold(String::new(), |mut text, n| {
        write!(text, "X-{n}: a\r\n").unwrap();
        text
    });
    let (error, _) = failure(move |_, stream| send(stream, 200, &many, b""));
    assert!(matches!(&error, HubError::BadAnswer { why, .. } if why.contains("too many headers")), "{error}");
    let (error, n) = failure(|_, stream| send(stream, 200, "", &list((0..4).map(|n| format!("{n}.json")))));
    assert!(matches!(error, HubError::TooManyFiles { found: 4, most: 3, .. }) && n == 1, "{error}");
}

#[test]
fn what_is_no_answer_of_a_hub_is_said_so() {
    let why = |(error, n): (HubError, usize)| match error {
        HubError::BadAnswer { why, .. } => (why, n),
        other => panic!("{other}"),
    };
    let (said, n) =
        why(failure(|_, stream| send(stream, 200, "Content-Type: text/html\r\n", b"<html>log in")));
    assert_eq!((said.as_str(), n), ("a page for people", 1));
    let (said, _) = why(failure(|_, stream| send(stream, 200, "", &list(["a.jsonl"])[..50])));
    assert!(said.contains("EOF while parsing"), "{said}");
    let (said, _) =
        why(failure(|_, stream| send(stream, 200, "Content-Encoding: gzip\r\n", b"\x1f\x8b\x08bomb")));
    assert!(said.contains("expected value"), "{said}");
    let (said, n) = why(failure(|request, stream| {
        let path = request.split(' ').nth(1).unwrap();
        send(stream, 302, &format!("Location: {path}x\r\n"), b"")
    }));
    assert_eq!((said.as_str(), n), ("it redirects more than 5 times", 6));
    let (said, _) =
        why(failure(|_, stream| send(stream, 302, "Location: http://127.0.0.2:1/log-in?to=x\r\n", b"")));
    assert_eq!(said, "it redirects to `http://127.0.0.2:1/log-in`, which is not the hub");
    // Asked from the middle on, it sends from another place.
    let (said, _) = why(failure(one_file(|_, start, stream| match start {
        0 => {
            begin(stream, 0)?;
            stream.write_all(&CONTENT[..5000])
        }
        _ => send(stream, 206, "Content-Range: bytes 4000-19999/20000\r\n", &CONTENT[4000..]),
    })));
    assert_eq!(said, "it was asked for bytes from 5000 on and sends others");
}

#[test]
fn what_may_pass_is_tried_again_and_then_said_as_it_is() {
    let (error, n) = failure(|_, stream| send(stream, 500, "", b""));
    assert!(matches!(error, HubError::Busy { status: 500, .. }) && n == 3, "{error}");
    // More is announced than comes.
    let (error, n) = failure(|_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n")?;
        stream.write_all(&list(["a.jsonl"]))
    });
    assert!(matches!(error, HubError::BrokeOff { .. }) && n == 3, "{error}");
}

#[test]
fn a_redirect_with_an_endless_body_is_followed_without_reading_it() {
    let (endpoint, _) = serve(one_file(|request, start, stream| {
        if request.starts_with("GET /store") {
            return send(stream, 200, "", &CONTENT[start..]);
        }
        write!(stream, "HTTP/1.1 302 -\r\nLocation: /store\r\n\r\n")?;
        trickle(stream, &[b'x'; 1000], Duration::from_millis(100))
    }));
    let started = Instant::now();
    let (fetched, _folder) = fetch(&endpoint, None);
    fetched.unwrap();
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[test]
fn a_token_goes_to_the_hub_alone_and_a_bad_one_is_no_matter_of_the_network() {
    let (store, stored) = serve(|_, stream| send(stream, 200, "", CONTENT));
    let (endpoint, log) = serve(one_file(move |_, _, stream| {
        send(stream, 302, &format!("Location: {store}/x?Signature=secret\r\n"), b"")
    }));
    fetch(&endpoint, Some("hf_reader")).0.unwrap();
    let has_token = |request: &String| request.to_lowercase().contains("authorization: bearer hf_reader");
    assert!(log.lock().unwrap().iter().all(has_token));
    assert!(!stored.lock().unwrap().iter().any(has_token) && !stored.lock().unwrap().is_empty());

    for (status, headers) in
        [(401, "X-Error-Message: Invalid credentials in Authorization header\r\n"), (401, "")]
    {
        let (endpoint, _) = serve(move |_, stream| send(stream, status, headers, b""));
        let error = fetch(&endpoint, Some("hf_old")).0.unwrap_err();
        assert!(matches!(&error, HubError::BadToken { place, .. } if place == "`HF_TOKEN`"), "{error}");
    }
    let (endpoint, _) = serve(|_, stream| send(stream, 403, "", b""));
    let error = fetch(&endpoint, Some("hf_narrow")).0.unwrap_err();
    assert_eq!(error.to_string(), "the hub refuses `datasets/a/b` with the token of `HF_TOKEN`: 403");
    // Another site that refuses says nothing about the token, which it was not shown.
    let (store, _) = serve(|_, stream| send(stream, 403, "", b""));
    let (endpoint, _) =
        serve(one_file(move |_, _, stream| send(stream, 302, &format!("Location: {store}/x\r\n"), b"")));
    let error = fetch(&endpoint, Some("hf_reader")).0.unwrap_err();
    assert!(matches!(&error, HubError::BadAnswer { why, .. } if why.starts_with("status 403; ")), "{error}");

    for text in ["hf_a b", "hf_a\nb", "hf_…", "hf_a\u{7f}"] {
        let (endpoint, log) = serve(|_, stream| send(stream, 200, "", b""));
        let error = fetch(&endpoint, Some(text)).0.unwrap_err();
        assert!(matches!(&error, HubError::BrokenToken { .. }), "{error}");
        assert!(!format!("{error}{error:?}").contains(text) && log.lock().unwrap().is_empty());
    }
    for endpoint in ["", "huggingface.co", "ftp://a", "http://"] {
        assert!(matches!(fetch(endpoint, None).0.unwrap_err(), HubError::BadEndpoint { .. }), "{endpoint}");
    }
}

#[test]
fn nothing_but_revisions_lies_where_python_looks_for_them() {
    let (endpoint, _) = serve(one_file(|_, start, stream| send(stream, 200, "", &CONTENT[start..])));
    let (fetched, folder) = fetch(&endpoint, None);
    fetched.unwrap();
    let refs = folder.path().join("datasets--a--b/refs");
    let names: Vec<_> = std::fs::read_dir(&refs).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["main"]);
    assert_eq!(std::fs::read_to_string(refs.join("main")).unwrap(), COMMIT);
    // What a kill left of another note.
    let beside = folder.path().join(".locks/datasets--a--b/refs.new");
    std::fs::write(&beside, "0123456789abcdef0123456789abcdef01234567 and more").unwrap();
    let cache = Cache(folder.path().to_owned());
    cache.note(&Name::parse("datasets/a/b").unwrap(), COMMIT).unwrap();
    assert_eq!(std::fs::read_to_string(refs.join("main")).unwrap(), COMMIT);
    assert!(!beside.exists());
}
