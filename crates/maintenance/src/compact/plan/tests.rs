use iceberg::spec::{DataContentType, DataFileBuilder, DataFileFormat, Literal};

use super::*;

/// A file of so many megabytes in a partition of a spec.
fn input(mb: u64, spec_id: i32, partition: Option<i32>) -> Input {
    let mut builder = DataFileBuilder::default();
    let values = if spec_id == 0 { vec![] } else { vec![partition.map(Literal::int)] };
    let file = builder
        .content(DataContentType::Data)
        .file_path(format!("memory://w/t/data/{mb}-{spec_id}-{partition:?}.parquet"))
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::from_iter(values))
        .record_count(100)
        .file_size_in_bytes(mb)
        .partition_spec_id(spec_id)
        .build()
        .unwrap();
    let file =
        LiveFile { spec_id, file, snapshot_id: 1, sequence_number: 1, file_sequence_number: 1, exact: false };
    Input { file, delete_files: 0, deleted_rows: 0 }
}

fn limits() -> Limits {
    Limits { target: 100, ..Limits::default() }
}

/// The sizes in each group, and why it is rewritten.
fn groups(inputs: Vec<Input>, limits: &Limits) -> Vec<(Vec<u64>, Reason)> {
    limits.check().unwrap();
    let sizes = |g: &FileGroup| g.files.iter().map(|f| f.file.file_size_in_bytes()).collect();
    group(inputs, limits, 0, JobOrder::None, |_| String::new()).iter().map(|g| (sizes(g), g.reason)).collect()
}

fn sized(sizes: &[u64]) -> Vec<Input> {
    sizes.iter().map(|mb| input(*mb, 0, None)).collect()
}

#[test]
fn files_are_chosen_by_size_and_groups_by_what_rewriting_them_gains() {
    let rewrite_all = Limits { rewrite_all: true, ..limits() };
    let two = Limits { min_input_files: 2, ..limits() };
    let small = Limits { max_group_size: 30, ..limits() };
    let one = Limits { min_input_files: 1, ..limits() };
    for (name, limits, sizes, expected) in [
        (
            "five small files",
            limits(),
            &[1, 2, 3, 4, 5][..],
            vec![(vec![1, 2, 3, 4, 5], Reason::EnoughFiles)],
        ),
        ("four small files are too few", limits(), &[1, 2, 3, 4], vec![]),
        ("two are enough when so told", two.clone(), &[1, 2], vec![(vec![1, 2], Reason::EnoughFiles)]),
        ("one file alone is never enough", one, &[1], vec![]),
        ("two that make more than a file", limits(), &[60, 70], vec![(vec![60, 70], Reason::EnoughContent)]),
        ("a file that is too large", limits(), &[181], vec![(vec![181], Reason::TooLarge)]),
        (
            "files of a good size are left out",
            two,
            &[1, 75, 100, 180, 2],
            vec![(vec![1, 2], Reason::EnoughFiles)],
        ),
        ("all files when so told", rewrite_all, &[100, 150], vec![(vec![100, 150], Reason::All)]),
        ("groups are of bounded size", small, &[10; 8], vec![]),
        (
            "groups of bounded size that have enough files",
            Limits { max_group_size: 50, ..limits_with(5) },
            &[10; 10],
            vec![(vec![10; 5], Reason::EnoughFiles), (vec![10; 5], Reason::EnoughFiles)],
        ),
        ("nothing", limits(), &[], vec![]),
    ] {
        assert_eq!(groups(sized(sizes), &limits), expected, "{name}");
    }
}

fn limits_with(min_input_files: usize) -> Limits {
    Limits { min_input_files, ..limits() }
}

#[test]
fn deletes_make_a_file_of_good_size_worth_rewriting() {
    let with = |delete_files, deleted_rows| vec![Input { delete_files, deleted_rows, ..input(100, 0, None) }];
    let threshold = Limits { delete_file_threshold: Some(3), ..limits() };
    assert_eq!(groups(with(2, 30), &limits()), [(vec![100], Reason::Deletes)]);
    assert_eq!(groups(with(2, 29), &limits()), []);
    assert_eq!(groups(with(3, 0), &threshold), [(vec![100], Reason::Deletes)]);
    assert_eq!(groups(with(2, 0), &threshold), []);
}

#[test]
fn partitions_are_not_mixed_and_files_of_older_specs_are() {
    let limits = limits_with(2);
    let inputs = vec![
        input(1, 1, Some(7)),
        input(2, 1, None),
        input(3, 1, Some(7)),
        input(4, 0, None),
        input(5, 1, None),
        input(6, 2, Some(9)),
    ];
    let groups = group(inputs, &limits, 1, JobOrder::None, |p| format!("{:?}", p.fields().first()));
    let shown: Vec<(Option<i32>, Vec<u64>)> = groups
        .iter()
        .map(|g| (g.spec_id, g.files.iter().map(|f| f.file.file_size_in_bytes()).collect()))
        .collect();
    assert_eq!(shown, [(Some(1), vec![1, 3]), (Some(1), vec![2, 5]), (None, vec![4, 6])]);
    assert_ne!(groups[0].partition, groups[1].partition);
}

#[test]
fn groups_come_in_the_order_asked_for() {
    let limits = Limits { max_group_size: 60, min_input_files: 1, rewrite_all: true, ..limits() };
    for (order, expected) in [
        (JobOrder::None, [50, 60, 30]),
        (JobOrder::BytesAsc, [30, 50, 60]),
        (JobOrder::BytesDesc, [60, 50, 30]),
        (JobOrder::FilesAsc, [30, 50, 60]),
        (JobOrder::FilesDesc, [60, 50, 30]),
    ] {
        let groups = group(sized(&[25, 25, 20, 20, 20, 30]), &limits, 0, order, |_| String::new());
        assert_eq!(groups.iter().map(|g| g.bytes).collect::<Vec<_>>(), expected, "{order:?}");
    }
}

#[test]
fn a_remainder_is_spread_unless_that_makes_files_too_large() {
    let limits = limits();
    for (bytes, files) in [
        (1, 1),
        (99, 1),
        (100, 1),
        (109, 1),
        (120, 2),
        (176, 2),
        (200, 2),
        (1020, 10),
        (1080, 11),
        (1090, 11),
    ] {
        // 1080 over 10 files is 108 each, under 1.1 of the target; the remainder of 80 is a file of good size, though.
        assert_eq!(limits.output_files(bytes), files, "{bytes}");
    }
    for bytes in [1, 99, 101, 150, 181, 999, 1000, 12_345] {
        let roll = limits.roll_at(bytes);
        assert!(roll < limits.max_size() && roll * limits.output_files(bytes) >= bytes, "{bytes} {roll}");
    }
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    for limits in [
        Limits { target: 0, ..limits() },
        Limits { min: Some(100), ..limits() },
        Limits { max: Some(100), ..limits() },
        Limits { min_input_files: 0, ..limits() },
        Limits { max_group_size: 0, ..limits() },
        Limits { delete_ratio_threshold: 1.5, ..limits() },
    ] {
        assert_eq!(limits.check().unwrap_err().kind(), icefield_core::ErrorKind::InvalidInput);
    }
}

#[test]
fn the_defaults_are_those_of_iceberg() {
    let limits = Limits::default();
    assert_eq!(
        (limits.target, limits.min_size(), limits.max_size()),
        (536_870_912, 402_653_184, 966_367_641)
    );
    assert_eq!((limits.min_input_files, limits.max_group_size), (5, 107_374_182_400));
    assert_eq!((limits.delete_file_threshold, limits.delete_ratio_threshold), (None, 0.3));
}

#[test]
fn sizes_that_no_files_have_are_grouped_without_a_wrap() {
    const HUGE: u64 = u64::MAX - 1;
    let all = Limits { rewrite_all: true, max_group_size: u64::MAX, ..limits() };
    let planned = group(sized(&[HUGE, HUGE, 2]), &all, 0, JobOrder::BytesDesc, |_| String::new());
    assert_eq!((planned.len(), planned[0].bytes, planned[0].files.len()), (1, u64::MAX, 3));
    // Each alone where that is the bound, however much the ones before it had.
    let alone = groups(sized(&[HUGE, 2, HUGE]), &Limits { max_group_size: 100, ..all });
    assert_eq!(alone.iter().map(|(sizes, _)| sizes.len()).collect::<Vec<_>>(), [1, 1, 1]);
}
