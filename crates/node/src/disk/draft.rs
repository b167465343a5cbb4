//! What is being written: a directory of its own, until it is whole and gets its name.
//!
//! Two processes never write to the same draft, be they in different containers with the same
//! process number on the same shared directory: its name is drawn at random, and making a directory
//! fails if the name is taken. Whoever works in it holds a lock on it, which the system releases
//! however its holder ends. So a draft that can be locked is nobody's any more, and is removed.
//! Roads not taken: process numbers (they repeat, and mean nothing in another container) and ages
//! (a compilation may take ten minutes, and clocks jump).

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, flock, mkdirat};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use super::Dir;

/// Names that are drawn before it is no accident that all are taken.
const ATTEMPTS: usize = 100;

/// A directory for one job, gone with this value.
#[derive(Debug)]
pub struct Draft {
    parent: Dir,
    name: String,
    /// Locked, where the file system has locks.
    dir: Dir,
}

impl Draft {
    /// A new one in `parent`. Its name begins with `prefix`.
    ///
    /// # Errors
    /// When nothing can be made there.
    pub fn create(parent: Dir, prefix: &str) -> io::Result<Self> {
        Self::create_named(parent, || drawn_name(prefix))
    }

    /// The same with names from `draw`.
    fn create_named(parent: Dir, mut draw: impl FnMut() -> io::Result<String>) -> io::Result<Self> {
        for _ in 0..ATTEMPTS {
            let name = draw()?;
            match mkdirat(&parent.dir, &name, Mode::RWXU) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(error) => return Err(error.into()),
            }
            if let Some(dir) = hold(&parent, &name)? {
                return Ok(Self { parent, name, dir });
            }
        }
        Err(io::Error::other("all names for drafts are taken"))
    }

    /// The directory to work in.
    #[must_use]
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Its path, for programs that cannot be given a descriptor.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir.path
    }

    /// Removes those in `parent` whose holders are gone: how many.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn sweep(parent: &Dir, prefix: &str) -> io::Result<usize> {
        let mut removed = 0;
        for name in parent.names()? {
            if is_drawn_name(&name, prefix) && is_left(parent, &name).is_some() {
                // If it stays, the next one tries again.
                removed += usize::from(parent.remove(&name).is_ok());
            }
        }
        Ok(removed)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What stays is nobody's as soon as the lock is released, and is swept.
        let _ = self.parent.remove(&self.name);
    }
}

/// Locks a draft that was just made; `None` if another has found it unlocked and removes it.
fn hold(parent: &Dir, name: &str) -> io::Result<Option<Dir>> {
    let dir = match parent.below(name) {
        Ok(dir) => dir,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // A file system without locks has no leftovers found, either: nobody can lock them.
    let locked = flock(&dir.dir, FlockOperation::NonBlockingLockExclusive);
    let held = locked != Err(Errno::WOULDBLOCK) && parent.leads_to(name, &dir.dir);
    Ok(held.then_some(dir))
}

/// The lock on a draft of this user that nobody holds.
fn is_left(parent: &Dir, name: &str) -> Option<File> {
    let draft = parent.below(name).ok()?.dir;
    let own = draft.metadata().ok()?.uid() == rustix::process::geteuid().as_raw();
    (own && flock(&draft, FlockOperation::NonBlockingLockExclusive).is_ok()).then_some(draft)
}

/// 128 random bits.
fn drawn_name(prefix: &str) -> io::Result<String> {
    let mut bits = [0; 16];
    let mut drawn = 0;
    while drawn < bits.len() {
        drawn += getrandom(&mut bits[drawn..], GetRandomFlags::empty())?;
    }
    Ok(format!("{prefix}{:032x}", u128::from_ne_bytes(bits)))
}

/// Nothing else is ever swept: the directory may be one that people use, too.
fn is_drawn_name(name: &str, prefix: &str) -> bool {
    let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    name.strip_prefix(prefix).is_some_and(|rest| rest.len() == 32 && rest.bytes().all(is_digit))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn dir(path: &Path) -> Dir {
        Dir::make_private(path).expect("a directory of this user")
    }

    fn named(parent: &Path, names: &[&str]) -> io::Result<Draft> {
        let mut names = names.iter().map(|name| (*name).to_owned());
        Draft::create_named(dir(parent), || names.next().ok_or(io::ErrorKind::NotFound.into()))
    }

    #[test]
    fn names_that_are_taken_are_left_to_their_holders() {
        let scratch = tempfile::tempdir().expect("a directory");
        // As if both had drawn the same.
        let first = named(scratch.path(), &["same"]).expect("the first");
        let second = named(scratch.path(), &["same", "same", "other"]).expect("another name");
        assert_eq!((first.name.as_str(), second.name.as_str()), ("same", "other"));
        for (draft, text) in [(&first, "one"), (&second, "two")] {
            let mut file = draft.dir().create("object").expect("its own");
            file.write_all(text.as_bytes()).expect("written");
        }
        let read = |draft: &Draft| fs::read_to_string(draft.path().join("object")).expect("there");
        assert_eq!([read(&first), read(&second)], ["one", "two"]);
        drop(first);
        assert_eq!(read(&second), "two");
        assert!(named(scratch.path(), &["other"]).is_err(), "taken, and no other name");
    }

    #[test]
    fn only_drafts_that_nobody_holds_are_swept() {
        let scratch = tempfile::tempdir().expect("a directory");
        let held = Draft::create(dir(scratch.path()), "draft-").expect("a draft");
        let left = scratch.path().join(drawn_name("draft-").expect("a name"));
        fs::create_dir_all(left.join("awsmc-1/awsmc-2")).expect("made");
        fs::write(left.join("awsmc-1/awsmc-2/unit0.o"), "x").expect("written");
        std::os::unix::fs::symlink(scratch.path(), left.join("link")).expect("made");
        let others =
            ["draft-letter", "draft-0123", "object.so"].map(|name| scratch.path().join(name));
        others.iter().for_each(|other| fs::create_dir(other).expect("made"));
        assert_eq!(Draft::sweep(&dir(scratch.path()), "draft-").expect("readable"), 1);
        assert!(!left.exists() && held.path().exists());
        assert!(others.iter().all(|other| other.exists()), "what people called so");
        let path = held.path().to_owned();
        drop(held);
        assert!(!path.exists());
    }

    #[test]
    fn nobody_works_in_what_another_sweeps() {
        let scratch = tempfile::tempdir().expect("a directory");
        let parent = dir(scratch.path());
        fs::create_dir(scratch.path().join("made")).expect("made");
        // Another one comes between making and locking it.
        let sweeper = is_left(&parent, "made").expect("nobody holds it");
        assert!(hold(&parent, "made").expect("readable").is_none());
        parent.remove("made").expect("removed");
        assert!(hold(&parent, "made").expect("readable").is_none());
        drop(sweeper);
        fs::create_dir(scratch.path().join("made")).expect("made");
        let held = hold(&parent, "made").expect("readable");
        assert!(held.is_some() && is_left(&parent, "made").is_none());
    }
}
