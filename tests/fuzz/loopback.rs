//! A hub and a judge for the readers of what they answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A server on loopback that says the same to every question.
pub struct Loopback {
    pub address: String,
    said: Arc<Mutex<(u16, Vec<u8>)>>,
}

impl Loopback {
    /// `status` and `body` for every question whose path begins with `place`; the others are told that nothing is there.
    pub fn start(place: &'static str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let said = Arc::new(Mutex::new((200, Vec::new())));
        let shared = Arc::clone(&said);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (status, body) = shared.lock().expect("no panic here").clone();
                let _ = answer(&mut stream, place, status, &body);
            }
        });
        Self { address, said }
    }

    pub fn say(&self, status: u16, body: &[u8]) {
        *self.said.lock().expect("no panic here") = (status, body.to_vec());
    }
}

/// Reads a question to its end and answers it.
fn answer(stream: &mut TcpStream, place: &str, status: u16, body: &[u8]) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?);
    let (mut line, mut path, mut length) = (String::new(), String::new(), 0);
    while lines.read_line(&mut line)? > 2 {
        if path.is_empty() {
            line.split(' ').nth(1).unwrap_or_default().clone_into(&mut path);
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    lines.take(length).read_to_end(&mut Vec::new())?;
    let (status, body) = if path.starts_with(place) { (status, body) } else { (404, &b""[..]) };
    let head = format!("HTTP/1.1 {status} -\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat())
}
