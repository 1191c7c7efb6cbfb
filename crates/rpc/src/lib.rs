//! streamd-rpc
