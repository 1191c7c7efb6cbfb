//! What this process is to the job.

/// The variable that is set where a cluster runs the program, and not where a person does.
pub(crate) const MODE: &str = "STREAMD_MODE";

/// Whether a cluster runs the program to work, and not to ask it for its plan.
pub(crate) fn is_worker() -> bool {
    std::env::var_os(MODE).is_some_and(|mode| mode == "worker")
}
