use std::os::unix::fs::{MetadataExt, symlink};

use tokio::runtime::Runtime;

use super::*;
use crate::publish::random_nonce;
use crate::store::Location;

/// An object that is a file with this content.
fn object(folder: &Path, content: &[u8]) -> ObjectHandle {
    let file = folder.join("000012.sst");
    fs::write(&file, content).unwrap();
    named(&Location::open(file.to_str().unwrap()).unwrap(), content)
}

fn named(place: &Location, content: &[u8]) -> ObjectHandle {
    ObjectHandle {
        path: place.uri(),
        length: content.len() as u64,
        digest: digest_text(xxhash_rust::xxh3::xxh3_128(content)),
        inline: None,
    }
}

#[test]
fn a_link_is_the_file_of_the_object_and_outlives_it() {
    let folder = tempfile::tempdir().unwrap();
    let object = object(folder.path(), b"rows");
    let (file, to) = (folder.path().join("000012.sst"), folder.path().join("linked"));
    assert!(link_object(&object, &to).unwrap());
    assert_eq!(fs::metadata(&file).unwrap().ino(), fs::metadata(&to).unwrap().ino());
    fs::remove_file(&file).unwrap();
    assert_eq!(fs::read(&to).unwrap(), b"rows");
    assert!(check_file(&object, &to, &|| true).unwrap());
}

#[test]
fn what_has_another_length_is_refused_and_what_has_another_content_when_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let object = object(folder.path(), b"rows");
    let place = |name: &str| folder.path().join(name);
    fs::write(place("000012.sst"), b"row").unwrap();
    assert!(matches!(
        link_object(&object, &place("short")),
        Err(SnapshotError::Truncated { .. })
    ));
    fs::write(place("000012.sst"), b"rows and more").unwrap();
    assert!(matches!(
        link_object(&object, &place("long")),
        Err(SnapshotError::TooLong { .. })
    ));
    fs::write(place("000012.sst"), b"ROWS").unwrap();
    assert!(link_object(&object, &place("other")).unwrap());
    let refused = check_file(&object, &place("other"), &|| true).unwrap_err();
    assert!(
        matches!(&refused, SnapshotError::DigestMismatch { uri, .. } if *uri == object.path),
        "{refused}"
    );
    assert!(!check_file(&object, &place("other"), &|| false).unwrap());
}

#[test]
fn what_cannot_be_linked_is_fetched() {
    let io = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let object = object(folder.path(), b"rows");
    let place = |name: &str| folder.path().join(name);
    // A symbolic link in the place of the file.
    fs::rename(place("000012.sst"), place("elsewhere")).unwrap();
    symlink("elsewhere", place("000012.sst")).unwrap();
    // An object of a store that is on no disk.
    let remote = Location::open(&format!("memory:///object-files/{}", random_nonce())).unwrap();
    io.block_on(remote.put_create(b"rows".to_vec())).unwrap();
    for object in [object, named(&remote, b"rows")] {
        let to = place("fetched");
        assert!(!link_object(&object, &to).unwrap());
        assert!(!to.exists());
        download_all(&[(object, to.clone())], io.handle()).unwrap();
        assert!(fs::symlink_metadata(&to).unwrap().is_file());
        assert_eq!(fs::read(&to).unwrap(), b"rows");
        fs::remove_file(&to).unwrap();
    }
}

#[test]
fn a_folder_behind_a_symbolic_link_is_linked_from() {
    let folder = tempfile::tempdir().unwrap();
    let (real, alias) = (folder.path().join("real"), folder.path().join("alias"));
    fs::create_dir(&real).unwrap();
    symlink(&real, &alias).unwrap();
    let object = object(&alias, b"rows");
    assert!(link_object(&object, &folder.path().join("linked")).unwrap());
}

#[test]
fn nothing_that_is_there_is_replaced_by_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let object = object(folder.path(), b"rows");
    let to = folder.path().join("there");
    fs::write(&to, b"mine").unwrap();
    assert!(!link_object(&object, &to).unwrap());
    assert_eq!(fs::read(&to).unwrap(), b"mine");
}

#[test]
fn an_object_that_is_gone_is_missing_and_many_come_at_once() {
    let io = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let contents: Vec<Vec<u8>> = (0..40_u8).map(|byte| vec![byte; 3 << 10]).collect();
    let mut wanted = Vec::new();
    for (number, content) in contents.iter().enumerate() {
        let file = Location::open(place(&format!("{number}.sst")).to_str().unwrap()).unwrap();
        io.block_on(file.put_create(content.clone())).unwrap();
        wanted.push((named(&file, content), place(&format!("fetched-{number}"))));
    }
    download_all(&wanted, io.handle()).unwrap();
    for ((_, to), content) in wanted.iter().zip(&contents) {
        assert_eq!(fs::read(to).unwrap(), *content);
    }
    fs::remove_file(place("7.sst")).unwrap();
    let again: Vec<_> = wanted
        .into_iter()
        .map(|(object, to)| (object, to.with_extension("2")))
        .collect();
    assert!(!link_object(&again[7].0, &place("never")).unwrap());
    let refused = download_all(&again, io.handle()).unwrap_err();
    assert!(matches!(refused, SnapshotError::MissingObject { .. }), "{refused}");
}

#[test]
fn a_piece_is_what_was_asked_for_or_the_object_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let object = object(folder.path(), b"rows and more rows");
    let io = Runtime::new().unwrap();
    let read = |length: u64, range: Range<u64>| {
        let object = ObjectHandle {
            length,
            ..object.clone()
        };
        io.block_on(read_piece(&object, range))
    };
    assert_eq!(read(18, 5..8).unwrap(), b"and"[..]);
    assert_eq!(read(18, 14..18).unwrap(), b"rows"[..]);
    for (length, range) in [(20, 5..8), (20, 16..20), (20, 18..20), (40, 30..40)] {
        let refused = read(length, range).unwrap_err();
        assert!(
            matches!(refused, SnapshotError::Truncated { actual: 18, .. }),
            "{refused}"
        );
    }
    assert!(matches!(read(17, 5..8), Err(SnapshotError::TooLong { .. })));
    fs::remove_file(folder.path().join("000012.sst")).unwrap();
    assert!(matches!(read(18, 5..8), Err(SnapshotError::MissingObject { .. })));
}
