//! Locations as text: what may be written, and the one canonical way in which streamd writes it back.

use object_store::path::Path;

use crate::error::StoreError;

/// The kinds of store that this version opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// The file system of this machine (or one that is mounted on it).
    File,
    /// The memory of this process, for tests.
    Memory,
}

/// The longest location that is accepted: longer than any path that a file system takes.
const MAX_URI_BYTES: usize = 4096;

/// Reads `file:///path`, `/path` or `memory://path`.
pub(super) fn parse(uri: &str) -> Result<(Scheme, Path), StoreError> {
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
        return Ok((Scheme::File, to_path(plain).map_err(invalid)?));
    };
    if rest.split('/').next().is_some_and(|authority| authority.contains('@')) {
        return Err(invalid("it holds a user name or a password"));
    }
    if rest.contains(['?', '#']) {
        return Err(invalid(
            "it holds a query or a fragment (write `%3F` for `?` and `%23` for `#` in a name)",
        ));
    }
    let decoded = percent_decoded(rest).ok_or_else(|| invalid("a `%` is not followed by two hexadecimal digits"))?;
    match scheme.to_ascii_lowercase().as_str() {
        "file" if !decoded.starts_with('/') => Err(invalid("a `file` location has three slashes: `file:///path`")),
        "file" => Ok((Scheme::File, to_path(&decoded).map_err(invalid)?)),
        "memory" => Ok((Scheme::Memory, to_path(&decoded).map_err(invalid)?)),
        _other => Err(StoreError::UnsupportedScheme {
            uri: shown(uri),
            scheme: shown(scheme),
        }),
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
pub(super) fn to_uri(scheme: Scheme, path: &Path) -> String {
    let prefix = match scheme {
        Scheme::File => "file:///",
        Scheme::Memory => "memory:///",
    };
    let mut uri = prefix.to_owned();
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
        let (scheme, path) = parse(uri).unwrap();
        to_uri(scheme, &path)
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
    fn a_store_of_a_later_version_is_named() {
        let error = parse("s3://bucket/x").unwrap_err();
        assert!(matches!(&error, StoreError::UnsupportedScheme { scheme, .. } if scheme == "s3"));
    }

    #[test]
    fn a_password_appears_in_no_message() {
        let error = parse("file://me:secret@host/x").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn a_name_cannot_leave_its_folder() {
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "file:///x", "a/."] {
            assert!(check_relative(bad).is_err(), "{bad}");
        }
        assert_eq!(check_relative("a/b.state").unwrap().as_ref(), "a/b.state");
    }
}
