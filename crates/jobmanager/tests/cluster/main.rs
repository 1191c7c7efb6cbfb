//! A job manager over real gRPC on the loopback, with task managers and workers that are scripts.

mod embedded;
mod fake;
mod fixture;

mod artifacts;
mod jobs;
mod links;
mod submissions;
