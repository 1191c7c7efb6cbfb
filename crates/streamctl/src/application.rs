//! The application file, looked at before it is sent: what can never run is refused at once, with the reason.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::options::{Configuration, format_size, keys};
use streamd_rpc::client::{ApplicationFile, unreadable};

/// Bytes of an ELF header, 64 bit.
const ELF_HEADER_BYTES: usize = 64;

/// Checks the file and reads its digest.
pub async fn open(path: &Path, configuration: &Configuration) -> Result<ApplicationFile, CodedError> {
    check(path, configuration.get(keys::APPLICATION_MAX_SIZE).0)?;
    ApplicationFile::open(path).await
}

fn check(path: &Path, limit: u64) -> Result<(), CodedError> {
    let shown = path.display();
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    let refuse = |code, reason: &str| CodedError::new(code, format!("application file `{shown}` {reason}"));
    if metadata.is_dir() {
        return Err(refuse(ErrorCode::ApplicationNotExecutable, "is a directory")
            .with_hint("give the path of the binary, like target/release/my-application"));
    }
    if !metadata.is_file() {
        return Err(refuse(ErrorCode::ApplicationNotExecutable, "is no regular file")
            .with_hint("give the path of the binary, like target/release/my-application"));
    }
    if metadata.len() == 0 {
        return Err(refuse(ErrorCode::ApplicationNotExecutable, "is empty").with_hint("build it again"));
    }
    if metadata.len() > limit {
        let size = format!(
            "has {} bytes where at most {} are allowed",
            metadata.len(),
            format_size(limit)
        );
        return Err(refuse(ErrorCode::ApplicationTooLarge, &size)
            .with_hint("build it with `--release`, strip its symbols, or raise `application.max-size`"));
    }
    if !is_executable(&metadata) {
        return Err(
            refuse(ErrorCode::ApplicationNotExecutable, "is not executable").with_hint(format!("chmod +x {shown}"))
        );
    }
    check_format(&header(path).map_err(|error| unreadable(path, &error))?)
        .map_err(|(code, reason, hint)| refuse(code, &reason).with_hint(hint))
}

#[cfg(unix)]
fn is_executable(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o111 != 0
}

fn header(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut header = Vec::with_capacity(ELF_HEADER_BYTES);
    File::open(path)?
        .take(ELF_HEADER_BYTES as u64)
        .read_to_end(&mut header)?;
    Ok(header)
}

type Refusal = (ErrorCode, String, &'static str);

const WHAT_IS_ONE: &str = "an application is a native binary that links the `streamd` crate";

/// Task managers run ELF binaries of their own kind of processor; this machine's stands for theirs.
#[cfg(target_os = "linux")]
fn check_format(header: &[u8]) -> Result<(), Refusal> {
    if !header.starts_with(b"\x7fELF") {
        let what = if header.starts_with(b"#!") {
            "is a script"
        } else {
            "is no executable program"
        };
        return Err((ErrorCode::NotAnApplication, what.to_owned(), WHAT_IS_ONE));
    }
    if header.len() < ELF_HEADER_BYTES {
        return Err((
            ErrorCode::ApplicationNotExecutable,
            "ends within its header".to_owned(),
            "build it again",
        ));
    }
    // Class, byte order, then type and machine as numbers of two bytes.
    let (class, order) = (header[4], header[5]);
    let number = |at: usize| {
        let bytes = [header[at], header[at + 1]];
        if order == 2 {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        }
    };
    let (kind, machine) = (number(16), number(18));
    if (machine, class, order) != (machine_here(), class_here(), order_here()) {
        return Err((
            ErrorCode::ApplicationNotExecutable,
            format!(
                "is built for {}, not for {}",
                machine_name(machine),
                std::env::consts::ARCH
            ),
            "build it for the kind of processor that the task managers run on",
        ));
    }
    match kind {
        2 | 3 => Ok(()),
        _no_program => Err((
            ErrorCode::NotAnApplication,
            "is an object file, no program".to_owned(),
            WHAT_IS_ONE,
        )),
    }
}

#[cfg(not(target_os = "linux"))]
fn check_format(_header: &[u8]) -> Result<(), Refusal> {
    Ok(())
}

/// The numbers of processors in ELF headers.
const MACHINES: [(u16, &str); 6] = [
    (62, "x86_64"),
    (183, "aarch64"),
    (3, "x86"),
    (40, "arm"),
    (243, "riscv64"),
    (21, "powerpc64"),
];

fn machine_name(machine: u16) -> String {
    let known = MACHINES.iter().find(|(number, _)| *number == machine);
    known.map_or_else(|| format!("processor type {machine}"), |(_, name)| (*name).to_owned())
}

fn machine_here() -> u16 {
    let known = MACHINES.iter().find(|(_, name)| *name == std::env::consts::ARCH);
    known.map_or(0, |(number, _)| *number)
}

fn class_here() -> u8 {
    if cfg!(target_pointer_width = "64") { 2 } else { 1 }
}

fn order_here() -> u8 {
    if cfg!(target_endian = "big") { 2 } else { 1 }
}

#[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
mod tests {
    use super::*;

    fn elf(kind: u16, machine: u16) -> Vec<u8> {
        let mut header = vec![0; ELF_HEADER_BYTES];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[16..18].copy_from_slice(&kind.to_le_bytes());
        header[18..20].copy_from_slice(&machine.to_le_bytes());
        header
    }

    #[test]
    fn a_program_of_this_machine_is_let_through() {
        assert!(check_format(&elf(3, 62)).is_ok() && check_format(&elf(2, 62)).is_ok());
        assert!(check(&std::env::current_exe().unwrap(), u64::MAX).is_ok());
    }

    #[test]
    fn what_cannot_run_here_is_named_for_what_it_is() {
        let reason = |header: &[u8]| check_format(header).unwrap_err().1;
        assert_eq!(reason(b"#!/bin/sh\n"), "is a script");
        assert_eq!(reason(b"hello"), "is no executable program");
        assert_eq!(reason(&elf(3, 62)[..20]), "ends within its header");
        assert_eq!(reason(&elf(3, 183)), "is built for aarch64, not for x86_64");
        assert_eq!(
            reason(&elf(3, 9999)),
            "is built for processor type 9999, not for x86_64"
        );
        assert_eq!(reason(&elf(1, 62)), "is an object file, no program");
    }
}
