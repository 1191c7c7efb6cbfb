//! streamd-macros
