//! Commands that read.

use bytes::Bytes;

use super::{
    command::{Command, regional, within},
    convert::{key_error, pair, read_options},
};
use crate::{
    method::Method,
    mvcc::{Change, Engine, ScanOptions, Timestamp},
    proto::{errorpb, kvrpcpb},
    regions::Region,
};

impl Command for kvrpcpb::GetRequest {
    regional!(GetResponse, KvGet);

    fn keys(&self) -> Vec<&Bytes> {
        vec![&self.key]
    }

    fn run(&self, engine: &mut Engine, _: Option<&Region>) -> (Self::Reply, Vec<Change>) {
        let read =
            engine.get(&self.key, Timestamp(self.version), &read_options(self.context.as_ref()));
        let reply = match read {
            Ok(Some(value)) => kvrpcpb::GetResponse { value, ..Default::default() },
            Ok(None) => kvrpcpb::GetResponse { not_found: true, ..Default::default() },
            Err(error) => {
                kvrpcpb::GetResponse { error: Some(key_error(error)), ..Default::default() }
            }
        };
        (reply, Vec::new())
    }
}

impl Command for kvrpcpb::BatchGetRequest {
    regional!(BatchGetResponse, KvBatchGet);

    fn keys(&self) -> Vec<&Bytes> {
        self.keys.iter().collect()
    }

    fn run(&self, engine: &mut Engine, _: Option<&Region>) -> (Self::Reply, Vec<Change>) {
        let options = read_options(self.context.as_ref());
        let found = engine.batch_get(&self.keys, Timestamp(self.version), &options);
        let reply = kvrpcpb::BatchGetResponse {
            pairs: found.into_iter().map(pair).collect(),
            ..Default::default()
        };
        (reply, Vec::new())
    }
}

impl Command for kvrpcpb::ScanRequest {
    regional!(ScanResponse, KvScan);

    fn run(&self, engine: &mut Engine, region: Option<&Region>) -> (Self::Reply, Vec<Change>) {
        // Backwards the client gives the end first.
        let (from, to) = if self.reverse {
            (&self.end_key, &self.start_key)
        } else {
            (&self.start_key, &self.end_key)
        };
        let (from, to) = within(region, from, to);
        let scan = ScanOptions {
            from,
            to,
            limit: self.limit as usize,
            reverse: self.reverse,
            key_only: self.key_only,
        };
        let found =
            engine.scan(Timestamp(self.version), &scan, &read_options(self.context.as_ref()));
        let reply = kvrpcpb::ScanResponse {
            pairs: found.into_iter().map(pair).collect(),
            ..Default::default()
        };
        (reply, Vec::new())
    }
}
