//! `wasi:filesystem` over the instance's own files, in place of the host directories that `wasmtime-wasi` offers.
//!
//! Its bindings name its own types for descriptors and listings; a resource is a number, so ours are kept in the table
//! under those numbers and no value of theirs ever exists.

use wasmtime::component::{HasData, Linker, Resource, ResourceTable, ResourceTableError};
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry,
    DirectoryEntryStream, ErrorCode, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue,
    NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::super::files::{self, Descriptor, FileError, Node, Opening, ROOT, Stat};
use super::super::host::Host;
use super::streams::{Reader, Writer};
use crate::model::time::nanos_now;

/// Bytes one read gives at most.
const READ_BYTES_MAX: u64 = 1 << 20;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

type Handle = Resource<types::Descriptor>;

/// Puts the instance's files where host directories were.
///
/// # Errors
/// When the interfaces cannot be linked: ours.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    types::add_to_linker::<Host, Files>(linker, |host| View(host))?;
    preopens::add_to_linker::<Host, Files>(linker, |host| View(host))?;
    linker.allow_shadowing(false);
    Ok(())
}

struct Files;

impl HasData for Files {
    type Data<'a> = View<'a>;
}

/// The store's data, as the interfaces have it.
struct View<'a>(&'a mut Host);

/// A listing under way.
struct Listing {
    directory: Descriptor,
    next: u64,
}

impl From<FileError> for ErrorCode {
    fn from(error: FileError) -> Self {
        match error {
            FileError::BadDescriptor => Self::BadDescriptor,
            FileError::Exists => Self::Exist,
            FileError::IllegalName => Self::IllegalByteSequence,
            FileError::Invalid => Self::Invalid,
            FileError::IsDirectory => Self::IsDirectory,
            FileError::NameTooLong => Self::NameTooLong,
            FileError::NoSpace => Self::InsufficientSpace,
            FileError::NotDirectory => Self::NotDirectory,
            FileError::NotEmpty => Self::NotEmpty,
            FileError::NotFound => Self::NoEntry,
            FileError::Outside => Self::NotPermitted,
            FileError::TooLarge => Self::FileTooLarge,
            // 0.2 has no word for it.
            FileError::TooManyOpen => Self::Quota,
        }
    }
}

impl From<FileError> for FsError {
    fn from(error: FileError) -> Self {
        ErrorCode::from(error).into()
    }
}

impl View<'_> {
    fn table(&mut self) -> &mut ResourceTable {
        self.0.resources()
    }

    /// The descriptor behind a resource; a trap when it is none, as for any resource.
    fn descriptor(&mut self, handle: &Handle) -> Result<&Descriptor, ResourceTableError> {
        self.table().get(&Resource::new_borrow(handle.rep()))
    }

    fn directory(&mut self, handle: &Handle) -> FsResult<&Descriptor> {
        let descriptor = self.descriptor(handle)?;
        if descriptor.is_directory() {
            Ok(descriptor)
        } else {
            Err(FileError::NotDirectory.into())
        }
    }

    /// Gives a value the number of a resource; how many there are is bounded.
    fn push<T: Send + 'static>(&mut self, value: T) -> Result<u32, FileError> {
        let pushed = self.table().push(value);
        pushed
            .map(|resource| resource.rep())
            .map_err(|_| FileError::TooManyOpen)
    }

    /// What a path leads to, and what is known of it.
    fn stat_of(&mut self, handle: &Handle, path: &str) -> FsResult<Stat> {
        let directory = self.directory(handle)?;
        let tree = directory.tree();
        let node = tree.find(directory.node, path)?;
        Ok(tree.stat(node)?)
    }
}

impl preopens::Host for View<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Handle, String)>> {
        // A guest whose memory has no room for even this sees no directory.
        let Ok(root) = files::root(self.0.files()) else {
            return Ok(Vec::new());
        };
        let root = self.table().push(root)?;
        Ok(vec![(Resource::new_own(root.rep()), ROOT.to_owned())])
    }
}

impl types::Host for View<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        let error = self.table().get(&error)?;
        Ok(error.downcast_ref::<ErrorCode>().copied())
    }
}

impl HostDescriptor for View<'_> {
    fn read_via_stream(&mut self, file: Handle, offset: u64) -> FsResult<Resource<DynInputStream>> {
        let file = self.descriptor(&file)?;
        if file.is_directory() {
            return Err(FileError::IsDirectory.into());
        }
        if !file.read {
            return Err(FileError::BadDescriptor.into());
        }
        let stream: DynInputStream = Box::new(Reader::new(file.again()?, offset));
        Ok(Resource::new_own(self.push(stream)?))
    }

    fn write_via_stream(
        &mut self,
        file: Handle,
        offset: u64,
    ) -> FsResult<Resource<DynOutputStream>> {
        let stream = Writer::new(self.writable(&file)?, Some(offset));
        let stream: DynOutputStream = Box::new(stream);
        Ok(Resource::new_own(self.push(stream)?))
    }

    fn append_via_stream(&mut self, file: Handle) -> FsResult<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(Writer::new(self.writable(&file)?, None));
        Ok(Resource::new_own(self.push(stream)?))
    }

    async fn advise(&mut self, file: Handle, _: u64, _: u64, _: Advice) -> FsResult<()> {
        self.descriptor(&file)?;
        Ok(())
    }

    async fn sync_data(&mut self, file: Handle) -> FsResult<()> {
        self.descriptor(&file)?;
        Ok(())
    }

    async fn sync(&mut self, file: Handle) -> FsResult<()> {
        self.descriptor(&file)?;
        Ok(())
    }

    async fn get_flags(&mut self, file: Handle) -> FsResult<DescriptorFlags> {
        let file = self.descriptor(&file)?;
        let chosen = [
            (file.read, DescriptorFlags::READ),
            (file.write, DescriptorFlags::WRITE),
            (file.is_directory(), DescriptorFlags::MUTATE_DIRECTORY),
        ];
        let set = chosen.into_iter().filter(|(is_set, _)| *is_set);
        Ok(set.fold(DescriptorFlags::empty(), |all, (_, flag)| all | flag))
    }

    async fn get_type(&mut self, file: Handle) -> FsResult<DescriptorType> {
        Ok(kind(self.descriptor(&file)?.is_directory()))
    }

    async fn set_size(&mut self, file: Handle, size: u64) -> FsResult<()> {
        Ok(self.descriptor(&file)?.set_size(size)?)
    }

    async fn set_times(
        &mut self,
        file: Handle,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let file = self.descriptor(&file)?;
        let (accessed, modified) = (nanos(accessed)?, nanos(modified)?);
        Ok(file.tree().set_times(file.node, accessed, modified)?)
    }

    async fn read(&mut self, file: Handle, len: u64, offset: u64) -> FsResult<(Vec<u8>, bool)> {
        let file = self.descriptor(&file)?;
        let size = file.tree().stat(file.node)?.size;
        let left = size.saturating_sub(offset);
        let len = usize::try_from(len.min(READ_BYTES_MAX).min(left)).unwrap_or(0);
        let mut bytes = vec![0; len];
        let count = file.read_at(offset, &mut bytes)?;
        Ok((bytes, offset.saturating_add(count as u64) >= size))
    }

    async fn write(&mut self, file: Handle, bytes: Vec<u8>, offset: u64) -> FsResult<u64> {
        let (count, _) = self.descriptor(&file)?.write_at(Some(offset), &bytes)?;
        Ok(count as u64)
    }

    async fn read_directory(&mut self, file: Handle) -> FsResult<Resource<DirectoryEntryStream>> {
        let directory = self.directory(&file)?.again()?;
        // This interface lists neither `.` nor `..`.
        let listing = Listing { directory, next: 2 };
        Ok(Resource::new_own(self.push(listing)?))
    }

    async fn create_directory_at(&mut self, file: Handle, path: String) -> FsResult<()> {
        let directory = self.directory(&file)?;
        Ok(directory.tree().make_directory(directory.node, &path)?)
    }

    async fn stat(&mut self, file: Handle) -> FsResult<DescriptorStat> {
        let file = self.descriptor(&file)?;
        Ok(described(&file.tree().stat(file.node)?))
    }

    async fn stat_at(
        &mut self,
        file: Handle,
        _: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        Ok(described(&self.stat_of(&file, &path)?))
    }

    async fn set_times_at(
        &mut self,
        file: Handle,
        _: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let directory = self.directory(&file)?;
        let (accessed, modified) = (nanos(accessed)?, nanos(modified)?);
        let mut tree = directory.tree();
        let node = tree.find(directory.node, &path)?;
        Ok(tree.set_times(node, accessed, modified)?)
    }

    async fn link_at(
        &mut self,
        file: Handle,
        _: PathFlags,
        _: String,
        _: Handle,
        _: String,
    ) -> FsResult<()> {
        self.descriptor(&file)?;
        Err(ErrorCode::Unsupported.into())
    }

    async fn open_at(
        &mut self,
        file: Handle,
        _: PathFlags,
        path: String,
        open: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Handle> {
        let how = Opening {
            create: open.contains(OpenFlags::CREATE),
            exclusive: open.contains(OpenFlags::EXCLUSIVE),
            truncate: open.contains(OpenFlags::TRUNCATE),
            directory: open.contains(OpenFlags::DIRECTORY),
            read: flags.contains(DescriptorFlags::READ),
            write: flags.contains(DescriptorFlags::WRITE),
            append: false,
        };
        let opened = self.directory(&file)?.open(&path, how)?;
        Ok(Resource::new_own(self.push(opened)?))
    }

    async fn readlink_at(&mut self, file: Handle, path: String) -> FsResult<String> {
        // There are no links, so nothing is one.
        self.stat_of(&file, &path)?;
        Err(FileError::Invalid.into())
    }

    async fn remove_directory_at(&mut self, file: Handle, path: String) -> FsResult<()> {
        let directory = self.directory(&file)?;
        Ok(directory.tree().remove_directory(directory.node, &path)?)
    }

    async fn rename_at(
        &mut self,
        file: Handle,
        path: String,
        new_file: Handle,
        new_path: String,
    ) -> FsResult<()> {
        let new: Node = self.directory(&new_file)?.node;
        let directory = self.directory(&file)?;
        let from = (directory.node, path.as_str());
        Ok(directory.tree().rename(from, (new, &new_path))?)
    }

    async fn symlink_at(&mut self, file: Handle, _: String, _: String) -> FsResult<()> {
        self.descriptor(&file)?;
        Err(ErrorCode::Unsupported.into())
    }

    async fn unlink_file_at(&mut self, file: Handle, path: String) -> FsResult<()> {
        let directory = self.directory(&file)?;
        Ok(directory.tree().remove_file(directory.node, &path)?)
    }

    async fn is_same_object(&mut self, one: Handle, other: Handle) -> wasmtime::Result<bool> {
        let node = self.descriptor(&one)?.node;
        Ok(node == self.descriptor(&other)?.node)
    }

    async fn metadata_hash(&mut self, file: Handle) -> FsResult<MetadataHashValue> {
        let file = self.descriptor(&file)?;
        Ok(hash(&file.tree().stat(file.node)?))
    }

    async fn metadata_hash_at(
        &mut self,
        file: Handle,
        _: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        Ok(hash(&self.stat_of(&file, &path)?))
    }

    fn drop(&mut self, file: Handle) -> wasmtime::Result<()> {
        let own: Resource<Descriptor> = Resource::new_own(file.rep());
        self.table().delete(own)?;
        Ok(())
    }
}

impl View<'_> {
    /// A second descriptor of a file that may be written, for a stream.
    fn writable(&mut self, file: &Handle) -> FsResult<Descriptor> {
        let file = self.descriptor(file)?;
        if file.is_directory() {
            return Err(FileError::IsDirectory.into());
        }
        if !file.write {
            return Err(FileError::BadDescriptor.into());
        }
        Ok(file.again()?)
    }
}

impl HostDirectoryEntryStream for View<'_> {
    async fn read_directory_entry(
        &mut self,
        listing: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        let own: Resource<Listing> = Resource::new_borrow(listing.rep());
        let listing = self.table().get_mut(&own)?;
        let tree = listing.directory.tree();
        let line = tree.list(listing.directory.node, listing.next)?.next();
        drop(tree);
        Ok(line.map(|line| {
            listing.next = line.next;
            DirectoryEntry {
                type_: kind(line.is_directory),
                name: line.name.to_string(),
            }
        }))
    }

    fn drop(&mut self, listing: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        let own: Resource<Listing> = Resource::new_own(listing.rep());
        self.table().delete(own)?;
        Ok(())
    }
}

fn kind(is_directory: bool) -> DescriptorType {
    if is_directory {
        DescriptorType::Directory
    } else {
        DescriptorType::RegularFile
    }
}

fn described(stat: &Stat) -> DescriptorStat {
    DescriptorStat {
        type_: kind(stat.is_directory),
        link_count: stat.links,
        size: stat.size,
        data_access_timestamp: Some(moment(stat.accessed)),
        data_modification_timestamp: Some(moment(stat.modified)),
        status_change_timestamp: Some(moment(stat.changed)),
    }
}

/// Differs for different nodes, which is all it is for here.
fn hash(stat: &Stat) -> MetadataHashValue {
    MetadataHashValue {
        lower: stat.node.number(),
        upper: 0,
    }
}

fn moment(nanos: u64) -> Datetime {
    Datetime {
        seconds: nanos / NANOS_PER_SECOND,
        nanoseconds: u32::try_from(nanos % NANOS_PER_SECOND).unwrap_or(0),
    }
}

fn nanos(time: NewTimestamp) -> Result<Option<u64>, ErrorCode> {
    match time {
        NewTimestamp::NoChange => Ok(None),
        NewTimestamp::Now => Ok(Some(nanos_now())),
        NewTimestamp::Timestamp(time) => {
            let nanos = time.seconds.checked_mul(NANOS_PER_SECOND);
            let nanos = nanos.and_then(|nanos| nanos.checked_add(time.nanoseconds.into()));
            nanos.map(Some).ok_or(ErrorCode::Overflow)
        }
    }
}
