use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use streamd_core::state::{from_row, to_row};

use super::sample::{KEYS, Sample};
use super::*;
use crate::json::Renderer;
use crate::layout;

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn rows_of(sample: &Sample, folder: &crate::Location) -> BTreeMap<String, u64> {
    let stored = sample.read(folder);
    let operator = find_operator(&stored, "counts").unwrap();
    let StateContents::Keyed(state) = find_state(&stored, operator, Some("count")).unwrap() else {
        panic!("the state is keyed")
    };
    let mut rows = BTreeMap::new();
    state
        .visit(sample.runtime.handle(), |row| {
            rows.insert(from_row(row.key).unwrap(), from_row(row.value).unwrap());
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
    rows
}

#[test]
fn what_is_complete_is_told_by_records_and_not_by_numbers() {
    let sample = Sample::new();
    let job = Sample::job();
    let complete = sample.checkpoint(job, 3);
    let unrecorded = sample.checkpoint(job, 7);
    let altered = sample.checkpoint(job, 5);
    let job_folder = unrecorded.parent().unwrap();
    let record = |id| layout::completion_record(streamd_core::id::CheckpointId(id));
    sample.run(job_folder.child(&record(7)).unwrap().delete()).unwrap();
    let path = altered.local_path().unwrap().join("_metadata");
    std::fs::write(&path, &std::fs::read(&path).unwrap()[..100]).unwrap();
    std::fs::create_dir_all(job_folder.local_path().unwrap().join("chk-9")).unwrap();
    std::fs::write(job_folder.local_path().unwrap().join("chk-9/x.state"), "half").unwrap();

    let subsumed = sample.checkpoint(Sample::job(), 11);
    sample.checkpoint_on(&subsumed, 12);
    sample.run(crate::unpublish(&subsumed)).unwrap();

    let shown = |place: &crate::Location| -> Vec<(String, &'static str)> {
        let listed = sample.run(list_snapshots(place)).unwrap();
        let standing = |standing: &Standing| match standing {
            Standing::Complete => "complete",
            Standing::Unrecorded => "unrecorded",
            Standing::Incomplete => "incomplete",
            Standing::Subsumed => "subsumed",
            Standing::Unreadable(_) => "unreadable",
        };
        let name = |folder: &str| folder.rsplit('/').next().unwrap_or_default().to_owned();
        let rows = listed.iter().map(|one| (name(&one.folder), standing(&one.standing)));
        rows.collect()
    };
    let expected = [
        ("chk-3".to_owned(), "complete"),
        ("chk-5".to_owned(), "unreadable"),
        ("chk-7".to_owned(), "unrecorded"),
        ("chk-9".to_owned(), "incomplete"),
        ("chk-11".to_owned(), "subsumed"),
        ("chk-12".to_owned(), "complete"),
    ];
    assert_eq!(shown(&sample.base), expected);
    assert_eq!(shown(&job_folder), expected);
    assert_eq!(shown(&complete), [("chk-3".to_owned(), "complete")]);
}

#[test]
fn a_record_without_its_checkpoint_is_listed_as_unreadable() {
    let sample = Sample::new();
    let folder = sample.checkpoint(Sample::job(), 3);
    let path = folder.local_path().unwrap();
    std::fs::remove_file(path.join("_metadata")).unwrap();
    for whatever_else_is_there in [true, false] {
        if !whatever_else_is_there {
            std::fs::remove_dir_all(&path).unwrap();
        }
        let listed = sample.run(list_snapshots(&sample.base)).unwrap();
        assert_eq!(listed.len(), 1);
        let Standing::Unreadable(error) = &listed[0].standing else {
            panic!("{:?}", listed[0]);
        };
        assert_eq!(
            error.to_string(),
            format!(
                "checkpoint `{}` is recorded as complete, and has no `_metadata`",
                folder.uri()
            )
        );
    }
}

#[test]
fn states_are_found_by_the_names_that_people_use() {
    let sample = Sample::new();
    let stored = sample.read(&sample.savepoint("sp"));
    for name in [
        "counts",
        "Count",
        &streamd_core::id::OperatorId::from_uid("counts").to_string(),
    ] {
        assert_eq!(find_operator(&stored, name).unwrap().name, "Count", "{name}");
    }
    let operator = find_operator(&stored, "counts").unwrap();
    let error = find_operator(&stored, "count").unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("snapshot `{}` holds no operator `count`, but `counts`", stored.folder)
    );
    let error = find_state(&stored, operator, Some("x")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "operator `counts` has no state `x`, but `count`, `splits`"
    );
    let error = find_state(&stored, operator, None).unwrap_err();
    assert!(matches!(error, InspectError::StateNotNamed { .. }));
    let states = states_of(&stored, operator);
    assert_eq!((states[0].rows, states[0].parts, states[0].kind), (KEYS, 2, "keyed"));
    assert_eq!((states[1].rows, states[1].parts, states[1].kind), (3, 1, "list"));
}

#[test]
fn a_key_is_found_in_either_form_and_a_missing_one_is_not() {
    let sample = Sample::new();
    for folder in [sample.savepoint("sp"), sample.checkpoint(Sample::job(), 1)] {
        let stored = sample.read(&folder);
        let operator = find_operator(&stored, "counts").unwrap();
        let StateContents::Keyed(state) = find_state(&stored, operator, Some("count")).unwrap() else {
            panic!("the state is keyed")
        };
        for (text, expected) in [("key 42", vec![42u64]), ("\"key 7\"", vec![7]), ("key 100", vec![])] {
            let key = state.parse_key(text).unwrap();
            let mut values: Vec<u64> = Vec::new();
            state
                .visit_key(&key, sample.runtime.handle(), |row| {
                    values.push(from_row(row.value).unwrap());
                    Ok(())
                })
                .unwrap();
            assert_eq!(values, expected, "{text}");
        }
    }
}

#[test]
fn a_whole_snapshot_verifies_and_what_it_refers_to_elsewhere_is_told() {
    let sample = Sample::new();
    let folder = sample.checkpoint(Sample::job(), 1);
    let later = sample.checkpoint_on(&folder, 2);
    for (folder, elsewhere) in [(sample.savepoint("sp"), 0), (folder, 0), (later, 2)] {
        let verified = verify_snapshot(&folder.uri(), sample.runtime.handle()).unwrap();
        assert!(verified.damages.is_empty(), "{:?}", verified.damages);
        assert!(verified.rows >= KEYS);
        assert_eq!(outside(&sample.read(&folder)).unwrap().len(), elsewhere);
    }
}

#[test]
fn every_altered_truncated_or_missing_object_is_named() {
    let sample = Sample::new();
    for (name, folder) in [
        ("sp", sample.savepoint("sp")),
        ("chk", sample.checkpoint(Sample::job(), 1)),
    ] {
        let root = folder.local_path().unwrap();
        for file in files_below(&root) {
            let intact = std::fs::read(&file).unwrap();
            let object = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            let is_noticed = |what: &str| match verify_snapshot(&folder.uri(), sample.runtime.handle()) {
                Ok(verified) => {
                    assert_eq!(verified.damages.len(), 1, "{name} {object} {what}");
                    assert_eq!(verified.damages[0].object, object, "{name} {what}");
                }
                Err(_error) => assert_eq!(object, "_metadata", "{name} {what}"),
            };
            for at in (0..intact.len()).step_by(intact.len() / 13 + 1) {
                let mut bytes = intact.clone();
                bytes[at] ^= 0x40;
                std::fs::write(&file, &bytes).unwrap();
                is_noticed("altered");
            }
            std::fs::write(&file, &intact[..intact.len() / 2]).unwrap();
            is_noticed("truncated");
            std::fs::write(&file, [&intact[..], b"x"].concat()).unwrap();
            is_noticed("longer");
            std::fs::remove_file(&file).unwrap();
            is_noticed("missing");
            std::fs::write(&file, &intact).unwrap();
        }
    }
}

#[test]
fn a_key_in_a_foreign_key_group_is_noticed() {
    let sample = Sample::new();
    let folder = sample.savepoint("sp");
    let stored = sample.read(&folder);
    let mut metadata = stored.metadata;
    // The same tables, said to be of an operator with twice the key groups: every digest is right, and most keys are misplaced.
    metadata.operators[0].max_parallelism = 256;
    for handle in &mut metadata.operators[0].keyed {
        handle.key_groups.start *= 2;
        handle.key_groups.end *= 2;
    }
    let target = sample.base.child("forged").unwrap();
    copy_folder(&folder.local_path().unwrap(), &target.local_path().unwrap());
    std::fs::remove_file(target.local_path().unwrap().join("_metadata")).unwrap();
    metadata.operators[0].lists.clear();
    sample.run(crate::publish(&target, &metadata)).unwrap();
    let verified = verify_snapshot(&target.uri(), sample.runtime.handle()).unwrap();
    assert!(
        verified
            .damages
            .iter()
            .any(|damage| damage.error.to_string().contains("key group")),
        "{verified:?}"
    );
}

fn copy_folder(from: &Path, to: &Path) {
    for file in files_below(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(file, target).unwrap();
    }
}

#[test]
fn states_are_exported_as_lines_columns_and_tables_and_nothing_is_overwritten() {
    let sample = Sample::new();
    for (name, folder) in [
        ("sp", sample.savepoint("sp")),
        ("chk", sample.checkpoint(Sample::job(), 1)),
    ] {
        let stored = sample.read(&folder);
        let operator = find_operator(&stored, "counts").unwrap();
        for (state, lead, rows) in [("count", "key_group", KEYS), ("splits", "position", 3)] {
            let contents = find_state(&stored, operator, Some(state)).unwrap();
            for format in [ExportFormat::Json, ExportFormat::Csv, ExportFormat::Parquet] {
                let file = export_file(&contents, format, &sample.path(&format!("export-{name}")));
                let exported = export_state(&contents, format, &file, sample.runtime.handle()).unwrap();
                assert_eq!(exported.rows, rows);
                let bytes = std::fs::read(&file).unwrap();
                assert_eq!(exported.bytes, bytes.len() as u64);
                match format {
                    ExportFormat::Json => {
                        let text = String::from_utf8(bytes).unwrap();
                        assert_eq!(text.lines().count() as u64, rows);
                        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
                        assert!(first.get(lead).is_some() && first.get("value").is_some(), "{first}");
                    }
                    ExportFormat::Csv => {
                        let text = String::from_utf8(bytes).unwrap();
                        assert_eq!(text.lines().count() as u64, rows + 1);
                        assert!(
                            text.starts_with(lead) && text.lines().next().unwrap().ends_with(",value"),
                            "{text}"
                        );
                    }
                    ExportFormat::Parquet => assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1")),
                }
                let again = export_state(&contents, format, &file, sample.runtime.handle());
                assert!(matches!(again, Err(InspectError::TargetExists { .. })));
            }
        }
        assert!(
            files_below(&sample.path(&format!("export-{name}"))).len() == 6,
            "drafts are left behind"
        );
    }
}

#[test]
fn rows_and_values_of_a_state_print_as_json() {
    let sample = Sample::new();
    let folder = sample.savepoint("sp");
    let rows = rows_of(&sample, &folder);
    assert_eq!(rows.len() as u64, KEYS);
    assert_eq!(rows["key 42"], 42);
    let renderer = Renderer::new(&streamd_core::row::DataType::String);
    assert_eq!(renderer.render(&to_row(&"a\u{1b}".to_owned())).unwrap(), r#""a\u001b""#);
}

#[test]
fn rows_in_the_files_of_a_database_are_refused_by_a_program_without_one() {
    let sample = Sample::new();
    let mut stored = sample.read(&sample.savepoint("sp"));
    for handle in &mut stored.metadata.operators[0].keyed {
        let files = vec!["MANIFEST-000005".to_owned()];
        handle.format = streamd_core::snapshot::KeyedStateFormat::RocksDb { files };
    }
    let operator = find_operator(&stored, "counts").unwrap();
    let StateContents::Keyed(state) = find_state(&stored, operator, Some("count")).unwrap() else {
        panic!("it is keyed");
    };
    let error = state.visit(sample.runtime.handle(), |_row| panic!("no row can be read"));
    let error = error.unwrap_err().to_coded();
    assert_eq!(error.code, streamd_core::error::ErrorCode::BackendNotBuilt);
    let hint = error.hint.unwrap();
    assert!(hint.contains("savepoint") && hint.contains("`streamctl`"), "{hint}");
}
