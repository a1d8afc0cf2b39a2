//! Where Iceberg tables are registered: SQL catalogs laid out as Iceberg Java and PyIceberg have them.
