//! streamd-jobmanager
