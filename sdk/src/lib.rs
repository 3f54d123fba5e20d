//! What filter authors import.
