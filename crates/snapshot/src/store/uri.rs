//! Locations as text: what may be written, and the one canonical way in which streamd writes it back.

use std::fmt;
use std::sync::Arc;

use object_store::path::Path;

use crate::error::StoreError;

/// The kinds of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scheme {
    /// The file system of this machine (or one that is mounted on it).
    File,
    /// The memory of this process, for tests.
    Memory,
    /// Amazon S3 and what speaks its language.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
    /// The Hadoop file system.
    Hdfs,
}

impl Scheme {
    /// The scheme in canonical URIs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Memory => "memory",
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
            Self::Hdfs => "hdfs",
        }
    }

    /// Whether every operation goes over a network, and may hang or be carried out without an answer.
    pub(super) fn is_remote(self) -> bool {
        match self {
            Self::File | Self::Memory => false,
            Self::S3 | Self::Gcs | Self::Azure | Self::Hdfs => true,
        }
    }
}

/// A store as a whole: its kind, and which one of that kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Root {
    pub(super) scheme: Scheme,
    /// A bucket, a container (`container@host` where it names its account), a name node. Empty where there is only one store.
    pub(super) authority: Arc<str>,
}

impl Root {
    fn new(scheme: Scheme, authority: &str) -> Self {
        Self {
            scheme,
            authority: authority.into(),
        }
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Azure if self.authority.contains('@') => "abfss",
            scheme => scheme.name(),
        };
        write!(f, "{scheme}://{}", self.authority)
    }
}

/// The longest location that is accepted: longer than any path that a file system takes.
const MAX_URI_BYTES: usize = 4096;

/// Reads `file:///path`, `/path`, `memory://path`, `s3://bucket/path` or the like.
pub(super) fn parse(uri: &str) -> Result<(Root, Path), StoreError> {
    let invalid = |reason| StoreError::InvalidUri {
        uri: shown(uri),
        reason,
    };
    if uri.len() > MAX_URI_BYTES {
        return Err(invalid("it is longer than 4096 bytes"));
    }
    let Some((scheme, rest)) = uri.split_once("://") else {
        let plain = if uri.starts_with('/') {
            uri
        } else {
            return Err(invalid(without_scheme(uri)));
        };
        return Ok((Root::new(Scheme::File, ""), to_path(plain).map_err(invalid)?));
    };
    let scheme = scheme.to_ascii_lowercase();
    let names_container = matches!(scheme.as_str(), "abfs" | "abfss" | "wasb" | "wasbs");
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') && !(names_container && authority.matches('@').count() == 1 && !authority.contains(':'))
    {
        return Err(invalid("it holds a user name or a password"));
    }
    if rest.contains(['?', '#']) {
        return Err(invalid(
            "it holds a query or a fragment (write `%3F` for `?` and `%23` for `#` in a name)",
        ));
    }
    let decoded = percent_decoded(rest).ok_or_else(|| invalid("a `%` is not followed by two hexadecimal digits"))?;
    let scheme = match scheme.as_str() {
        "file" if !decoded.starts_with('/') => {
            return Err(invalid("a `file` location has three slashes: `file:///path`"));
        }
        "file" => return Ok((Root::new(Scheme::File, ""), to_path(&decoded).map_err(invalid)?)),
        "memory" => return Ok((Root::new(Scheme::Memory, ""), to_path(&decoded).map_err(invalid)?)),
        "s3" | "s3a" | "s3p" => Scheme::S3,
        "gs" => Scheme::Gcs,
        "az" | "abfs" | "abfss" | "wasb" | "wasbs" => Scheme::Azure,
        "hdfs" => Scheme::Hdfs,
        other => {
            return Err(StoreError::UnknownScheme {
                uri: shown(uri),
                scheme: shown(other),
            });
        }
    };
    let authority = authority_of(scheme, names_container, authority).map_err(invalid)?;
    let path = decoded.split_once('/').map_or("", |(_store, path)| path);
    Ok((Root::new(scheme, &authority), to_path(path).map_err(invalid)?))
}

/// The store that a URI names, in the one way in which streamd writes it.
fn authority_of(scheme: Scheme, names_container: bool, authority: &str) -> Result<String, &'static str> {
    if authority.is_empty() {
        return Err("it names no store: a bucket, container or name node stands after `//`");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_name = |text: &str| !text.is_empty() && text.chars().all(plain);
    if names_container {
        let named = authority
            .split_once('@')
            .filter(|(container, host)| is_name(container) && is_name(host));
        let (container, host) =
            named.ok_or("it is not of the form `abfss://container@account.dfs.core.windows.net/path`")?;
        return Ok(format!("{container}@{}", host.replacen(".blob.", ".dfs.", 1)));
    }
    let name = match authority.split_once(':') {
        Some((host, port)) if scheme == Scheme::Hdfs && port.parse::<u16>().is_ok() => host,
        _no_port => authority,
    };
    match is_name(name) {
        true => Ok(authority.to_owned()),
        false => Err("its store's name holds something else than letters, digits, `.`, `-` and `_`"),
    }
}

fn without_scheme(uri: &str) -> &'static str {
    if uri.is_empty() {
        "it is empty"
    } else {
        "it is neither an absolute path nor a URI"
    }
}

/// The canonical text of a location.
pub(super) fn to_uri(root: &Root, path: &Path) -> String {
    let mut uri = format!("{root}/");
    if path.as_ref().is_empty() && root.scheme.is_remote() {
        uri.pop();
    }
    for c in path.as_ref().chars() {
        match c {
            '%' | '?' | '#' | ' ' | '"' | '<' | '>' | '`' => uri.push_str(&format!("%{:02X}", u32::from(c))),
            _plain => uri.push(c),
        }
    }
    uri
}

/// A path without empty, `.` and `..` segments, or why there is none. Slashes at either end and double ones are dropped.
fn to_path(text: &str) -> Result<Path, &'static str> {
    let segments: Vec<&str> = text.split('/').filter(|segment| !segment.is_empty()).collect();
    if segments.iter().any(|segment| matches!(*segment, "." | "..")) {
        return Err("it holds a `.` or `..` segment");
    }
    Path::parse(segments.join("/")).map_err(|_illegal| "it holds a control character")
}

/// Names within a folder: the same rules, and nothing that leads out of it.
pub(super) fn check_relative(name: &str) -> Result<Path, StoreError> {
    let invalid = |reason| StoreError::InvalidName {
        name: shown(name),
        reason,
    };
    if name.is_empty() {
        return Err(invalid("it is empty"));
    }
    if name.len() > MAX_URI_BYTES {
        return Err(invalid("it is longer than 4096 bytes"));
    }
    if name.contains("://") || name.starts_with('/') {
        return Err(invalid("it is absolute"));
    }
    if name.split('/').any(str::is_empty) {
        return Err(invalid("it has an empty segment"));
    }
    to_path(name).map_err(invalid)
}

/// Whether a name is one of an object within a folder.
pub(crate) fn check_name(name: &str) -> Result<(), StoreError> {
    check_relative(name).map(drop)
}

fn percent_decoded(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = tail.get(..2)?;
        let high = char::from(digits[0]).to_digit(16)?;
        let low = char::from(digits[1]).to_digit(16)?;
        bytes.push(u8::try_from(high * 16 + low).ok()?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).ok()
}

/// A location for an error message: without user name and password, without control characters, at most 200 characters.
fn shown(uri: &str) -> String {
    let bare = match uri.split_once("://") {
        Some((scheme, rest)) => match rest.split_once('/') {
            Some((authority, path)) if authority.contains('@') => format!("{scheme}://…/{path}"),
            None if rest.contains('@') => format!("{scheme}://…"),
            _no_secret => uri.to_owned(),
        },
        None => uri.to_owned(),
    };
    bare.chars()
        .take(200)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(uri: &str) -> String {
        let (root, path) = parse(uri).unwrap();
        to_uri(&root, &path)
    }

    #[test]
    fn a_path_and_its_uri_are_the_same_place() {
        assert_eq!(canonical("/data/savepoints/"), "file:///data/savepoints");
        assert_eq!(canonical("file:///data//savepoints"), "file:///data/savepoints");
        assert_eq!(canonical("/with space/50%/ü#1"), "file:///with%20space/50%25/ü%231");
        assert_eq!(
            canonical(&canonical("/with space/50%/ü#1")),
            canonical("/with space/50%/ü#1")
        );
    }

    #[test]
    fn what_is_no_location_is_refused_with_a_reason() {
        for bad in [
            "",
            "data",
            "./data",
            "file://host/data",
            "/a/../b",
            "file:///a/%2e%2e/b",
            "/a\u{7}",
            "file:///%zz",
        ] {
            assert!(matches!(parse(bad), Err(StoreError::InvalidUri { .. })), "{bad}");
        }
    }

    #[test]
    fn every_spelling_of_a_store_is_the_same_place() {
        for uri in ["s3://bucket/a/b", "s3a://bucket/a/b/", "S3P://bucket//a/b"] {
            assert_eq!(canonical(uri), "s3://bucket/a/b");
        }
        assert_eq!(canonical("gs://bucket"), "gs://bucket");
        assert_eq!(canonical("az://container/a%20b"), "az://container/a%20b");
        let named = "abfss://container@account.dfs.core.windows.net/x";
        assert_eq!(canonical("wasbs://container@account.blob.core.windows.net/x"), named);
        assert_eq!(canonical("abfs://container@account.dfs.core.windows.net/x/"), named);
        assert_eq!(canonical("hdfs://namenode:8020/x"), "hdfs://namenode:8020/x");
    }

    #[test]
    fn a_store_that_nobody_knows_is_refused_with_those_that_there_are() {
        let error = parse("ftp://host/x").unwrap_err();
        assert!(matches!(&error, StoreError::UnknownScheme { scheme, .. } if scheme == "ftp"));
        assert!(error.to_string().contains("`s3`"), "{error}");
        for bad in [
            "s3:///x",
            "s3://",
            "s3://a:1/x",
            "s3://a b/x",
            "hdfs://h:port/x",
            "abfss://account.dfs/x",
            "gs://ü/x",
        ] {
            assert!(matches!(parse(bad), Err(StoreError::InvalidUri { .. })), "{bad}");
        }
    }

    #[test]
    fn a_password_appears_in_no_message() {
        for scheme in ["file", "s3", "abfss", "hdfs", "ftp", "az"] {
            let error = parse(&format!("{scheme}://me:secret@host/x")).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
            let error = parse(&format!("{scheme}://me:secret@host")).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_name_cannot_leave_its_folder() {
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "file:///x", "a/."] {
            assert!(check_relative(bad).is_err(), "{bad}");
        }
        assert_eq!(check_relative("a/b.state").unwrap().as_ref(), "a/b.state");
    }
}
