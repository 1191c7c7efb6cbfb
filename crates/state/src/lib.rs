//! streamd-state
