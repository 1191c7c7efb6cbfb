//! Addresses of this machine that are one test process's alone.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// How many addresses a process has. More servers than that do not run at once.
const ADDRESSES: u32 = 250;

/// A loopback address that nobody else uses.
///
/// A port of 127.0.0.1 that was free a moment ago may be taken the next: by another test that asks for any, or by the near end
/// of somebody's connection. Who has to name a port before it is listened on, or comes back to it, does so at an address of
/// its own, and finds it free.
pub fn own_address() -> Ipv4Addr {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let given = GIVEN.fetch_add(1, Ordering::Relaxed) % ADDRESSES;
    let [_, _, high, low] = std::process::id().to_be_bytes();
    // 127.0.x.y has the address that everybody uses.
    let second = u8::try_from(given + 1).expect("there are fewer addresses than that");
    Ipv4Addr::new(127, second, high, low)
}

/// An address with a port that nobody listens on, and nobody else will.
pub fn own_port() -> SocketAddr {
    let listener = TcpListener::bind((own_address(), 0)).expect("all of 127.0.0.0/8 is this machine");
    listener.local_addr().expect("it is bound")
}
