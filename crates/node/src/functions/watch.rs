//! Tells when a file from which a module was loaded has changed on the disk.
//!
//! Nothing happens to what is served then: it was read into memory. But whoever has just copied a
//! new module over the old one should hear that the old one goes on being served, and whoever finds
//! that line without having done anything should know that somebody else has. A thread waits for it
//! without using the processor.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{io, thread};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use crate::limits;

/// The files of a directory that are watched, by name; the directory itself.
type Watched = (PathBuf, BTreeMap<Vec<u8>, PathBuf>);

/// Begins to watch these files.
///
/// # Errors
/// When the system has no means left for it.
pub fn start(files: impl IntoIterator<Item = PathBuf>) -> io::Result<()> {
    let (events, watched) = watch(files)?;
    let tell = move || {
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut reader = inotify::Reader::new(events, &mut buffer);
        loop {
            let mut changed = BTreeSet::new();
            // Waits for the first event, then takes what has come with it.
            loop {
                match reader.next() {
                    Ok(event) => changed.extend(path_of(&event, &watched).map(Path::to_path_buf)),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return tracing::warn!("modules are no longer watched: {error}"),
                }
                if reader.is_buffer_empty() {
                    break;
                }
            }
            for path in &changed {
                tracing::warn!(
                    "{}: has changed on disk; what was loaded is served until the node is started \
                     again",
                    path.display()
                );
            }
            if !changed.is_empty() {
                thread::sleep(limits::WATCH_PAUSE);
            }
        }
    };
    thread::Builder::new().name("awsm-watch".to_owned()).spawn(tell).map(drop)
}

fn watch(
    files: impl IntoIterator<Item = PathBuf>,
) -> io::Result<(OwnedFd, BTreeMap<i32, Watched>)> {
    let events = inotify::init(CreateFlags::CLOEXEC)?;
    let mut watched: BTreeMap<i32, Watched> = BTreeMap::new();
    for file in files {
        // A link may change, and what it leads to.
        let target = std::fs::canonicalize(&file).ok().filter(|target| *target != file);
        for path in [Some(file), target].into_iter().flatten() {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            let dir = dir.unwrap_or(Path::new(".")).to_path_buf();
            let Some(name) = path.file_name() else { continue };
            let wanted = WatchFlags::CLOSE_WRITE
                | WatchFlags::MOVED_TO
                | WatchFlags::MOVED_FROM
                | WatchFlags::DELETE
                | WatchFlags::DELETE_SELF
                | WatchFlags::MOVE_SELF
                | WatchFlags::ONLYDIR;
            let watch = inotify::add_watch(&events, &dir, wanted)?;
            let (_, names) = watched.entry(watch).or_insert_with(|| (dir, BTreeMap::new()));
            names.entry(name.as_bytes().to_vec()).or_insert(path);
        }
    }
    Ok((events, watched))
}

/// What of the watched an event is about.
fn path_of<'w>(
    event: &inotify::Event<'_>,
    watched: &'w BTreeMap<i32, Watched>,
) -> Option<&'w Path> {
    let (dir, names) = watched.get(&event.wd())?;
    if event.events().intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF) {
        return Some(dir);
    }
    names.get(event.file_name()?.to_bytes()).map(PathBuf::as_path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_way_to_change_a_file_is_noticed() {
        let scratch = tempfile::tempdir().expect("a directory");
        let (dir, elsewhere) = (scratch.path().join("modules"), scratch.path().join("elsewhere"));
        fs::create_dir(&dir).expect("made");
        fs::create_dir(&elsewhere).expect("made");
        let file = |name: &str| dir.join(name);
        let names = ["written", "cut", "removed", "replaced", "moved", "link", "left"];
        for name in names {
            fs::write(file(name), name).expect("written");
        }
        fs::remove_file(file("link")).expect("removed");
        fs::write(elsewhere.join("target"), "x").expect("written");
        std::os::unix::fs::symlink(elsewhere.join("target"), file("link")).expect("made");
        let (events, watched) = watch(names.map(file)).expect("watched");
        fs::write(file("other"), "another file").expect("written");
        fs::write(file("written"), "something else").expect("written");
        drop(fs::OpenOptions::new().write(true).truncate(true).open(file("cut")).expect("cut"));
        fs::remove_file(file("removed")).expect("removed");
        fs::rename(file("other"), file("replaced")).expect("replaced");
        fs::rename(file("moved"), elsewhere.join("moved")).expect("moved");
        fs::write(elsewhere.join("target"), "y").expect("written");
        fs::rename(&dir, scratch.path().join("gone")).expect("moved");
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut reader = inotify::Reader::new(events, &mut buffer);
        let mut noticed = BTreeSet::new();
        while !noticed.contains(&dir) {
            let event = reader.next().expect("an event");
            noticed.extend(path_of(&event, &watched).map(Path::to_path_buf));
        }
        let mut expected: BTreeSet<_> =
            ["written", "cut", "removed", "replaced", "moved"].map(file).into();
        expected.extend([elsewhere.join("target"), dir.clone()]);
        assert_eq!(noticed, expected);
    }
}
