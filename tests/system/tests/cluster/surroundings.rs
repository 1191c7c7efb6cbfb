//! Places that a job needs and does not have: input, output, folders for checkpoints and savepoints.

use std::fs;

use system::{Cluster, Flights, Torture};

use crate::CHECKPOINTS;

#[test]
fn a_place_below_a_file_fails_the_job_with_a_cause_that_names_it() {
    let cluster = Cluster::start(1, 1);
    fs::write(cluster.path("file"), "in the way").unwrap();
    let place = cluster.place("file/below");

    let output = Torture::new().records(10).output(cluster.path("file/below"));
    let ran = cluster.run(&[], &output.command()).refused(1, "SD-0205", &place);
    assert!(ran.stderr.contains("is no folder"), "{ran:#?}");
    let output = Torture::new().records(10).output("relative".into());
    let ran = cluster.run(&[], &output.command()).refused(1, "SD-0205", "`relative`");
    assert!(ran.stderr.contains("give it from the root"), "{ran:#?}");
    assert!(cluster.jobs().is_empty(), "nothing began");

    let directory = format!("state.checkpoints.dir={place}");
    let arguments = ["-D", &directory, "-D", CHECKPOINTS];
    let ran = cluster.run(&arguments, &Torture::new().rate(100).command());
    let ran = ran.refused(6, "SD-0601", &place);
    assert!(ran.stderr.contains("Not a directory"), "{ran:#?}");
    assert!(cluster.jobs().is_empty(), "nothing began");

    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS], &Torture::new().rate(100).command());
    let ran = cluster.streamctl(&["savepoint", &id, &place]);
    let ran = ran.refused(1, "SD-0509", &place);
    assert!(ran.stderr.contains("Not a directory"), "{ran:#?}");
    assert_eq!(ran.stderr.matches("Not a directory").count(), 1, "{ran:#?}");
    assert_eq!(fs::read_to_string(cluster.path("file")).unwrap(), "in the way");
}

#[test]
fn an_input_that_does_not_exist_refuses_the_submission() {
    let cluster = Cluster::start(1, 1);
    let flights = Flights {
        output: cluster.path("output"),
        rate: 0,
    };
    let nowhere = cluster.place("nowhere");
    let arguments = flights
        .command()
        .into_iter()
        .map(|argument| match argument.ends_with("examples/data/flights") {
            true => nowhere.clone(),
            false => argument,
        });
    let arguments: Vec<String> = arguments.collect();
    cluster.run(&[], &arguments).refused(1, "SD-0205", &nowhere);
    assert!(cluster.jobs().is_empty());
}

#[test]
fn a_plan_is_shown_without_running_anything() {
    let cluster = Cluster::start(1, 1);
    let application = Torture::new().output(cluster.path("output")).command();
    let arguments = ["info"].into_iter().chain(application.iter().map(String::as_str));
    let ran = cluster.streamctl(&arguments.collect::<Vec<_>>()).succeeded();
    for word in ["numbers", "ordinals", "lines"] {
        assert!(ran.stdout.contains(word), "{ran:#?}");
    }
    assert!(cluster.jobs().is_empty() && !cluster.path("output").exists());
}

#[test]
fn settings_of_a_job_that_nothing_honours_are_refused_before_it_is_sent() {
    let cluster = Cluster::start(0, 1);
    let application = Torture::new().command();
    let cases = [
        ("execution.checkpointing.intervall=1s", "SD-0103", "intervall"),
        ("execution.checkpointing.interval=soon", "SD-0102", "soon"),
        ("heartbeat.timeout=1s", "SD-0102", "heartbeat.timeout"),
    ];
    for (setting, error, text) in cases {
        let ran = cluster.run(&["-D", setting], &application);
        assert_eq!(ran.code, 2, "{ran:#?}");
        assert!(ran.stderr.contains(text) && ran.stderr.contains(error), "{ran:#?}");
    }
}
