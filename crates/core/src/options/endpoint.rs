//! Addresses of stores that speak HTTP, and which of them may be spoken to without encryption.

use std::net::IpAddr;

/// What is wrong with the address of a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not `https://host` or the like.
    #[error("expected a URL like `https://host:port`, found `{0}`")]
    Malformed(String),
    /// `http://` to another machine: whoever is between reads the state and the keys.
    #[error("the endpoint `{0}` is not encrypted, and it is not on this machine")]
    Insecure(String),
    /// A user name or password: it would reach logs.
    #[error("the URL of an endpoint must hold no user name or password")]
    Credentials,
}

/// How a store is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TLS.
    Encrypted,
    /// Plain HTTP, to this very machine.
    Loopback,
}

/// Checks the URL of a store's endpoint: HTTPS to anywhere, plain HTTP to this machine only.
pub fn check_endpoint(url: &str) -> Result<Transport, EndpointError> {
    let malformed = || EndpointError::Malformed(without_authority(url));
    let (scheme, rest) = url.split_once("://").ok_or_else(malformed)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(EndpointError::Credentials);
    }
    let host = host_of(authority).ok_or_else(malformed)?;
    if rest.contains(['?', '#']) || rest.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(malformed());
    }
    match scheme.to_ascii_lowercase().as_str() {
        "https" => Ok(Transport::Encrypted),
        "http" if is_loopback(host) => Ok(Transport::Loopback),
        "http" => Err(EndpointError::Insecure(url.to_owned())),
        _other => Err(malformed()),
    }
}

/// The host of `host`, `host:port` or `[v6]:port`.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest.strip_prefix(':').or(rest.is_empty().then_some("")))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some("")),
        },
    };
    let port = port?;
    let is_port = port.is_empty() || port.parse::<u16>().is_ok();
    (is_port && !host.is_empty()).then_some(host)
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What may be shown of a URL that was not understood.
fn without_authority(url: &str) -> String {
    if url.contains('@') {
        "…".to_owned()
    } else {
        url.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for url in [
            "http://127.0.0.1:9000",
            "http://localhost",
            "http://[::1]:9000/base",
            "HTTP://127.9.9.9",
        ] {
            assert_eq!(check_endpoint(url), Ok(Transport::Loopback), "{url}");
        }
        for url in ["https://s3.example.org", "https://10.0.0.1:9000"] {
            assert_eq!(check_endpoint(url), Ok(Transport::Encrypted), "{url}");
        }
        for url in [
            "http://10.0.0.1:9000",
            "http://localhost.example.org",
            "http://127.0.0.1.nip.io",
        ] {
            assert!(matches!(check_endpoint(url), Err(EndpointError::Insecure(_))), "{url}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused_and_a_password_is_not_repeated() {
        for url in [
            "",
            "host",
            "ftp://host",
            "https://",
            "https://host:port",
            "https://host?x=1",
            "https://[::1",
            "https://a b",
        ] {
            assert!(matches!(check_endpoint(url), Err(EndpointError::Malformed(_))), "{url}");
        }
        for url in [
            "https://me:hunter2@host",
            "http://me:hunter2@127.0.0.1",
            "me:hunter2@host",
        ] {
            let error = check_endpoint(url).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
