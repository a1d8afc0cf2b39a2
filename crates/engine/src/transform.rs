//! Transforms: named, typed units of work whose plan is checked before any data is read.
