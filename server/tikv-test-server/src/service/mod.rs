//! The thin shell: gRPC methods in, commands out.

pub(crate) mod command;
mod convert;
mod pd;
mod reads;
mod shared;
mod stores;
mod upkeep;
mod writes;

pub(crate) use pd::Pd;
pub(crate) use shared::Shared;
pub(crate) use stores::Store;
