//! The list of all parsers.

use crate::{configuration, connectors, messages, network, plan, records, rows, snapshot};

/// A parser, by the name of its program, its corpus and its regressions.
pub struct Target {
    /// The name.
    pub name: &'static str,
    /// Feeds it, and says whether the bytes were accepted. Panics where the parser does what no parser may.
    pub run: fn(&[u8]) -> bool,
}

const fn target(name: &'static str, run: fn(&[u8]) -> bool) -> Target {
    Target { name, run }
}

/// Every target, by name.
pub const TARGETS: &[Target] = &[
    target("arguments", configuration::arguments),
    target("batch", rows::batch),
    target("block", snapshot::block),
    target("changes", rows::changes),
    target("claims", records::claims),
    target("completions", records::completions),
    target("compressed", connectors::compressed),
    target("configuration", configuration::file),
    target("csv", connectors::csv),
    target("frames", network::frames),
    target("handshake", network::handshake),
    target("identifiers", configuration::identifiers),
    target("jobs", records::jobs),
    target("keyed_table", snapshot::keyed_table),
    target("leaders", records::leaders),
    target("ledger", connectors::ledger),
    target("lines", connectors::lines),
    target("list_table", snapshot::list_table),
    target("metadata", snapshot::metadata),
    target("metadata_body", snapshot::metadata_body),
    target("notices", network::notices),
    target("operations", records::operations),
    target("parquet", connectors::parquet),
    target("places", configuration::places),
    target("plan", plan::descriptor),
    target("row", rows::row),
    target("rpc_error", messages::error),
    target("socket", connectors::socket),
    target("typed_value", rows::typed_value),
    target("worker_command", messages::worker_command),
    target("worker_event", messages::worker_event),
];
