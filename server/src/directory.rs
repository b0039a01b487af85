//! Accounts, their devices, names and link tokens.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures_util::future::{try_join, try_join_all};
use lru::LruCache;
use ring::digest;
use tern_protocol::{
    code::Code,
    frame::{Register, Secret},
    id::{AccountId, DeviceId, name_is_valid},
    limits,
};

use crate::{
    keys,
    policy::{Granted, Policy},
    random::Random,
    records::{AccountRecord, DeviceRecord, LinkRecord, Record, RecordError},
    store::{CommitError, Condition, Mutation, ReadError, Store, Transaction},
};

/// Accounts that can be read at the same time.
const LOADING: usize = 64;
/// How often a registration is tried anew when another one came between.
const ATTEMPTS: u32 = 4;

/// A device, as the directory has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The device.
    pub device: DeviceId,
    /// Its Ed25519 public key.
    pub key: [u8; 32],
    /// As its owner knows it.
    pub label: String,
    /// When it was registered, milliseconds since the epoch.
    pub created_ms: u64,
}

/// An account and its devices at some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountInfo {
    /// The account.
    pub account: AccountId,
    /// Its name.
    pub name: String,
    /// Its devices, in order of their ids; at most [`limits::DEVICES`].
    pub devices: Box<[DeviceInfo]>,
    /// What the store has under [`keys::account_version`] when these are its devices.
    pub version: Option<Bytes>,
}

impl AccountInfo {
    /// The device with this id.
    pub fn device(&self, device: DeviceId) -> Option<&DeviceInfo> {
        self.devices.iter().find(|info| info.device == device)
    }

    /// What makes a transaction fail if the devices have changed since they were read.
    pub fn is_current(&self) -> Condition {
        Condition::Seen(keys::account_version(self.account), self.version.clone())
    }
}

/// Why the directory can't answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The answer is no, and this is the code for the client.
    Refused(Code),
    /// The store can't be read.
    Read(ReadError),
    /// The store can't be written.
    Commit(CommitError),
    /// A stored record can't be read.
    Record(RecordError),
}

impl std::fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(code) => write!(f, "refused: {code}"),
            Self::Read(error) => error.fmt(f),
            Self::Commit(error) => error.fmt(f),
            Self::Record(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DirectoryError {}

impl From<ReadError> for DirectoryError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<RecordError> for DirectoryError {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}

/// The directory of a node. Cheap to clone.
///
/// It keeps the accounts of recent use in memory. A change made through it is seen by all who use
/// it; the list of devices in memory is what a message is addressed to. A change made on another node is seen
/// when somebody says so ([`Directory::forget`]) or asks ([`Directory::check`], [`AccountInfo::is_current`]).
#[derive(Clone)]
pub struct Directory(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    random: Random,
    /// Devices that an account may have.
    devices: usize,
    accounts: Mutex<LruCache<AccountId, Arc<AccountInfo>>>,
    /// The one of an account is held from reading it to putting it into the cache, so that what was read earlier
    /// never takes the place of what was read later.
    loading: [tokio::sync::Mutex<()>; LOADING],
}

impl Directory {
    /// A directory that keeps so many accounts in memory and lets an account have so many devices,
    /// [`limits::DEVICES`] at most.
    pub fn new(
        store: Arc<dyn Store>,
        random: Random,
        cached_accounts: usize,
        devices: usize,
    ) -> Self {
        let devices = devices.min(limits::DEVICES);
        let capacity = NonZeroUsize::new(cached_accounts).unwrap_or(NonZeroUsize::MIN);
        let accounts = Mutex::new(LruCache::new(capacity));
        Self(Arc::new(Inner {
            store,
            random,
            devices,
            accounts,
            loading: std::array::from_fn(|_| tokio::sync::Mutex::default()),
        }))
    }

    /// An account with its devices; `None` if there is no such account.
    pub async fn account(
        &self,
        account: AccountId,
    ) -> Result<Option<Arc<AccountInfo>>, DirectoryError> {
        if let Some(info) = self.cache().get(&account) {
            return Ok(Some(info.clone()));
        }
        self.load(account).await
    }

    /// Two accounts; one that doesn't exist has no devices.
    pub async fn accounts(
        &self,
        accounts: [AccountId; 2],
    ) -> Result<[Arc<AccountInfo>; 2], DirectoryError> {
        let nobody = |account| {
            let (name, devices, version) = (String::new(), [].into(), None);
            Arc::new(AccountInfo { account, name, devices, version })
        };
        let [a, b] = accounts;
        Ok([
            self.account(a).await?.unwrap_or_else(|| nobody(a)),
            self.account(b).await?.unwrap_or_else(|| nobody(b)),
        ])
    }

    /// Forgets what is in memory of an account.
    pub fn forget(&self, account: AccountId) {
        self.cache().pop(&account);
    }

    /// Forgets all that is in memory.
    pub fn forget_all(&self) {
        self.cache().clear();
    }

    /// Forgets the account unless its devices are still as they are in memory. Says whether they are.
    pub async fn check(&self, info: &AccountInfo) -> Result<bool, DirectoryError> {
        let version = self.0.store.get(keys::account_version(info.account)).await?;
        let is_current = version == info.version;
        if !is_current {
            self.forget(info.account);
        }
        Ok(is_current)
    }

    /// The account of a name.
    pub async fn lookup(&self, name: &str) -> Result<Option<AccountId>, DirectoryError> {
        if !name_is_valid(name) {
            return Ok(None);
        }
        let value = self.0.store.get(keys::name(name)).await?;
        value.map(|value| parse_id(&value, AccountId::new)).transpose()
    }

    /// The account of a device, if the device exists and belongs to it.
    pub async fn device(
        &self,
        account: AccountId,
        device: DeviceId,
    ) -> Result<Option<Arc<AccountInfo>>, DirectoryError> {
        let info = self.account(account).await?;
        Ok(info.filter(|info| info.device(device).is_some()))
    }

    /// Makes an account with its first device, or adds a device to one, by [TERN-5.2-6] and
    /// [TERN-5.2-7]. The signature has been verified.
    pub async fn register(
        &self,
        register: &Register,
        policy: &Policy,
        now_ms: u64,
    ) -> Result<(Arc<AccountInfo>, DeviceId), DirectoryError> {
        if !name_is_valid(&register.name) {
            return Err(DirectoryError::Refused(Code::NameInvalid));
        }
        for _ in 0..ATTEMPTS {
            if let Some(done) = self.repeated(register).await? {
                return Ok(done);
            }
            match self.try_register(register, policy, now_ms).await {
                Err(DirectoryError::Commit(CommitError::Conflict { .. })) => {}
                other => return other,
            }
        }
        Err(DirectoryError::Commit(CommitError::Unavailable("too much contention".into())))
    }

    /// The answer to a registration that was carried out before.
    async fn repeated(
        &self,
        register: &Register,
    ) -> Result<Option<(Arc<AccountInfo>, DeviceId)>, DirectoryError> {
        let Some(value) = self.0.store.get(keys::device_key(&register.device_key)).await? else {
            return Ok(None);
        };
        let device = parse_id(&value, DeviceId::new)?;
        let Some(record) = self.read_device(device).await? else { return Ok(None) };
        let account = AccountId::new(record.account).ok_or_else(RecordError::of::<DeviceRecord>)?;
        match self.account(account).await? {
            Some(info) if info.name == register.name => Ok(Some((info, device))),
            _ => Err(DirectoryError::Refused(Code::KeyInvalid)),
        }
    }

    async fn try_register(
        &self,
        register: &Register,
        policy: &Policy,
        now_ms: u64,
    ) -> Result<(Arc<AccountInfo>, DeviceId), DirectoryError> {
        let existing = self.lookup(&register.name).await?;
        let mut transaction = Transaction::default();
        let granted = policy.check(register, self.0.store.as_ref(), now_ms).await;
        let may_join = match granted.map_err(DirectoryError::Refused)? {
            Granted::NewAccount { spend } => {
                if let Some(spend) = spend {
                    transaction.conditions.push(spend.condition);
                    transaction.mutations.push(spend.mutation);
                }
                false
            }
            Granted::AccountOrDevice => true,
            Granted::Link(token) => {
                let account = existing.ok_or(DirectoryError::Refused(Code::CredentialInvalid))?;
                self.redeem_link(&token, account, now_ms, &mut transaction).await?;
                true
            }
        };
        let account = match existing {
            Some(account) if may_join => {
                let info = self.refreshed(account).await?;
                if info.devices.len() >= self.0.devices {
                    return Err(DirectoryError::Refused(Code::TooMany));
                }
                change_devices(&info, &mut transaction);
                account
            }
            Some(_) => return Err(DirectoryError::Refused(Code::NameTaken)),
            None => self.add_account(&register.name, now_ms, &mut transaction)?,
        };
        let device = self.new_id(DeviceId::new)?;
        let record = DeviceRecord {
            account: account.get(),
            key: register.device_key,
            label: register.label.clone(),
            created_ms: now_ms,
        };
        let key_key = keys::device_key(&register.device_key);
        transaction.conditions.push(Condition::Absent(keys::device(device)));
        transaction.conditions.push(Condition::Absent(key_key.clone()));
        transaction.mutations.extend([
            Mutation::Put(keys::device(device), record.to_bytes()),
            Mutation::Put(keys::account_device(account, device), Bytes::new()),
            Mutation::Put(key_key, id_bytes(device.get())),
        ]);
        self.0.store.commit(transaction).await.map_err(DirectoryError::Commit)?;
        let info = self.refreshed(account).await?;
        Ok((info, device))
    }

    fn add_account(
        &self,
        name: &str,
        now_ms: u64,
        transaction: &mut Transaction,
    ) -> Result<AccountId, DirectoryError> {
        let account = self.new_id(AccountId::new)?;
        let record = AccountRecord { name: name.to_owned(), created_ms: now_ms };
        transaction.conditions.push(Condition::Absent(keys::name(name)));
        transaction.conditions.push(Condition::Absent(keys::account(account)));
        transaction.mutations.extend([
            Mutation::Put(keys::name(name), id_bytes(account.get())),
            Mutation::Put(keys::account(account), record.to_bytes()),
            Mutation::Put(keys::account_version(account), id_bytes(1)),
        ]);
        Ok(account)
    }

    /// Makes a link token for an account. It works once, before `expires_ms`.
    pub async fn create_link(
        &self,
        account: AccountId,
        expires_ms: u64,
    ) -> Result<Secret, DirectoryError> {
        let info = self.account(account).await?;
        if info.is_none_or(|info| info.devices.len() >= self.0.devices) {
            return Err(DirectoryError::Refused(Code::TooMany));
        }
        let token = hex(&self.0.random.bytes::<16>());
        let record = LinkRecord { account: account.get(), expires_ms };
        let transaction = Transaction {
            conditions: Vec::new(),
            mutations: vec![Mutation::Put(link_key(token.as_bytes()), record.to_bytes())],
        };
        self.0.store.commit(transaction).await.map_err(DirectoryError::Commit)?;
        Ok(Secret::new(token))
    }

    async fn redeem_link(
        &self,
        token: &Secret,
        account: AccountId,
        now_ms: u64,
        transaction: &mut Transaction,
    ) -> Result<(), DirectoryError> {
        let refused = || DirectoryError::Refused(Code::CredentialInvalid);
        let key = link_key(token.expose());
        let value = self.0.store.get(key.clone()).await?.ok_or_else(refused)?;
        let record = LinkRecord::from_bytes(&value)?;
        if record.account != account.get() || record.expires_ms <= now_ms {
            return Err(refused());
        }
        transaction.conditions.push(Condition::Equals(key.clone(), value));
        transaction.mutations.push(Mutation::Delete(key));
        Ok(())
    }

    /// Removes a device of an account, with its key and its mailbox marks.
    pub async fn remove_device(
        &self,
        account: AccountId,
        device: DeviceId,
    ) -> Result<(), DirectoryError> {
        for _ in 0..ATTEMPTS {
            let info = self.refreshed(account).await?;
            let record = match self.read_device(device).await? {
                Some(record) if record.account == account.get() => record,
                _ => return Err(DirectoryError::Refused(Code::UnknownDevice)),
            };
            let marks = keys::marks(device, None, 1);
            let mut transaction = Transaction {
                conditions: vec![Condition::Equals(keys::device(device), record.to_bytes())],
                mutations: vec![
                    Mutation::Delete(keys::device(device)),
                    Mutation::Delete(keys::account_device(account, device)),
                    Mutation::Delete(keys::device_key(&record.key)),
                    Mutation::Delete(keys::last_seen(device)),
                    Mutation::Delete(keys::route(device)),
                    Mutation::DeleteRange(marks.from, marks.to),
                ],
            };
            change_devices(&info, &mut transaction);
            match self.0.store.commit(transaction).await {
                Ok(()) => {
                    self.refreshed(account).await?;
                    return Ok(());
                }
                // Another device of the account has come or gone, or this one.
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(DirectoryError::Commit(error)),
            }
        }
        Err(DirectoryError::Commit(CommitError::Unavailable("too much contention".into())))
    }

    /// Notes when devices were last seen.
    pub async fn seen(&self, devices: &[(DeviceId, u64)]) -> Result<(), DirectoryError> {
        let mutations = devices
            .iter()
            .map(|&(device, ms)| Mutation::Put(keys::last_seen(device), id_bytes(ms)))
            .collect();
        let transaction = Transaction { conditions: Vec::new(), mutations };
        self.0.store.commit(transaction).await.map_err(DirectoryError::Commit)
    }

    /// When a device was last seen, milliseconds since the epoch; 0 if never or not known.
    pub async fn last_seen_ms(&self, device: DeviceId) -> Result<u64, DirectoryError> {
        let value = self.0.store.get(keys::last_seen(device)).await?;
        Ok(value
            .and_then(|value| Some(u64::from_be_bytes(value[..].try_into().ok()?)))
            .unwrap_or(0))
    }

    async fn refreshed(&self, account: AccountId) -> Result<Arc<AccountInfo>, DirectoryError> {
        let info = self.load(account).await?;
        Ok(info.ok_or_else(RecordError::of::<AccountRecord>)?)
    }

    async fn load(&self, account: AccountId) -> Result<Option<Arc<AccountInfo>>, DirectoryError> {
        let _loading = self.0.loading[account.get() as usize % LOADING].lock().await;
        let Some(info) = self.read_account(account).await? else { return Ok(None) };
        let info = Arc::new(info);
        self.cache().put(account, info.clone());
        Ok(Some(info))
    }

    async fn read_account(
        &self,
        account: AccountId,
    ) -> Result<Option<AccountInfo>, DirectoryError> {
        // Before the devices: a change in between makes the version the older one, which somebody notices.
        let (version, value) = try_join(
            self.0.store.get(keys::account_version(account)),
            self.0.store.get(keys::account(account)),
        )
        .await?;
        let Some(value) = value else { return Ok(None) };
        let record = AccountRecord::from_bytes(&value)?;
        let list = self.0.store.scan(keys::account_devices(account, limits::DEVICES)).await?;
        let read = list.iter().map(async |(key, _)| {
            let device = parse_id(key.get(10..).unwrap_or_default(), DeviceId::new)?;
            let record = self.read_device(device).await?;
            let info = |DeviceRecord { key, label, created_ms, .. }| DeviceInfo {
                device,
                key,
                label,
                created_ms,
            };
            Ok::<_, DirectoryError>(record.map(info))
        });
        let devices = try_join_all(read).await?.into_iter().flatten().collect();
        Ok(Some(AccountInfo { account, name: record.name, devices, version }))
    }

    async fn read_device(&self, device: DeviceId) -> Result<Option<DeviceRecord>, DirectoryError> {
        let value = self.0.store.get(keys::device(device)).await?;
        Ok(value.map(|value| DeviceRecord::from_bytes(&value)).transpose()?)
    }

    fn new_id<T>(&self, make: fn(u64) -> Option<T>) -> Result<T, DirectoryError> {
        make(self.0.random.id()).ok_or(DirectoryError::Refused(Code::Internal))
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, LruCache<AccountId, Arc<AccountInfo>>> {
        // Nothing between lock and unlock can leave the cache half changed.
        self.0.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a transaction one of those that change an account's devices, of which each sees the one before.
fn change_devices(info: &AccountInfo, transaction: &mut Transaction) {
    let key = keys::account_version(info.account);
    let version = info
        .version
        .as_ref()
        .and_then(|version| Some(u64::from_be_bytes(version[..].try_into().ok()?)));
    transaction.conditions.push(match &info.version {
        Some(version) => Condition::Equals(key.clone(), version.clone()),
        None => Condition::Absent(key.clone()),
    });
    transaction.mutations.push(Mutation::Put(key, id_bytes(version.unwrap_or(0) + 1)));
}

fn link_key(token: &[u8]) -> Bytes {
    keys::link(digest::digest(&digest::SHA256, token).as_ref())
}

fn id_bytes(id: u64) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

fn parse_id<T>(value: &[u8], make: fn(u64) -> Option<T>) -> Result<T, DirectoryError> {
    value
        .try_into()
        .ok()
        .and_then(|bytes| make(u64::from_be_bytes(bytes)))
        .ok_or_else(|| RecordError::of::<DeviceRecord>().into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
