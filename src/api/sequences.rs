//! Which sequences are taken: of actions that exist and that their owner may use, not too many, and without a circle.

use std::sync::Arc;

use super::Front;
use super::error::{Error, Result};
use crate::invoke::resolve::Unresolved;
use crate::model::{Action, Exec, Fqn, NamePut, Namespace, Sequence};

const EMPTY: &str = "No component specified for the sequence.";
const TOO_LONG: &str = "Too many actions in the sequence.";
const CIRCULAR: &str = "Sequence may not refer to itself.";
const MISSING: &str = "Sequence component does not exist.";

/// The components of a body sent by `own`.
pub(super) fn read(names: &[NamePut], own: &Namespace) -> Result<Sequence> {
    if names.is_empty() {
        return Err(Error::bad_request(EMPTY));
    }
    if names.len() > Sequence::LENGTH_MAX {
        return Err(Error::bad_request(TOO_LONG));
    }
    let components: std::result::Result<_, _> =
        names.iter().map(|name| name.resolve(own)).collect();
    Ok(Sequence {
        components: components.map_err(Error::malformed)?,
    })
}

/// Whether `name` may be this sequence of `owner`'s: 403 for what the owner may not use, 400 for all else.
pub(super) async fn check(
    front: &Front,
    owner: &Namespace,
    name: &Fqn,
    sequence: &Sequence,
) -> Result<()> {
    let mut found = Vec::new();
    let (mut denied, mut wrong) = (Vec::new(), None);
    for component in &sequence.components {
        match front.state.resolver.action(owner, component).await {
            Ok(action) if action.fqn == *name => wrong = Some(CIRCULAR),
            Ok(action) => found.push(action),
            Err(Unresolved::Forbidden(_)) => denied.push(component),
            // It need not exist yet to refer to itself.
            Err(_) if component == name => wrong = Some(CIRCULAR),
            Err(Unresolved::Nothing | Unresolved::NoPackage(_) | Unresolved::OtherKind) => {
                wrong = wrong.or(Some(MISSING));
            }
            Err(other) => return Err(other.into()),
        }
    }
    Error::forbidden_all(denied)?;
    if let Some(wrong) = wrong {
        return Err(Error::bad_request(wrong));
    }
    Walk {
        front,
        path: vec![name.clone()],
        length: 0,
    }
    .through(found)
    .await
}

/// Goes through a sequence and those within it.
struct Walk<'a> {
    front: &'a Front,
    /// The sequences it is in, outermost first.
    path: Vec<Fqn>,
    /// Actions met that are no sequences.
    length: usize,
}

impl Walk<'_> {
    /// Ends, because each sequence holds at least one action, is met only outside of itself, and at a depth that is
    /// bounded like the length.
    async fn through(&mut self, components: Vec<Arc<Action>>) -> Result<()> {
        for action in components {
            // The outermost may still be code: it is about to be replaced.
            if self.path.contains(&action.fqn) {
                return Err(Error::bad_request(CIRCULAR));
            }
            let Exec::Sequence(sequence) = &action.exec else {
                self.length += 1;
                if self.length > Sequence::LENGTH_MAX {
                    return Err(Error::bad_request(TOO_LONG));
                }
                continue;
            };
            if self.path.len() > Sequence::LENGTH_MAX {
                return Err(Error::bad_request(TOO_LONG));
            }
            let within = self.within(&action, sequence).await?;
            self.path.push(action.fqn.clone());
            Box::pin(self.through(within)).await?;
            self.path.pop();
        }
        Ok(())
    }

    /// The components of a sequence in another, as its own owner sees them. What was taken from its owner since counts
    /// as one action: nobody else learns about it.
    async fn within(&mut self, action: &Action, sequence: &Sequence) -> Result<Vec<Arc<Action>>> {
        let mut found = Vec::new();
        for component in &sequence.components {
            let resolver = &self.front.state.resolver;
            match resolver.action(&action.fqn.namespace, component).await {
                Ok(component) => found.push(component),
                Err(Unresolved::Store(error)) => return Err(error.into()),
                Err(Unresolved::Forbidden(_)) => self.length += 1,
                Err(_) => return Err(Error::bad_request(MISSING)),
            }
        }
        Ok(found)
    }
}
