//! PD's methods.

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt, stream};
use tokio::time::sleep;
use tonic::{Request, Response, Status, Streaming};

use super::shared::{Shared, broken, lost};
use crate::{
    codec,
    faults::{Effect, Loss},
    method::Method,
    proto::{metapb, pdpb},
    regions::Region,
};

/// The cluster's name, which every client checks.
const CLUSTER_ID: u64 = 0x7e57;

/// The placement driver: one member, which leads.
#[derive(Debug, Clone)]
pub(crate) struct Pd {
    shared: Arc<Shared>,
    address: SocketAddr,
    stores: Arc<[SocketAddr]>,
}

impl Pd {
    pub(crate) fn new(shared: Arc<Shared>, address: SocketAddr, stores: Arc<[SocketAddr]>) -> Self {
        Self { shared, address, stores }
    }

    /// Answers a call, or has it struck.
    async fn call<Q: prost::Message, R: prost::Message>(
        &self,
        method: Method,
        request: Request<Q>,
        answer: impl FnOnce(Q) -> Result<R, Status>,
    ) -> Result<Response<R>, Status> {
        let request = request.into_inner();
        self.shared.counters.request(method, request.encoded_len());
        let mut late = Duration::ZERO;
        match self.shared.strike(method) {
            Some(Effect::DelayRequest(by)) => sleep(by).await,
            Some(Effect::DelayReply(by)) => late = by,
            Some(Effect::LoseRequest(loss) | Effect::LoseReply(loss)) => {
                return Err(lost(loss).await);
            }
            Some(Effect::Disconnect) => {
                self.shared.gates[0].disconnect();
                return Err(lost(Loss::Unavailable).await);
            }
            _ => {}
        }
        let reply = answer(request)?;
        sleep(late).await;
        self.shared.counters.response(method, reply.encoded_len());
        Ok(Response::new(reply))
    }

    /// Answers one message of a stream of timestamps; an error ends the stream.
    async fn timestamps(&self, request: pdpb::TsoRequest) -> Result<pdpb::TsoResponse, Status> {
        let counters = &self.shared.counters;
        counters.request(Method::Tso, prost::Message::encoded_len(&request));
        let mut late = Duration::ZERO;
        match self.shared.strike(Method::Tso) {
            Some(Effect::DelayRequest(by)) => sleep(by).await,
            Some(Effect::DelayReply(by)) => late = by,
            // Answers go by their order, so a stream that has lost one is lost.
            Some(Effect::LoseRequest(loss) | Effect::LoseReply(loss)) => {
                return Err(lost(loss).await);
            }
            Some(Effect::Disconnect) => {
                self.shared.gates[0].disconnect();
                return Err(lost(Loss::Unavailable).await);
            }
            _ => {}
        }
        let mut silence = self.shared.silence.subscribe();
        if silence.wait_for(|silent| !*silent).await.is_err() {
            return Err(Status::unavailable("the server stops"));
        }
        let ts = self.shared.core().timestamps(request.count).map_err(broken)?;
        sleep(late).await;
        let reply = pdpb::TsoResponse {
            header: header(),
            count: request.count,
            timestamp: Some(pdpb::Timestamp {
                physical: ts.physical_ms() as i64,
                logical: ts.logical() as i64,
                suffix_bits: 0,
            }),
        };
        counters.timestamps(u64::from(request.count));
        counters.response(Method::Tso, prost::Message::encoded_len(&reply));
        Ok(reply)
    }

    fn store(&self, index: usize, address: &SocketAddr) -> metapb::Store {
        metapb::Store {
            id: index as u64 + 1,
            address: address.to_string(),
            state: metapb::StoreState::Up as i32,
            version: "8.5.0".to_owned(),
            ..Default::default()
        }
    }

    fn stores(&self) -> impl Iterator<Item = metapb::Store> {
        self.stores.iter().enumerate().map(|(index, address)| self.store(index, address))
    }

    fn region(&self, region: Option<&Region>) -> pdpb::GetRegionResponse {
        let stores = self.stores.len() as u64;
        pdpb::GetRegionResponse {
            header: header(),
            region: region.map(|region| region.message(stores)),
            leader: region.map(|region| region.peer(region.leader)),
            ..Default::default()
        }
    }
}

#[tonic::async_trait]
impl pdpb::pd_server::Pd for Pd {
    async fn get_members(
        &self,
        request: Request<pdpb::GetMembersRequest>,
    ) -> Result<Response<pdpb::GetMembersResponse>, Status> {
        let member = pdpb::Member {
            name: "pd".to_owned(),
            member_id: 1,
            // The client puts its own scheme before the address.
            client_urls: vec![format!("http://{}", self.address)],
            ..Default::default()
        };
        let reply = pdpb::GetMembersResponse {
            header: header(),
            members: vec![member.clone()],
            leader: Some(member.clone()),
            etcd_leader: Some(member),
            ..Default::default()
        };
        self.call(Method::GetMembers, request, |_| Ok(reply)).await
    }

    type TsoStream = Pin<Box<dyn Stream<Item = Result<pdpb::TsoResponse, Status>> + Send>>;

    async fn tso(
        &self,
        request: Request<Streaming<pdpb::TsoRequest>>,
    ) -> Result<Response<Self::TsoStream>, Status> {
        let pd = self.clone();
        // One after the other: the client matches answers to requests by their order. None after an error.
        let replies = stream::unfold(Some(request.into_inner()), move |requests| {
            let pd = pd.clone();
            async move {
                let mut requests = requests?;
                match requests.next().await? {
                    Ok(request) => match pd.timestamps(request).await {
                        Ok(reply) => Some((Ok(reply), Some(requests))),
                        Err(status) => Some((Err(status), None)),
                    },
                    Err(status) => Some((Err(status), None)),
                }
            }
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn get_store(
        &self,
        request: Request<pdpb::GetStoreRequest>,
    ) -> Result<Response<pdpb::GetStoreResponse>, Status> {
        self.call(Method::GetStore, request, |request| {
            let store =
                self.stores().find(|store| store.id == request.store_id).ok_or_else(|| {
                    Status::unknown(format!("there is no store {}", request.store_id))
                })?;
            Ok(pdpb::GetStoreResponse {
                header: header(),
                store: Some(store),
                ..Default::default()
            })
        })
        .await
    }

    async fn get_all_stores(
        &self,
        request: Request<pdpb::GetAllStoresRequest>,
    ) -> Result<Response<pdpb::GetAllStoresResponse>, Status> {
        self.call(Method::GetAllStores, request, |_| {
            Ok(pdpb::GetAllStoresResponse { header: header(), stores: self.stores().collect() })
        })
        .await
    }

    async fn get_region(
        &self,
        request: Request<pdpb::GetRegionRequest>,
    ) -> Result<Response<pdpb::GetRegionResponse>, Status> {
        self.call(Method::GetRegion, request, |request| {
            let key = codec::decode(&request.region_key).ok_or_else(not_encoded)?;
            let core = self.shared.core();
            Ok(self.region(Some(core.regions().of_key(&key))))
        })
        .await
    }

    async fn get_prev_region(
        &self,
        request: Request<pdpb::GetRegionRequest>,
    ) -> Result<Response<pdpb::GetRegionResponse>, Status> {
        self.call(Method::GetPrevRegion, request, |request| {
            let key = codec::decode(&request.region_key).ok_or_else(not_encoded)?;
            let core = self.shared.core();
            let start = &core.regions().of_key(&key).start;
            Ok(self.region(core.regions().iter().take_while(|region| region.start < *start).last()))
        })
        .await
    }

    async fn get_region_by_id(
        &self,
        request: Request<pdpb::GetRegionByIdRequest>,
    ) -> Result<Response<pdpb::GetRegionResponse>, Status> {
        self.call(Method::GetRegionById, request, |request| {
            let core = self.shared.core();
            Ok(self.region(core.regions().of_id(request.region_id)))
        })
        .await
    }

    async fn scan_regions(
        &self,
        request: Request<pdpb::ScanRegionsRequest>,
    ) -> Result<Response<pdpb::ScanRegionsResponse>, Status> {
        self.call(Method::ScanRegions, request, |request| {
            let from = codec::decode(&request.start_key).ok_or_else(not_encoded)?;
            let to = codec::decode(&request.end_key).ok_or_else(not_encoded)?;
            let limit = usize::try_from(request.limit)
                .ok()
                .filter(|limit| *limit > 0)
                .unwrap_or(usize::MAX);
            let core = self.shared.core();
            let mut reply = pdpb::ScanRegionsResponse { header: header(), ..Default::default() };
            let inside = |region: &&Region| {
                (region.end.is_empty() || region.end > from) && (to.is_empty() || region.start < to)
            };
            for region in core.regions().iter().filter(inside).take(limit) {
                let (message, leader) =
                    (region.message(self.stores.len() as u64), region.peer(region.leader));
                reply.region_metas.push(message.clone());
                reply.leaders.push(leader.clone());
                reply.regions.push(pdpb::Region {
                    region: Some(message),
                    leader: Some(leader),
                    ..Default::default()
                });
            }
            Ok(reply)
        })
        .await
    }

    async fn get_gc_safe_point(
        &self,
        request: Request<pdpb::GetGcSafePointRequest>,
    ) -> Result<Response<pdpb::GetGcSafePointResponse>, Status> {
        self.call(Method::GetGcSafePoint, request, |_| {
            let safe_point = self.shared.core().safe_point();
            Ok(pdpb::GetGcSafePointResponse { header: header(), safe_point })
        })
        .await
    }

    async fn update_gc_safe_point(
        &self,
        request: Request<pdpb::UpdateGcSafePointRequest>,
    ) -> Result<Response<pdpb::UpdateGcSafePointResponse>, Status> {
        self.call(Method::UpdateGcSafePoint, request, |request| {
            let new_safe_point =
                self.shared.core().raise_safe_point(request.safe_point).map_err(broken)?;
            Ok(pdpb::UpdateGcSafePointResponse { header: header(), new_safe_point })
        })
        .await
    }
}

fn header() -> Option<pdpb::ResponseHeader> {
    Some(pdpb::ResponseHeader { cluster_id: CLUSTER_ID, ..Default::default() })
}

fn not_encoded() -> Status {
    Status::invalid_argument("keys of transactions come to PD encoded, and this one isn't")
}
