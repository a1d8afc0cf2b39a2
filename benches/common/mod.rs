//! What the benchmarks have in common: rows, and the peak of resident memory.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};

/// Calendar rows: ids, few and many distinct texts, prices, times.
pub(crate) fn batch(seed: u64) -> RecordBatch {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let rows = 8192;
    let mut random = |below: u64| (0..rows).map(|_| next() % below).collect::<Vec<u64>>();
    let text = |values: Vec<u64>, prefix: &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(values.into_iter().map(|v| format!("{prefix}{v}"))))
    };
    let base = seed as i64 * rows as i64;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(base..base + rows as i64))),
        ("part", Arc::new(Int32Array::from_iter_values(random(100).into_iter().map(|v| v as i32)))),
        ("listing", Arc::new(Int64Array::from_iter_values(random(50_000).into_iter().map(|v| v as i64)))),
        ("date", Arc::new(Date32Array::from_iter_values(random(365).into_iter().map(|v| 19_000 + v as i32)))),
        ("city", text(random(30), "city number ")),
        ("name", text(random(1 << 40), "a listing with the name ")),
        (
            "price",
            Arc::new(Float64Array::from_iter_values(random(100_000).into_iter().map(|v| v as f64 / 100.0))),
        ),
        ("available", Arc::new(BooleanArray::from_iter(random(2).into_iter().map(|v| Some(v == 1))))),
        (
            "seen",
            Arc::new(TimestampMicrosecondArray::from_iter_values(
                random(1 << 50).into_iter().map(|v| v as i64),
            )),
        ),
        (
            "nights",
            Arc::new(Int32Array::from_iter(random(30).into_iter().map(|v| (v > 3).then_some(v as i32)))),
        ),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Sets the peak of resident memory back to what it is now, in bytes, and gives that. 0 where the system does not tell.
pub(crate) fn reset_peak() -> u64 {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    peak()
}

/// The peak of resident memory, in bytes.
pub(crate) fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or_default() * 1024
}
