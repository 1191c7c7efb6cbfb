//! Snapshots that earlier versions have written.

use std::path::Path;

use crate::fake::run_with;

#[test]
fn a_snapshot_is_shown_with_the_version_that_it_was_written_in() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../snapshot/tests/fixtures");
    for (version, name) in [(1, "v1/chk-42"), (2, "v2/savepoint"), (3, "v3/chk-42")] {
        let path = fixtures.join(name);
        let path = path.to_str().unwrap();
        let shown = run_with(&[], &["checkpoint", "show", path]).stdout;
        assert!(
            shown.contains(&format!(" bytes, format version {version}\n")),
            "{shown}"
        );
        let json = run_with(&[], &["savepoint", "show", path, "--output", "json"]).stdout;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["format_version"], version);
    }
}
