//! Directories whose contents nobody but this user changes: compiled code that is run, and what was
//! measured.
//!
//! Isolation rests on this file: who can write to such a directory chooses what the node runs. So
//! one is refused unless it belongs to this user (or to root, who may do anything anyway) and
//! nobody else may write to it. Names are looked up in the opened directory and never by its path,
//! so it does not matter who may rename what lies above it. A sticky directory such as `/tmp` is
//! refused, too: others could put files there under names that are expected. What is written is
//! first a [`Draft`].

mod draft;

use std::ffi::{CStr, CString};
use std::fmt;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, chmodat, flock, openat, renameat, statat, unlinkat,
};
use rustix::process::geteuid;

pub use draft::Draft;

/// Permission of group and others to write.
const OTHERS_WRITE: u32 = 0o022;

/// How often a directory is emptied before somebody else is too fast in filling it.
const REMOVALS: usize = 100;

/// A directory that is open.
#[derive(Debug)]
pub struct Dir {
    path: PathBuf,
    /// What names are looked up in.
    dir: File,
}

/// Why a directory is not used. One line.
#[derive(Debug)]
#[non_exhaustive]
pub enum DirError {
    /// It cannot be opened or made.
    Io(PathBuf, io::Error),
    /// Others may write to it: its permissions.
    OthersWrite(PathBuf, u32),
    /// It belongs to the user with this number.
    OthersOwn(PathBuf, u32),
}

impl DirError {
    /// Is this a directory that others can change?
    #[must_use]
    pub fn is_unsafe(&self) -> bool {
        !matches!(self, Self::Io(..))
    }
}

impl fmt::Display for DirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::OthersWrite(path, mode) => write!(
                f,
                "{0}: others may write to this directory (mode {mode:04o}): `chmod go-w {0}`, \
                 or name another",
                path.display()
            ),
            Self::OthersOwn(path, owner) => write!(
                f,
                "{}: this directory belongs to user {owner}: name one of user {}",
                path.display(),
                geteuid().as_raw()
            ),
        }
    }
}

impl std::error::Error for DirError {}

impl From<DirError> for io::Error {
    fn from(error: DirError) -> Self {
        match error {
            DirError::Io(_, error) => error,
            error => Self::other(error.to_string()),
        }
    }
}

/// A file in a directory, as far as looking at it tells.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// When it was last written, or last used if whoever uses it says so.
    pub modified: SystemTime,
}

impl Dir {
    /// The directory at `path` that only this user can change; `None` if there is none.
    ///
    /// # Errors
    /// [`DirError::is_unsafe`] ones if others can change it.
    pub fn private(path: &Path) -> Result<Option<Self>, DirError> {
        let opened = match Self::any(path) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DirError::Io(path.to_path_buf(), error)),
        };
        opened.check()?;
        Ok(Some(opened))
    }

    /// The same, made if there is none.
    ///
    /// # Errors
    /// As [`Self::private`].
    pub fn make_private(path: &Path) -> Result<Self, DirError> {
        if let Some(there) = Self::private(path)? {
            return Ok(there);
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| DirError::Io(path.to_path_buf(), error))?;
        let missing = || DirError::Io(path.to_path_buf(), io::ErrorKind::NotFound.into());
        Self::private(path)?.ok_or_else(missing)
    }

    /// Any directory, whoever can change it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn any(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let dir = openat(CWD, &path, DIRECTORY, Mode::empty())?;
        Ok(Self { path, dir: File::from(dir) })
    }

    /// A directory in this one, not through a link.
    fn below(&self, name: &str) -> io::Result<Self> {
        let dir = openat(&self.dir, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
        Ok(Self { path: self.path.join(name), dir: File::from(dir) })
    }

    fn check(&self) -> Result<(), DirError> {
        let about = self.dir.metadata();
        let about = about.map_err(|error| DirError::Io(self.path.clone(), error))?;
        if !is_ours(about.uid()) {
            return Err(DirError::OthersOwn(self.path.clone(), about.uid()));
        }
        if about.mode() & OTHERS_WRITE != 0 {
            return Err(DirError::OthersWrite(self.path.clone(), about.mode() & 0o7777));
        }
        Ok(())
    }

    /// Where it was when it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a regular file for reading that nobody else may write to.
    ///
    /// # Errors
    /// When it is anything else, or cannot be opened.
    pub fn open(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&self.dir, name, flags, Mode::empty())?);
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        if !is_ours(about.uid()) || about.mode() & OTHERS_WRITE != 0 {
            return Err(io::Error::other("others may write to it"));
        }
        Ok(file)
    }

    /// The same of a file that another program has just made for this one, with whatever
    /// permissions. From then on nobody else has any.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_made(&self, name: &str) -> io::Result<File> {
        chmodat(&self.dir, name, Mode::RUSR | Mode::WUSR, AtFlags::empty())?;
        self.open(name)
    }

    /// Creates a file for writing that nobody else can read, under a name that is not taken.
    ///
    /// # Errors
    /// When it is taken, or the file cannot be made.
    pub fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR)?))
    }

    /// Opens a file for writing at its end.
    ///
    /// # Errors
    /// When there is none, or it cannot be opened.
    pub fn append(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.dir, name, flags, Mode::empty())?))
    }

    /// Is `file` what has this name now?
    #[must_use]
    pub fn leads_to(&self, name: &str, file: &File) -> bool {
        let about = statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW);
        let same = |there: rustix::fs::Stat, here: std::fs::Metadata| {
            (there.st_dev, there.st_ino) == (here.dev(), here.ino())
        };
        about.ok().zip(file.metadata().ok()).is_some_and(|(there, here)| same(there, here))
    }

    /// Gives a file of `from` a name here, in place of what has it. It is there to stay when this
    /// returns, whatever happens to the machine, if its content has been written to the disk
    /// before.
    ///
    /// # Errors
    /// When the name belongs to a directory, or the system cannot do it.
    pub fn take(&self, from: &Self, old_name: &str, name: &str) -> io::Result<()> {
        renameat(&from.dir, old_name, &self.dir, name)?;
        self.dir.sync_all()
    }

    /// Removes whatever has this name, with all that is in it. Nothing is as good.
    ///
    /// # Errors
    /// When it is still there.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let name = CString::new(name).map_err(io::Error::other)?;
        remove_tree(&self.dir, &name)
    }

    /// The names in it, as far as they are text.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let names = names_in(&self.dir)?.into_iter();
        Ok(names.filter_map(|name| name.into_string().ok()).collect())
    }

    /// What `is_wanted` of it, as it is now.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self, is_wanted: impl Fn(&str) -> bool) -> io::Result<Vec<Listed>> {
        let names = self.names()?.into_iter().filter(|name| is_wanted(name));
        let about = |name: String| {
            // Gone in between is gone.
            let about = statat(&self.dir, &name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            let since = Duration::new(about.st_mtime.try_into().ok()?, about.st_mtime_nsec as u32);
            let modified = SystemTime::UNIX_EPOCH + since;
            Some(Listed { name, bytes: about.st_size as u64, modified })
        };
        Ok(names.filter_map(about).collect())
    }

    /// The turn at what only one may do in this directory at a time; `None` while another has it.
    /// It is over when the value is dropped.
    #[must_use]
    pub fn try_turn(&self) -> Option<File> {
        let own = self.below(".").ok()?.dir;
        flock(&own, FlockOperation::NonBlockingLockExclusive).ok()?;
        Some(own)
    }

    /// Has its file system no room for so many bytes and a few files?
    #[must_use]
    pub fn is_full(&self, bytes: u64) -> bool {
        rustix::fs::fstatvfs(&self.dir).is_ok_and(|about| {
            about.f_bavail.saturating_mul(about.f_frsize) < bytes
                || (about.f_files > 0 && about.f_favail < 16)
                || about.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY)
        })
    }
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

fn is_ours(owner: u32) -> bool {
    owner == 0 || owner == geteuid().as_raw()
}

fn names_in(dir: &File) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// Follows no link, and gives up if the directory is filled as fast as it is emptied.
fn remove_tree(parent: &File, name: &CStr) -> io::Result<()> {
    use rustix::io::Errno;
    let gone = |done: Result<(), Errno>| match done {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    };
    match gone(unlinkat(parent, name, AtFlags::empty())) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        done => return Ok(done?),
    }
    for _ in 0..REMOVALS {
        let dir = match openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            dir => File::from(dir?),
        };
        for entry in names_in(&dir)? {
            remove_tree(&dir, &entry)?;
        }
        match gone(unlinkat(parent, name, AtFlags::REMOVEDIR)) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            done => return Ok(done?),
        }
    }
    Err(Errno::NOTEMPTY.into())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn with_mode(path: &Path, mode: u32) -> Result<Option<Dir>, DirError> {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("its own");
        Dir::private(path)
    }

    #[test]
    fn what_others_may_change_is_refused() {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().join("cache");
        assert!(Dir::private(&path).expect("nothing is wrong").is_none());
        Dir::make_private(&path).expect("made");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o700);
        let link = scratch.path().join("link");
        symlink(&path, &link).expect("made");
        for good in [0o700, 0o755, 0o500] {
            assert!(with_mode(&path, good).is_ok_and(|dir| dir.is_some()), "{good:o}");
        }
        for bad in [0o777, 0o770, 0o702, 0o720, 0o1777] {
            let refused = with_mode(&path, bad).expect_err("others may write");
            let text = refused.to_string();
            assert!(
                refused.is_unsafe() && text.contains(&format!("chmod go-w {}", path.display())),
                "{text}"
            );
            assert!(
                Dir::private(&link).is_err_and(|error| error.is_unsafe()),
                "behind a link, too"
            );
            assert!(Dir::make_private(&path).is_err_and(|error| error.is_unsafe()));
        }
        if geteuid().is_root() {
            with_mode(&path, 0o700).expect("good");
            std::os::unix::fs::chown(&path, Some(12345), None).expect("root may");
            let refused = Dir::private(&path).expect_err("another's").to_string();
            assert!(refused.contains("belongs to user 12345"), "{refused}");
        }
        fs::write(scratch.path().join("file"), "x").expect("written");
        let refused = Dir::private(&scratch.path().join("file")).expect_err("no directory");
        assert!(!refused.is_unsafe(), "{refused}");
    }

    #[test]
    fn only_regular_files_of_ones_own_are_opened() {
        let scratch = tempfile::tempdir().expect("a directory");
        let dir = Dir::make_private(scratch.path()).expect("this user's");
        drop(dir.create("good").expect("new"));
        assert!(dir.open("good").is_ok());
        assert_eq!(dir.create("good").expect_err("taken").kind(), io::ErrorKind::AlreadyExists);
        symlink("good", scratch.path().join("link")).expect("made");
        fs::create_dir(scratch.path().join("below")).expect("made");
        fs::write(scratch.path().join("open"), "x").expect("written");
        let open = Permissions::from_mode(0o666);
        fs::set_permissions(scratch.path().join("open"), open).expect("its own");
        for bad in ["link", "below", "open", "nothing"] {
            assert!(dir.open(bad).is_err(), "{bad}");
        }
        for any in ["link", "below", "open", "nothing", "good"] {
            dir.remove(any).expect(any);
        }
        assert_eq!(dir.names().expect("readable"), [""; 0]);
    }

    #[test]
    fn one_at_a_time_has_the_turn() {
        let scratch = tempfile::tempdir().expect("a directory");
        let open = || Dir::make_private(scratch.path()).expect("this user's");
        let (one, two) = (open(), open());
        let turn = one.try_turn().expect("nobody has it");
        assert!(two.try_turn().is_none());
        drop(turn);
        assert!(two.try_turn().is_some());
    }
}
