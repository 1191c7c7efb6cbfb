//! A proxy in front of a server that speaks HTTP, which makes requests fail in the ways in which networks and stores do.

use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::http::{self, Head};
use crate::moto::ANYBODY;

/// How long a connection that hangs is held open at most: longer than any client waits.
const HANG: Duration = Duration::from_secs(90);

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens to it.
    Well,
    /// It is not passed on, and answered with 503.
    Unavailable,
    /// It is not passed on, and answered with 403.
    Forbidden,
    /// It is not passed on, and answered with 409.
    Conflict,
    /// It is carried out, and answered with 500.
    AppliedThen500,
    /// It is carried out, and the connection is closed without an answer.
    AppliedThenReset,
    /// It is not passed on, and the connection is closed without an answer.
    Reset,
    /// It is carried out, and the connection is closed in the middle of the answer's body.
    Truncated,
    /// It is carried out, and of the answer only the headers come.
    HangAfterHeaders,
}

/// A request, as far as faults depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its index among those since the last plan, from 0.
    pub index: usize,
    /// `GET`, `PUT`, ….
    pub method: String,
    /// The path and the query.
    pub path: String,
}

/// The language of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// The server's.
    Same,
    /// Google's XML interface, before a server that speaks S3: the two differ in the header that makes a write a create, and in the one
    /// that names a version.
    Google,
}

type Plan = Box<dyn Fn(&Request) -> Fault + Send>;

#[derive(Default)]
struct State {
    plan: Option<Plan>,
    seen: Vec<Request>,
}

/// A running proxy; it ends with the value.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    ended: Arc<AtomicBool>,
}

impl Proxy {
    /// Stands before a server. All is well at first.
    pub fn before(server: SocketAddr) -> Self {
        Self::translating(server, Dialect::Same)
    }

    /// Stands before a server, for clients that speak so. All is well at first.
    pub fn translating(server: SocketAddr, dialect: Dialect) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("this machine has free ports");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(Mutex::new(State::default()));
        let ended = Arc::new(AtomicBool::new(false));
        let (shared, end) = (state.clone(), ended.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let state = shared.clone();
                // A connection that breaks is what this is all about.
                std::thread::spawn(move || drop(serve(client, (server, dialect), &state)));
            }
        });
        Self { address, state, ended }
    }

    /// `http://` and its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Has every request from now on meet this fate, and begins to count anew.
    pub fn plan(&self, plan: impl Fn(&Request) -> Fault + Send + 'static) {
        let mut state = lock(&self.state);
        state.plan = Some(Box::new(plan));
        state.seen.clear();
    }

    /// All is well from now on. Returns the requests since the last plan.
    pub fn end(&self) -> Vec<Request> {
        let mut state = lock(&self.state);
        state.plan = None;
        std::mem::take(&mut state.seen)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(client: TcpStream, server: (SocketAddr, Dialect), state: &Mutex<State>) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    while let Some(head) = Head::read(&mut reader)? {
        let length = head
            .header("content-length")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        if !answer(&client, server, &head, &body, fate(state, &head))? {
            client.shutdown(Shutdown::Both)?;
            return Ok(());
        }
    }
    Ok(())
}

fn fate(state: &Mutex<State>, head: &Head) -> Fault {
    let mut words = head.line.split(' ').map(str::to_owned);
    let mut state = lock(state);
    let request = Request {
        index: state.seen.len(),
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
    };
    state.seen.push(request.clone());
    state.plan.as_ref().map_or(Fault::Well, |plan| plan(&request))
}

/// Answers one request; whether the connection may go on.
fn answer(
    mut client: &TcpStream,
    (server, dialect): (SocketAddr, Dialect),
    head: &Head,
    body: &[u8],
    fault: Fault,
) -> io::Result<bool> {
    let short = |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    let refusal = match fault {
        Fault::Unavailable => Some("503 Service Unavailable"),
        Fault::Forbidden => Some("403 Forbidden"),
        Fault::Conflict => Some("409 Conflict"),
        _passed_on => None,
    };
    if let Some(status) = refusal {
        client.write_all(short(status).as_bytes())?;
        return Ok(true);
    }
    if fault == Fault::Reset {
        return Ok(false);
    }
    let mut words = head.line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let passed_on = |header: &&String| {
        let name = header.split(':').next().unwrap_or_default().to_ascii_lowercase();
        // Google's tokens mean nothing to an S3 server, which takes them for a broken signature.
        let is_token = dialect == Dialect::Google && name == "authorization";
        !is_token && !["content-length", "connection", "expect"].contains(&name.as_str())
    };
    let translated = |header: &String| match dialect {
        Dialect::Google if header.eq_ignore_ascii_case("x-goog-if-generation-match: 0") => {
            "If-None-Match: *".to_owned()
        }
        Dialect::Same | Dialect::Google => header.clone(),
    };
    let mut headers: Vec<String> = head.headers.iter().filter(passed_on).map(translated).collect();
    if dialect == Dialect::Google {
        headers.push(ANYBODY.to_owned());
    }
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let answer = http::request(server, method, path, &headers, body)?.bytes;
    match fault {
        Fault::AppliedThen500 => {
            client.write_all(short("500 Internal Server Error").as_bytes())?;
            return Ok(true);
        }
        Fault::AppliedThenReset => return Ok(false),
        Fault::Truncated => client.write_all(&answer[..answer.len() - 1])?,
        Fault::HangAfterHeaders => {
            let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(0) + 4;
            client.write_all(&answer[..end])?;
            client.set_read_timeout(Some(HANG))?;
            // Until the client gives up.
            drop(client.read(&mut [0]));
        }
        _well => client.write_all(&answer)?,
    }
    // The server was told to close, and says so to the client.
    Ok(false)
}
