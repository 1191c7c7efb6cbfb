//! streamd-runtime
