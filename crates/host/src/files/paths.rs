//! Paths: finding, making, naming and removing what lies in directories.
//!
//! Isolation from the host's other files rests on `cap-std`: each path is resolved beneath its
//! directory by the kernel (`openat2` with `RESOLVE_BENEATH`) or component by component, whatever
//! links or concurrent renames there are. Only regular files and directories can be opened. Looking
//! something up is done at once; a helper does what changes a directory.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt};
use cap_std::fs::{Dir, File, OpenOptions, OpenOptionsExt};
use rustix::fs::{AtFlags, FileType, OFlags, PROC_SUPER_MAGIC, Timestamps};
use rustix::io::Errno as System;

use super::Attributes;
use crate::ctx::WasiCtx;
use crate::devices::{self, Inside, Place};
use crate::errno::{Errno, Fail};
use crate::rights::{self, Rights};
use crate::table::{Descriptor, Resource, Tree, fdflags};
use crate::waiting::Ask;

/// Rights that must be asked for: all else is handed on whatever is asked for.
const ASKED: Rights = rights::FD_READ | rights::FD_WRITE;
/// Rights that nothing has but a file that is open for writing.
const WRITING: Rights = rights::FD_WRITE | rights::FD_ALLOCATE | rights::FD_FILESTAT_SET_SIZE;

/// Parts of a path that is looked up at once, and of what a link holds that a guest makes. The
/// system follows 40 links for one path, so a look-up goes through 40 times as many directories at
/// most: some tenths of a millisecond.
const PARTS_AT_ONCE: usize = 64;

/// What helpers are asked.
const OPEN: Ask<io::Result<File>> = Ask::new("path_open");
const LOOK: Ask<io::Result<Attributes>> = Ask::new("path_filestat_get");
const READ_LINK: Ask<io::Result<Vec<u8>>> = Ask::new("path_readlink");
const MAKE: Ask<io::Result<()>> = Ask::new("path_create_directory");
const LINK: Ask<io::Result<()>> = Ask::new("path_link");
const REMOVE: Ask<io::Result<()>> = Ask::new("path_remove_directory");
const RENAME: Ask<io::Result<()>> = Ask::new("path_rename");
const SYMLINK: Ask<io::Result<()>> = Ask::new("path_symlink");
const UNLINK: Ask<io::Result<()>> = Ask::new("path_unlink_file");

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OpenHow {
    /// The link that the path ends in is followed.
    pub(crate) follow: bool,
    /// It is made if it is not there.
    pub(crate) create: bool,
    /// It must be a directory.
    pub(crate) directory: bool,
    /// It must not be there.
    pub(crate) exclusive: bool,
    /// It is cut off.
    pub(crate) truncate: bool,
    /// Rights that are asked for.
    pub(crate) base: Rights,
    /// Its `fdflags`.
    pub(crate) flags: u16,
}

/// Where a path leads.
enum Found<'a> {
    /// Into the host's files: from this directory, by this path.
    Host(Arc<Dir>, &'a str),
    /// To `/dev`.
    Devices(Inside),
}

impl WasiCtx {
    /// Where a path leads from a directory in which all of this may be done.
    fn find<'a>(&mut self, fd: u32, name: &'a str, needed: Rights) -> Result<Found<'a>, Errno> {
        let descriptor = self.get(fd)?;
        let tree = &descriptor.directory()?.tree;
        descriptor.allows(needed)?;
        let place = match tree {
            Tree::Host { has_devices: true, .. } => devices::from_root(name)?,
            Tree::Host { .. } => Place::Root(name),
            Tree::Devices => devices::from_directory(name)?,
        };
        match (place, tree) {
            (Place::Root(name), Tree::Host { dir, .. }) => Ok(Found::Host(Arc::clone(dir), name)),
            (Place::Root(_), Tree::Devices) => Err(Errno::Notcapable),
            (Place::Devices(inside), _) => Ok(Found::Devices(inside)),
        }
    }

    /// A directory to change something in, and the path in it.
    fn writable<'a>(
        &mut self,
        fd: u32,
        name: &'a str,
        needed: Rights,
    ) -> Result<(Arc<Dir>, &'a str), Errno> {
        match self.find(fd, name, needed)? {
            Found::Host(dir, name) if self.get(fd)?.directory()?.writable => Ok((dir, name)),
            _ => Err(Errno::Rofs),
        }
    }

    /// The same for a helper.
    fn writable_owned(
        &mut self,
        fd: u32,
        name: &str,
        needed: Rights,
    ) -> Result<(Arc<Dir>, String), Errno> {
        self.writable(fd, name, needed).map(|(dir, name)| (dir, name.to_owned()))
    }

    /// Opens what a path names; says its descriptor.
    pub(crate) fn open_at(&mut self, fd: u32, name: &str, how: &OpenHow) -> Result<u32, Fail> {
        let descriptor = open(self, fd, name, how)?;
        Ok(self.table().insert(descriptor)?)
    }

    /// Makes a directory.
    pub(crate) fn make_directory_at(&mut self, fd: u32, name: &str) -> Result<(), Fail> {
        let (dir, name) = self.writable_owned(fd, name, rights::PATH_CREATE_DIRECTORY)?;
        Ok(self.offload(MAKE, move || dir.create_dir(name))??)
    }

    /// What is known of what a path names.
    pub(crate) fn attributes_at(
        &mut self,
        fd: u32,
        name: &str,
        follow: bool,
    ) -> Result<Attributes, Fail> {
        let (dir, name) = match self.find(fd, name, rights::PATH_FILESTAT_GET)? {
            Found::Host(dir, name) => (dir, name),
            Found::Devices(Inside::Directory) => return Ok(Attributes::of_devices()),
            Found::Devices(Inside::Named(named)) => return Ok(Attributes::of_device(named)),
            Found::Devices(Inside::Nothing) => return Err(Errno::Noent.into()),
        };
        let look = move |dir: &Dir, name: &str| {
            let found = if follow { dir.metadata(name)? } else { dir.symlink_metadata(name)? };
            Ok(found.into())
        };
        if is_long(name) {
            let name = name.to_owned();
            return Ok(self.offload(LOOK, move || look(&dir, &name))??);
        }
        Ok(look(&dir, name)?)
    }

    /// Sets times of what a path names. The file is found without opening it for anything, and then
    /// named by its descriptor, so that no link can be put in between.
    pub(crate) fn set_times_at(
        &mut self,
        fd: u32,
        name: &str,
        follow: bool,
        times: &Timestamps,
    ) -> Result<(), Fail> {
        let (dir, name) = self.writable(fd, name, rights::PATH_FILESTAT_SET_TIMES)?;
        let mut options = OpenOptions::new();
        options
            .read(true)
            .follow(following(follow))
            .custom_flags(OFlags::PATH.bits().cast_signed());
        let found = match is_long(name) {
            true => {
                let name = name.to_owned();
                self.offload(OPEN, move || dir.open_with(name, &options))??
            }
            false => dir.open_with(name, &options)?,
        };
        Ok(rustix::fs::utimensat(found, "", times, AtFlags::EMPTY_PATH)?)
    }

    /// Gives a file another name. Links are not followed, so that one cannot become a file.
    pub(crate) fn link_at(
        &mut self,
        (from, name): (u32, &str),
        (to, new_name): (u32, &str),
    ) -> Result<(), Fail> {
        // A file of a directory that must not change could be changed through a link elsewhere.
        let (source, name) = self.writable_owned(from, name, rights::PATH_LINK_SOURCE)?;
        let (target, new_name) = self.writable_owned(to, new_name, rights::PATH_LINK_TARGET)?;
        Ok(self.offload(LINK, move || source.hard_link(name, &target, new_name))??)
    }

    /// What a symbolic link holds.
    pub(crate) fn read_link_at(&mut self, fd: u32, name: &str) -> Result<Vec<u8>, Fail> {
        let (dir, name) = match self.find(fd, name, rights::PATH_READLINK)? {
            Found::Host(dir, name) => (dir, name),
            Found::Devices(Inside::Nothing) => return Err(Errno::Noent.into()),
            // Nothing there is a link.
            Found::Devices(_) => return Err(Errno::Inval.into()),
        };
        let read = |dir: &Dir, name: &str| {
            let contents = dir.read_link_contents(name)?;
            Ok(contents.as_os_str().as_bytes().to_vec())
        };
        if is_long(name) {
            let name = name.to_owned();
            return Ok(self.offload(READ_LINK, move || read(&dir, &name))??);
        }
        Ok(read(&dir, name)?)
    }

    /// Removes a directory.
    pub(crate) fn remove_directory_at(&mut self, fd: u32, name: &str) -> Result<(), Fail> {
        let (dir, name) = self.writable_owned(fd, name, rights::PATH_REMOVE_DIRECTORY)?;
        // Slashes at the end say that it is a directory, which it must be anyway.
        let bare = name.trim_end_matches('/');
        let name = if bare.is_empty() { name } else { bare.to_owned() };
        Ok(self.offload(REMOVE, move || dir.remove_dir(name))??)
    }

    /// Renames a file or directory.
    pub(crate) fn rename_at(
        &mut self,
        (from, name): (u32, &str),
        (to, new_name): (u32, &str),
    ) -> Result<(), Fail> {
        let (source, name) = self.writable_owned(from, name, rights::PATH_RENAME_SOURCE)?;
        let (target, new_name) = self.writable_owned(to, new_name, rights::PATH_RENAME_TARGET)?;
        // What is replaced is removed, which takes long if it is.
        Ok(self.offload(RENAME, move || rename(&source, &name, &target, &new_name))??)
    }

    /// Makes a symbolic link. It may hold any path but an absolute one; where it leads is decided
    /// when it is followed.
    pub(crate) fn symlink_at(&mut self, contents: String, fd: u32, name: &str) -> Result<(), Fail> {
        let (dir, name) = self.writable_owned(fd, name, rights::PATH_SYMLINK)?;
        if is_long(&contents) {
            return Err(Errno::Nametoolong.into());
        }
        Ok(self.offload(SYMLINK, move || dir.symlink(contents, name))??)
    }

    /// Removes a file. Whoever has it open keeps it.
    pub(crate) fn unlink_at(&mut self, fd: u32, name: &str) -> Result<(), Fail> {
        let (dir, name) = self.writable_owned(fd, name, rights::PATH_UNLINK_FILE)?;
        // A long file's blocks are given back one by one.
        Ok(self.offload(UNLINK, move || unlink(&dir, &name))??)
    }
}

/// Takes so long to walk along that a helper does it.
fn is_long(path: &str) -> bool {
    path.bytes().filter(|byte| *byte == b'/').count() >= PARTS_AT_ONCE
}

fn following(follow: bool) -> FollowSymlinks {
    if follow { FollowSymlinks::Yes } else { FollowSymlinks::No }
}

fn open(ctx: &mut WasiCtx, fd: u32, name: &str, how: &OpenHow) -> Result<Descriptor, Fail> {
    let creates = if how.create { rights::PATH_CREATE_FILE } else { 0 };
    let truncates = if how.truncate { rights::PATH_FILESTAT_SET_SIZE } else { 0 };
    let found = ctx.find(fd, name, rights::PATH_OPEN | creates | truncates)?;
    let parent = ctx.get(fd)?;
    let directory = parent.directory()?;
    let (given, writable) = (parent.inheriting, directory.writable);
    let in_root = matches!(directory.tree, Tree::Host { has_devices: true, .. });
    let asked = how.base & ASKED;
    if asked & !given != 0 {
        return Err(Errno::Notcapable.into());
    }
    let (dir, name) = match found {
        Found::Host(dir, name) => (dir, name),
        Found::Devices(inside) => return Ok(open_device(inside, how, given)?),
    };
    let changes = how.create || how.truncate;
    if (changes || asked & rights::FD_WRITE != 0) && !writable {
        return Err(Errno::Rofs.into());
    }
    ctx.table().check_room()?;
    let options = options(how);
    // What is cut off may be long, and what is made is put on a disk.
    let opened = if changes || is_long(name) {
        let name = name.to_owned();
        ctx.offload(OPEN, move || dir.open_with(name, &options))?
    } else {
        dir.open_with(name, &options)
    };
    let file = OwnedFd::from(opened.map_err(not_a_file)?.into_std());
    // Files that are doors into this process, such as its memory.
    if rustix::fs::fstatfs(&file)?.f_type == PROC_SUPER_MAGIC {
        return Err(Errno::Notcapable.into());
    }
    let file_type = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    match file_type {
        FileType::Directory => {
            let dir = Arc::new(Dir::from_std_file(file.into()));
            // By any other name it is not known to be the root.
            let has_devices = in_root && name.split('/').all(|part| matches!(part, "" | "."));
            let tree = Tree::Host { dir, has_devices };
            let mut descriptor = Descriptor::of_directory(tree, writable, None);
            descriptor.base &= given;
            descriptor.inheriting = given;
            descriptor.flags = how.flags & fdflags::NONBLOCK;
            Ok(descriptor)
        }
        FileType::RegularFile => Ok(Descriptor {
            resource: Resource::File(Arc::new(file)),
            base: of_file(asked, writable) & given,
            inheriting: 0,
            flags: how.flags,
            held: None,
        }),
        // Devices, pipes and sockets are not files of a directory's but doors to elsewhere.
        _ => Err(Errno::Notcapable.into()),
    }
}

/// Opens `/dev` or what it has. Nothing is made or changed there by that.
fn open_device(inside: Inside, how: &OpenHow, given: Rights) -> Result<Descriptor, Errno> {
    let mut descriptor = match inside {
        Inside::Nothing if how.create => return Err(Errno::Rofs),
        Inside::Nothing => return Err(Errno::Noent),
        _ if how.create && how.exclusive => return Err(Errno::Exist),
        Inside::Named(_) if how.directory => return Err(Errno::Notdir),
        Inside::Named(named) => {
            let mut descriptor = Descriptor::of_device(named);
            descriptor.base &= !ASKED | how.base;
            descriptor
        }
        Inside::Directory if how.create || how.truncate || how.base & rights::FD_WRITE != 0 => {
            return Err(Errno::Isdir);
        }
        Inside::Directory => {
            let mut descriptor = Descriptor::of_directory(Tree::Devices, false, None);
            descriptor.inheriting &= given;
            descriptor
        }
    };
    descriptor.base &= given;
    descriptor.flags = match descriptor.resource {
        Resource::Device(_) => how.flags,
        _ => how.flags & fdflags::NONBLOCK,
    };
    Ok(descriptor)
}

/// Sockets, and pipes that nobody reads, cannot be opened at all.
fn not_a_file(error: io::Error) -> Errno {
    match Errno::from(error) {
        Errno::Nxio | Errno::Nodev => Errno::Notcapable,
        errno => errno,
    }
}

/// What may be done with a file that is opened for reading, writing, both or neither.
fn of_file(asked: Rights, writable: bool) -> Rights {
    let mut lacks = ASKED & !asked;
    if asked & rights::FD_WRITE == 0 {
        lacks |= WRITING;
    }
    if !writable {
        lacks |= rights::FD_FILESTAT_SET_TIMES;
    }
    rights::FILE & !lacks
}

/// How to ask the system for a file. It is never opened for writing but where that is asked for, or
/// where it is cut off: that it may not be written to is no reason that it cannot be read.
fn options(how: &OpenHow) -> OpenOptions {
    let write = how.base & rights::FD_WRITE != 0 || how.truncate;
    let read = how.base & rights::FD_READ != 0 || !write;
    // Nothing that is opened can keep the thread waiting.
    let mut system = OFlags::NONBLOCK | OFlags::NOCTTY;
    system.set(OFlags::CREATE, how.create);
    system.set(OFlags::EXCL, how.exclusive);
    system.set(OFlags::TRUNC, how.truncate);
    system.set(OFlags::DIRECTORY, how.directory);
    system.set(OFlags::APPEND, how.flags & fdflags::APPEND != 0);
    system.set(OFlags::DSYNC, how.flags & fdflags::DSYNC != 0);
    system.set(OFlags::SYNC, how.flags & (fdflags::SYNC | fdflags::RSYNC) != 0);
    let mut options = OpenOptions::new();
    let follow = following(how.follow);
    options.read(read).write(write).follow(follow).custom_flags(system.bits().cast_signed());
    options
}

/// The last name of a path, if slashes after it say that it is a directory. `.` is one anyway.
fn said_to_be_directory(path: &str) -> Option<&str> {
    let bare = path.trim_end_matches('/');
    let says = bare != path && !matches!(bare.rsplit('/').next(), Some("" | "."));
    says.then_some(bare)
}

/// Removes a file. What is said to be a directory is none, not even a link to one.
fn unlink(dir: &Dir, name: &str) -> io::Result<()> {
    match said_to_be_directory(name) {
        Some(bare) if dir.symlink_metadata(bare)?.is_dir() => Err(System::ISDIR.into()),
        Some(_) => Err(System::NOTDIR.into()),
        None => dir.remove_file(name),
    }
}

/// Renames. What is to be called a directory must be one.
fn rename(source: &Dir, name: &str, target: &Dir, new_name: &str) -> io::Result<()> {
    if said_to_be_directory(new_name).is_some() && !source.symlink_metadata(name)?.is_dir() {
        return Err(System::NOTDIR.into());
    }
    source.rename(name, target, new_name)
}
