//! A line to a server, which can be cut and mended: whatever is spoken over it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// A running line; it ends with the value.
pub struct Line {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    is_cut: bool,
    is_over: bool,
    /// Both ends of every connection there was since it was last cut.
    connections: Vec<TcpStream>,
}

impl Line {
    /// A line to a server.
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("this machine has free ports");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if lock(&shared).is_over {
                    return;
                }
                // A connection that is not made is what this is all about.
                drop(connect(client, server, &shared));
            }
        });
        Self { address, state }
    }

    /// Its near end.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection, and makes none until it is mended.
    pub fn cut(&self) {
        let mut state = lock(&self.state);
        state.is_cut = true;
        end(&mut state);
    }

    /// Has connections made again.
    pub fn mend(&self) {
        lock(&self.state).is_cut = false;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.is_over = true;
        end(&mut state);
        drop(state);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end(state: &mut State) {
    for connection in state.connections.drain(..) {
        // It may have ended by itself.
        drop(connection.shutdown(Shutdown::Both));
    }
}

fn connect(client: TcpStream, server: SocketAddr, state: &Mutex<State>) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    let mut state = lock(state);
    if state.is_cut {
        return Ok(());
    }
    for (from, to) in [(&client, &server), (&server, &client)] {
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        state.connections.push(from.try_clone()?);
        std::thread::spawn(move || drop(carry(from, to)));
    }
    Ok(())
}

fn carry(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        let read = from.read(&mut buffer);
        let length = *read.as_ref().unwrap_or(&0);
        if length == 0 {
            to.shutdown(Shutdown::Write)?;
            return read.map(drop);
        }
        to.write_all(&buffer[..length])?;
    }
}
