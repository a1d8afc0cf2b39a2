//! What hangs below a metadata file.
