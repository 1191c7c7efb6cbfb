//! Databases whose files cannot be linked: they come while they are used.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use servers::{Fault, Proxy, moto};
use streamd_core::backend::{StateBackendKind, StateBackendOptions};
use streamd_core::error::ErrorCode;
use streamd_core::options::{Configuration, StorageSettings};
use streamd_core::snapshot::KeyedStateHandle;
use streamd_core::state::State;
use streamd_snapshot::store::{configure, digest_text};
use streamd_snapshot::{Location, random_nonce};
use streamd_state::StateError;

use crate::fixture::*;
use crate::increments::increment;

fn databases() -> impl Iterator<Item = StateBackendOptions> {
    let all = backends().into_iter();
    all.filter(|options| options.kind == StateBackendKind::RocksDb)
        .map(|options| StateBackendOptions {
            local_recovery: true,
            ..options
        })
}

/// A checkpoint of several subtasks, which are gone, with names for its tables that no link can be made of.
fn taken(parallelism: u32, options: &StateBackendOptions, world: &World) -> (Vec<KeyedStateHandle>, Model) {
    let open = |range| Task::open(options, world, range, &[]).unwrap();
    let mut tasks: Vec<Task> = ranges(parallelism).into_iter().map(open).collect();
    let mut model = Model::default();
    for task in &mut tasks {
        model.change(task, &(0..12_000).collect::<Vec<_>>(), 1);
    }
    let handles = checkpoint(world, 1, &mut tasks);
    for handle in &handles {
        for path in handle.objects.iter().map(file_of) {
            let real = path.with_extension("real");
            if path.extension().is_some_and(|it| it == "sst") && !path.is_symlink() {
                fs::rename(&path, &real).unwrap();
                symlink(&real, &path).unwrap();
            }
        }
    }
    (handles, model)
}

/// The same in another store.
fn uploaded(world: &World, mut handles: Vec<KeyedStateHandle>, folder: &Location) -> Vec<KeyedStateHandle> {
    for object in handles.iter_mut().flat_map(|handle| &mut handle.objects) {
        let file = file_of(object);
        let place = folder.child(file.file_name().unwrap().to_str().unwrap()).unwrap();
        let bytes = fs::read(&file).unwrap();
        let _created_or_there = world.io.block_on(place.put_create(bytes)).unwrap();
        object.path = place.uri();
    }
    handles
}

fn files_below(folder: &std::path::Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files_below(&path)),
            false => found.push(path),
        }
    }
    found
}

#[test]
fn state_is_worked_on_while_it_comes_and_checkpoints_of_it_are_whole() {
    for options in databases() {
        for parallelism in [1, 2, 4] {
            let world = World::new();
            let (handles, mut model) = taken(1, &options, &world);
            let open = |range| Task::open(&options, &world, range, &handles).unwrap();
            let mut tasks: Vec<Task> = ranges(parallelism).into_iter().map(open).collect();
            for (seed, keys) in (2..).zip([0..50, 11_000..13_000, 0..14_000]) {
                for task in &mut tasks {
                    model.change(task, &keys.clone().collect::<Vec<_>>(), seed);
                }
            }
            let second = checkpoint(&world, 2, &mut tasks);
            for task in &mut tasks {
                model.change(task, &(500..900).collect::<Vec<_>>(), 9);
            }
            let third = increment(&world, 3, 2, &mut tasks);
            let rows = third.iter().filter(|handle| handle.state == "counts");
            assert_eq!(rows.map(|it| it.rows).sum::<u64>(), model.counts.len() as u64);
            drop(tasks);
            assert!(files_below(&world.local()).is_empty());
            assert!(!second.is_empty());
            for parallelism in [1, 2, 3] {
                assert_eq!(restored(&options, &world, parallelism, &third), model, "{options:?}");
            }
        }
    }
}

#[test]
fn a_copy_that_is_kept_for_recovery_is_whole_whenever_its_subtask_went() {
    for options in databases() {
        let world = World::new();
        let (handles, model) = taken(1, &options, &world);
        let kept = world.folder.path().join("kept");
        let mut wholes = 0;
        for round in 0..8 {
            let range = ranges(1)[0];
            let mut task = Task::open_recovering(&options, &world, range, &handles, Some(&kept)).unwrap();
            let keys: Vec<(u64, u64)> = (0..round * 8).map(|key: u64| (key.stable_hash(), key)).collect();
            task.backend.touch(&keys).unwrap();
            if round == 7 {
                assert_eq!(task.all(), model);
            }
            drop(task);
            for file in files_below(&kept) {
                let digest = digest_text(xxhash_rust::xxh3::xxh3_128(&fs::read(&file).unwrap()));
                assert_eq!(file.file_name().unwrap().to_str().unwrap(), digest);
                wholes += 1;
            }
        }
        assert!(wholes > 0, "{options:?}: nothing is kept");
    }
}

/// A store behind a proxy, which belongs to the process: its settings do.
fn behind_a_proxy() -> (servers::Server, Proxy, Location) {
    let server = moto::start();
    let proxy = Proxy::before(server.address());
    let yaml = format!(
        "s3.endpoint: \"{}\"\ns3.access-key: any\ns3.secret-key: key\n",
        proxy.url()
    );
    let configuration = Configuration::default().with_file("streamd.yaml", yaml.as_bytes());
    configure(StorageSettings::of(&configuration.unwrap(), []));
    let folder = Location::open(&format!("s3a://{}/{}", moto::BUCKET, random_nonce())).unwrap();
    (server, proxy, folder)
}

#[test]
fn a_store_that_fails_in_the_middle_is_named_and_never_taken_for_an_answer() {
    let options = databases().next().unwrap();
    let world = World::new();
    let (_server, proxy, folder) = behind_a_proxy();
    let (handles, model) = taken(1, &options, &world);
    let handles = uploaded(&world, handles, &folder);
    proxy.plan(|_| Fault::Well);
    assert_eq!(restored(&options, &world, 1, &handles), model);
    let all = proxy.end().len();
    let keys: Vec<u64> = (0..12_000).collect();
    let mut failed = 0;
    for well in 0..=all {
        proxy.plan(move |request| match request.index < well {
            true => Fault::Well,
            false => Fault::Forbidden,
        });
        let told = Task::open(&options, &world, ranges(1)[0], &handles).map_err(StateError::from);
        let told = told.and_then(|mut task| {
            for keys in keys.chunks(64) {
                let keys: Vec<(u64, u64)> = keys.iter().map(|key| (key.stable_hash(), *key)).collect();
                task.backend.touch(&keys)?;
                for (hash, key) in keys {
                    let found = task.backend.table(task.counts).get(hash, &key);
                    assert_eq!(found, model.counts.get(&key), "key {key}");
                }
            }
            task.read_all()
        });
        let requests = proxy.end();
        if let Err(error) = told {
            assert!(!error.is_damage(), "{error}");
            assert_eq!(error.code(), ErrorCode::StorageDenied, "{error}");
            assert!(error.to_string().contains("s3://"), "{error}");
            failed += 1;
        } else {
            assert!(requests.len() <= well, "nobody was told of a refusal: {requests:?}");
        }
        assert!(files_below(&world.local()).is_empty());
    }
    assert!(failed > 1, "{failed} of {all}");
}
