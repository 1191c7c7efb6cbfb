//! streamd-taskmanager
