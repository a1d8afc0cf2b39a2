//! Maintenance on real catalogs and stores.

mod beside;
mod compact;
mod compact_formats;
mod compact_options;
mod compact_reference;
mod expire;
mod faults;
mod foreign_types;
mod histories;
mod hostile_metadata;
mod orphans;
mod purge;
mod racing;
mod read_only;
mod roots;
mod upkeep;
mod world;
