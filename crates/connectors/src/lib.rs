//! streamd-connectors
