//! How a ledger is asked.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::book::{Answer, Book, State, Transaction};
use crate::http::Head;

/// The longest time-out that clients may ask for, unless said otherwise.
const MOST_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// A running ledger; it ends with the value, at once, as a process that is killed.
pub struct Ledger {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    /// `None` once it has ended: nothing is done any more then.
    book: Mutex<Option<Book>>,
    clients: Mutex<Vec<TcpStream>>,
}

impl Ledger {
    /// Opens a journal, or begins one, and listens.
    pub fn open(address: SocketAddr, journal: &Path) -> Self {
        Self::with_most_timeout(address, journal, MOST_TIMEOUT).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same, with a limit for time-outs.
    pub fn with_most_timeout(address: SocketAddr, journal: &Path, most_timeout: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            book: Mutex::new(Some(Book::open(journal, most_timeout)?)),
            clients: Mutex::new(Vec::new()),
        });
        let served = shared.clone();
        let accepting = std::thread::spawn(move || served.accept(&listener));
        Ok(Self {
            address,
            shared,
            accepting: Some(accepting),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://` and its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The records that are committed, in the order of the commits.
    pub fn records(&self) -> Vec<String> {
        let bytes = self.shared.with(|book| book.records());
        let text = String::from_utf8(bytes).expect("tests write text");
        text.lines().map(str::to_owned).collect()
    }

    /// Every transaction there was, by id.
    pub fn transactions(&self) -> BTreeMap<String, Transaction> {
        self.shared.with(|book| book.transactions().clone())
    }

    /// Has all transactions of a state expire, as if they had been left alone for too long.
    pub fn expire(&self, state: State) {
        self.shared
            .with(|book| book.expire(state))
            .expect("the journal can be written");
    }

    /// Waits until it is ended from outside.
    pub fn wait(mut self) {
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        *lock(&self.shared.book) = None;
        for client in lock(&self.shared.clients).drain(..) {
            drop(client.shutdown(Shutdown::Both));
        }
        // Wakes the thread that accepts, so that the address is free when this returns.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming().flatten() {
            if lock(&self.book).is_none() {
                return;
            }
            if let Ok(client) = client.try_clone() {
                lock(&self.clients).push(client);
            }
            let shared = self.clone();
            // A connection that breaks is its client's to care for.
            std::thread::spawn(move || drop(shared.serve(&client)));
        }
    }

    fn with<R>(&self, look: impl FnOnce(&mut Book) -> R) -> R {
        look(lock(&self.book).as_mut().expect("it has not ended"))
    }

    fn serve(&self, mut client: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(client);
        while let Some(head) = Head::read(&mut reader)? {
            let length = head.header("content-length").and_then(|text| text.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut body)?;
            let (status, text) = {
                let mut book = lock(&self.book);
                let Some(book) = book.as_mut() else {
                    return Ok(());
                };
                answer(book, &head.line, &body)?
            };
            let length = text.len();
            let closes = head
                .header("connection")
                .is_some_and(|value| value.eq_ignore_ascii_case("close"));
            let mut bytes = format!("HTTP/1.1 {status} -\r\nContent-Length: {length}\r\n\r\n").into_bytes();
            bytes.extend(text);
            client.write_all(&bytes)?;
            if closes {
                return client.shutdown(Shutdown::Both);
            }
        }
        Ok(())
    }
}

fn answer(book: &mut Book, line: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let number = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter_map(|(key, value)| (key == name).then_some(value));
        values.next().and_then(|value| value.parse::<u64>().ok())
    };
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let missing = || Ok((400, "a parameter is missing".to_owned()));
    let (status, text): Answer = match (method, &parts[..]) {
        ("GET", [""]) => book.describe(),
        ("GET", ["transactions"]) => book.list(),
        ("GET", ["records"]) => return Ok((200, book.records())),
        ("PUT", ["transactions", id]) => {
            number("timeout-ms").map_or_else(missing, |timeout| book.begin(id, timeout))?
        }
        ("POST", ["transactions", id, "records"]) => {
            number("batch").map_or_else(missing, |batch| book.append(id, batch, body))?
        }
        ("POST", ["transactions", id, "prepare"]) => {
            number("batches").map_or_else(missing, |batches| book.prepare(id, batches))?
        }
        ("POST", ["transactions", id, "commit"]) => book.commit(id)?,
        ("POST", ["transactions", id, "abort"]) => book.abort(id)?,
        _ => (404, format!("there is no {method} of {path}")),
    };
    Ok((status, text.into_bytes()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
