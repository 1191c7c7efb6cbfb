//! `profile`.

use streamd_rpc::proto::{Profile, ProfileJobResponse};

use super::fake::{Fake, JOB, Script};

/// What the worker of this number was seen to do.
fn seen(number: u32, stacks: &str) -> ProfileJobResponse {
    let counts = stacks.lines().filter_map(|line| line.rsplit_once(' '));
    ProfileJobResponse {
        worker: format!("worker-{number}"),
        task_manager: format!("host-{number}"),
        profile: Some(Profile {
            stacks: stacks.to_owned().into(),
            samples: counts.map(|(_, count)| count.parse::<u64>().unwrap()).sum(),
            ..Profile::default()
        }),
    }
}

fn fake(profiles: impl Into<Vec<ProfileJobResponse>>) -> Fake {
    Fake::start(Script {
        profiles: profiles.into(),
        ..Script::default()
    })
}

#[test]
fn a_flame_graph_is_written_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("job.svg");
    let file = file.to_str().unwrap();
    let fake = fake([seen(1, "slot-0;turn;process 3\nslot-0;turn 1\n")]);
    let ran = fake.run(&["profile", JOB, "--duration", "2s", "--file", file]);
    assert_eq!(ran.stdout, format!("4 samples of 1 worker in 2 s: {file}\n"), "{ran:?}");
    let svg = std::fs::read_to_string(file).unwrap();
    assert!(svg.contains("process (3 samples, 75.00 %)"), "{svg}");
    let asked = fake.requests();
    assert!(asked[0].contains("duration_ms: 2000, frequency: 99"), "{asked:?}");
}

#[test]
fn stacks_are_written_for_other_tools_and_workers_stay_apart() {
    let fake = fake([seen(2, "slot-0;turn 1\n"), seen(1, "slot-0;turn 2\n")]);
    let ran = fake.run(&["profile", JOB, "--folded", "--file", "-"]);
    let expected = "worker-1 on host-1;slot-0;turn 2\nworker-2 on host-2;slot-0;turn 1\n";
    assert_eq!((ran.code, ran.stdout.as_str()), (0, expected), "{ran:?}");
}

#[test]
fn programs_are_told_the_file_and_what_was_seen() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("job.folded");
    let file = file.to_str().unwrap();
    let mut profiled = seen(1, "slot-0;turn 2\n");
    let profile = profiled.profile.as_mut().unwrap();
    (profile.samples, profile.left_out, profile.cut_short) = (7, 5, true);
    let fake = fake([profiled]);
    let ran = fake.run(&["profile", JOB, "--folded", "-f", file, "--output", "json"]);
    assert_eq!(
        ran.stdout,
        format!(
            "{{\"job_id\":\"{JOB}\",\"file\":\"{file}\",\"format\":\"folded\",\"duration_ms\":10000,\"frequency\":99,\"samples\":2,\
             \"workers\":[{{\"worker\":\"worker-1\",\"task_manager\":\"host-1\",\"samples\":7,\"left_out\":5,\"cut_short\":true}}]}}\n"
        )
    );
    assert!(ran.stderr.contains("worker-1 was looked at for less time"), "{ran:?}");
    assert!(ran.stderr.contains("5 of 7 samples are left out"), "{ran:?}");
}

#[test]
fn a_job_that_did_nothing_is_told_as_that_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("job.svg");
    let ran = fake([seen(1, "")]).run(&["profile", JOB, "--file", file.to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stderr.contains("[SD-0429]") && ran.stderr.contains("hint: "),
        "{ran:?}"
    );
    assert!(!file.exists());
}
