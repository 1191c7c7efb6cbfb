//! streamd-worker
