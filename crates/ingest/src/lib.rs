//! Archives of CSV and JSON lines into typed tables, nothing lost: bad archives, members and rows are quarantined.
