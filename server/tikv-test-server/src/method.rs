//! The gRPC methods.

/// A method that the server has, and that counters and faults go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "they are called as in kvproto, which describes them")]
pub enum Method {
    GetMembers,
    /// One message of the stream, with which the client asks for up to 64 timestamps.
    Tso,
    GetStore,
    GetAllStores,
    GetRegion,
    GetPrevRegion,
    GetRegionById,
    ScanRegions,
    GetGcSafePoint,
    UpdateGcSafePoint,
    KvGet,
    KvBatchGet,
    KvScan,
    KvPrewrite,
    KvCommit,
    KvCleanup,
    KvBatchRollback,
    KvCheckTxnStatus,
    KvCheckSecondaryLocks,
    KvTxnHeartBeat,
    KvScanLock,
    KvResolveLock,
    KvPessimisticLock,
    KvPessimisticRollback,
    KvGc,
    KvDeleteRange,
    UnsafeDestroyRange,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::GetMembers,
        Self::Tso,
        Self::GetStore,
        Self::GetAllStores,
        Self::GetRegion,
        Self::GetPrevRegion,
        Self::GetRegionById,
        Self::ScanRegions,
        Self::GetGcSafePoint,
        Self::UpdateGcSafePoint,
        Self::KvGet,
        Self::KvBatchGet,
        Self::KvScan,
        Self::KvPrewrite,
        Self::KvCommit,
        Self::KvCleanup,
        Self::KvBatchRollback,
        Self::KvCheckTxnStatus,
        Self::KvCheckSecondaryLocks,
        Self::KvTxnHeartBeat,
        Self::KvScanLock,
        Self::KvResolveLock,
        Self::KvPessimisticLock,
        Self::KvPessimisticRollback,
        Self::KvGc,
        Self::KvDeleteRange,
        Self::UnsafeDestroyRange,
    ];

    /// Whether it is a store's method, not PD's.
    pub fn is_store(self) -> bool {
        self >= Self::KvGet
    }

    /// Whether it is one of a store that asks a region.
    pub(crate) fn has_region(self) -> bool {
        self.is_store() && self != Self::UnsafeDestroyRange
    }

    /// Whether it can meet another transaction's write.
    pub(crate) fn can_conflict(self) -> bool {
        matches!(self, Self::KvPrewrite | Self::KvPessimisticLock)
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_listed_in_order() {
        for (index, method) in Method::ALL.into_iter().enumerate() {
            assert_eq!(method.index(), index);
        }
    }
}
