//! A ledger as a process: `ledger ADDRESS JOURNAL`. Prints its URL, and runs until it is killed.

use std::net::SocketAddr;
use std::path::PathBuf;

use servers::Ledger;

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let address = arguments
        .next()
        .and_then(|text| text.to_str()?.parse::<SocketAddr>().ok());
    let (Some(address), Some(journal)) = (address, arguments.next().map(PathBuf::from)) else {
        eprintln!("usage: ledger ADDRESS:PORT JOURNAL");
        std::process::exit(2);
    };
    let ledger = Ledger::open(address, &journal);
    println!("{}", ledger.url());
    ledger.wait();
}
