//! Directories and files, who holds them, and what the account pays for them. What is done by name is in `names`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::super::limits::Account;
use super::data::Data;
use super::{DESCRIPTOR_BYTES, FileError, NODE_BYTES, NODES_MAX, OPEN_MAX};
use crate::model::time::nanos_now;

/// Names a file or directory as long as it lives, and no other afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Node(u64);

impl Node {
    /// As the guest sees it: the number of its inode.
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

/// What is known of a node. Times are nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) node: Node,
    pub(crate) is_directory: bool,
    pub(crate) size: u64,
    pub(crate) links: u64,
    pub(crate) accessed: u64,
    pub(crate) modified: u64,
    pub(crate) changed: u64,
}

pub(super) struct Inode {
    pub(super) body: Body,
    accessed: u64,
    modified: u64,
    changed: u64,
    /// Descriptors that hold it.
    pub(super) holders: usize,
    /// Whether a directory names it.
    linked: bool,
}

pub(super) enum Body {
    File(Data),
    Directory(Directory),
}

pub(super) struct Directory {
    pub(super) parent: Node,
    /// Name to place; the places are what a listing goes by, so that it survives what is added and removed meanwhile.
    pub(super) by_name: BTreeMap<Arc<str>, u64>,
    pub(super) by_place: BTreeMap<u64, (Arc<str>, Node)>,
    next_place: u64,
}

impl Directory {
    pub(super) fn new(parent: Node) -> Self {
        Self {
            parent,
            by_name: BTreeMap::new(),
            by_place: BTreeMap::new(),
            // The first two are `.` and `..`.
            next_place: 2,
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<Node> {
        let place = self.by_name.get(name)?;
        self.by_place.get(place).map(|(_, node)| *node)
    }
}

/// The files of one instance.
pub(crate) struct Tree {
    nodes: HashMap<Node, Inode>,
    next: u64,
    holders: usize,
    pub(super) account: Arc<Mutex<Account>>,
}

impl Tree {
    /// The root: always there.
    pub(crate) const ROOT: Node = Node(1);

    /// An empty one. Its root is part of the host's share.
    pub(crate) fn new(account: Arc<Mutex<Account>>) -> Self {
        let root = Inode::new(Body::Directory(Directory::new(Self::ROOT)));
        Self {
            nodes: HashMap::from([(Self::ROOT, root)]),
            next: Self::ROOT.0 + 1,
            holders: 0,
            account,
        }
    }

    /// One descriptor more holds the node.
    pub(crate) fn hold(&mut self, node: Node) -> Result<(), FileError> {
        self.inode(node)?;
        self.take_descriptor()?;
        self.hold_taken(node);
        Ok(())
    }

    pub(super) fn take_descriptor(&mut self) -> Result<(), FileError> {
        if self.holders >= OPEN_MAX {
            return Err(FileError::TooManyOpen);
        }
        if !self.account.lock().try_take(DESCRIPTOR_BYTES) {
            return Err(FileError::NoSpace);
        }
        self.holders += 1;
        Ok(())
    }

    pub(super) fn give_descriptor(&mut self) {
        self.account.lock().give_back(DESCRIPTOR_BYTES);
        self.holders -= 1;
    }

    pub(super) fn hold_taken(&mut self, node: Node) -> Node {
        if let Some(inode) = self.nodes.get_mut(&node) {
            inode.holders += 1;
        }
        node
    }

    /// One descriptor less holds the node; a node that nothing names is gone with the last.
    pub(crate) fn release(&mut self, node: Node) {
        self.give_descriptor();
        if let Some(inode) = self.nodes.get_mut(&node) {
            inode.holders -= 1;
            self.free_if_unused(node);
        }
    }

    fn free_if_unused(&mut self, node: Node) {
        let unused = |inode: &Inode| inode.holders == 0 && !inode.linked;
        if self.nodes.get(&node).is_some_and(unused)
            && let Some(inode) = self.nodes.remove(&node)
        {
            let bytes = match inode.body {
                Body::File(data) => data.taken(),
                Body::Directory(_) => 0,
            };
            self.account.lock().give_back(NODE_BYTES + bytes);
        }
    }

    pub(crate) fn stat(&self, node: Node) -> Result<Stat, FileError> {
        let inode = self.inode(node)?;
        let (is_directory, size) = match &inode.body {
            Body::File(data) => (false, data.size()),
            Body::Directory(_) => (true, 0),
        };
        Ok(Stat {
            node,
            is_directory,
            size,
            links: u64::from(inode.linked),
            accessed: inode.accessed,
            modified: inode.modified,
            changed: inode.changed,
        })
    }

    /// Sets the times that are given.
    pub(crate) fn set_times(
        &mut self,
        node: Node,
        accessed: Option<u64>,
        modified: Option<u64>,
    ) -> Result<(), FileError> {
        let inode = self.inode_mut(node)?;
        inode.accessed = accessed.unwrap_or(inode.accessed);
        inode.modified = modified.unwrap_or(inode.modified);
        inode.changed = nanos_now();
        Ok(())
    }

    pub(crate) fn read_at(
        &mut self,
        node: Node,
        offset: u64,
        target: &mut [u8],
    ) -> Result<usize, FileError> {
        let inode = self.inode_mut(node)?;
        match &inode.body {
            Body::File(data) => Ok(data.read_at(offset, target)),
            Body::Directory(_) => Err(FileError::IsDirectory),
        }
    }

    /// Writes at `offset`, or with none at the end; answers how many bytes there was room for, and where they end.
    pub(crate) fn write_at(
        &mut self,
        node: Node,
        offset: Option<u64>,
        bytes: &[u8],
    ) -> Result<(usize, u64), FileError> {
        let (data, mut account) = self.file_mut(node)?;
        let offset = offset.unwrap_or_else(|| data.size());
        let count = data.write_at(offset, bytes, &mut account)?;
        Ok((count, offset + count as u64))
    }

    pub(crate) fn set_size(&mut self, node: Node, size: u64) -> Result<(), FileError> {
        let (data, mut account) = self.file_mut(node)?;
        data.set_size(size, &mut account)
    }

    /// The bytes of a file about to be changed, and the account they are taken from.
    fn file_mut(&mut self, node: Node) -> Result<(&mut Data, MutexGuard<'_, Account>), FileError> {
        let inode = self.nodes.get_mut(&node).ok_or(FileError::BadDescriptor)?;
        match &mut inode.body {
            Body::File(data) => {
                inode.modified = nanos_now();
                inode.changed = inode.modified;
                Ok((data, self.account.lock()))
            }
            Body::Directory(_) => Err(FileError::IsDirectory),
        }
    }

    pub(crate) fn is_directory(&self, node: Node) -> bool {
        self.directory(node).is_ok()
    }

    /// The node, if it is a directory.
    pub(crate) fn as_directory(&self, node: Node) -> Result<Node, FileError> {
        self.directory(node).map(|_| node)
    }

    pub(super) fn directory(&self, node: Node) -> Result<&Directory, FileError> {
        match &self.inode(node)?.body {
            Body::Directory(directory) => Ok(directory),
            Body::File(_) => Err(FileError::NotDirectory),
        }
    }

    pub(super) fn child(&self, directory: Node, name: &str) -> Result<Node, FileError> {
        let found = self.directory(directory)?.get(name);
        found.ok_or(FileError::NotFound)
    }

    pub(super) fn inode(&self, node: Node) -> Result<&Inode, FileError> {
        self.nodes.get(&node).ok_or(FileError::BadDescriptor)
    }

    pub(super) fn inode_mut(&mut self, node: Node) -> Result<&mut Inode, FileError> {
        self.nodes.get_mut(&node).ok_or(FileError::BadDescriptor)
    }

    /// Nothing is made in a directory that was removed while a descriptor held it.
    pub(super) fn check_linked(&self, directory: Node) -> Result<(), FileError> {
        if self.inode(directory)?.linked {
            Ok(())
        } else {
            Err(FileError::NotFound)
        }
    }

    /// A new node with a name that is free.
    pub(super) fn make(
        &mut self,
        directory: Node,
        name: &str,
        body: Body,
    ) -> Result<Node, FileError> {
        self.check_linked(directory)?;
        let full = self.nodes.len() >= NODES_MAX;
        if full || !self.account.lock().try_take(NODE_BYTES + name.len()) {
            return Err(FileError::NoSpace);
        }
        let node = Node(self.next);
        self.next += 1;
        self.nodes.insert(node, Inode::new(body));
        self.link(directory, name, node)?;
        Ok(node)
    }

    /// Gives a node a name the account has paid for.
    pub(super) fn link(
        &mut self,
        directory: Node,
        name: &str,
        node: Node,
    ) -> Result<(), FileError> {
        self.inode_mut(node)?.linked = true;
        let inode = self.inode_mut(directory)?;
        inode.modified = nanos_now();
        inode.changed = inode.modified;
        let Body::Directory(directory) = &mut inode.body else {
            return Err(FileError::NotDirectory);
        };
        let name: Arc<str> = name.into();
        let place = directory.next_place;
        directory.next_place += 1;
        directory.by_name.insert(Arc::clone(&name), place);
        directory.by_place.insert(place, (name, node));
        Ok(())
    }

    /// Takes a name away; its node goes unless a descriptor holds it.
    pub(super) fn unlink(&mut self, directory: Node, name: &str) -> Result<(), FileError> {
        let inode = self.inode_mut(directory)?;
        inode.modified = nanos_now();
        inode.changed = inode.modified;
        let Body::Directory(directory) = &mut inode.body else {
            return Err(FileError::NotDirectory);
        };
        let place = directory.by_name.remove(name).ok_or(FileError::NotFound)?;
        let entry = directory.by_place.remove(&place);
        let (_, node) = entry.ok_or(FileError::NotFound)?;
        self.account.lock().give_back(name.len());
        self.inode_mut(node)?.linked = false;
        self.free_if_unused(node);
        Ok(())
    }
}

impl Inode {
    fn new(body: Body) -> Self {
        let now = nanos_now();
        Self {
            body,
            accessed: now,
            modified: now,
            changed: now,
            holders: 0,
            linked: true,
        }
    }
}
