//! Open files: descriptors, and the numbers preview 1 gives them.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::super::limits::Account;
use super::tree::{Node, Tree};
use super::{FileError, OPEN_MAX, Opening};

/// The files of an instance, as its descriptors have them. The lock is never contended: one guest runs at a time; it is
/// there because the streams of WASI 0.2 outlive a borrow of the store.
pub(crate) type Shared = Arc<Mutex<Tree>>;

/// An empty tree that takes its memory from `account`.
pub(crate) fn share(account: Arc<Mutex<Account>>) -> Shared {
    Arc::new(Mutex::new(Tree::new(account)))
}

/// A descriptor of the root.
pub(crate) fn root(tree: &Shared) -> Result<Descriptor, FileError> {
    let how = Opening {
        directory: true,
        read: true,
        ..Opening::default()
    };
    tree.lock().hold(Tree::ROOT)?;
    Ok(Descriptor::new(tree, Tree::ROOT, how))
}

/// Something open; its node lives as long as this.
pub(crate) struct Descriptor {
    tree: Shared,
    pub(crate) node: Node,
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) append: bool,
    /// Where the next read or write is, for those that do not say.
    pub(crate) offset: u64,
}

impl Descriptor {
    /// Of a node that is held already.
    fn new(tree: &Shared, node: Node, how: Opening) -> Self {
        Self {
            tree: Arc::clone(tree),
            node,
            read: how.read,
            write: how.write,
            append: how.append,
            offset: 0,
        }
    }

    /// The tree it is of.
    pub(crate) fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock()
    }

    /// Opens what `path` leads to from here.
    pub(crate) fn open(&self, path: &str, how: Opening) -> Result<Self, FileError> {
        let node = self.tree().open(self.node, path, how)?;
        Ok(Self::new(&self.tree, node, how))
    }

    /// Another one for the same node, for a stream.
    pub(crate) fn again(&self) -> Result<Self, FileError> {
        let how = Opening {
            read: self.read,
            write: self.write,
            append: self.append,
            ..Opening::default()
        };
        self.tree().hold(self.node)?;
        Ok(Self::new(&self.tree, self.node, how))
    }

    /// Whether it is a directory.
    pub(crate) fn is_directory(&self) -> bool {
        self.tree().is_directory(self.node)
    }

    pub(crate) fn read_at(&self, offset: u64, target: &mut [u8]) -> Result<usize, FileError> {
        let mut tree = self.tree();
        if !self.read {
            return Err(FileError::BadDescriptor);
        }
        tree.read_at(self.node, offset, target)
    }

    /// Writes at `offset`, or with none at the end; answers how many bytes there was room for, and where they end.
    pub(crate) fn write_at(
        &self,
        offset: Option<u64>,
        bytes: &[u8],
    ) -> Result<(usize, u64), FileError> {
        let mut tree = self.tree();
        if !self.write {
            tree.as_directory(self.node)
                .map_or(Err(FileError::BadDescriptor), |_| {
                    Err(FileError::IsDirectory)
                })
        } else {
            tree.write_at(self.node, offset, bytes)
        }
    }

    pub(crate) fn set_size(&self, size: u64) -> Result<(), FileError> {
        let mut tree = self.tree();
        if !self.write {
            return Err(FileError::Invalid);
        }
        tree.set_size(self.node, size)
    }

    /// Moves the offset by `delta` from `origin`.
    pub(crate) fn seek(&mut self, origin: Origin, delta: i64) -> Result<u64, FileError> {
        let stat = self.tree().stat(self.node)?;
        if stat.is_directory {
            return Err(FileError::IsDirectory);
        }
        let from = match origin {
            Origin::Start => 0,
            Origin::Here => self.offset,
            Origin::End => stat.size,
        };
        let offset = from.checked_add_signed(delta);
        let offset = offset.filter(|offset| i64::try_from(*offset).is_ok());
        self.offset = offset.ok_or(FileError::Invalid)?;
        Ok(self.offset)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.tree.lock().release(self.node);
    }
}

/// What a seek counts from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin {
    Start,
    Here,
    End,
}

/// The first number that is not stdio's: the root's, from the start.
pub(crate) const FIRST_FD: u32 = 3;

/// Descriptors by number, the lowest that is free first.
pub(crate) struct Table {
    tree: Shared,
    open: Vec<Option<Descriptor>>,
}

impl Table {
    /// With the root open.
    pub(crate) fn new(tree: Shared) -> Result<Self, FileError> {
        let open = vec![Some(root(&tree)?)];
        Ok(Self { tree, open })
    }

    /// Whether `number` is the root's that was open from the start.
    pub(crate) fn is_first(&self, number: u32) -> bool {
        let first = self.get(number).ok();
        number == FIRST_FD && first.is_some_and(|first| first.node == Tree::ROOT)
    }

    pub(crate) fn get(&self, number: u32) -> Result<&Descriptor, FileError> {
        let found = index(number).and_then(|index| self.open.get(index)?.as_ref());
        found.ok_or(FileError::BadDescriptor)
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Result<&mut Descriptor, FileError> {
        let found = index(number).and_then(|index| self.open.get_mut(index)?.as_mut());
        found.ok_or(FileError::BadDescriptor)
    }

    /// Gives a descriptor its number.
    pub(crate) fn insert(&mut self, descriptor: Descriptor) -> Result<u32, FileError> {
        let free = self.open.iter().position(Option::is_none);
        let index = free.unwrap_or(self.open.len());
        if index >= OPEN_MAX {
            return Err(FileError::TooManyOpen);
        }
        let number = u32::try_from(index).map_err(|_| FileError::TooManyOpen)? + FIRST_FD;
        match self.open.get_mut(index) {
            Some(place) => *place = Some(descriptor),
            None => self.open.push(Some(descriptor)),
        }
        Ok(number)
    }

    pub(crate) fn close(&mut self, number: u32) -> Result<(), FileError> {
        self.get(number)?;
        if let Some(place) = index(number).and_then(|index| self.open.get_mut(index)) {
            *place = None;
        }
        Ok(())
    }

    /// Gives `from` the number `to`, whose own descriptor is closed. Both must be open.
    pub(crate) fn renumber(&mut self, from: u32, to: u32) -> Result<(), FileError> {
        self.get(to)?;
        self.get(from)?;
        if let (Some(from), Some(to)) = (index(from), index(to))
            && from != to
        {
            self.open[to] = self.open[from].take();
        }
        Ok(())
    }

    /// The tree all are of.
    pub(crate) fn tree(&self) -> &Shared {
        &self.tree
    }
}

fn index(number: u32) -> Option<usize> {
    usize::try_from(number.checked_sub(FIRST_FD)?).ok()
}
