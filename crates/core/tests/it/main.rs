//! Tests of the crate through its public face.

mod based_on;
mod branches;
mod conflict_table;
mod conflicts;
mod cost;
mod creation;
mod credentials;
mod dangling;
mod descriptions;
mod evolved;
mod exact;
mod faults;
mod metadata;
mod metadata_cache;
mod metadata_random;
mod metadata_written;
mod named_types;
mod odd_tables;
mod others_metadata;
mod properties;
mod removals;
mod row_delta;
mod support;
mod unknown_transforms;
mod untrusted;
