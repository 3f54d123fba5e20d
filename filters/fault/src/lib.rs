//! A shipped filter.
