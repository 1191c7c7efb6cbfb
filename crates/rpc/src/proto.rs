//! The messages and services of `proto/streamd/v1`, as generated. Their documentation is in the `.proto` files.
#![allow(missing_docs, clippy::all, reason = "generated code")]

tonic::include_proto!("streamd.v1");
