//! Entities with their types: what a [`Document`] is once it has been read.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::seal::Seal;
use super::{Collection, Document, EntityKey, Error, Result};
use crate::ahead::fetch_shared;
use crate::model::params::Parameter;
use crate::model::{
    Action, Digest, Exec, Fqn, Namespace, Package, Parameters, Rule, Timestamp, Trigger,
};

/// An entity of any kind.
#[derive(Debug, Clone)]
pub(crate) enum Entity {
    Action(Arc<Action>),
    Package(Arc<Package>),
    Rule(Arc<Rule>),
    Trigger(Arc<Trigger>),
}

impl Entity {
    /// Asks for its memory, all of which is read when it is invoked.
    #[inline]
    pub(crate) fn fetch(&self) {
        if let Self::Action(action) = self {
            fetch_shared(action);
        }
    }

    /// Which kind.
    pub(crate) fn collection(&self) -> Collection {
        match self {
            Self::Action(_) => Collection::Actions,
            Self::Package(_) => Collection::Packages,
            Self::Rule(_) => Collection::Rules,
            Self::Trigger(_) => Collection::Triggers,
        }
    }

    /// Where it is.
    pub(crate) fn fqn(&self) -> &Fqn {
        match self {
            Self::Action(action) => &action.fqn,
            Self::Package(package) => &package.fqn,
            Self::Rule(rule) => &rule.fqn,
            Self::Trigger(trigger) => &trigger.fqn,
        }
    }

    fn updated(&self) -> Timestamp {
        match self {
            Self::Action(action) => action.updated,
            Self::Package(package) => package.updated,
            Self::Rule(rule) => rule.updated,
            Self::Trigger(trigger) => trigger.updated,
        }
    }

    /// The code it needs.
    fn code(&self) -> Option<Digest> {
        match self {
            Self::Action(action) => action.exec.code().map(|code| code.code),
            Self::Package(_) | Self::Rule(_) | Self::Trigger(_) => None,
        }
    }

    /// As the store keeps it.
    pub(super) fn document(&self) -> Result<Document> {
        let body = match self {
            Self::Action(action) => json(&**action),
            Self::Package(package) => json(&**package),
            Self::Rule(rule) => json(&**rule),
            Self::Trigger(trigger) => json(&**trigger),
        };
        Ok(Document {
            key: key_of(self.fqn()),
            collection: self.collection(),
            updated: self.updated(),
            code: self.code(),
            body: body?,
        })
    }

    /// The same with its parameters encrypted as `seal` does it now: how many of them were not, and how many no key opens.
    pub(super) fn resealed(self, seal: &Seal) -> Result<(Self, usize, usize)> {
        fn again<T: Kind + Clone>(entity: Arc<T>, seal: &Seal) -> Result<(Entity, usize, usize)> {
            let (mut entity, mut count, mut locked) = (Arc::unwrap_or_clone(entity), 0, 0);
            if let Some((namespace, parameters)) = entity.secrets() {
                count = seal.close(namespace, parameters)?;
                let plain = parameters.0.iter().filter_map(Parameter::plain).count();
                locked = parameters.0.len() - plain;
            }
            Ok((T::entity(Arc::new(entity)), count, locked))
        }
        match self {
            Self::Action(action) => again(action, seal),
            Self::Package(package) => again(package, seal),
            Self::Rule(rule) => again(rule, seal),
            Self::Trigger(trigger) => again(trigger, seal),
        }
    }

    /// What `document` says, with what `seal` opens of it.
    pub(super) fn parse(document: &Document, seal: &Seal) -> Result<Self> {
        Ok(match document.collection {
            Collection::Actions => Self::Action(parse(document, seal)?),
            Collection::Packages => Self::Package(parse(document, seal)?),
            Collection::Rules => Self::Rule(parse(document, seal)?),
            Collection::Triggers => Self::Trigger(parse(document, seal)?),
        })
    }
}

/// Parameters, and the namespace they are encrypted for.
pub(crate) type Secrets<'a> = Option<(&'a Namespace, &'a mut Parameters)>;

/// A type of the model that is an entity.
pub(crate) trait Kind: Sized + Send + Sync + 'static {
    const COLLECTION: Collection;
    fn entity(this: Arc<Self>) -> Entity;
    fn of(entity: Entity) -> Option<Arc<Self>>;
    /// Its parameters, as far as they are encrypted, and whose they are.
    fn secrets(&mut self) -> Secrets<'_>;
}

macro_rules! is_entity {
    ($kind:ident, $collection:ident, $secrets:path) => {
        impl Kind for $kind {
            const COLLECTION: Collection = Collection::$collection;

            fn entity(this: Arc<Self>) -> Entity {
                Entity::$kind(this)
            }

            fn of(entity: Entity) -> Option<Arc<Self>> {
                match entity {
                    Entity::$kind(this) => Some(this),
                    _ => None,
                }
            }

            fn secrets(&mut self) -> Secrets<'_> {
                $secrets(self)
            }
        }
    };
}

is_entity!(Action, Actions, of_action);
is_entity!(Package, Packages, of_package);
is_entity!(Rule, Rules, of_rule);
is_entity!(Trigger, Triggers, of_trigger);

/// The parameters of a sequence are its components, which are shown anyway.
fn of_action(action: &mut Action) -> Secrets<'_> {
    match action.exec {
        Exec::Sequence(_) => None,
        Exec::Code(_) | Exec::Builtin(_) => Some((&action.fqn.namespace, &mut action.parameters)),
    }
}

fn of_package(package: &mut Package) -> Secrets<'_> {
    Some((&package.fqn.namespace, &mut package.parameters))
}

fn of_rule(_: &mut Rule) -> Secrets<'_> {
    None
}

fn of_trigger(trigger: &mut Trigger) -> Secrets<'_> {
    Some((&trigger.fqn.namespace, &mut trigger.parameters))
}

pub(super) fn key_of(fqn: &Fqn) -> EntityKey {
    EntityKey {
        namespace: fqn.namespace.clone(),
        package: fqn.package.clone(),
        name: fqn.name.clone(),
    }
}

fn json<T: Serialize>(value: &T) -> Result<Arc<str>> {
    serde_json::to_string(value)
        .map(Arc::from)
        .map_err(|error| Error::Unavailable(format!("an entity has no JSON: {error}")))
}

fn parse<T: Kind + DeserializeOwned>(document: &Document, seal: &Seal) -> Result<Arc<T>> {
    let mut entity: T = serde_json::from_str(&document.body)
        .map_err(|error| Error::Corrupt(format!("{}: {error}", document.key.name)))?;
    if let Some((namespace, parameters)) = entity.secrets() {
        seal.open(&[namespace], parameters);
    }
    Ok(Arc::new(entity))
}
