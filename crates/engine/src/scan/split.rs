//! Files into partitions of about the same number of bytes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Files are not cut into pieces smaller than this, in bytes.
const MIN_PIECE_BYTES: u64 = 8 << 20;
/// The most pieces of one file, for each partition: sizes are what manifests claim, and may claim too much.
const PIECES_A_PARTITION: u64 = 4;

/// A part of a file: which one, and its range of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) file: usize,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// How many bytes a partition is to have of files of these sizes.
pub(super) fn share(sizes: &[u64], partitions: usize) -> u64 {
    (total(sizes.iter().copied()) / partitions.max(1) as u64).max(MIN_PIECE_BYTES)
}

/// Sizes together: more than there can be is as much as there can be.
pub(super) fn total(sizes: impl IntoIterator<Item = u64>) -> u64 {
    sizes.into_iter().fold(0, u64::saturating_add)
}

/// A file in pieces of about a share, unless it is to be read whole: `cuts` are its row groups' offsets, where they are known.
pub(super) fn cut(file: usize, size: u64, cuts: Option<&[i64]>, share: u64, partitions: usize) -> Vec<Piece> {
    let most = (partitions.max(1) as u64).saturating_mul(PIECES_A_PARTITION);
    let share = share.max(size.div_ceil(most));
    // Half as much again is not worth another piece.
    if partitions < 2 || size <= share.saturating_add(share / 2) {
        return vec![Piece { file, start: 0, end: size }];
    }
    let mut pieces = Vec::new();
    let mut start = 0;
    for cut in cuts_of(size, cuts, share) {
        if cut >= share.saturating_add(start) && cut < size {
            pieces.push(Piece { file, start, end: cut });
            start = cut;
        }
    }
    pieces.push(Piece { file, start, end: size });
    pieces
}

/// Distributes files over at most `partitions` partitions by bytes. `sizes` are the files' sizes, `cuts` where each may be
/// cut (its row groups' offsets; anywhere when that is not known). The pieces of a file cover it, and do not overlap.
pub(super) fn split(sizes: &[u64], cuts: &[Option<&[i64]>], partitions: usize) -> Vec<Vec<Piece>> {
    let share = share(sizes, partitions);
    let mut pieces = Vec::with_capacity(sizes.len());
    for (file, &size) in sizes.iter().enumerate() {
        pieces.extend(cut(file, size, cuts.get(file).copied().flatten(), share, partitions));
    }
    // Largest first, each to the partition that has least.
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    order.sort_by_key(|&i| (Reverse(pieces[i].end - pieces[i].start), i));
    let mut loads: BinaryHeap<Reverse<(u64, usize)>> =
        (0..partitions.clamp(1, pieces.len().max(1))).map(|p| Reverse((0, p))).collect();
    let mut groups: Vec<Vec<usize>> = vec![Vec::new(); loads.len()];
    for i in order {
        if let Some(Reverse((load, partition))) = loads.pop() {
            groups[partition].push(i);
            let bytes = (pieces[i].end - pieces[i].start).max(1);
            loads.push(Reverse((load.saturating_add(bytes), partition)));
        }
    }
    groups.retain(|group| !group.is_empty());
    for group in &mut groups {
        group.sort_unstable();
    }
    groups.into_iter().map(|group| group.into_iter().map(|i| pieces[i].clone()).collect()).collect()
}

fn cuts_of(size: u64, offsets: Option<&[i64]>, share: u64) -> Vec<u64> {
    match offsets {
        Some(offsets) => {
            let mut cuts: Vec<u64> =
                offsets.iter().filter_map(|offset| u64::try_from(*offset).ok()).collect();
            cuts.sort_unstable();
            cuts
        }
        None => {
            let next = |cut: &u64| cut.checked_add(share);
            std::iter::successors(Some(share), next).take_while(|cut| *cut < size).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn small_files_stay_whole_and_are_balanced() {
        let sizes = [4 * MIB, MIB, MIB, MIB, MIB];
        let groups = split(&sizes, &[None; 5], 2);
        assert_eq!(groups.len(), 2);
        let load = |group: &[Piece]| group.iter().map(|p| p.end - p.start).sum::<u64>();
        assert_eq!((load(&groups[0]), load(&groups[1])), (4 * MIB, 4 * MIB));
    }

    #[test]
    fn a_large_file_is_cut_at_its_row_groups_and_covered_once() {
        let cuts = [4, 30 << 20, 60 << 20, 90 << 20];
        for offsets in [Some(&cuts[..]), None, Some(&[][..])] {
            let groups = split(&[120 * MIB], &[offsets], 4);
            let mut pieces: Vec<Piece> = groups.into_iter().flatten().collect();
            pieces.sort_by_key(|piece| piece.start);
            assert_eq!(pieces.first().unwrap().start, 0);
            assert_eq!(pieces.last().unwrap().end, 120 * MIB);
            assert!(pieces.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert_eq!(pieces.len(), if offsets == Some(&[]) { 1 } else { 4 });
        }
    }

    #[test]
    fn sizes_that_no_files_have_make_few_pieces() {
        const HUGE: u64 = i64::MAX as u64;
        for sizes in [vec![HUGE, HUGE, 2], vec![u64::MAX, u64::MAX], vec![1 << 50; 20], vec![HUGE, 1]] {
            let groups = split(&sizes, &vec![None; sizes.len()], 4);
            let mut pieces: Vec<Piece> = groups.into_iter().flatten().collect();
            assert!(pieces.len() <= 16 * sizes.len(), "{} pieces", pieces.len());
            pieces.sort_by_key(|piece| (piece.file, piece.start));
            for (file, size) in sizes.iter().enumerate() {
                let of: Vec<_> = pieces.iter().filter(|piece| piece.file == file).collect();
                assert_eq!((of[0].start, of[of.len() - 1].end), (0, *size));
                assert!(of.windows(2).all(|pair| pair[0].end == pair[1].start));
            }
        }
        // A share that was worked out of other files cuts none into more.
        assert!(cut(0, HUGE, None, MIN_PIECE_BYTES, 4).len() <= 16);
    }

    #[test]
    fn no_partition_is_empty_and_none_is_made_for_no_files() {
        assert_eq!(split(&[], &[], 4), Vec::<Vec<Piece>>::new());
        assert_eq!(split(&[0, 0], &[None, None], 8).len(), 2);
    }
}
