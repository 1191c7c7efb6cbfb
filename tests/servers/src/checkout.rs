//! Where the sources are, and what a test says that cannot test anything.

use std::io::Write;
use std::path::PathBuf;

/// The root of the workspace that the test runs in. Asked for at run time: the one that it was built in may be gone.
pub fn workspace() -> PathBuf {
    // Set by cargo when it runs a test, to the folder of the package; that is the current one too.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let start = package.unwrap_or_else(|| std::env::current_dir().expect("there is a current directory"));
    let root = start.ancestors().find(|folder| folder.join("Cargo.lock").is_file());
    root.expect("tests run in a folder of the workspace").to_owned()
}

/// Says that a test has tested nothing, and why: this machine cannot do what it needs, or it was not asked for.
///
/// The line goes past the harness, which hides what tests print that pass; `bin/test` repeats it in the end.
pub fn not_tested(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Whoever has closed stderr does not want to know.
    drop(std::io::stderr().write_all(format!("not tested: {test}: {reason}\n").as_bytes()));
}
