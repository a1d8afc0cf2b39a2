//! Which manifests of data files a delete file bears on.

use iceberg::spec::{DataContentType, ManifestFile, TableMetadata};

use crate::format::LiveFile;
use crate::format::partition::PartitionSet;

/// Whether a manifest may list a data file that the delete file applies to: false only if it lists none. Goes by sequence
/// numbers, the partition spec and the manifest's summaries of partition values, and takes a deletion vector to be of its
/// data file's partition, as the specification wants it.
pub fn might_apply_to_manifest(delete: &LiveFile, manifest: &ManifestFile, metadata: &TableMetadata) -> bool {
    let by_keys = delete.file.content_type() == DataContentType::EqualityDeletes;
    let oldest = manifest.min_sequence_number;
    if oldest > delete.sequence_number || (by_keys && oldest == delete.sequence_number) {
        return false;
    }
    let Some(spec) = metadata.partition_spec_by_id(delete.spec_id) else { return true };
    if by_keys && spec.is_unpartitioned() {
        return true;
    }
    PartitionSet::new([(delete.spec_id, delete.file.partition())], metadata).might_be_in(manifest)
}
