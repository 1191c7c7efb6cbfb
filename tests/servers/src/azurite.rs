//! Azurite, Microsoft's emulator of its blob storage (npm `azurite`).

use std::process::Command;

use crate::server::{Server, required};

/// Its account.
pub const ACCOUNT: &str = "devstoreaccount1";

/// The key of the account: Microsoft publishes it, for this emulator alone.
pub const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// The name of the container that it begins with.
pub const CONTAINER: &str = "snapshots";

/// Makes the container: a request that has to be signed, with what Python has at hand.
const MAKE_CONTAINER: &str = r#"
import base64, email.utils, hashlib, hmac, http.client, sys
address, account, key, container = sys.argv[1:]
date = email.utils.formatdate(usegmt=True)
path = f"/{account}/{container}"
headers = f"x-ms-date:{date}\nx-ms-version:2021-08-06\n"
text = "PUT" + "\n" * 12 + headers + f"/{account}{path}\nrestype:container"
digest = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()
connection = http.client.HTTPConnection(address)
connection.request("PUT", path + "?restype=container", headers={
    "x-ms-date": date, "x-ms-version": "2021-08-06", "Content-Length": "0",
    "Authorization": f"SharedKey {account}:{base64.b64encode(digest).decode()}"})
response = connection.getresponse()
sys.exit(0 if response.status == 201 else f"{response.status} {response.read()}")
"#;

/// Starts it, with an empty container. Its endpoint is `<url>/<account>`.
pub fn start() -> Server {
    let program = required("servers/azurite/node_modules/azurite/dist/src/blob/main.js");
    let server = Server::start("the Azure emulator azurite", |address, directory| {
        let mut command = Command::new("node");
        command
            .arg(program)
            .args(["--blobHost", &address.ip().to_string()])
            .args(["--blobPort", &address.port().to_string()])
            .args(["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--location"])
            .arg(directory);
        command
    });
    let made = Command::new("python3")
        .args([
            "-c",
            MAKE_CONTAINER,
            &server.address().to_string(),
            ACCOUNT,
            KEY,
            CONTAINER,
        ])
        .output()
        .expect("python3 is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    server
}
