//! Maps of the hot path: hashed quickly, and each with a seed of its own, so that nobody can choose names that collide.

pub(crate) type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
pub(crate) type Set<K> = std::collections::HashSet<K, foldhash::fast::RandomState>;
