//! The keys a data folder has from its first start.

use super::keys::{Credential, sealed};
use super::{Config, GUEST_NAMESPACE, SYSTEM_NAMESPACE};
use crate::model::{Namespace, NamespaceLimits, Tenant, Timestamp};
use crate::store::seal::Seal;
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
    seal: &Seal,
) -> Result<(), SetupError> {
    let tenants = (tenants, seal);
    let system = legal(SYSTEM_NAMESPACE);
    let guest = legal(GUEST_NAMESPACE);
    if config.system_key.as_deref() == Some("") {
        return Err(SetupError::BadKey {
            setting: "system_key",
            why: "it must not be empty: it opens the admin API",
        });
    }
    let first_start = tenants.0.get(&system).await?.is_none();
    // The guest first: should the second write not come about, the next start is a first start again.
    match config.guest_key.as_deref() {
        Some("") => {}
        Some(key) => hold(tenants, guest, parse("guest_key", key)?).await?,
        None if first_start && tenants.0.get(&guest).await?.is_none() => {
            hold(tenants, guest, parse("guest_key", WELL_KNOWN_GUEST)?).await?;
        }
        None => keep(tenants, guest, parse("guest_key", WELL_KNOWN_GUEST)?).await?,
    }
    match config.system_key.as_deref() {
        Some(key) => hold(tenants, system, parse("system_key", key)?).await?,
        None if first_start => {
            hold(tenants, system, parse("system_key", WELL_KNOWN_SYSTEM)?).await?;
        }
        None => keep(tenants, system, parse("system_key", WELL_KNOWN_SYSTEM)?).await?,
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
    (tenants, seal): (&dyn Tenants, &Seal),
    namespace: Namespace,
    credential: Credential,
) -> Result<(), store::Error> {
    let stored = tenants.get(&namespace).await?;
    let sealed_key = sealed(seal, &namespace, &credential)?;
    let tenant = match stored {
        Some(t) if is_key(&t, &credential) => {
            return keep((tenants, seal), namespace, credential).await;
        }
        Some(tenant) => Tenant {
            uuid: credential.uuid,
            key_digest: credential.digest(),
            sealed_key,
            ..tenant
        },
        None => Tenant {
            namespace,
            uuid: credential.uuid,
            key_digest: credential.digest(),
            sealed_key,
            blocked: false,
            limits: NamespaceLimits::default(),
            created: Timestamp::now(),
        },
    };
    tenants.put(tenant, false).await
}

/// Keeps `credential` encrypted where it is the key of `namespace` and was made before anything was.
async fn keep(
    (tenants, seal): (&dyn Tenants, &Seal),
    namespace: Namespace,
    credential: Credential,
) -> Result<(), store::Error> {
    let tenant = match tenants.get(&namespace).await? {
        Some(tenant) if seal.has_keys() && is_key(&tenant, &credential) => tenant,
        _ => return Ok(()),
    };
    let kept = tenant.sealed_key.as_deref();
    if kept.is_some_and(|kept| seal.open_api_key(&namespace, tenant.uuid, kept).is_some()) {
        return Ok(());
    }
    let sealed_key = sealed(seal, &namespace, &credential)?;
    let tenant = Tenant {
        sealed_key,
        ..tenant
    };
    tenants.put(tenant, false).await
}

fn is_key(tenant: &Tenant, credential: &Credential) -> bool {
    tenant.uuid == credential.uuid && tenant.key_digest == credential.digest()
}
