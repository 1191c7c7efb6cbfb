use streamd_core::barrier::SnapshotKind;
use streamd_core::error::ErrorCode;
use streamd_core::graph::JobGraph;
use streamd_core::id::{Attempt, CheckpointId, JobId};
use streamd_core::row::DataType;
use streamd_core::snapshot::{Inline, KeyedStateFormat, KeyedStateHandle, NativeSegment};
use streamd_core::time::WallTime;

use super::*;

const URI: &str = "file:///chk-1/_metadata";

fn handle(key_groups: KeyGroupRange) -> KeyedStateHandle {
    KeyedStateHandle {
        state: "count".to_owned(),
        key: DataType::String,
        namespace: None,
        value: DataType::UInt64,
        key_groups,
        format: KeyedStateFormat::Parquet,
        objects: vec![ObjectHandle {
            inline: None,
            path: "a/b.parquet".to_owned(),
            length: 3,
            digest: "0".repeat(32),
        }],
        rows: 1,
        bytes: 3,
    }
}

fn empty_graph() -> JobGraph {
    JobGraph::new("counts")
}

fn metadata() -> SnapshotMetadata {
    SnapshotMetadata {
        version: METADATA_VERSION,
        key_hash_version: KEY_HASH_VERSION,
        kind: SnapshotKind::Checkpoint,
        job_id: JobId::from_bytes([7; 16]),
        checkpoint_id: CheckpointId(1),
        triggered_at: WallTime(0),
        leader_epoch: 1,
        attempt: Attempt(1),
        nonce: "n".to_owned(),
        graph: empty_graph(),
        operators: vec![OperatorState {
            id: OperatorId::from_uid("u"),
            uid: Some("u".to_owned()),
            name: "count".to_owned(),
            parallelism: 1,
            max_parallelism: 128,
            keyed: vec![handle(KeyGroupRange::all(128))],
            lists: Vec::new(),
        }],
    }
}

/// Two states in one inlined object, and one in another.
fn inlining() -> SnapshotMetadata {
    let inlined = |state: &str, path: &str, bytes: &[u8], length| KeyedStateHandle {
        state: state.to_owned(),
        format: native([0, 0, 16, length]),
        objects: vec![ObjectHandle {
            path: path.to_owned(),
            length: bytes.len() as u64,
            digest: digest_text(xxh3_128(bytes)),
            inline: Some(Inline::Here(bytes.into())),
        }],
        ..handle(KeyGroupRange::all(128))
    };
    let (first, second) = ([0; 100], [1; 200]);
    let mut metadata = metadata();
    metadata.operators[0].keyed = vec![
        inlined("a", "x.state", &first, 40),
        inlined("b", "y.state", &second, 80),
        inlined("c", "x.state", &first, 50),
    ];
    metadata
}

#[test]
fn what_is_too_large_is_refused_with_what_to_do_and_the_limit_itself_is_not() {
    let whole = encode(URI, &inlining(), &[]).unwrap().len() as u64;
    assert!(encode_within(whole, URI, &inlining(), &[]).is_ok());
    // By a byte, and by what travels inside alone.
    for limit in [whole - 1, 1] {
        let error = encode_within(limit, URI, &inlining(), &[]).unwrap_err();
        assert!(
            matches!(&error, SnapshotError::MetadataTooLarge { limit: told, .. } if *told == limit),
            "{error}"
        );
        let coded = error.to_coded();
        assert_eq!(coded.code, ErrorCode::StateTooLarge);
        assert!(coded.hint.unwrap().contains("`state.backend.type: hashmap`"));
    }
}

#[test]
fn inlined_objects_stand_behind_the_json_each_once() {
    let bytes = encode(URI, &inlining(), &[]).unwrap();
    let end = bytes.len() - DIGEST_BYTES;
    assert_eq!(bytes[end - 200..end], [1; 200]);
    assert_eq!(
        bytes[end - 301..end - 200],
        [0; 101],
        "the end of the JSON, and the object that two states share"
    );
    assert_eq!(bytes[end - 302], b'}');
    let (read, _) = decode(URI, &bytes).unwrap();
    let mut expected = inlining();
    assert_eq!(expected.take_contents().len(), 2);
    assert_eq!(read, expected);
    let places = |metadata: &SnapshotMetadata| -> Vec<_> {
        let handles = metadata.operators[0].keyed.iter();
        handles
            .map(|handle| handle.objects[0].inline.clone().unwrap())
            .collect()
    };
    assert_eq!(places(&read), [300, 200, 300].map(Inline::BeforeEnd));
}

/// Whoever forges a file gives it a digest that fits.
#[test]
fn inlined_objects_that_are_not_where_they_say_are_refused() {
    let whole = encode(URI, &inlining(), &[]).unwrap();
    let body = &whole[HEADER_BYTES..whole.len() - DIGEST_BYTES];
    let json = body.len() - 301;
    let text = String::from_utf8(body[..json].to_vec()).unwrap();
    assert!(text.contains("\"inline\":300"), "{text}");
    let refused = |json: &str, contents: &[u8]| {
        let forged = [json.as_bytes(), &[0], contents].concat();
        let error = decode(URI, &sealed(METADATA_VERSION, &forged)).unwrap_err();
        assert!(
            matches!(
                error,
                SnapshotError::Malformed { .. } | SnapshotError::ImpossibleOperator { .. }
            ),
            "{error}"
        );
    };
    let contents = &body[json + 1..];
    assert!(decode(URI, &whole).is_ok());
    for place in ["0", "1", "200", "299", "301", "18446744073709551615"] {
        refused(
            &text.replace("\"inline\":300", &format!("\"inline\":{place}")),
            contents,
        );
    }
    refused(&text.replacen("\"inline\":300", "\"inline\":200", 1), contents);
    for length in 0..contents.len() {
        refused(&text, &contents[..length]);
    }
    for at in 0..contents.len() {
        let mut other = contents.to_vec();
        other[at] ^= 0x10;
        refused(&text, &other);
    }
    refused(&text, &[contents, b"x"].concat());
    refused(&text.replace("\"checkpoint\"", "\"savepoint\""), contents);
    refused(&text.replace("x.state", "../chk-1/x.state"), contents);
    // What an earlier version wrote has nothing behind its JSON.
    let earlier = text.replacen("\"version\":3", "\"version\":2", 1);
    let error = decode(URI, &sealed(2, &[earlier.as_bytes(), &[0], contents].concat())).unwrap_err();
    assert!(matches!(error, SnapshotError::Malformed { .. }), "{error}");
    let error = decode(URI, &sealed(2, earlier.as_bytes())).unwrap_err();
    assert!(matches!(error, SnapshotError::Malformed { .. }), "{error}");
}

fn bytes() -> Vec<u8> {
    encode(URI, &metadata(), &[]).unwrap()
}

#[test]
fn metadata_survives_its_file() {
    assert_eq!(decode(URI, &bytes()).unwrap(), (metadata(), vec![]));
}

#[test]
fn every_prefix_is_refused_as_truncated() {
    let bytes = bytes();
    for length in 0..bytes.len() {
        let error = decode(URI, &bytes[..length]).unwrap_err();
        assert!(matches!(error, SnapshotError::Truncated { .. }), "{length}: {error}");
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let bytes = bytes();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let error = decode(URI, &damaged).unwrap_err();
            let fits = match at {
                0..8 => matches!(error, SnapshotError::NotMetadata { .. }),
                12..20 => matches!(error, SnapshotError::Truncated { .. } | SnapshotError::TooLong { .. }),
                _checked => matches!(error, SnapshotError::DigestMismatch { .. }),
            };
            assert!(fits, "bit {bit} of byte {at}: {error}");
        }
    }
}

#[test]
fn what_follows_the_end_is_refused() {
    let mut twice = bytes();
    twice.extend_from_slice(&bytes());
    assert!(matches!(decode(URI, &twice), Err(SnapshotError::TooLong { .. })));
}

#[test]
fn an_intact_file_of_a_newer_version_is_called_newer() {
    let error = decode(URI, &sealed(METADATA_VERSION + 1, b"whatever comes then")).unwrap_err();
    assert!(matches!(error, SnapshotError::NewerVersion { found, .. } if found == METADATA_VERSION + 1));
    assert!(matches!(
        decode(URI, &sealed(0, b"{}")),
        Err(SnapshotError::Malformed { .. })
    ));
}

#[test]
fn an_intact_envelope_around_nonsense_is_malformed() {
    let deep = "[".repeat(100_000);
    for body in ["", "{}", "null", "{\"snapshot\":1}", "\u{0}", deep.as_str()] {
        assert!(matches!(
            decode(URI, &sealed(METADATA_VERSION, body.as_bytes())),
            Err(SnapshotError::Malformed { .. })
        ));
    }
    assert!(matches!(
        decode(URI, b"PK\x03\x04 another product"),
        Err(SnapshotError::NotMetadata { .. })
    ));
}

/// Whoever changes a body can give it a digest that fits.
#[test]
fn a_forged_body_is_read_or_refused_and_never_more() {
    let whole = bytes();
    let body = &whole[HEADER_BYTES..whole.len() - DIGEST_BYTES];
    let numbers = [
        "0",
        "-1",
        "2147483647",
        "4294967295",
        "18446744073709551615",
        "1e309",
        "[]",
        "null",
        "\"../x\"",
    ];
    for version in [1, METADATA_VERSION] {
        for at in 0..body.len() {
            for byte in *b"\0\"[{9-\xff" {
                let mut forged = body.to_vec();
                forged[at] = byte;
                let _ = decode(URI, &sealed(version, &forged));
            }
            // In the place of a number, any other.
            let is_first = body[at].is_ascii_digit() && (at == 0 || !body[at - 1].is_ascii_digit());
            let digits = body[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            for number in numbers.iter().filter(|_number| is_first) {
                let forged = [&body[..at], number.as_bytes(), &body[at + digits..]].concat();
                let _ = decode(URI, &sealed(version, &forged));
            }
        }
    }
}

fn refused(change: impl FnOnce(&mut SnapshotMetadata)) -> SnapshotError {
    let mut changed = metadata();
    change(&mut changed);
    let bytes = encode(URI, &changed, &[]).unwrap();
    decode(URI, &bytes).unwrap_err()
}

#[test]
fn impossible_operators_are_refused_by_name() {
    let changes: [fn(&mut SnapshotMetadata); 15] = [
        |m| m.operators.push(m.operators[0].clone()),
        |m| m.operators[0].max_parallelism = 0,
        |m| m.operators[0].max_parallelism = UPPER_BOUND_MAX_PARALLELISM + 1,
        |m| m.operators[0].keyed[0].key_groups.end = 129,
        |m| m.operators[0].keyed[0].key_groups.end = 127,
        |m| m.operators[0].keyed[0].key_groups.start = 1,
        |m| {
            m.operators[0]
                .keyed
                .push(handle(KeyGroupRange { start: 127, end: 128 }))
        },
        |m| m.operators[0].keyed[0].objects[0].path = "../../etc/passwd".to_owned(),
        |m| m.operators[0].keyed[0].objects[0].path = "file:///etc/passwd".to_owned(),
        |m| m.operators[0].keyed[0].objects[0].digest.clear(),
        |m| m.operators[0].keyed[0].objects.clear(),
        |m| m.operators[0].keyed[0].objects[0].path = "../chk-1/../../etc/passwd".to_owned(),
        |m| {
            m.kind = SnapshotKind::Savepoint;
            m.operators[0].keyed[0].objects[0].path = "../chk-1/a.state".to_owned();
        },
        |m| m.operators[0].keyed[0].format = native([1, 0, 16, 40]),
        |m| m.operators[0].keyed[0].format = native([0, 1, 16, 40]),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let error = refused(change);
        assert!(
            matches!(error, SnapshotError::ImpossibleOperator { .. }),
            "{index}: {error}"
        );
    }
}

fn native(block: [u64; 4]) -> KeyedStateFormat {
    KeyedStateFormat::Native {
        segments: vec![NativeSegment {
            key_groups: KeyGroupRange::all(128),
            hashes: None,
            earliest: vec![i64::MIN, i64::MAX],
            blocks: vec![block.try_into().unwrap()],
        }],
    }
}

#[test]
fn a_checkpoint_may_refer_to_an_earlier_one_beside_it() {
    let mut changed = metadata();
    changed.operators[0].keyed[0].objects[0] = ObjectHandle {
        inline: None,
        path: "../chk-1/a.state".to_owned(),
        length: 100,
        digest: "0".repeat(32),
    };
    changed.operators[0].keyed[0].format = native([0, 0, 16, 40]);
    let bytes = encode(URI, &changed, &[]).unwrap();
    assert_eq!(decode(URI, &bytes).unwrap(), (changed, vec![]));
}

#[test]
fn states_with_more_rows_or_bytes_than_can_be_counted_are_refused() {
    let two = |change: fn(&mut KeyedStateHandle)| {
        refused(|m| {
            m.operators[0].keyed = vec![
                handle(KeyGroupRange { start: 0, end: 64 }),
                handle(KeyGroupRange { start: 64, end: 128 }),
            ];
            change(&mut m.operators[0].keyed[1]);
        })
    };
    for error in [
        two(|handle| handle.rows = u64::MAX),
        two(|handle| handle.bytes = u64::MAX),
        two(|handle| handle.objects[0].length = u64::MAX),
    ] {
        assert!(matches!(error, SnapshotError::Malformed { .. }), "{error}");
    }
}

#[test]
fn keys_placed_by_an_unknown_hash_are_refused() {
    assert!(matches!(
        refused(|m| m.key_hash_version = 2),
        SnapshotError::Malformed { .. }
    ));
}
