//! A real server behind a proxy that makes requests fail.

use bytes::Bytes;
use servers::{Fault, Proxy};
use streamd_core::error::ErrorCode;
use streamd_snapshot::error::StoreError;
use streamd_snapshot::store::CreateError;
use streamd_snapshot::{Location, random_nonce};

use crate::kinds::{ANY_KEY, moto_server, run, s3};

/// A proxy of the test's own, and a folder behind it.
fn behind_a_proxy() -> (Proxy, Location) {
    let proxy = Proxy::before(moto_server().address());
    let folder = s3(&proxy.url(), ANY_KEY, &random_nonce());
    (proxy, folder)
}

/// The first request meets a fault, the rest are well.
fn first(fault: Fault) -> impl Fn(&servers::Request) -> Fault + Send + 'static {
    move |request| if request.index == 0 { fault } else { Fault::Well }
}

#[test]
fn a_create_survives_every_single_fault() {
    let (proxy, folder) = behind_a_proxy();
    let faults = [
        Fault::Unavailable,
        Fault::Conflict,
        Fault::AppliedThen500,
        Fault::AppliedThenReset,
        Fault::Reset,
        Fault::Truncated,
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        let object = folder.child(&format!("create/{number}")).unwrap();
        let nonce = Bytes::from(random_nonce());
        proxy.plan(first(fault));
        run(object.create(nonce.clone())).unwrap_or_else(|error| panic!("{fault:?}: {error:?}"));
        let seen = proxy.end();
        assert!(
            seen.len() > 1 || fault == Fault::Truncated,
            "{fault:?} befell nothing: {seen:?}"
        );
        assert_eq!(run(object.get(100)).unwrap(), nonce, "{fault:?}");
        // The fault must not have opened the door to a second writer.
        assert!(
            matches!(run(object.create("another".into())), Err(CreateError::Lost { .. })),
            "{fault:?}"
        );
    }
}

#[test]
fn a_create_that_is_forbidden_has_failed_and_one_that_nobody_answers_is_unknown() {
    let (proxy, folder) = behind_a_proxy();
    let object = folder.child("x").unwrap();
    proxy.plan(|request| {
        if request.method == "PUT" {
            Fault::Forbidden
        } else {
            Fault::Well
        }
    });
    let error = run(object.create("x".into())).unwrap_err();
    assert!(matches!(error, CreateError::Failed(_)), "{error:?}");
    proxy.plan(|_| Fault::Forbidden);
    let error = run(object.create("x".into())).unwrap_err();
    assert!(matches!(error, CreateError::OutcomeUnknown { .. }), "{error:?}");
    proxy.plan(|request| {
        if request.method == "PUT" {
            Fault::Reset
        } else {
            Fault::Well
        }
    });
    let error = run(object.create("x".into())).unwrap_err();
    assert!(matches!(error, CreateError::OutcomeUnknown { .. }), "{error:?}");
    proxy.end();
    assert_eq!(run(object.head()).unwrap(), None);
}

#[test]
fn reads_survive_every_single_fault_and_outages_are_no_absences() {
    let (proxy, folder) = behind_a_proxy();
    let object = folder.child("read").unwrap();
    let content = Bytes::from(vec![7; 100_000]);
    run(object.create(content.clone())).unwrap();
    for fault in [
        Fault::Unavailable,
        Fault::AppliedThen500,
        Fault::AppliedThenReset,
        Fault::Reset,
        Fault::Truncated,
    ] {
        proxy.plan(first(fault));
        assert!(run(object.get(1 << 20)).unwrap() == content, "{fault:?}");
        assert!(proxy.end().len() > 1, "{fault:?} befell nothing");
        proxy.plan(first(fault));
        assert_eq!(run(object.get_range(10..20)).unwrap(), content[10..20], "{fault:?}");
        proxy.plan(first(fault));
        assert_eq!(run(object.head()).unwrap(), Some(100_000), "{fault:?}");
    }
    for fault in [Fault::Unavailable, Fault::Forbidden, Fault::Reset] {
        proxy.plan(move |_| fault);
        for error in [
            run(object.get(1 << 20)).map(drop),
            run(object.head()).map(drop),
            run(folder.list()).map(drop),
        ] {
            let error = error.unwrap_err();
            let code = match fault {
                Fault::Forbidden => ErrorCode::StorageDenied,
                _outage => ErrorCode::StorageUnavailable,
            };
            assert_eq!(error.code(), code, "{fault:?}: {}", error.to_coded());
        }
    }
    proxy.end();
}

#[test]
fn an_answer_that_stops_after_its_headers_is_given_up() {
    let (proxy, folder) = behind_a_proxy();
    let object = folder.child("hang").unwrap();
    run(object.create("hang".into())).unwrap();
    proxy.plan(|_| Fault::HangAfterHeaders);
    let error = run(object.get(100)).unwrap_err();
    assert!(matches!(error, StoreError::TimedOut { .. }), "{error:?}");
    proxy.end();
}

#[test]
fn a_large_upload_survives_each_fault_at_each_request_or_leaves_nothing() {
    let (proxy, folder) = behind_a_proxy();
    let content = vec![3; 17 << 20];
    let upload = |object: &Location| {
        run(async {
            let mut upload = object.upload();
            upload.write(&content).await?;
            upload.finish().await
        })
    };
    proxy.plan(|_| Fault::Well);
    upload(&folder.child("well").unwrap()).unwrap();
    let requests = proxy.end().len();
    for fault in [
        Fault::Unavailable,
        Fault::AppliedThen500,
        Fault::AppliedThenReset,
        Fault::Reset,
    ] {
        for index in 0..requests {
            let object = folder.child(&format!("{fault:?}/{index}")).unwrap();
            proxy.plan(move |request| if request.index == index { fault } else { Fault::Well });
            let uploaded = upload(&object);
            proxy.end();
            let there = run(object.head()).unwrap();
            match uploaded {
                Ok(_) => assert_eq!(there, Some(17 << 20), "{fault:?} at {index}"),
                Err(error) => assert_eq!(there, None, "{fault:?} at {index}: {error}, and yet it is there"),
            }
            if matches!(fault, Fault::Unavailable | Fault::AppliedThen500) {
                assert_eq!(there, Some(17 << 20), "{fault:?} at {index} is worth a repetition");
            }
        }
    }
}
