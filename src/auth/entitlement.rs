//! What one namespace may do with what another has: read and invoke what is in a shared package, and nothing else.
//!
//! Actions outside packages, triggers and rules are never shared, whatever their `publish` says. Whoever may not use a
//! thing does not learn whether it exists.

use crate::model::{Namespace, Package};

/// Whether `caller` may read `package` itself, what is in it, and invoke that.
pub(crate) fn may_use(caller: &Namespace, package: &Package) -> bool {
    package.publish || package.fqn.namespace == *caller
}
