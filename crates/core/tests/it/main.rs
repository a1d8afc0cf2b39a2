//! Tests of the crate through its public face.

mod branches;
mod evolved;
mod faults;
mod support;
mod untrusted;
