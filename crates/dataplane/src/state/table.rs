//! Records that all workers share, by a key that each of them has in it.
//!
//! Many small shards: a shard that grows moves few records, a sweep of one is short, and two workers seldom want the
//! same one. The longest that anybody holds one is to look at its records once.

use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// With as many records as a lab may have a shard holds about 256, and moves at most 224 when it grows.
pub const SHARDS: usize = 8192;

type Shard<T> = Mutex<HashTable<Slot<T>>>;

/// A record with its hash, so that records which only move aren't looked at.
struct Slot<T> {
    hash: u64,
    record: Arc<T>,
}

pub struct Table<K, T> {
    /// Made with the first record: most labs need few of their tables.
    shards: OnceLock<Box<[Shard<T>]>>,
    key_of: fn(&T) -> K,
    hasher: RandomState,
    /// Counted beside the shards, so that nobody visits all of them.
    len: AtomicU64,
}

/// What became of a record that was to be put into a table.
pub enum Put<T> {
    /// It is there.
    New,
    /// It is there, and this one is gone.
    Replaced(Arc<T>),
    /// Another one is there, and stays.
    Refused,
}

impl<K: Hash + Eq, T> Table<K, T> {
    pub fn new(key_of: fn(&T) -> K) -> Self {
        Self { shards: OnceLock::new(), key_of, hasher: RandomState::default(), len: AtomicU64::new(0) }
    }

    pub fn len(&self) -> u64 {
        self.len.load(Relaxed)
    }

    /// Within a shard a table takes the lowest and the highest bits.
    fn shard_of(hash: u64) -> usize {
        (hash >> 32) as usize % SHARDS
    }

    fn lock(&self, hash: u64) -> MutexGuard<'_, HashTable<Slot<T>>> {
        let shards = self.shards.get_or_init(|| (0..SHARDS).map(|_| Mutex::default()).collect());
        shards[Self::shard_of(hash)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Do the records of two keys stand in one shard?
    #[cfg(test)]
    pub fn is_beside(&self, one: &K, other: &K) -> bool {
        Self::shard_of(self.hasher.hash_one(one)) == Self::shard_of(self.hasher.hash_one(other))
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, key: &K) -> Option<Arc<T>> {
        if self.is_empty() {
            return None;
        }
        let hash = self.hasher.hash_one(key);
        let shard = self.lock(hash);
        shard
            .find(hash, |slot| slot.hash == hash && (self.key_of)(&slot.record) == *key)
            .map(|slot| Arc::clone(&slot.record))
    }

    /// Puts a record where none of its key is, or one that `yields`.
    pub fn put(&self, record: &Arc<T>, yields: impl FnOnce(&T) -> bool) -> Put<T> {
        let key = (self.key_of)(record);
        let hash = self.hasher.hash_one(&key);
        let mut shard = self.lock(hash);
        let is_it = |slot: &Slot<T>| slot.hash == hash && (self.key_of)(&slot.record) == key;
        match shard.entry(hash, is_it, |slot| slot.hash) {
            Entry::Vacant(free) => {
                free.insert(Slot { hash, record: Arc::clone(record) });
                self.len.fetch_add(1, Relaxed);
                Put::New
            }
            Entry::Occupied(mut taken) if yields(&taken.get().record) => {
                Put::Replaced(std::mem::replace(&mut taken.get_mut().record, Arc::clone(record)))
            }
            Entry::Occupied(_) => Put::Refused,
        }
    }

    /// Takes this very record out, if it is there.
    pub fn take(&self, record: &Arc<T>) -> bool {
        let hash = self.hasher.hash_one((self.key_of)(record));
        let mut shard = self.lock(hash);
        let found = shard.find_entry(hash, |slot| Arc::ptr_eq(&slot.record, record)).map(|found| drop(found.remove()));
        if found.is_ok() {
            self.len.fetch_sub(1, Relaxed);
        }
        found.is_ok()
    }

    /// Is there one beside which a record of this key would stand, that may go?
    pub fn any_beside(&self, key: &K, may_go: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        let shard = self.lock(self.hasher.hash_one(key));
        shard.iter().find(|slot| may_go(&slot.record)).map(|slot| Arc::clone(&slot.record))
    }

    /// Takes out what `goes` of one shard, and gives its memory back.
    pub fn sweep(&self, shard: usize, goes: impl Fn(&Arc<T>) -> bool) -> Vec<Arc<T>> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut shard = self.lock((shard as u64) << 32);
        let gone: Vec<_> = shard.extract_if(|slot| goes(&slot.record)).map(|slot| slot.record).collect();
        if !gone.is_empty() {
            self.len.fetch_sub(gone.len() as u64, Relaxed);
            if shard.len() * 4 < shard.capacity() {
                shard.shrink_to(0, |slot| slot.hash);
            }
        }
        gone
    }

    /// All records, at about the same time.
    pub fn list(&self) -> Vec<Arc<T>> {
        let shards = self.shards.get().into_iter().flatten();
        let records = |shard: &Shard<T>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.iter().map(|slot| Arc::clone(&slot.record)).collect()
        };
        shards.flat_map(|shard| -> Vec<_> { records(shard) }).collect()
    }
}
