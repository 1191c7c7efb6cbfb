//! streamd-snapshot
