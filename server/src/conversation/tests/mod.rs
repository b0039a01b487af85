//! Tests of the append path: the state by itself against a model of disk and devices, and the shard on
//! a store that fails.

mod owners;
mod random;
mod shard;
mod state;
mod world;
