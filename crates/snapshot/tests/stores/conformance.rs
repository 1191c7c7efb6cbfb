//! What streamd asks of every store. Nothing else may be relied upon.

use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::join_all;
use streamd_snapshot::error::StoreError;
use streamd_snapshot::store::{CreateError, digest_text};
use streamd_snapshot::{Created, Location, random_nonce};
use xxhash_rust::xxh3::xxh3_128;

/// Writers that create one object at once.
const WRITERS: usize = 16;

/// A length of several parts and a bit, no multiple of anything.
const LARGE: usize = (20 << 20) + 12_345;

/// Runs the whole suite in a folder that must not exist yet.
pub async fn conformance(folder: Location) {
    absence_is_no_error(&folder).await;
    a_create_never_replaces(&folder).await;
    of_many_writers_one_wins(&folder).await;
    ranges_are_exact(&folder).await;
    large_objects_appear_as_a_whole(&folder).await;
    a_copy_is_an_object_of_its_own(&folder).await;
    names_survive(&folder).await;
    folders_are_listed_and_deleted_exactly(&folder).await;
}

fn bytes(length: usize) -> Bytes {
    (0..length).map(|index| (index * 31 % 251) as u8).collect()
}

async fn absence_is_no_error(folder: &Location) {
    let object = folder.child("absent/object").unwrap();
    assert!(matches!(object.get(100).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(
        object.get_range(0..10).await,
        Err(StoreError::NotFound { .. })
    ));
    assert!(matches!(
        object.get_stream().await.map(drop),
        Err(StoreError::NotFound { .. })
    ));
    assert_eq!(object.head().await.unwrap(), None);
    object.delete().await.unwrap();
    assert!(folder.list().await.unwrap().is_empty());
    assert!(folder.list_names().await.unwrap().is_empty());
    folder.delete_folder().await.unwrap();
}

async fn a_create_never_replaces(folder: &Location) {
    let object = folder.child("create/object").unwrap();
    assert_eq!(object.put_create("first").await.unwrap(), Created::Created);
    assert_eq!(object.put_create("second").await.unwrap(), Created::AlreadyExists);
    assert_eq!(object.get(100).await.unwrap(), "first");
    assert!(matches!(
        object.get(4).await,
        Err(StoreError::TooLarge { length: 5, .. })
    ));
    // The same writing again is that writing; another one is not.
    object.create("first".into()).await.unwrap();
    assert!(matches!(
        object.create("other".into()).await,
        Err(CreateError::Lost { .. })
    ));
    assert!(matches!(
        object.create("longer".into()).await,
        Err(CreateError::Lost { .. })
    ));
    let empty = folder.child("create/empty").unwrap();
    empty.create(Bytes::new()).await.unwrap();
    assert_eq!(
        (empty.head().await.unwrap(), empty.get(0).await.unwrap()),
        (Some(0), Bytes::new())
    );
}

async fn of_many_writers_one_wins(folder: &Location) {
    for round in 0..5 {
        let object = folder.child(&format!("race/{round}")).unwrap();
        let writers: Vec<Bytes> = (0..WRITERS).map(|_| random_nonce().into()).collect();
        let outcomes = join_all(writers.iter().map(|nonce| {
            let (object, nonce) = (object.clone(), nonce.clone());
            tokio::spawn(async move { object.create(nonce).await })
        }))
        .await;
        let there = object.get(100).await.unwrap();
        for (nonce, outcome) in writers.iter().zip(outcomes) {
            match outcome.unwrap() {
                Ok(()) => assert_eq!(there, nonce, "a writer won whose object is not there"),
                Err(CreateError::Lost { .. }) => assert_ne!(there, nonce, "the winner was told that it lost"),
                Err(error) => panic!("a writer knows nothing: {error:?}"),
            }
        }
        assert!(writers.contains(&there));
    }
}

async fn ranges_are_exact(folder: &Location) {
    let object = folder.child("ranges/object").unwrap();
    let content = bytes(1000);
    object.create(content.clone()).await.unwrap();
    for range in [0..1, 0..1000, 10..20, 999..1000] {
        let part = object.get_range(range.clone()).await.unwrap();
        assert_eq!(part, content[range.start as usize..range.end as usize], "{range:?}");
    }
    // Shorter where the object ends.
    assert_eq!(object.get_range(990..2000).await.unwrap(), content[990..]);
}

async fn large_objects_appear_as_a_whole(folder: &Location) {
    let object = folder.child("large/object").unwrap();
    let content = bytes(LARGE);
    let mut upload = object.upload();
    for piece in content.chunks(1_000_003) {
        upload.write(piece).await.unwrap();
    }
    assert!(!object.exists().await.unwrap(), "a part of an object is visible");
    let uploaded = upload.finish().await.unwrap();
    assert_eq!(uploaded.length, LARGE as u64);
    assert_eq!(uploaded.digest, digest_text(xxh3_128(&content)));
    let (length, pieces) = object.get_stream().await.unwrap();
    let pieces: Vec<Bytes> = pieces.try_collect().await.unwrap();
    assert_eq!(length, LARGE as u64);
    assert!(pieces.concat() == content, "other bytes came back");
    let middle = (9 << 20)..(9 << 20) + 100;
    let part = object.get_range(middle.start as u64..middle.end as u64).await.unwrap();
    assert_eq!(part, content[middle]);

    let given_up = folder.child("large/given-up").unwrap();
    let mut upload = given_up.upload();
    upload.write(&content).await.unwrap();
    upload.abort().await.unwrap();
    assert!(!given_up.exists().await.unwrap());

    let small = folder.child("large/small").unwrap();
    let mut upload = small.upload();
    upload.write(b"small").await.unwrap();
    upload.finish().await.unwrap();
    assert_eq!(small.get(100).await.unwrap(), "small");
}

async fn a_copy_is_an_object_of_its_own(folder: &Location) {
    let [original, copy, wrong] =
        ["copies/original", "copies/of/it", "copies/wrong"].map(|name| folder.child(name).unwrap());
    let absent = folder.child("copies/absent").unwrap();
    let content = bytes(LARGE);
    let mut upload = original.upload();
    upload.write(&content).await.unwrap();
    upload.finish().await.unwrap();
    let copied = copy.copy_of(&original, LARGE as u64).await;
    let uri = folder.uri();
    let copies = ["file:", "memory:", "s3:"];
    assert!(copied || !copies.iter().any(|scheme| uri.starts_with(scheme)), "{uri}");
    if copied {
        original.delete().await.unwrap();
        assert!(
            copy.get(LARGE as u64).await.unwrap() == content,
            "other bytes came back"
        );
    }
    for refused in [&absent, &folder.child("copies").unwrap()] {
        assert!(!wrong.copy_of(refused, LARGE as u64).await);
        assert!(!wrong.exists().await.unwrap());
    }
    assert!(!wrong.copy_of(&copy, LARGE as u64 - 1).await);
    assert!(!wrong.exists().await.unwrap());
}

async fn names_survive(folder: &Location) {
    let inside = folder.child("names").unwrap();
    let names = [
        "a b",
        "a~2fb",
        "a=b&c",
        "completed-00000000000000000017.json",
        "plus+plus",
        "ü",
    ];
    for name in names {
        inside
            .child(name)
            .unwrap()
            .create(Bytes::from(name.as_bytes().to_vec()))
            .await
            .unwrap();
    }
    for name in names {
        assert_eq!(inside.child(name).unwrap().get(100).await.unwrap(), name);
        let again = Location::open(&inside.child(name).unwrap().uri());
        assert_eq!(again.unwrap(), inside.child(name).unwrap());
    }
    let mut expected = names.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(inside.list_names().await.unwrap(), expected);
}

async fn folders_are_listed_and_deleted_exactly(folder: &Location) {
    let names = ["x/chk-1/a", "x/chk-1/deep/er/b", "x/chk-10/c", "x/d"];
    for name in names {
        folder
            .child(name)
            .unwrap()
            .create(Bytes::from(name.as_bytes().to_vec()))
            .await
            .unwrap();
    }
    let x = folder.child("x").unwrap();
    let listed: Vec<(String, u64)> = x
        .list()
        .await
        .unwrap()
        .into_iter()
        .map(|entry| (entry.name, entry.length))
        .collect();
    let expected = names.map(|name| (name[2..].to_owned(), name.len() as u64));
    assert_eq!(listed, expected);
    assert_eq!(x.list_names().await.unwrap(), ["chk-1/", "chk-10/", "d"]);
    let chk = x.child("chk-1").unwrap();
    assert_eq!(chk.head().await.unwrap(), None, "a folder is no object");
    chk.delete_folder().await.unwrap();
    chk.delete_folder().await.unwrap();
    assert_eq!(
        x.list_names().await.unwrap(),
        ["chk-10/", "d"],
        "a neighbour was deleted, or a folder was left"
    );
    x.child("d").unwrap().delete().await.unwrap();
    x.child("d").unwrap().delete().await.unwrap();
    folder.delete_folder().await.unwrap();
    assert!(folder.list_names().await.unwrap().is_empty());
}
