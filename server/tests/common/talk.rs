//! Two well-behaved clients, to show that others aren't disturbed.

use super::{
    World,
    client::{Client, Downlink, Uplink},
};

/// Ann and bob, in the middle of a conversation.
pub(crate) struct Talk {
    pub(crate) ann: Client,
    pub(crate) bob: Client,
    up: Uplink,
    down: Downlink,
    said: u64,
}

impl Talk {
    pub(crate) async fn begin(world: &World) -> Self {
        let [ann, bob] = world.two().await;
        let mut up = ann.uplink(&bob).await;
        up.send("hello").await;
        let mut down = bob.downlink().await;
        down.hears("hello").await;
        Self { ann, bob, up, down, said: 1 }
    }

    /// They go on: a message is accepted, delivered and acknowledged.
    pub(crate) async fn goes_on(&mut self) {
        self.said += 1;
        let text = format!("message {}", self.said);
        let accepted = self.up.send(&text).await;
        assert_eq!(accepted.seq, self.said);
        self.down.hears(&text).await;
    }
}
