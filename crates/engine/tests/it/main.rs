//! The engine over real files and catalogs.

mod changes;
mod changes_deletes;
mod create_as;
mod foreign_types;
mod metadata_file;
mod metadata_tables;
mod odd_metadata;
mod scan_deletes;
mod scan_evolution;
mod scan_facts;
mod scan_filters;
mod scan_foreign;
mod scan_formats;
mod scan_orders;
mod scan_planning;
mod scan_requests;
mod scan_session;
mod scan_support;
mod transform;
mod write_input;
mod write_ops;
mod write_partitions;
mod write_sharing;
mod write_support;
mod write_types;
