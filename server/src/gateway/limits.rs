//! Rate limits of addresses and devices, on tokio's clock so that a simulator can drive them.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, Reference},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed, keyed::HashMapStateStore},
};
use tokio::time::Instant;

/// Tokio's clock as the limiter sees it.
#[derive(Debug, Clone)]
pub(super) struct TokioClock;

/// A moment of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(Instant);

impl Reference for Moment {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_duration_since(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.checked_sub(duration.into()).unwrap_or(self.0))
    }
}

impl std::ops::Add<Nanos> for Moment {
    type Output = Self;

    fn add(self, other: Nanos) -> Self {
        Self(self.0 + Duration::from(other))
    }
}

impl Clock for TokioClock {
    type Instant = Moment;

    fn now(&self) -> Moment {
        Moment(Instant::now())
    }
}

fn at_least_one(value: u32) -> NonZeroU32 {
    NonZeroU32::new(value).unwrap_or(NonZeroU32::MIN)
}

/// A limit of its own for one device.
pub(super) struct DeviceLimit(
    RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Moment>>,
);

impl DeviceLimit {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let quota = Quota::per_second(at_least_one(per_second)).allow_burst(at_least_one(burst));
        Self(RateLimiter::direct_with_clock(quota, TokioClock))
    }

    /// Whether one more is within the limit; it counts if so.
    pub(super) fn allows(&self) -> bool {
        self.0.check().is_ok()
    }

    /// Waits until one more is within the limit. Says whether it had to.
    pub(super) async fn pace(&self) -> bool {
        let mut waited = false;
        while let Err(until) = self.0.check() {
            waited = true;
            tokio::time::sleep(until.wait_time_from(TokioClock.now())).await;
        }
        waited
    }
}

type Addresses = HashMapStateStore<IpAddr>;

/// A limit for each address (for each /64 of IPv6, since a host has all of it).
pub(super) struct AddressLimit(RateLimiter<IpAddr, Addresses, TokioClock, NoOpMiddleware<Moment>>);

impl AddressLimit {
    pub(super) fn per_second(rate: u32, burst: u32) -> Self {
        Self::new(Quota::per_second(at_least_one(rate)), burst)
    }

    pub(super) fn per_hour(rate: u32, burst: u32) -> Self {
        Self::new(Quota::per_hour(at_least_one(rate)), burst)
    }

    fn new(quota: Quota, burst: u32) -> Self {
        let quota = quota.allow_burst(at_least_one(burst));
        Self(RateLimiter::new(quota, Addresses::default(), TokioClock))
    }

    /// Counts one; if that is over the limit, says after how many milliseconds it isn't any more.
    pub(super) fn check(&self, address: IpAddr) -> Result<(), u64> {
        self.0.check_key(&prefix(address)).map_err(|until| {
            let wait = until.wait_time_from(TokioClock.now());
            wait.as_millis().try_into().unwrap_or(u64::MAX).max(1)
        })
    }

    /// Forgets the addresses that haven't come near the limit lately.
    pub(super) fn tidy(&self) {
        self.0.retain_recent();
        self.0.shrink_to_fit();
    }
}

/// What stands for an address in limits.
pub(super) fn prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_device_is_slowed_down_to_its_rate() {
        let limit = DeviceLimit::new(10, 5);
        let started = Instant::now();
        for _ in 0..25 {
            limit.pace().await;
        }
        // The burst at once, the other twenty at ten a second: on the paused clock, exactly.
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(1_990) && took <= Duration::from_millis(2_050));
        assert!(!limit.allows());
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_limited_one_by_one_and_networks_together() {
        let limit = AddressLimit::per_second(1, 2);
        let (here, there): (IpAddr, IpAddr) =
            ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        assert_eq!(limit.check(here), Ok(()));
        assert_eq!(limit.check(there), Ok(()));
        assert!(limit.check(here).is_err());
        assert_eq!(limit.check("192.0.2.1".parse().unwrap()), Ok(()));
        tokio::time::advance(Duration::from_secs(10)).await;
        limit.tidy();
        assert_eq!(limit.check(there), Ok(()));
    }
}
