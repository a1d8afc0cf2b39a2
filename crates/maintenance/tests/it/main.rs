//! Maintenance on real catalogs and stores.

mod expire;
mod faults;
mod histories;
mod orphans;
mod world;
