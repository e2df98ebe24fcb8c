//! Paths and names: where they lead, and everything that is done by them.

use std::sync::Arc;

use super::data::Data;
use super::tree::{Body, Directory, Node, Tree};
use super::{DEPTH_MAX, FileError, NAME_BYTES_MAX, PATH_BYTES_MAX};

/// How something is opened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Opening {
    pub(crate) create: bool,
    pub(crate) exclusive: bool,
    pub(crate) truncate: bool,
    /// Nothing but a directory will do.
    pub(crate) directory: bool,
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) append: bool,
}

/// One line of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Where the next line is.
    pub(crate) next: u64,
    pub(crate) node: Node,
    pub(crate) is_directory: bool,
    pub(crate) name: Arc<str>,
}

/// Where a path leads.
enum Target<'p> {
    /// To the directory itself, as `.` and `a/..` do.
    This(Node),
    /// To a name in a directory, there or not.
    Named {
        directory: Node,
        name: &'p str,
        wants_directory: bool,
    },
}

impl Tree {
    /// Opens what `path` leads to from `base`, and holds it.
    pub(crate) fn open(&mut self, base: Node, path: &str, how: Opening) -> Result<Node, FileError> {
        if how.create && how.directory {
            return Err(FileError::Invalid);
        }
        let found = match self.walk(base, path)? {
            Target::This(node) => Some(node),
            Target::Named {
                directory,
                name,
                wants_directory,
            } => match self.directory(directory)?.get(name) {
                Some(node) if wants_directory => Some(self.as_directory(node)?),
                None if how.create && wants_directory => return Err(FileError::IsDirectory),
                None if how.create => {
                    // The descriptor is taken first: what cannot be opened is not made either.
                    self.take_descriptor()?;
                    let made = self.make(directory, name, Body::File(Data::default()));
                    return match made {
                        Ok(node) => Ok(self.hold_taken(node)),
                        Err(error) => {
                            self.give_descriptor();
                            Err(error)
                        }
                    };
                }
                found => found,
            },
        };
        let node = found.ok_or(FileError::NotFound)?;
        if how.create && how.exclusive {
            return Err(FileError::Exists);
        }
        match (&self.inode(node)?.body, how.directory) {
            (Body::File(_), true) => return Err(FileError::NotDirectory),
            (Body::Directory(_), _) if how.write || how.truncate || how.create => {
                return Err(FileError::IsDirectory);
            }
            _ => {}
        }
        self.hold(node)?;
        if how.truncate {
            self.set_size(node, 0)?;
        }
        Ok(node)
    }

    pub(crate) fn make_directory(&mut self, base: Node, path: &str) -> Result<(), FileError> {
        let Target::Named {
            directory, name, ..
        } = self.walk(base, path)?
        else {
            return Err(FileError::Exists);
        };
        if self.directory(directory)?.get(name).is_some() {
            return Err(FileError::Exists);
        }
        self.check_linked(directory)?;
        if self.depth(directory)? + 1 > DEPTH_MAX {
            return Err(FileError::NameTooLong);
        }
        self.make(directory, name, Body::Directory(Directory::new(directory)))?;
        Ok(())
    }

    pub(crate) fn remove_file(&mut self, base: Node, path: &str) -> Result<(), FileError> {
        let Target::Named {
            directory,
            name,
            wants_directory,
        } = self.walk(base, path)?
        else {
            return Err(FileError::IsDirectory);
        };
        let node = self.child(directory, name)?;
        match self.inode(node)?.body {
            Body::Directory(_) => Err(FileError::IsDirectory),
            Body::File(_) if wants_directory => Err(FileError::NotDirectory),
            Body::File(_) => self.unlink(directory, name),
        }
    }

    pub(crate) fn remove_directory(&mut self, base: Node, path: &str) -> Result<(), FileError> {
        let Target::Named {
            directory, name, ..
        } = self.walk(base, path)?
        else {
            return Err(FileError::Invalid);
        };
        let node = self.child(directory, name)?;
        if !self.directory(node)?.by_name.is_empty() {
            return Err(FileError::NotEmpty);
        }
        self.unlink(directory, name)
    }

    /// Renames, replacing what has the new name if that is a file for a file or an empty directory for a directory.
    pub(crate) fn rename(
        &mut self,
        (base, path): (Node, &str),
        (new_base, new_path): (Node, &str),
    ) -> Result<(), FileError> {
        let (
            Target::Named {
                directory,
                name,
                wants_directory,
            },
            Target::Named {
                directory: new_directory,
                name: new_name,
                wants_directory: new_wants_directory,
            },
        ) = (self.walk(base, path)?, self.walk(new_base, new_path)?)
        else {
            return Err(FileError::Invalid);
        };
        let node = self.child(directory, name)?;
        self.check_linked(new_directory)?;
        let is_directory = self.is_directory(node);
        if !is_directory && (wants_directory || new_wants_directory) {
            return Err(FileError::NotDirectory);
        }
        if is_directory {
            self.check_move(node, new_directory)?;
        }
        if let Some(replaced) = self.directory(new_directory)?.get(new_name) {
            if replaced == node {
                return Ok(());
            }
            match &self.inode(replaced)?.body {
                Body::Directory(_) if !is_directory => return Err(FileError::IsDirectory),
                Body::File(_) if is_directory => return Err(FileError::NotDirectory),
                Body::Directory(inner) if !inner.by_name.is_empty() => {
                    return Err(FileError::NotEmpty);
                }
                _ => {}
            }
        }
        if !self.account.lock().try_take(new_name.len()) {
            return Err(FileError::NoSpace);
        }
        // From here on nothing fails.
        if self.directory(new_directory)?.get(new_name).is_some() {
            self.unlink(new_directory, new_name)?;
        }
        self.hold_taken(node);
        self.unlink(directory, name)?;
        self.link(new_directory, new_name, node)?;
        let inode = self.inode_mut(node)?;
        inode.holders -= 1;
        if let Body::Directory(moved) = &mut inode.body {
            moved.parent = new_directory;
        }
        Ok(())
    }

    /// Whether the directory `node` may be moved into `into`: not into itself, and not too deep.
    fn check_move(&self, node: Node, into: Node) -> Result<(), FileError> {
        let mut above = into;
        while above != Self::ROOT {
            if above == node {
                return Err(FileError::Invalid);
            }
            above = self.directory(above)?.parent;
        }
        if self.depth(into)? + self.height(node) > DEPTH_MAX {
            return Err(FileError::NameTooLong);
        }
        Ok(())
    }

    /// Directories above `node`.
    fn depth(&self, mut node: Node) -> Result<usize, FileError> {
        let mut depth = 0;
        while node != Self::ROOT {
            node = self.directory(node)?.parent;
            depth += 1;
        }
        Ok(depth)
    }

    /// Directories below one another in `node`, itself one of them.
    fn height(&self, node: Node) -> usize {
        let mut level = vec![node];
        let mut height = 0;
        while !level.is_empty() {
            height += 1;
            let directories = level.iter().filter_map(|node| self.directory(*node).ok());
            let below = directories.flat_map(|directory| directory.by_place.values());
            level = below
                .map(|(_, node)| *node)
                .filter(|node| self.is_directory(*node))
                .collect();
        }
        height
    }

    /// What `path` leads to from `base`.
    pub(crate) fn find(&self, base: Node, path: &str) -> Result<Node, FileError> {
        match self.walk(base, path)? {
            Target::This(node) => Ok(node),
            Target::Named {
                directory,
                name,
                wants_directory,
            } => {
                let node = self.child(directory, name)?;
                if wants_directory {
                    self.as_directory(node)
                } else {
                    Ok(node)
                }
            }
        }
    }

    /// Follows `path` from `base` to its last name. It may go up again, never above `base`.
    fn walk<'p>(&self, base: Node, path: &'p str) -> Result<Target<'p>, FileError> {
        match path {
            "" => return Err(FileError::NotFound),
            _ if path.len() > PATH_BYTES_MAX => return Err(FileError::NameTooLong),
            _ if path.starts_with('/') => return Err(FileError::Outside),
            _ if path.contains('\0') => return Err(FileError::IllegalName),
            _ => {}
        }
        let mut here = self.as_directory(base)?;
        let mut trail = Vec::new();
        let wants_directory = path.ends_with('/') || path.ends_with("/.");
        let names = path.split('/').filter(|name| !matches!(*name, "" | "."));
        let mut names = names.peekable();
        while let Some(name) = names.next() {
            if name == ".." {
                here = trail.pop().ok_or(FileError::Outside)?;
                continue;
            }
            if name.len() > NAME_BYTES_MAX {
                return Err(FileError::NameTooLong);
            }
            if names.peek().is_none() {
                return Ok(Target::Named {
                    directory: here,
                    name,
                    wants_directory,
                });
            }
            let child = self.child(here, name)?;
            trail.push(here);
            here = self.as_directory(child)?;
        }
        Ok(Target::This(here))
    }

    /// The lines of a directory from place `from` on, in an order that holds.
    pub(crate) fn list(
        &self,
        node: Node,
        from: u64,
    ) -> Result<impl Iterator<Item = Listed> + '_, FileError> {
        let directory = self.directory(node)?;
        // Of the parent only its number is told; there is no way up to it.
        let dots = [(0, ".", node), (1, "..", directory.parent)];
        let dots = dots.into_iter().filter(move |(place, ..)| *place >= from);
        let dots = dots.map(|(place, name, node)| Listed {
            next: place + 1,
            node,
            is_directory: true,
            name: name.into(),
        });
        let named = directory.by_place.range(from..);
        let named = named.map(|(place, (name, node))| Listed {
            next: place + 1,
            node: *node,
            is_directory: self.is_directory(*node),
            name: Arc::clone(name),
        });
        Ok(dots.chain(named))
    }
}
