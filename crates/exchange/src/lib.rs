//! streamd-exchange
