//! Descriptors: what each number of a guest's stands for.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use awsm_ledger::{Holding, Purse};
use cap_std::fs::Dir;

use crate::devices::{Device, Named};
use crate::errno::Errno;
use crate::grants::FileLimits;
use crate::rights::{self, Rights};

/// Flags of a descriptor, numbered as WASI preview 1's `fdflags`.
pub(crate) mod fdflags {
    pub(crate) const APPEND: u16 = 1;
    pub(crate) const DSYNC: u16 = 2;
    pub(crate) const NONBLOCK: u16 = 4;
    pub(crate) const RSYNC: u16 = 8;
    pub(crate) const SYNC: u16 = 16;
    pub(crate) const ALL: u16 = APPEND | DSYNC | NONBLOCK | RSYNC | SYNC;
}

/// An open descriptor.
#[derive(Debug)]
pub(crate) struct Descriptor {
    pub resource: Resource,
    /// What may be done with it.
    pub base: Rights,
    /// What may be done with what is opened through it.
    pub inheriting: Rights,
    /// `fdflags` that the guest has set and the system does not know of.
    pub flags: u16,
    /// The place that it has among those of all guests.
    pub held: Option<Holding>,
}

/// What a descriptor stands for.
#[derive(Debug)]
pub(crate) enum Resource {
    /// The invocation's streams.
    Stdin,
    Stdout,
    Stderr,
    /// A regular file.
    File(Arc<OwnedFd>),
    Device(Device),
    Directory(Directory),
    /// A connection. Never blocks the thread.
    Connection(Arc<OwnedFd>),
    /// A socket that listens. Never blocks the thread.
    Listener(Arc<OwnedFd>),
    /// A connection that could not be made, and why.
    Broken(Errno),
}

/// An open directory.
#[derive(Debug)]
pub(crate) struct Directory {
    pub tree: Tree,
    /// May anything in it be changed?
    pub writable: bool,
    /// Its place among the preopened directories, if it is one: the mounts, and `/dev` after them.
    pub mount: Option<usize>,
    /// How far it has been listed.
    pub listing: Option<Box<Listing>>,
}

/// Where a directory lies.
#[derive(Clone, Debug)]
pub(crate) enum Tree {
    /// In the host's files.
    Host {
        dir: Arc<Dir>,
        /// Is it the guest's root, whose `dev` is `/dev`?
        has_devices: bool,
    },
    /// It is `/dev`.
    Devices,
}

/// How far a directory has been listed.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The directory, with a position of its own.
    pub dir: Arc<Readable>,
    pub place: Place,
}

/// A directory that is open to be read.
#[derive(Debug)]
pub(crate) struct Readable {
    pub dir: OwnedFd,
    /// The place that it has among the descriptors of all guests.
    pub _held: Option<Holding>,
}

/// A number of entries, and the system's cookie for the place after them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    pub entries: u64,
    pub system: u64,
}

impl Descriptor {
    const fn stream(resource: Resource, base: Rights) -> Self {
        Self { resource, base, inheriting: 0, flags: 0, held: None }
    }

    /// One that may do all that its resource can.
    pub(crate) fn of_directory(tree: Tree, writable: bool, mount: Option<usize>) -> Self {
        let resource = Resource::Directory(Directory { tree, writable, mount, listing: None });
        Self {
            resource,
            base: rights::DIRECTORY,
            inheriting: rights::INHERITING,
            flags: 0,
            held: None,
        }
    }

    /// What a name in `/dev` stands for.
    pub(crate) fn of_device(named: Named) -> Self {
        match named {
            Named::Device(device) => Self::stream(Resource::Device(device), rights::DEVICE),
            Named::Stdin => Self::stream(Resource::Stdin, rights::INPUT),
            Named::Stdout => Self::stream(Resource::Stdout, rights::OUTPUT),
            Named::Stderr => Self::stream(Resource::Stderr, rights::OUTPUT),
        }
    }

    /// An established connection.
    pub(crate) fn of_connection(socket: OwnedFd, flags: u16) -> Self {
        let resource = Resource::Connection(Arc::new(socket));
        Self { resource, base: rights::CONNECTION, inheriting: 0, flags, held: None }
    }

    /// A socket that listens.
    pub(crate) fn of_listener(socket: Arc<OwnedFd>, flags: u16) -> Self {
        let resource = Resource::Listener(socket);
        Self { resource, base: rights::LISTENER, inheriting: rights::CONNECTION, flags, held: None }
    }

    /// A connection that could not be made.
    pub(crate) fn of_broken(errno: Errno) -> Self {
        let resource = Resource::Broken(errno);
        Self { resource, base: rights::CONNECTION, inheriting: 0, flags: 0, held: None }
    }

    /// May all of this be done?
    pub(crate) fn allows(&self, needed: Rights) -> Result<(), Errno> {
        if self.base & needed == needed { Ok(()) } else { Err(Errno::Notcapable) }
    }

    /// The directory that it is.
    pub(crate) fn directory(&self) -> Result<&Directory, Errno> {
        match &self.resource {
            Resource::Directory(directory) => Ok(directory),
            _ => Err(Errno::Notdir),
        }
    }
}

/// Descriptors 0 to 2 of a guest that has not changed them.
pub(crate) static STREAMS: [Descriptor; 3] = [
    Descriptor::stream(Resource::Stdin, rights::INPUT),
    Descriptor::stream(Resource::Stdout, rights::OUTPUT),
    Descriptor::stream(Resource::Stderr, rights::OUTPUT),
];

/// A guest's descriptors by number; the lowest free one is given next.
#[derive(Debug)]
pub(crate) struct Table {
    entries: Vec<Option<Descriptor>>,
    open: u32,
    most: u32,
    /// Where places among those of all guests come from, if they are counted.
    purse: Option<Purse>,
}

impl Table {
    /// The streams only.
    pub(crate) fn new(limits: FileLimits, purse: Option<Purse>) -> Self {
        let [stdin, stdout, stderr] = [
            Descriptor::stream(Resource::Stdin, rights::INPUT),
            Descriptor::stream(Resource::Stdout, rights::OUTPUT),
            Descriptor::stream(Resource::Stderr, rights::OUTPUT),
        ];
        let entries = vec![Some(stdin), Some(stdout), Some(stderr)];
        let most = limits.descriptors.min(FileLimits::DESCRIPTORS_MAX);
        Self { entries, open: 3, most, purse }
    }

    /// Bytes that it takes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Option<Descriptor>>()
    }

    pub(crate) fn get(&self, fd: u32) -> Result<&Descriptor, Errno> {
        self.entries.get(fd as usize).and_then(Option::as_ref).ok_or(Errno::Badf)
    }

    pub(crate) fn get_mut(&mut self, fd: u32) -> Result<&mut Descriptor, Errno> {
        self.entries.get_mut(fd as usize).and_then(Option::as_mut).ok_or(Errno::Badf)
    }

    /// Is there room for one more?
    pub(crate) fn check_room(&self) -> Result<(), Errno> {
        if self.open < self.most { Ok(()) } else { Err(Errno::Mfile) }
    }

    /// Gives a descriptor its number.
    pub(crate) fn insert(&mut self, mut descriptor: Descriptor) -> Result<u32, Errno> {
        self.check_room()?;
        descriptor.held = self.place()?;
        self.open += 1;
        // All descriptors are below DESCRIPTORS_MAX.
        match self.entries.iter().position(Option::is_none) {
            Some(free) => {
                self.entries[free] = Some(descriptor);
                Ok(free as u32)
            }
            None => {
                self.entries.push(Some(descriptor));
                Ok(self.entries.len() as u32 - 1)
            }
        }
    }

    /// A place among those of all guests.
    pub(crate) fn place(&self) -> Result<Option<Holding>, Errno> {
        self.purse.as_ref().map(|purse| purse.hold(1)).transpose().map_err(|_| Errno::Nfile)
    }

    /// Adds a connection that configuration grants and `open` makes, if there is a place for it;
    /// room or not, so that numbers are what the guest was told.
    pub(crate) fn grant_connection(&mut self, open: impl FnOnce() -> Descriptor) {
        let descriptor = match self.place() {
            Ok(held) => Descriptor { held, ..open() },
            Err(errno) => Descriptor::of_broken(errno),
        };
        self.grant(descriptor);
    }

    /// Adds one that configuration grants, room or not, so that numbers are what the guest was
    /// told.
    pub(crate) fn grant(&mut self, descriptor: Descriptor) {
        self.open += 1;
        self.entries.push(Some(descriptor));
    }

    /// Takes one out, so that dropping it closes it.
    pub(crate) fn remove(&mut self, fd: u32) -> Result<Descriptor, Errno> {
        let entry = self.entries.get_mut(fd as usize).ok_or(Errno::Badf)?;
        let descriptor = entry.take().ok_or(Errno::Badf)?;
        self.open -= 1;
        Ok(descriptor)
    }

    /// Closes up to `count` descriptors, the last first; says whether there are more.
    pub(crate) fn close_some(&mut self, count: usize) -> bool {
        self.entries.truncate(self.entries.len().saturating_sub(count));
        !self.entries.is_empty()
    }

    /// Gives `from` the number `to`, whose descriptor is closed. Both must be open.
    pub(crate) fn renumber(&mut self, from: u32, to: u32) -> Result<(), Errno> {
        self.get(to)?;
        self.get(from)?;
        if from != to {
            let moved = self.remove(from)?;
            *self.get_mut(to)? = moved;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use awsm_ledger::{Shared, Stock};

    use super::*;

    #[test]
    fn places_are_given_back() {
        let stock = Shared::new(Stock::equal_shares(3, &[u64::MAX]));
        let purse = || Some(Purse::new(&stock, 0));
        let file = || Descriptor::stream(Resource::Stdin, 0);
        let mut first = Table::new(FileLimits::default(), purse());
        let mut second = Table::new(FileLimits::default(), purse());
        assert_eq!((first.insert(file()), first.insert(file())), (Ok(3), Ok(4)));
        second.grant_connection(file);
        assert_eq!((second.insert(file()), stock.held()), (Err(Errno::Nfile), 3));
        second.grant_connection(|| panic!("there is no place for it"));
        assert!(matches!(
            second.get(4).map(|one| &one.resource),
            Ok(Resource::Broken(Errno::Nfile))
        ));
        assert_eq!((first.renumber(3, 4), stock.held()), (Ok(()), 2));
        assert_eq!((second.insert(file()), stock.held()), (Ok(5), 3));
        assert!(second.remove(0).is_ok() && second.remove(5).is_ok());
        assert_eq!(stock.held(), 2);
        drop((first, second));
        assert_eq!(stock.held(), 0);
    }

    #[test]
    fn the_lowest_free_number_is_given_next() {
        let listener = || Descriptor::stream(Resource::Stdin, 0);
        let mut table = Table::new(FileLimits { descriptors: 5, ..FileLimits::default() }, None);
        assert_eq!((table.insert(listener()), table.insert(listener())), (Ok(3), Ok(4)));
        assert_eq!(table.insert(listener()), Err(Errno::Mfile));
        assert!(table.remove(1).is_ok() && table.remove(1).is_err());
        assert_eq!(table.insert(listener()), Ok(1));
        assert_eq!(table.renumber(4, 3), Ok(()));
        assert_eq!(
            (table.renumber(4, 3), table.renumber(3, 4)),
            (Err(Errno::Badf), Err(Errno::Badf))
        );
        assert_eq!(table.renumber(3, 3), Ok(()));
        assert_eq!(
            (table.insert(listener()), table.insert(listener())),
            (Ok(4), Err(Errno::Mfile))
        );
    }
}
