//! Values that name a place: a directory of this machine, or a folder of an object store.

/// What is wrong with a location.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Relative to what? Every process has another working directory.
    #[error("the path `{0}` is relative")]
    Relative(String),
    /// A kind of store that nobody here has heard of.
    #[error("the scheme `{scheme}` of `{location}` is unknown")]
    UnknownScheme {
        /// What stands before the colon.
        scheme: String,
        /// The whole, without user name and password.
        location: String,
    },
    /// `s3:///…`: a store without a name.
    #[error("the URI `{0}` names no store: a bucket or the like stands after `//`")]
    NoStore(String),
    /// A password would reach logs, and every process's list of arguments.
    #[error("the URI `{0}` holds a user name or password")]
    Credentials(String),
    /// `file://host/…`: files of another machine.
    #[error("the URI `{0}` names a host, but a `file` URI is a path of this machine")]
    Host(String),
    /// A path that climbs out of itself, or holds what no path may.
    #[error("the path `{0}` holds a `..` or a control character")]
    Unsafe(String),
    /// A URI where a path of this machine is needed.
    #[error("`{0}` is a URI, but a path of this machine is needed")]
    NotAPath(String),
    /// `memory://…` where several processes have to find the same.
    #[error("`{0}` is in the memory of one process, and every worker is a process of its own")]
    OfOneProcess(String),
}

/// A location that every process of a cluster finds, as [`absolute_location`] has it.
pub fn shared_location(text: &str) -> Result<String, LocationError> {
    let location = absolute_location(text)?;
    match location.starts_with("memory:") {
        true => Err(LocationError::OfOneProcess(location)),
        false => Ok(location),
    }
}

/// A location as the URI of a folder, without a slash at its end: `/data/cp/`, `file:/data/cp` and `file:///data/cp` are all
/// `file:///data/cp`.
pub fn absolute_location(text: &str) -> Result<String, LocationError> {
    let (scheme, rest) = match split_scheme(text) {
        None => return Ok(format!("file://{}", percent_encoded(checked(text)?))),
        Some(parts) => parts,
    };
    if scheme != "file" {
        return in_a_store(&scheme.to_ascii_lowercase(), rest);
    }
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err(LocationError::Host(format!("file:{}", without_user(rest)))),
    };
    Ok(format!("file://{}", checked(path)?))
}

/// The schemes of locations. Which of them a program can open depends on the features it was built with.
pub const KNOWN_SCHEMES: [&str; 12] = [
    "file", "s3", "s3a", "s3p", "gs", "az", "abfs", "abfss", "wasb", "wasbs", "hdfs", "memory",
];

/// The schemes whose URIs name a container before an `@`: `abfss://container@account.dfs.core.windows.net/path`.
const WITH_CONTAINER: [&str; 4] = ["abfs", "abfss", "wasb", "wasbs"];

/// The URI of a folder in a store that is not the local file system.
fn in_a_store(scheme: &str, rest: &str) -> Result<String, LocationError> {
    let shown = || format!("{scheme}:{}", without_user(rest));
    if !KNOWN_SCHEMES.contains(&scheme) {
        return Err(LocationError::UnknownScheme {
            scheme: scheme.to_owned(),
            location: shown(),
        });
    }
    let inside = rest.strip_prefix("//").ok_or_else(|| LocationError::NoStore(shown()))?;
    let (store, path) = inside.split_once('/').unwrap_or((inside, ""));
    let names_container = WITH_CONTAINER.contains(&scheme) && !store.contains(':') && store.matches('@').count() == 1;
    if store.contains('@') && !names_container {
        return Err(LocationError::Credentials(shown()));
    }
    if store.is_empty() && scheme != "memory" {
        return Err(LocationError::NoStore(shown()));
    }
    let path = checked(&format!("/{path}"))?.trim_end_matches('/').to_owned();
    Ok(format!("{scheme}://{store}{path}"))
}

/// A path as it is written in a URI: what would mean something else there is escaped.
fn percent_encoded(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for c in path.chars() {
        match c {
            '%' | '?' | '#' | ' ' | '"' | '<' | '>' | '`' => encoded.push_str(&format!("%{:02X}", u32::from(c))),
            plain => encoded.push(plain),
        }
    }
    encoded
}

/// An absolute path of this machine, without a slash at its end.
pub(super) fn absolute_directory(text: &str) -> Result<String, LocationError> {
    if split_scheme(text).is_some() {
        return Err(LocationError::NotAPath(text.to_owned()));
    }
    checked(text).map(str::to_owned)
}

fn checked(path: &str) -> Result<&str, LocationError> {
    if !path.starts_with('/') {
        return Err(LocationError::Relative(path.to_owned()));
    }
    if path.split('/').any(|part| part == "..") || path.chars().any(char::is_control) {
        return Err(LocationError::Unsafe(
            path.chars().filter(|c| !c.is_control()).collect(),
        ));
    }
    let trimmed = path.trim_end_matches('/');
    Ok(if trimmed.is_empty() { "/" } else { trimmed })
}

/// `scheme:rest`, where the scheme is one by RFC 3986.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    is_scheme.then_some((scheme, rest))
}

/// The rest of a URI without `user:password@`: it must not reach a log.
fn without_user(rest: &str) -> String {
    let Some(authority) = rest.strip_prefix("//") else {
        return rest.to_owned();
    };
    let end = authority.find('/').unwrap_or(authority.len());
    match authority[..end].rfind('@') {
        Some(at) => format!("//{}", &authority[at + 1..]),
        None => rest.to_owned(),
    }
}
