//! How the records of a stream are dealt out.

use std::rc::Rc;

use streamd_core::graph::PartitionerKind;
use streamd_core::key_group::{Owners, key_group_of};
use streamd_core::state::Key;
use streamd_exchange::Partitioner;
use streamd_runtime::connected::Either;

/// How the records of a stream are dealt out to whatever follows.
pub(crate) enum Partition<T> {
    /// Forward where the parallelism agrees, else rebalance.
    Default,
    Kind(PartitionerKind),
    /// By what a function makes for a number of consumers and of key groups.
    Route(PartitionerKind, Rc<dyn MakeRoute<T>>),
}

/// Makes what deals records out, given the number of consumers and of key groups.
pub(crate) type RouteMaker<T> = Box<dyn FnMut(u32, u32) -> Partitioner<T> + Send>;

/// Makes what makes routes, for one edge.
pub(crate) trait MakeRoute<T> {
    fn make(&self) -> RouteMaker<T>;
}

/// By key.
pub(crate) struct HashByKey<S>(pub(crate) S);

/// As [`HashByKey`], for the records of the first of two streams. Those of the second go elsewhere, and are not asked for.
pub(crate) struct HashFirst<S>(pub(crate) S);

impl<A, B, K, S> MakeRoute<Either<A, B>> for HashFirst<(S, std::marker::PhantomData<fn() -> K>)>
where
    K: Key,
    S: Fn(&A) -> K + Clone + Send + 'static,
{
    fn make(&self) -> RouteMaker<Either<A, B>> {
        let key_of = self.0.0.clone();
        Box::new(move |consumers, key_groups| {
            let (key_of, owner) = (key_of.clone(), owner_of_hash(consumers, key_groups));
            Partitioner::hash(move |record| match record {
                Either::First(record) => owner(key_of(record).stable_hash()),
                Either::Second(_) => 0,
            })
        })
    }
}

impl<T, K, S> MakeRoute<T> for HashByKey<(S, std::marker::PhantomData<fn() -> K>)>
where
    K: Key,
    S: Fn(&T) -> K + Clone + Send + 'static,
{
    fn make(&self) -> RouteMaker<T> {
        let key_of = self.0.0.clone();
        Box::new(move |consumers, key_groups| {
            let key_of = key_of.clone();
            let key_hash = move |record: &T| key_of(record).stable_hash();
            Partitioner::by_key(key_hash, owner_of_hash(consumers, key_groups))
        })
    }
}

/// From the hash of a key to the consumer that it belongs to.
fn owner_of_hash(consumers: u32, key_groups: u32) -> impl Fn(u64) -> u32 + Send + 'static {
    let owners = Owners::new(consumers, key_groups);
    move |hash| owners.of(key_group_of(hash, key_groups))
}

/// Any consumer, by chance.
pub(crate) struct ByChance;

impl<T> MakeRoute<T> for ByChance {
    fn make(&self) -> RouteMaker<T> {
        // Each subtask draws its own numbers; which ones matters to nobody.
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        Box::new(move |consumers, _| {
            seed = seed.rotate_left(17).wrapping_mul(0xBF58_476D_1CE4_E5B9) | 1;
            let mut drawn = seed;
            Partitioner::hash(move |_| {
                drawn ^= drawn << 13;
                drawn ^= drawn >> 7;
                drawn ^= drawn << 17;
                ((u128::from(drawn) * u128::from(consumers)) >> 64) as u32
            })
        })
    }
}

/// The consumer that a function of the application says.
pub(crate) struct ByFunction<F>(pub(crate) F);

impl<T, F> MakeRoute<T> for ByFunction<F>
where
    F: FnMut(&T, u32) -> u32 + Clone + Send + 'static,
{
    fn make(&self) -> RouteMaker<T> {
        let function = self.0.clone();
        Box::new(move |consumers, _| {
            let mut function = function.clone();
            Partitioner::hash(move |record| {
                let chosen = function(record, consumers);
                assert!(
                    chosen < consumers,
                    "the partitioner of the application chose subtask {chosen}, counted from 0, of {consumers}"
                );
                chosen
            })
        })
    }
}

impl<T> Partition<T> {
    /// The same for records of another type; what goes by key is given one anew.
    pub(crate) fn without_key<X>(&self) -> Partition<X> {
        match self {
            Self::Kind(kind) => Partition::Kind(*kind),
            Self::Default | Self::Route(..) => Partition::Default,
        }
    }
}

impl<T> Clone for Partition<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Default => Self::Default,
            Self::Kind(kind) => Self::Kind(*kind),
            Self::Route(kind, make) => Self::Route(*kind, Rc::clone(make)),
        }
    }
}
