//! [`SharedMemoryPool`]: memory that many queries and writes share, of one session or of several.
//!
//! DataFusion's own `FairSpillPool` gives each consumer that can spill an equal part, though most hold next to nothing: with
//! more cores there are more consumers, and each spills earlier. Here a consumer grows as it likes while memory is free. Once
//! it runs short, the largest spill first: who holds more than a fair share is refused, and what is left is kept for the
//! others.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::common::DataFusionError;
use datafusion::common::human_readable_size;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

/// The part of the pool that is kept for those who hold little: an eighth, and in a small pool more, up to a half.
const KEPT_PART: usize = 8;
const KEPT_LEAST: usize = 64 << 20;
/// How many consumers an error names.
const NAMED: usize = 5;

/// A memory pool for DataFusion, which sessions share where it is given to several
/// ([`SessionBuilder::memory_pool`](crate::SessionBuilder::memory_pool)).
///
/// - While more than a reserve is free (an eighth of the pool, in pools under 512 MiB 64 MiB or a half), everybody grows.
/// - Of the reserve's first half a consumer that can spill gets only up to its fair share: what consumers that can't spill
///   leave, by the number of those that hold anything.
/// - Of the second half it gets only up to its part of that half, by the number of registered ones: so that a consumer that
///   comes late finds what it needs to begin with, however much others hold.
/// - A consumer that can't spill (the build side of a hash join) gets all that is there: it would fail otherwise.
///
/// No request that may be refused brings the pool above its limit.
#[derive(Debug)]
pub struct SharedMemoryPool {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    /// Of that, by consumers that can't spill.
    unspillable: usize,
    /// How many consumers can spill, and how many of those hold something.
    spillable: usize,
    active: usize,
    holders: HashMap<usize, Holder>,
}

#[derive(Debug)]
struct Holder {
    name: String,
    can_spill: bool,
    held: usize,
}

impl SharedMemoryPool {
    /// A pool of so many bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, state: Mutex::default() })
    }

    /// The bytes that are kept for those who hold little.
    fn kept(&self) -> usize {
        (self.limit / KEPT_PART).max(KEPT_LEAST.min(self.limit / 2))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self, state: &State, reservation: &MemoryReservation, additional: usize) -> DataFusionError {
        let mut holders: Vec<&Holder> = state.holders.values().filter(|holder| holder.held > 0).collect();
        holders.sort_by(|a, b| b.held.cmp(&a.held).then_with(|| a.name.cmp(&b.name)));
        let largest: Vec<String> = holders
            .iter()
            .take(NAMED)
            .map(|holder| format!("{} {}", holder.name, human_readable_size(holder.held)))
            .collect();
        DataFusionError::ResourcesExhausted(format!(
            "{} more were refused to {}, which holds {}; of the {} of the memory pool {} are free (the largest of {} holders: {})",
            human_readable_size(additional),
            reservation.consumer().name(),
            human_readable_size(reservation.size()),
            human_readable_size(self.limit),
            human_readable_size(self.limit.saturating_sub(state.used)),
            holders.len(),
            largest.join(", "),
        ))
    }
}

impl State {
    fn grow(&mut self, id: usize, additional: usize) {
        self.used = self.used.saturating_add(additional);
        let Some(holder) = self.holders.get_mut(&id) else { return };
        let before = holder.held;
        holder.held = before.saturating_add(additional);
        if !holder.can_spill {
            self.unspillable = self.unspillable.saturating_add(additional);
        } else if before == 0 && holder.held > 0 {
            self.active += 1;
        }
    }

    fn shrink(&mut self, id: usize, by: usize) {
        self.used = self.used.saturating_sub(by);
        let Some(holder) = self.holders.get_mut(&id) else { return };
        let before = holder.held;
        holder.held = before.saturating_sub(by);
        if !holder.can_spill {
            self.unspillable = self.unspillable.saturating_sub(by);
        } else if before > 0 && holder.held == 0 {
            self.active = self.active.saturating_sub(1);
        }
    }

    fn may_grow(&self, limit: usize, kept: usize, id: usize, additional: usize) -> bool {
        let Some(left) = self.used.checked_add(additional).and_then(|used| limit.checked_sub(used)) else {
            return false;
        };
        let Some(holder) = self.holders.get(&id).filter(|holder| holder.can_spill) else { return true };
        if left >= kept {
            return true;
        }
        let held = holder.held.saturating_add(additional);
        if left >= kept / 2 {
            let active = self.active + usize::from(holder.held == 0);
            return held <= limit.saturating_sub(self.unspillable) / active.max(1);
        }
        held <= kept / 2 / self.spillable.max(1)
    }
}

impl MemoryPool for SharedMemoryPool {
    fn name(&self) -> &str {
        "shared"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        let mut state = self.state();
        let can_spill = consumer.can_spill();
        state.spillable += usize::from(can_spill);
        let holder = Holder { name: consumer.name().to_string(), can_spill, held: 0 };
        state.holders.insert(consumer.id(), holder);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        let mut state = self.state();
        let held = state.holders.get(&consumer.id()).map_or(0, |holder| holder.held);
        state.shrink(consumer.id(), held);
        if state.holders.remove(&consumer.id()).is_some() && consumer.can_spill() {
            state.spillable = state.spillable.saturating_sub(1);
        }
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.state().grow(reservation.consumer().id(), additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.state().shrink(reservation.consumer().id(), shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> datafusion::common::Result<()> {
        let mut state = self.state();
        let id = reservation.consumer().id();
        if !state.may_grow(self.limit, self.kept(), id, additional) {
            return Err(self.refused(&state, reservation, additional));
        }
        state.grow(id, additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.state().used
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}

impl fmt::Display for SharedMemoryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (used, limit) = (human_readable_size(self.reserved()), human_readable_size(self.limit));
        write!(f, "shared(used: {used}, limit: {limit})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn consumer(pool: &Arc<SharedMemoryPool>, name: &str, can_spill: bool) -> MemoryReservation {
        let pool: Arc<dyn MemoryPool> = pool.clone();
        MemoryConsumer::new(name).with_can_spill(can_spill).register(&pool)
    }

    #[test]
    fn one_of_many_consumers_grows_while_memory_is_free() {
        let pool = SharedMemoryPool::new(1024 * MIB);
        let idle: Vec<_> = (0..127).map(|n| consumer(&pool, &format!("idle {n}"), true)).collect();
        let busy = consumer(&pool, "aggregate", true);
        busy.try_grow(896 * MIB).unwrap();
        let refused = busy.try_grow(200 * MIB).unwrap_err().to_string();
        assert!(refused.contains("aggregate 896.0 MB") && refused.contains("128.0 MB are free"), "{refused}");
        drop((busy, idle));
        assert_eq!(pool.reserved(), 0);
    }

    #[test]
    fn when_memory_is_short_the_largest_is_refused_first() {
        let pool = SharedMemoryPool::new(1024 * MIB);
        let (large, small) = (consumer(&pool, "large", true), consumer(&pool, "small", true));
        small.try_grow(100 * MIB).unwrap();
        large.try_grow(796 * MIB).unwrap();
        large.try_grow(MIB).unwrap_err();
        small.try_grow(60 * MIB).unwrap();
        // It spills, and the other one has what it left.
        large.free();
        small.try_grow(600 * MIB).unwrap();
        large.try_grow(100 * MIB).unwrap();
    }

    #[test]
    fn who_comes_late_finds_memory_to_begin_with() {
        let pool = SharedMemoryPool::new(1024 * MIB);
        let first = consumer(&pool, "first", true);
        let mut step = 64 * MIB;
        while step > 0 {
            if first.try_grow(step).is_err() {
                step /= 2;
            }
        }
        assert_eq!(pool.reserved(), 960 * MIB, "alone, it gets all but the last of the reserve");
        let late: Vec<_> = (0..4).map(|n| consumer(&pool, &format!("late {n}"), true)).collect();
        late.iter().for_each(|late| late.try_grow(12 * MIB).unwrap());
    }

    #[test]
    fn what_can_not_spill_gets_all_that_is_there() {
        let pool = SharedMemoryPool::new(64 * MIB);
        let (join, sort) = (consumer(&pool, "join", false), consumer(&pool, "sort", true));
        sort.try_grow(16 * MIB).unwrap();
        join.try_grow(48 * MIB).unwrap();
        join.try_grow(1).unwrap_err();
        // What is not asked for is counted.
        join.grow(10);
        assert_eq!(pool.reserved(), 64 * MIB + 10);
    }

    /// Consumers of one registration are one holder, such as all writers of a write.
    #[test]
    fn reservations_of_one_consumer_are_one_holder() {
        let pool = SharedMemoryPool::new(1024 * MIB);
        let writers = consumer(&pool, "writers", true);
        let of: Vec<_> = (0..8).map(|_| writers.new_empty()).collect();
        let sort = consumer(&pool, "sort", true);
        of.iter().for_each(|writer| writer.try_grow(64 * MIB).unwrap());
        sort.try_grow(384 * MIB).unwrap();
        // The writers hold more than a half, the sort less: it gets of what is left.
        of[0].try_grow(MIB).unwrap_err();
        sort.try_grow(60 * MIB).unwrap();
        drop((of, writers, sort));
        assert_eq!(pool.reserved(), 0);
    }

    #[test]
    fn random_consumers_stay_within_the_limit_and_starve_nobody() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        for limit in [4 * MIB, 100 * MIB, 4096 * MIB] {
            let pool = SharedMemoryPool::new(limit);
            let small = consumer(&pool, "small", true);
            let part = pool.kept() / 2 / 33;
            let mut large: Vec<_> = (0..32).map(|n| consumer(&pool, &format!("large {n}"), true)).collect();
            for turn in 0..20_000 {
                let at = random(large.len());
                match random(8) {
                    0 => drop(large[at].free()),
                    1 => large[at].shrink(random(large[at].size() + 1)),
                    2 => large[at] = consumer(&pool, &format!("large {at} of turn {turn}"), true),
                    _ => {
                        let more = random(limit / 8) + 1;
                        let free = limit - pool.reserved();
                        let grown = large[at].try_grow(more);
                        // Nobody is refused what is free beyond the reserve.
                        assert!(grown.is_ok() || free - more.min(free) < pool.kept(), "{grown:?}");
                    }
                }
                assert!(pool.reserved() <= limit);
                let held: usize = large.iter().map(MemoryReservation::size).sum();
                assert_eq!(pool.reserved(), held + small.size());
                // However much the large ones hold, a small one has its part.
                small.try_resize(random(part + 1)).unwrap();
            }
            drop(large);
            assert_eq!(pool.reserved(), small.size());
            small.free();
            let state = pool.state();
            assert_eq!((state.used, state.active, state.spillable, state.holders.len()), (0, 0, 1, 1));
        }
    }

    #[test]
    fn threads_that_grow_and_shrink_leave_nothing_behind() {
        let pool = SharedMemoryPool::new(64 * MIB);
        std::thread::scope(|scope| {
            for n in 0..8_usize {
                let pool = pool.clone();
                scope.spawn(move || {
                    for turn in 0..500_usize {
                        let of = consumer(&pool, &format!("{n}"), turn % 3 > 0);
                        let _ = of.try_grow((turn * 7919 % 64) * MIB / 4);
                        of.grow(turn);
                        of.shrink(turn);
                        assert!(pool.reserved() <= 64 * MIB + 8 * 500);
                    }
                });
            }
        });
        assert_eq!(pool.reserved(), 0);
    }
}
