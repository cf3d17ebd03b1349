//! Small numbers with names, and sets of them in the bits of a word.

use std::fmt;
use std::marker::PhantomData;

use super::KEYS_PER_SHARD;

/// A transaction, by its number in the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnId(pub u8);

/// A shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardId(pub u8);

/// A key; its shard follows from its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(pub u8);

impl Key {
    /// Returns the shard that holds it.
    pub fn shard(self) -> ShardId {
        ShardId(self.0 / KEYS_PER_SHARD as u8)
    }

    /// Returns its place within its shard.
    pub fn slot(self) -> usize {
        self.0 as usize % KEYS_PER_SHARD
    }
}

/// What a [`Set`] can hold.
pub trait Member: Copy {
    /// Returns the number of a member.
    fn number(self) -> u8;
    /// Returns the member with a number.
    fn of(number: u8) -> Self;
}

macro_rules! members {
    ($($name:ident $prefix:literal)*) => {$(
        impl Member for $name {
            fn number(self) -> u8 {
                self.0
            }

            fn of(number: u8) -> $name {
                $name(number)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&format!(concat!($prefix, "{}"), self.0))
            }
        }
    )*};
}

members!(TxnId "T" ShardId "S" Key "k");

/// A set of transactions, shards or keys.
#[derive(Debug, PartialEq, Eq)]
pub struct Set<T>(u16, PhantomData<T>);

impl<T> Clone for Set<T> {
    fn clone(&self) -> Set<T> {
        *self
    }
}

impl<T> Copy for Set<T> {}

impl<T> Default for Set<T> {
    fn default() -> Set<T> {
        Set(0, PhantomData)
    }
}

impl<T: Member> Set<T> {
    /// Returns true if it holds a member.
    pub fn has(self, member: T) -> bool {
        self.0 >> member.number() & 1 == 1
    }

    /// Adds a member.
    pub fn add(&mut self, member: T) {
        self.0 |= 1 << member.number();
    }

    /// Takes a member out.
    pub fn remove(&mut self, member: T) {
        self.0 &= !(1 << member.number());
    }

    /// Returns true if nothing is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns how many are in it.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Returns true if all of it is in another.
    pub fn is_within(self, other: Set<T>) -> bool {
        self.0 & !other.0 == 0
    }

    /// Returns the members in order.
    pub fn iter(self) -> impl Iterator<Item = T> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let number = (left != 0).then(|| left.trailing_zeros() as u8)?;
            left &= left - 1;
            Some(T::of(number))
        })
    }
}

impl Set<Key> {
    /// Returns those of one shard.
    pub fn at(self, shard: ShardId) -> Set<Key> {
        let of_shard = ((1 << KEYS_PER_SHARD) - 1) << (shard.0 as usize * KEYS_PER_SHARD);
        Set(self.0 & of_shard, PhantomData)
    }

    /// Returns the shards that hold them.
    pub fn shards(self) -> Set<ShardId> {
        let mut shards = Set::default();
        self.iter().for_each(|key| shards.add(key.shard()));
        shards
    }
}

impl<T: Member + fmt::Display> fmt::Display for Set<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<_> = self.iter().map(|member| member.to_string()).collect();
        write!(f, "{{{}}}", members.join(" "))
    }
}
