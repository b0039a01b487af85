//! A store's methods: each is a command.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::Shared;
use crate::proto::{kvrpcpb, tikvpb::tikv_server::Tikv};

/// One store. All have the same data; which of them answers is up to the regions.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    shared: Arc<Shared>,
    id: u64,
}

impl Store {
    pub(crate) fn new(shared: Arc<Shared>, id: u64) -> Self {
        Self { shared, id }
    }
}

macro_rules! methods {
    ($($name:ident($request:ident) -> $reply:ident;)*) => {
        #[tonic::async_trait]
        impl Tikv for Store {
            $(
                async fn $name(
                    &self,
                    request: Request<kvrpcpb::$request>,
                ) -> Result<Response<kvrpcpb::$reply>, Status> {
                    self.shared.call(self.id, request.into_inner()).await
                }
            )*
        }
    };
}

methods! {
    kv_get(GetRequest) -> GetResponse;
    kv_batch_get(BatchGetRequest) -> BatchGetResponse;
    kv_scan(ScanRequest) -> ScanResponse;
    kv_prewrite(PrewriteRequest) -> PrewriteResponse;
    kv_commit(CommitRequest) -> CommitResponse;
    kv_cleanup(CleanupRequest) -> CleanupResponse;
    kv_batch_rollback(BatchRollbackRequest) -> BatchRollbackResponse;
    kv_check_txn_status(CheckTxnStatusRequest) -> CheckTxnStatusResponse;
    kv_check_secondary_locks(CheckSecondaryLocksRequest) -> CheckSecondaryLocksResponse;
    kv_txn_heart_beat(TxnHeartBeatRequest) -> TxnHeartBeatResponse;
    kv_scan_lock(ScanLockRequest) -> ScanLockResponse;
    kv_resolve_lock(ResolveLockRequest) -> ResolveLockResponse;
    kv_pessimistic_lock(PessimisticLockRequest) -> PessimisticLockResponse;
    kv_pessimistic_rollback(PessimisticRollbackRequest) -> PessimisticRollbackResponse;
    kv_gc(GcRequest) -> GcResponse;
    kv_delete_range(DeleteRangeRequest) -> DeleteRangeResponse;
    unsafe_destroy_range(UnsafeDestroyRangeRequest) -> UnsafeDestroyRangeResponse;
}
