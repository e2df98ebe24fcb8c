//! The keys a data folder has from its first start.

use super::keys::Credential;
use super::{Config, GUEST_NAMESPACE, SYSTEM_NAMESPACE};
use crate::model::{Namespace, NamespaceLimits, Tenant, Timestamp};
use crate::store::{self, Tenants};

/// OpenWhisk's key of `guest`, the same in every installation.
pub(crate) const WELL_KNOWN_GUEST: &str = "23bc46b1-71f6-4ed5-8c54-816aa4f8c502:123zO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP";

/// OpenWhisk's key of `whisk.system`, the same in every standalone installation.
pub(crate) const WELL_KNOWN_SYSTEM: &str = "789c46b1-71f6-4ed5-8c54-816aa4f8c502:abczO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP";

/// Why the first keys could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    /// What the configuration says is no key.
    #[error("{setting}: {why}")]
    BadKey {
        setting: &'static str,
        why: &'static str,
    },
    /// The keys could not be read or written.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Makes what [`Config`] promises. To be called at each start, before anything is served.
pub(crate) async fn ensure_defaults(
    tenants: &dyn Tenants,
    config: &Config,
) -> Result<(), SetupError> {
    let system = legal(SYSTEM_NAMESPACE);
    let guest = legal(GUEST_NAMESPACE);
    if config.system_key.as_deref() == Some("") {
        return Err(SetupError::BadKey {
            setting: "system_key",
            why: "it must not be empty: it opens the admin API",
        });
    }
    let first_start = tenants.get(&system).await?.is_none();
    // The guest first: should the second write not come about, the next start is a first start again.
    match config.guest_key.as_deref() {
        Some("") => {}
        Some(key) => hold(tenants, guest, parse("guest_key", key)?).await?,
        None if first_start && tenants.get(&guest).await?.is_none() => {
            hold(tenants, guest, parse("guest_key", WELL_KNOWN_GUEST)?).await?;
        }
        None => {}
    }
    match config.system_key.as_deref() {
        Some(key) => hold(tenants, system, parse("system_key", key)?).await?,
        None if first_start => {
            hold(tenants, system, parse("system_key", WELL_KNOWN_SYSTEM)?).await?;
        }
        None => {}
    }
    Ok(())
}

/// Whether a key that everybody knows opens something here; then nothing but loopback may be listened on.
pub(crate) async fn uses_well_known_keys(tenants: &dyn Tenants) -> Result<bool, store::Error> {
    for key in [WELL_KNOWN_GUEST, WELL_KNOWN_SYSTEM] {
        let Ok(credential) = key.parse::<Credential>() else {
            continue;
        };
        let tenant = tenants.by_uuid(credential.uuid).await?;
        if tenant.is_some_and(|t| !t.blocked && t.key_digest == credential.digest()) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn parse(setting: &'static str, key: &str) -> Result<Credential, SetupError> {
    key.parse()
        .map_err(|why| SetupError::BadKey { setting, why })
}

fn legal(name: &str) -> Namespace {
    Namespace::parse(name).expect("the names of our own namespaces are legal")
}

/// Makes `credential` the key of `namespace`, made if need be; writes only what is not so already.
async fn hold(
    tenants: &dyn Tenants,
    namespace: Namespace,
    credential: Credential,
) -> Result<(), store::Error> {
    let stored = tenants.get(&namespace).await?;
    let tenant = match stored {
        Some(t) if t.uuid == credential.uuid && t.key_digest == credential.digest() => {
            return Ok(());
        }
        Some(tenant) => Tenant {
            uuid: credential.uuid,
            key_digest: credential.digest(),
            ..tenant
        },
        None => Tenant {
            namespace,
            uuid: credential.uuid,
            key_digest: credential.digest(),
            blocked: false,
            limits: NamespaceLimits::default(),
            created: Timestamp::now(),
        },
    };
    tenants.put(tenant, false).await
}
