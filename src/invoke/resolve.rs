//! What a name means to a caller: which action, through which packages, with which parameters; or that it means nothing.
//!
//! Invariants:
//! - whoever may not use a thing is told 403 and does not learn whether it exists;
//! - what a lookup answers is what is stored now: the memory of resolved actions is checked against the catalog each time;
//! - a resolved action carries the parameters of its packages below its own, lowest first: provider, binding, action.

use std::sync::Arc;

use dashmap::DashMap;

use crate::auth::entitlement;
use crate::model::{Action, Fqn, Namespace, Package, Parameters};
use crate::store;
use crate::store::catalog::{Catalog, Found};

/// Bindings that are followed from one name; more is a circle, or as good as one.
const BINDINGS_MAX: usize = 4;

/// Resolved actions kept; beyond it all are forgotten, and made again when they are asked for.
const KEPT_MAX: usize = 20_000;

/// Why a name means nothing to a caller.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Unresolved {
    /// Nothing there.
    #[error("The requested resource does not exist.")]
    Nothing,
    /// The package of the caller's own that it should be in is not there.
    #[error("The requested resource '{0}' does not exist.")]
    NoPackage(Fqn),
    /// It is not the caller's to see, if it exists.
    #[error("The supplied authentication is not authorized to access '{0}'.")]
    Forbidden(Fqn),
    /// Another kind of entity has this name.
    #[error("Resource by this name exists but is not in this collection.")]
    OtherKind,
    /// A binding leads back to itself.
    #[error("Package binding '{0}' contains a circular reference.")]
    Circular(Fqn),
    /// It could not be looked up.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// A package as a caller reaches it.
#[derive(Debug, Clone)]
pub(crate) struct Reached {
    /// What the name says: a package or a binding.
    pub(crate) package: Arc<Package>,
    /// What each binding leads to, the provider last; empty when the name is a package.
    behind: Vec<Arc<Package>>,
}

impl Reached {
    /// The package that actions are in.
    pub(crate) fn provider(&self) -> &Arc<Package> {
        self.behind.last().unwrap_or(&self.package)
    }

    /// Whether the name is a binding.
    pub(crate) fn is_bound(&self) -> bool {
        !self.behind.is_empty()
    }

    /// The provider's parameters with those of each binding laid over.
    pub(crate) fn parameters(&self) -> Parameters {
        let over = self.behind.iter().rev().chain([&self.package]);
        over.fold(Parameters::default(), |below, package| {
            below.overlaid(&package.parameters)
        })
    }

    fn is_same(&self, other: &Self) -> bool {
        let pairs = || self.behind.iter().zip(&other.behind);
        Arc::ptr_eq(&self.package, &other.package)
            && self.behind.len() == other.behind.len()
            && pairs().all(|(one, two)| Arc::ptr_eq(one, two))
    }
}

/// An action that was resolved, and out of what.
struct Kept {
    reached: Reached,
    stored: Arc<Action>,
    resolved: Arc<Action>,
}

/// See the module.
pub(crate) struct Resolver {
    catalog: Arc<Catalog>,
    kept: DashMap<Fqn, Kept>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resolver({} kept)", self.kept.len())
    }
}

impl Resolver {
    /// A resolver of what is in `catalog`.
    pub(crate) fn new(catalog: Arc<Catalog>) -> Self {
        Self {
            catalog,
            kept: DashMap::new(),
        }
    }

    /// Entities as they are stored, whoever asks.
    pub(crate) fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The action of the caller's own that `name` means, where it is in no package and in memory; never waits.
    pub(crate) fn at_hand(&self, caller: &Namespace, name: &Fqn) -> Option<Arc<Action>> {
        if name.package.is_some() || name.namespace != *caller {
            return None;
        }
        self.catalog.cached(name)
    }

    /// The action that `name` means to `caller`, with all its parameters.
    pub(crate) async fn action(
        &self,
        caller: &Namespace,
        name: &Fqn,
    ) -> Result<Arc<Action>, Unresolved> {
        let Some(package) = package_of(name) else {
            return self.outside_packages(caller, name).await;
        };
        let reached = self.package_for(caller, &package, name).await?;
        let inside = Fqn {
            namespace: reached.provider().fqn.namespace.clone(),
            package: Some(reached.provider().fqn.name.clone()),
            name: name.name.clone(),
        };
        let stored = match self.catalog.get::<Action>(&inside).await? {
            Found::Is(action, _) => action,
            Found::Other => return Err(Unresolved::OtherKind),
            Found::Nothing => return Err(Unresolved::Nothing),
        };
        Ok(self.resolved(name, reached, stored))
    }

    async fn outside_packages(
        &self,
        caller: &Namespace,
        name: &Fqn,
    ) -> Result<Arc<Action>, Unresolved> {
        if name.namespace != *caller {
            return Err(Unresolved::Forbidden(name.clone()));
        }
        match self.catalog.get::<Action>(name).await? {
            Found::Is(action, _) => Ok(action),
            Found::Other => Err(Unresolved::OtherKind),
            Found::Nothing => Err(Unresolved::Nothing),
        }
    }

    /// `stored` with the parameters of its packages, made once for each change of any of them.
    fn resolved(&self, name: &Fqn, reached: Reached, stored: Arc<Action>) -> Arc<Action> {
        if let Some(kept) = self.kept.get(name)
            && Arc::ptr_eq(&kept.stored, &stored)
            && kept.reached.is_same(&reached)
        {
            return Arc::clone(&kept.resolved);
        }
        let below = reached.parameters();
        let resolved = if below.0.is_empty() && !reached.is_bound() {
            Arc::clone(&stored)
        } else {
            let changes = reached.behind.iter().chain([&reached.package]);
            let newest = changes.map(|package| package.updated).max();
            Arc::new(Action {
                parameters: below.overlaid(&stored.parameters),
                // Instances take some parameters at init: those of older packages must not be used again.
                updated: newest.map_or(stored.updated, |newest| newest.max(stored.updated)),
                reached: reached.is_bound().then(|| name.clone()),
                ..(*stored).clone()
            })
        };
        if self.kept.len() >= KEPT_MAX {
            self.kept.clear();
        }
        let kept = Kept {
            reached,
            stored,
            resolved: Arc::clone(&resolved),
        };
        self.kept.insert(name.clone(), kept);
        resolved
    }

    /// The package or binding `name` as `caller` may see it.
    pub(crate) async fn package(
        &self,
        caller: &Namespace,
        name: &Fqn,
    ) -> Result<Reached, Unresolved> {
        self.package_for(caller, name, name).await
    }

    /// As [`Resolver::package`]; refusals speak of `resource`.
    async fn package_for(
        &self,
        caller: &Namespace,
        name: &Fqn,
        resource: &Fqn,
    ) -> Result<Reached, Unresolved> {
        let forbidden = || Unresolved::Forbidden(resource.clone());
        let is_own = name.namespace == *caller;
        let package = match self.catalog.get::<Package>(name).await? {
            Found::Is(package, _) => package,
            _ if !is_own => return Err(forbidden()),
            Found::Other => return Err(Unresolved::OtherKind),
            Found::Nothing if name == resource => return Err(Unresolved::Nothing),
            Found::Nothing => return Err(Unresolved::NoPackage(name.clone())),
        };
        if !entitlement::may_use(caller, &package) {
            return Err(forbidden());
        }
        let mut behind: Vec<Arc<Package>> = Vec::new();
        let mut last = Arc::clone(&package);
        while let Some(target) = &last.binding {
            if behind.len() == BINDINGS_MAX {
                return Err(Unresolved::Circular(name.clone()));
            }
            let next = match self.catalog.get::<Package>(target).await? {
                Found::Is(next, _) if entitlement::may_use(caller, &next) => next,
                Found::Is(..) => return Err(forbidden()),
                Found::Other | Found::Nothing => return Err(Unresolved::Nothing),
            };
            behind.push(Arc::clone(&next));
            last = next;
        }
        Ok(Reached { package, behind })
    }
}

/// The package that `name` says it is in.
fn package_of(name: &Fqn) -> Option<Fqn> {
    let package = name.package.clone()?;
    Some(Fqn {
        namespace: name.namespace.clone(),
        package: None,
        name: package,
    })
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
