//! A chat endpoint on loopback that answers as it is told.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// One answer of the server.
#[derive(Clone)]
pub struct Say {
    pub status: u16,
    pub headers: &'static str,
    pub body: String,
    pub after: Duration,
    /// The connection ends without an answer.
    pub hang_up: bool,
    /// A byte at a time, from the first header on, each so much later.
    pub trickle: Duration,
    /// So many bytes more are announced than come.
    pub missing: usize,
}

impl Say {
    pub fn status(status: u16) -> Self {
        let body = format!(r#"{{"error": {{"message": "said {status}"}}}}"#);
        Self {
            status,
            headers: "",
            body,
            after: Duration::ZERO,
            hang_up: false,
            trickle: Duration::ZERO,
            missing: 0,
        }
    }

    pub fn text(text: &str) -> Self {
        let body =
            json!({"model": "m-1", "choices": [{"message": {"content": text}, "finish_reason": "stop"}]});
        Self { body: body.to_string(), ..Self::status(200) }
    }
}

#[derive(Default)]
struct State {
    /// What is said next; behind it, the last message is repeated to who asks.
    script: VecDeque<Say>,
    /// Head and body of every request.
    log: Vec<(String, Value)>,
    n_now: usize,
    most: usize,
    pause: Duration,
}

/// The server; it ends with the test's process.
#[derive(Clone)]
pub struct Server {
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// Says the script, then repeats each question, `pause` after it came.
    pub fn start(script: impl IntoIterator<Item = Say>, pause: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let script = script.into_iter().collect();
        let state = Arc::new(Mutex::new(State { script, pause, ..State::default() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(&state, stream));
            }
        });
        Self { url, state }
    }

    /// Head and body of every request so far.
    pub fn log(&self) -> Vec<(String, Value)> {
        self.state.lock().unwrap().log.clone()
    }

    /// The most requests that were under way at once.
    pub fn most(&self) -> usize {
        self.state.lock().unwrap().most
    }
}

fn serve(state: &Mutex<State>, mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(&stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&line);
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes)?;
    let asked: Value = serde_json::from_slice(&bytes).unwrap();
    let last = asked["messages"].as_array().and_then(|all| all.last()).map(|turn| turn["content"].clone());
    let say = {
        let mut state = state.lock().unwrap();
        state.log.push((head, asked));
        state.n_now += 1;
        state.most = state.most.max(state.n_now);
        let echo = Say { after: state.pause, ..Say::text(last.unwrap().as_str().unwrap()) };
        state.script.pop_front().unwrap_or(echo)
    };
    std::thread::sleep(say.after);
    state.lock().unwrap().n_now -= 1;
    if say.hang_up {
        return Ok(());
    }
    let (headers, length) = (say.headers, say.body.len() + say.missing);
    let head = format!(
        "HTTP/1.1 {} -\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n",
        say.status
    );
    if say.trickle.is_zero() {
        stream.write_all(head.as_bytes())?;
        return stream.write_all(say.body.as_bytes());
    }
    for byte in head.bytes().chain(say.body.bytes()) {
        stream.write_all(&[byte])?;
        std::thread::sleep(say.trickle);
    }
    Ok(())
}
