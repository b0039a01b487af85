//! What a request to a store is, whichever method it came by.

use bytes::Bytes;

use crate::{
    method::Method,
    mvcc::{Change, Engine},
    proto::{errorpb, kvrpcpb},
    regions::{Asked, Region},
};

/// A request that a store answers.
pub(crate) trait Command: prost::Message + Clone + 'static {
    /// Its answer.
    type Reply: prost::Message + Default + 'static;

    /// By which method it comes.
    const METHOD: Method;

    /// Which region it asks, if it asks one.
    fn asked(&self) -> Option<Asked>;

    /// The keys that must be in the region.
    fn keys(&self) -> Vec<&Bytes> {
        Vec::new()
    }

    /// How large the raft entry would be, if it makes one whose size matters.
    fn entry_size(&self) -> Option<usize> {
        None
    }

    /// The answer, and what must become durable before it is given. `region` is the one asked; its range bounds
    /// what is read without keys.
    fn run(&self, engine: &mut Engine, region: Option<&Region>) -> (Self::Reply, Vec<Change>);

    /// The answer of who isn't responsible.
    fn refused(error: errorpb::Error) -> Self::Reply;

    /// The answer to a write that met somebody's: for faults.
    fn conflict(&self) -> Option<Self::Reply> {
        None
    }
}

/// Which region a context asks.
pub(crate) fn asked(context: Option<&kvrpcpb::Context>) -> Option<Asked> {
    let none = kvrpcpb::Context::default();
    let context = context.unwrap_or(&none);
    let epoch = context.region_epoch.as_ref();
    Some(Asked {
        region_id: context.region_id,
        conf_ver: epoch.map_or(0, |epoch| epoch.conf_ver),
        version: epoch.map_or(0, |epoch| epoch.version),
        store_id: context.peer.as_ref().map_or(0, |peer| peer.store_id),
    })
}

/// The range that a region bounds: the later start, the earlier end. Empty ends are none.
pub(crate) fn within(region: Option<&Region>, from: &Bytes, to: &Bytes) -> (Bytes, Bytes) {
    let Some(region) = region else { return (from.clone(), to.clone()) };
    let from = from.max(&region.start).clone();
    let to = match (to.is_empty(), region.end.is_empty()) {
        (true, _) => region.end.clone(),
        (false, true) => to.clone(),
        (false, false) => to.min(&region.end).clone(),
    };
    (from, to)
}

/// The parts of [`Command`] that are the same for every request with a context and a region error.
macro_rules! regional {
    ($reply:ident, $method:ident) => {
        type Reply = kvrpcpb::$reply;

        const METHOD: Method = Method::$method;

        fn asked(&self) -> Option<crate::regions::Asked> {
            crate::service::command::asked(self.context.as_ref())
        }

        fn refused(error: errorpb::Error) -> Self::Reply {
            kvrpcpb::$reply { region_error: Some(error), ..Default::default() }
        }
    };
}
pub(crate) use regional;
