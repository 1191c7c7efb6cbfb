//! Whether a file can be a program on this host, judged by its first bytes: a better answer than `Exec format error`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use streamd_core::error::{CodedError, ErrorCode};

/// The bytes of an ELF header up to and including the machine.
const HEADER_BYTES: usize = 20;

/// `EI_DATA` of little-endian files.
const LITTLE_ENDIAN: u8 = 1;

/// Refuses a file that this host cannot execute. `name` is what the user calls it.
pub(crate) fn examine(path: &Path, name: &str) -> Result<(), CodedError> {
    let header = read_header(path).map_err(|error| {
        CodedError::caused(
            ErrorCode::ApplicationNotExecutable,
            format!("application `{name}` cannot be read on the task manager"),
            &error,
        )
    })?;
    match judge(&header) {
        Verdict::Script | Verdict::Native => Ok(()),
        Verdict::Foreign(built_for) => Err(CodedError::new(
            ErrorCode::ApplicationNotExecutable,
            format!(
                "application `{name}` is built for {built_for}, and the task manager's host is {}",
                this_host()
            ),
        )
        .with_hint(format!(
            "build it with `--target {}-unknown-linux-gnu`",
            std::env::consts::ARCH
        ))),
        Verdict::NoProgram => Err(CodedError::new(
            ErrorCode::ApplicationNotExecutable,
            format!("application `{name}` is no program: it begins like no executable file"),
        )
        .with_hint("give the path of the built binary, like target/release/NAME, and not of its source")),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Native,
    Script,
    Foreign(String),
    NoProgram,
}

fn this_host() -> String {
    format!("Linux on {}", std::env::consts::ARCH)
}

fn read_header(path: &Path) -> io::Result<Vec<u8>> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    File::open(path)?.take(HEADER_BYTES as u64).read_to_end(&mut header)?;
    Ok(header)
}

fn judge(header: &[u8]) -> Verdict {
    match header {
        [b'#', b'!', ..] => Verdict::Script,
        [0x7f, b'E', b'L', b'F', ..] if header.len() == HEADER_BYTES => judge_elf(header),
        [b'M', b'Z', ..] => Verdict::Foreign("Windows".to_owned()),
        [0xcf, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => Verdict::Foreign("macOS".to_owned()),
        _other => Verdict::NoProgram,
    }
}

fn judge_elf(header: &[u8]) -> Verdict {
    let machine = match header[5] {
        LITTLE_ENDIAN => u16::from_le_bytes([header[18], header[19]]),
        _big => u16::from_be_bytes([header[18], header[19]]),
    };
    let Some(own) = machine_of(std::env::consts::ARCH) else {
        // An architecture that this list does not know: the kernel shall judge.
        return Verdict::Native;
    };
    match machine == own {
        true => Verdict::Native,
        false => Verdict::Foreign(format!("Linux on {}", name_of(machine))),
    }
}

/// ELF's numbers of the architectures that Rust calls by these names.
const MACHINES: [(&str, u16); 9] = [
    ("x86", 3),
    ("powerpc64", 21),
    ("s390x", 22),
    ("arm", 40),
    ("x86_64", 62),
    ("aarch64", 183),
    ("riscv64", 243),
    ("loongarch64", 258),
    ("mips64", 8),
];

fn machine_of(architecture: &str) -> Option<u16> {
    MACHINES
        .iter()
        .find(|(name, _)| *name == architecture)
        .map(|(_, machine)| *machine)
}

fn name_of(machine: u16) -> String {
    match MACHINES.iter().find(|(_, number)| *number == machine) {
        Some((name, _)) => (*name).to_owned(),
        None => format!("machine {machine}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(machine: u16) -> Vec<u8> {
        let mut header = b"\x7fELF\x02\x01\x01".to_vec();
        header.resize(18, 0);
        header.extend_from_slice(&machine.to_le_bytes());
        header
    }

    #[test]
    fn the_program_that_runs_this_test_is_native() {
        examine(&std::env::current_exe().unwrap(), "test").unwrap();
    }

    #[test]
    fn programs_of_other_hosts_are_called_by_their_name() {
        let foreign = if std::env::consts::ARCH == "aarch64" { 62 } else { 183 };
        assert!(matches!(judge(&elf(foreign)), Verdict::Foreign(_)));
        assert_eq!(judge(&elf(4711)), Verdict::Foreign("Linux on machine 4711".to_owned()));
        assert_eq!(judge(b"MZ\x90\0"), Verdict::Foreign("Windows".to_owned()));
        assert_eq!(judge(b"\xcf\xfa\xed\xfe\0"), Verdict::Foreign("macOS".to_owned()));
    }

    #[test]
    fn what_is_no_program_is_told_before_it_is_tried() {
        for text in [&b"fn main() {}"[..], b"", b"\x7fEL", b"\x7fELF", b"PK\x03\x04"] {
            assert_eq!(judge(text), Verdict::NoProgram, "{text:?}");
        }
        assert_eq!(judge(b"#!/bin/sh\n"), Verdict::Script);
    }
}
