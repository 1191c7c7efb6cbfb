//! Errors over the wire: [`CodedError`] ⇄ [`Status`].
//!
//! The whole error travels in the binary metadata `streamd-error-bin`. The gRPC code and message beside it are for
//! foreign clients. A status without the metadata was not written by streamd: by the transport, a proxy, or a peer
//! that is something else; it becomes the error that a person would call it.

use std::error::Error as _;

use bytes::Bytes;
use prost::Message;
use streamd_core::error::{CodedError, ErrorCode, Remedy, chain};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::proto;

/// The metadata that carries the error.
pub const ERROR_METADATA: &str = "streamd-error-bin";

/// Bytes of a message that travel. With hint and base64 it stays below the 16 KiB that a peer takes as headers.
const MAX_MESSAGE_BYTES: usize = 6 * 1024;

/// Bytes of a hint that travel.
const MAX_HINT_BYTES: usize = 1024;

/// Bytes of the message that are repeated for foreign clients, which may get percent-encoded to three times as many.
const MAX_FOREIGN_MESSAGE_BYTES: usize = 512;

/// The status that carries an error to the caller.
pub fn to_status(error: &CodedError) -> Status {
    let detail = to_proto(error);
    let mut metadata = MetadataMap::new();
    metadata.insert_bin(ERROR_METADATA, MetadataValue::from_bytes(&detail.encode_to_vec()));
    let message = one_line(&error.message, MAX_FOREIGN_MESSAGE_BYTES);
    Status::with_metadata(grpc_code(error.code), format!("{message} [{}]", error.code), metadata)
}

/// The error that a status carries. `peer` names who was asked, like "the job manager at `host:port`".
pub fn from_status(status: &Status, peer: &str) -> CodedError {
    status
        .metadata()
        .get_bin(ERROR_METADATA)
        .and_then(|value| value.to_bytes().ok())
        .and_then(|bytes: Bytes| proto::Error::decode(bytes).ok())
        .map_or_else(|| from_foreign_status(status, peer), |detail| from_proto(&detail))
}

/// The message form of an error.
pub fn to_proto(error: &CodedError) -> proto::Error {
    proto::Error {
        code: u32::from(error.code as u16),
        message: one_line(&error.message, MAX_MESSAGE_BYTES),
        hint: one_line(error.hint.as_deref().unwrap_or_default(), MAX_HINT_BYTES),
    }
}

/// The error in a message. A code of a newer version is kept in the text.
pub fn from_proto(error: &proto::Error) -> CodedError {
    let message = one_line(&error.message, MAX_MESSAGE_BYTES);
    let known = u16::try_from(error.code).ok().and_then(ErrorCode::from_number);
    let coded = match known {
        Some(code) => CodedError::new(code, message),
        None => CodedError::new(
            ErrorCode::ProtocolMismatch,
            format!("{message} (the other side calls this SD-{:04})", error.code),
        ),
    };
    match error.hint.is_empty() {
        true => coded,
        false => coded.with_hint(one_line(&error.hint, MAX_HINT_BYTES)),
    }
}

/// Text as one line of at most `limit` bytes, without control characters: what arrives ends on terminals.
pub fn one_line(text: &str, limit: usize) -> String {
    let mut line = String::with_capacity(text.len().min(limit + 4));
    for character in text.chars() {
        if line.len() + character.len_utf8() > limit {
            line.push('…');
            break;
        }
        line.push(if character.is_control() { ' ' } else { character });
    }
    line.truncate(line.trim_end().len());
    line
}

/// What foreign clients see of a code.
fn grpc_code(code: ErrorCode) -> Code {
    match (code, code.remedy()) {
        (ErrorCode::DuplicateJob, _) => Code::AlreadyExists,
        (ErrorCode::DeadlineExceeded, _) => Code::DeadlineExceeded,
        (ErrorCode::NotEnoughSlots, _) => Code::ResourceExhausted,
        (ErrorCode::SnapshotCorrupt, _) => Code::DataLoss,
        (_, Remedy::Failed) => Code::Aborted,
        (_, Remedy::Usage) => Code::InvalidArgument,
        (_, Remedy::NotFound) => Code::NotFound,
        (_, Remedy::Conflict | Remedy::Snapshot) => Code::FailedPrecondition,
        (_, Remedy::Denied) => Code::PermissionDenied,
        (_, Remedy::Unavailable) => Code::Unavailable,
        (_, Remedy::Unknown) => Code::Unknown,
        (_, Remedy::Internal) => Code::Internal,
    }
}

fn from_foreign_status(status: &Status, peer: &str) -> CodedError {
    let reason = reason_of(status);
    if is_broken_protocol(status, &reason) {
        return protocol_mismatch(peer, &reason);
    }
    let lost = || {
        CodedError::new(
            ErrorCode::JobManagerUnreachable,
            format!("{peer} does not answer: {reason}"),
        )
    };
    match status.code() {
        Code::DeadlineExceeded => deadline_exceeded(peer),
        Code::Cancelled if reason.contains("Timeout expired") => deadline_exceeded(peer),
        Code::Unavailable | Code::Cancelled | Code::Aborted => lost(),
        Code::Unimplemented | Code::Unauthenticated | Code::PermissionDenied => protocol_mismatch(peer, &reason),
        Code::ResourceExhausted | Code::OutOfRange => CodedError::new(
            ErrorCode::InvalidArgument,
            format!("a message to or from {peer} is too large: {reason}"),
        ),
        Code::Unknown | Code::Internal | Code::DataLoss if status.source().is_some() => lost(),
        Code::Ok
        | Code::Unknown
        | Code::Internal
        | Code::DataLoss
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition => CodedError::new(
            ErrorCode::Internal,
            format!("{peer} refused the call without a reason code: {reason}"),
        ),
    }
}

fn deadline_exceeded(peer: &str) -> CodedError {
    CodedError::new(ErrorCode::DeadlineExceeded, format!("{peer} did not answer in time"))
}

/// The error for a peer that answers, but not with gRPC.
pub(crate) fn protocol_mismatch(peer: &str, reason: &str) -> CodedError {
    CodedError::new(
        ErrorCode::ProtocolMismatch,
        format!("{peer} does not speak streamd's protocol: {reason}"),
    )
    .with_hint("check that the address is the job manager's RPC port, and that both sides run the same version")
}

/// Message and causes of a status, without what tonic says to everything.
fn reason_of(status: &Status) -> String {
    let causes = status.source().map(chain).unwrap_or_default();
    let reason = match (status.message(), causes.as_str()) {
        ("", "") => status.code().description().to_owned(),
        (message, "") => message.to_owned(),
        ("" | "transport error", causes) => causes.to_owned(),
        (message, causes) if causes.contains(message) => causes.to_owned(),
        (message, causes) => format!("{message}: {causes}"),
    };
    one_line(&reason, MAX_FOREIGN_MESSAGE_BYTES)
}

/// Whether the transport read bytes that are no HTTP/2 (an HTTP/1 server, a banner, TLS), or HTTP that is no gRPC.
///
/// `h2` keeps its error type to itself here, so that its words have to do: "detected" is what it says of violations
/// that it saw itself.
fn is_broken_protocol(status: &Status, reason: &str) -> bool {
    (status.source().is_some() && reason.contains("connection error detected"))
        || reason.contains("grpc-status header missing")
        || reason.contains("invalid compression flag")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_way_over_the_wire() {
        for code in ErrorCode::ALL {
            let error = CodedError::new(*code, "job `a` is gone").with_hint("look again");
            assert_eq!(from_status(&to_status(&error), "the peer"), error);
        }
    }

    #[test]
    fn an_error_of_any_length_fits_into_the_headers_and_stays_one_line() {
        let error =
            CodedError::new(ErrorCode::DescribeFailed, "ä\n\u{1b}[2J".repeat(100_000)).with_hint("x".repeat(9999));
        let status = to_status(&error);
        let detail = to_proto(&error);
        assert!(detail.encoded_len() * 4 / 3 + status.message().len() * 3 < 14 * 1024);
        let back = from_status(&status, "the peer");
        assert!(!back.message.contains(char::is_control) && back.message.ends_with('…'));
    }

    #[test]
    fn the_code_of_a_newer_version_is_told_and_not_lost() {
        let error = from_proto(&proto::Error {
            code: 7777,
            message: "the moon is full".to_owned(),
            hint: String::new(),
        });
        assert_eq!(error.code, ErrorCode::ProtocolMismatch);
        assert_eq!(error.message, "the moon is full (the other side calls this SD-7777)");
    }

    #[test]
    fn a_status_of_somebody_else_becomes_what_a_person_would_call_it() {
        let code = |status: Status| from_status(&status, "the job manager at `a:1`").code;
        assert_eq!(code(Status::unavailable("gone")), ErrorCode::JobManagerUnreachable);
        assert_eq!(code(Status::deadline_exceeded("")), ErrorCode::DeadlineExceeded);
        assert_eq!(code(Status::cancelled("Timeout expired")), ErrorCode::DeadlineExceeded);
        assert_eq!(code(Status::unimplemented("what?")), ErrorCode::ProtocolMismatch);
        assert_eq!(code(Status::internal("oops")), ErrorCode::Internal);
        assert_eq!(code(Status::out_of_range("too large")), ErrorCode::InvalidArgument);
    }

    #[test]
    fn metadata_that_is_no_error_is_ignored() {
        let mut status = Status::unavailable("gone");
        status
            .metadata_mut()
            .insert_bin(ERROR_METADATA, MetadataValue::from_bytes(&[0xff; 9]));
        assert_eq!(from_status(&status, "it").code, ErrorCode::JobManagerUnreachable);
    }
}
