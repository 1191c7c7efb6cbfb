//! Configuration keys: Flink's dotted names, their types, defaults and old spellings.
