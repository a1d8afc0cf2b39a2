//! Tests of the crate through its public face.

mod based_on;
mod branches;
mod conflicts;
mod creation;
mod dangling;
mod evolved;
mod exact;
mod faults;
mod odd_tables;
mod properties;
mod support;
mod untrusted;
