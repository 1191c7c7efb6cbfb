use super::*;

fn object(content: &[u8]) -> ObjectHandle {
    ObjectHandle {
        path: "file:///elsewhere/1.sst".to_owned(),
        length: content.len() as u64,
        digest: format!("{:032x}", xxhash_rust::xxh3::xxh3_128(content)),
        inline: None,
    }
}

fn kept(folder: &Path) -> LocalCopies {
    LocalCopies::open(&folder.join("kept"), [].iter())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("kept")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn copy(copies: &LocalCopies, checkpoint: u64, content: &[u8]) {
    let mut writer = copies.of(CheckpointId(checkpoint)).begin();
    content.chunks(3).for_each(|piece| writer.append(piece));
    writer.finish(&object(content));
}

fn digests(contents: &[&[u8]]) -> Vec<String> {
    let mut digests: Vec<String> = contents.iter().map(|content| object(content).digest).collect();
    digests.sort();
    digests
}

#[test]
fn a_copy_is_found_by_the_content_of_its_object_and_read_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let copies = kept(folder.path());
    copy(&copies, 1, b"some rows");
    let found = copies.find(&object(b"some rows")).unwrap();
    assert_eq!(found.read(5..7).unwrap(), "ro");
    assert_eq!(found.read(5..99).unwrap(), "rows");
    assert!(found.read(10..12).unwrap().is_empty());
    assert!(copies.find(&object(b"some ROWS")).is_none());
    // Whoever reads it already goes on.
    copies.aborted(CheckpointId(1));
    assert!(copies.find(&object(b"some rows")).is_none());
    assert_eq!(found.read(0..4).unwrap(), "some");
}

#[test]
fn a_file_is_kept_as_a_link_and_taken_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let copies = kept(folder.path());
    let file = folder.path().join("1.sst");
    fs::write(&file, b"rows").unwrap();
    copies.of(CheckpointId(1)).link(&file, &object(b"rows"));
    copies.of(CheckpointId(1)).link(&file, &object(b"rows"));
    let to = folder.path().join("taken");
    assert!(copies.take(&object(b"rows"), &to));
    assert_eq!(fs::read(&to).unwrap(), b"rows");
    assert!(!copies.take(&object(b"ROWS"), &folder.path().join("never")));
    // One that is written on is another file.
    let own = folder.path().join("own");
    assert!(copies.duplicate(&object(b"rows"), &own));
    fs::write(&own, b"more").unwrap();
    assert!(copies.find(&object(b"rows")).is_some());
    assert!(!copies.duplicate(&object(b"rows"), &own));
}

#[test]
fn a_copy_with_other_bytes_is_not_used_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let copies = kept(folder.path());
    for damaged in [b"rowz".as_slice(), b"row", b"rows and more", b""] {
        // Whoever takes a link reads it later.
        for takes in [damaged.len() != 4, false] {
            copy(&copies, 1, b"rows");
            fs::write(folder.path().join("kept").join(object(b"rows").digest), damaged).unwrap();
            let to = folder.path().join("taken");
            let is_used = match takes {
                true => copies.take(&object(b"rows"), &to),
                false => copies.find(&object(b"rows")).is_some(),
            };
            assert!(!is_used && !to.exists());
            assert_eq!(names(folder.path()), [""; 0]);
        }
    }
}

#[test]
fn a_copy_that_somebody_found_damaged_goes() {
    let folder = tempfile::tempdir().unwrap();
    let copies = kept(folder.path());
    copy(&copies, 1, b"rows");
    copies.drop_copy(&object(b"rows"));
    assert_eq!(names(folder.path()), [""; 0]);
    assert!(!copies.take(&object(b"rows"), &folder.path().join("taken")));
    copies.drop_copy(&object(b"rows"));
}

#[test]
fn an_object_whose_digest_is_a_path_leads_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let copies = kept(folder.path());
    let secret = folder.path().join("secret");
    fs::write(&secret, b"rows").unwrap();
    let hostile = ObjectHandle {
        digest: "../secret".to_owned(),
        ..object(b"rows")
    };
    copies.of(CheckpointId(1)).link(&secret, &hostile);
    assert!(!copies.take(&hostile, &folder.path().join("taken")));
    assert!(copies.find(&hostile).is_none());
    assert!(!folder.path().join("kept").exists());
}

#[test]
fn what_no_checkpoint_has_goes_when_a_later_one_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let copies = kept(folder.path());
    copy(&copies, 1, b"one");
    copy(&copies, 1, b"of both");
    copy(&copies, 2, b"two");
    copies
        .of(CheckpointId(2))
        .record([object(b"of both"), object(b"elsewhere")].iter());
    copy(&copies, 3, b"under way");
    copies.complete(CheckpointId(2));
    assert_eq!(names(folder.path()), digests(&[b"of both", b"two", b"under way"]));
    // A savepoint, of which nobody keeps anything.
    copies.complete(CheckpointId(7));
    copies.aborted(CheckpointId(3));
    assert_eq!(names(folder.path()), digests(&[b"of both", b"two"]));
}

#[test]
fn the_next_attempt_keeps_what_it_begins_with_until_a_checkpoint_of_its_own_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let copies = kept(folder.path());
    copy(&copies, 1, b"restored");
    copy(&copies, 2, b"never complete");
    let under_way = copies.of(CheckpointId(2)).begin();
    std::mem::forget(under_way);
    let next = LocalCopies::open(&folder.path().join("kept"), [object(b"restored")].iter());
    assert_eq!(names(folder.path()), digests(&[b"restored"]));
    copy(&next, 3, b"given up");
    next.aborted(CheckpointId(3));
    assert!(next.find(&object(b"restored")).is_some());
    copy(&next, 4, b"complete");
    next.complete(CheckpointId(4));
    assert_eq!(names(folder.path()), digests(&[b"complete"]));
}

#[test]
fn a_copy_that_is_not_finished_leaves_nothing_and_one_under_way_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let copies = kept(folder.path());
    copy(&copies, 1, b"one");
    let mut under_way = copies.of(CheckpointId(2)).begin();
    under_way.append(b"two");
    copies.complete(CheckpointId(1));
    assert_eq!(names(folder.path()).len(), 2);
    under_way.finish(&object(b"two"));
    assert_eq!(names(folder.path()), digests(&[b"one", b"two"]));
    drop(copies.of(CheckpointId(3)).begin());
    assert_eq!(names(folder.path()), digests(&[b"one", b"two"]));
}

#[test]
fn where_nothing_can_be_written_nothing_is_kept_and_nothing_fails() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("kept"), b"not a directory").unwrap();
    let copies = kept(folder.path());
    copy(&copies, 1, b"one");
    assert!(copies.find(&object(b"one")).is_none());
    copies.complete(CheckpointId(1));
}
