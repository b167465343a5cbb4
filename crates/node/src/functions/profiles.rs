//! What was measured of functions on this machine, kept over restarts.
//!
//! One text file in the state directory: a line that names the form, a line for each function (its
//! name, its module's hash, what was measured), a last line with the checksum of all before it. It
//! is written as a [`Draft`] and then takes its place, so it is whole or not there; a file that is
//! anything but whole is reported, set aside and not used. The directory is one that only this user
//! can change. A profile belongs to a module: a function whose module has changed starts anew.
//!
//! Each worker measures for itself and sends what has changed to one thread, [`keep`], which waits
//! without using the processor when nothing comes.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use awsm_observe::{FunctionIdx, Measured, WorkerIdx};
use awsm_sched::Profile;
use sha2::{Digest, Sha256};

use crate::disk::{Dir, DirError, Draft};
use crate::limits;

/// First line of the file. Another form is not read.
const FORM: &str = "awsm profiles 1";
const FILE: &str = "profiles";
/// What a file is called that is not used.
const BAD_FILE: &str = "profiles.bad";
/// How drafts of it are called.
const DRAFT: &str = "draft-";
/// How often the file is written, at most.
const PAUSE: Duration = Duration::from_secs(10);

/// The profiles of functions, by name and module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profiles(BTreeMap<(String, String), Profile>);

/// Where profiles are kept.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Profiles {
    /// What is known of a function with that module.
    #[must_use]
    pub fn get(&self, function: &str, identity: &str) -> Option<&Profile> {
        self.0.get(&(function.to_owned(), identity.to_owned()))
    }

    /// Forgets what is known of a function with other modules, and knows this.
    pub fn set(&mut self, function: &str, identity: &str, profile: Profile) {
        self.0.retain(|(name, _), _| name != function);
        self.0.insert((function.to_owned(), identity.to_owned()), profile);
    }

    fn to_text(&self) -> String {
        let mut text = format!("{FORM}\n");
        for ((function, identity), profile) in &self.0 {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{function} {identity} {}", profile.to_text());
        }
        let sum = checksum(text.as_bytes());
        text + &sum + "\n"
    }

    fn from_text(text: &str) -> Result<Self, &'static str> {
        let body = text.strip_suffix('\n').and_then(|text| text.rfind('\n'));
        let (body, sum) = text.split_at(body.map_or(0, |end| end + 1));
        let Some(lines) = body.strip_prefix(FORM).and_then(|rest| rest.strip_prefix('\n')) else {
            return Err("it is of another form");
        };
        if sum.trim_end() != checksum(body.as_bytes()) {
            return Err("its checksum is wrong");
        }
        let mut profiles = Self::default();
        for line in lines.lines() {
            let mut words = line.splitn(3, ' ');
            let (Some(function), Some(identity), Some(profile)) =
                (words.next(), words.next(), words.next())
            else {
                return Err("a line is too short");
            };
            let profile = Profile::from_text(profile).ok_or("a profile makes no sense")?;
            profiles.0.insert((function.to_owned(), identity.to_owned()), profile);
        }
        Ok(profiles)
    }
}

impl Store {
    /// In that directory, or in the user's. `None` when there is neither.
    ///
    /// # Errors
    /// When others can change the directory.
    pub fn open(dir: Option<&Path>) -> Result<Option<Self>, DirError> {
        let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let dir = dir
            .map(Path::to_path_buf)
            .or_else(|| Some(absolute("XDG_STATE_HOME")?.join("awsm")))
            .or_else(|| Some(absolute("HOME")?.join(".local/state/awsm")));
        let Some(dir) = dir else { return Ok(None) };
        match Dir::private(&dir) {
            Err(error) if error.is_unsafe() => Err(error),
            // What else is wrong shows when something is read or written.
            _ => Ok(Some(Self { dir })),
        }
    }

    /// The file that holds them.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// Removes what nodes that are gone did not write to its end.
    pub fn clean(&self) {
        if let Ok(Some(dir)) = Dir::private(&self.dir) {
            // What cannot be read now is swept the next time.
            let _ = Draft::sweep(&dir, DRAFT);
        }
    }

    /// What is kept; nothing when there is no file, or none that can be used.
    #[must_use]
    pub fn load(&self) -> Profiles {
        let text = match Dir::private(&self.dir) {
            Ok(None) => return Profiles::default(),
            Ok(Some(dir)) => read(&dir),
            Err(error) => Err(error.into()),
        };
        let read = match text {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Profiles::default(),
            Err(error) => Err(error.to_string()),
            Ok(text) => Profiles::from_text(&text).map_err(str::to_owned),
        };
        read.unwrap_or_else(|reason| {
            tracing::warn!(
                "{}: {reason}; functions are measured anew, the file is kept as {BAD_FILE}",
                self.file().display()
            );
            if let Ok(Some(dir)) = Dir::private(&self.dir) {
                // If it stays where it is, the next write replaces it.
                let _ = dir.take(&dir, FILE, BAD_FILE);
            }
            Profiles::default()
        })
    }

    /// Writes them, all or nothing.
    ///
    /// # Errors
    /// When the directory cannot be written, or others can change it.
    pub fn save(&self, profiles: &Profiles) -> io::Result<()> {
        let draft = Draft::create(Dir::make_private(&self.dir)?, DRAFT)?;
        let mut file = draft.dir().create(FILE)?;
        file.write_all(profiles.to_text().as_bytes())?;
        file.sync_all()?;
        Dir::make_private(&self.dir)?.take(draft.dir(), FILE, FILE)
    }
}

fn read(dir: &Dir) -> io::Result<String> {
    let mut text = String::new();
    let bytes = dir.open(FILE)?.take(limits::PROFILES_BYTES + 1).read_to_string(&mut text)?;
    if bytes as u64 > limits::PROFILES_BYTES {
        return Err(io::Error::other("it is too large"));
    }
    Ok(text)
}

/// Writes what workers send, now and then and when all of them have ended. `names` has the name and
/// the module of each function, in their order.
pub fn keep(store: &Store, names: &[(String, String)], measured: &Receiver<Measured>) {
    let mut known: BTreeMap<(FunctionIdx, WorkerIdx), Profile> = BTreeMap::new();
    let mut written = Instant::now();
    loop {
        // Waits for the first change without an end, for more only until it is time to write.
        let Ok(first) = measured.recv() else { return };
        let mut ended = false;
        let mut next = Some(first);
        while let Some(Measured { worker, function, profile }) = next {
            known.insert((function, worker), profile);
            let left = PAUSE.saturating_sub(written.elapsed());
            next = match measured.recv_timeout(left) {
                Ok(more) => Some(more),
                Err(error) => {
                    ended = error == RecvTimeoutError::Disconnected;
                    None
                }
            };
        }
        let mut profiles = store.load();
        for (place, (name, identity)) in names.iter().enumerate() {
            let function = FunctionIdx::new(place);
            let of_function =
                known.range((function, WorkerIdx::new(0))..=(function, WorkerIdx::MAX));
            let merged = of_function.map(|(_, profile)| profile).fold(None, merge);
            if let Some(merged) = merged {
                profiles.set(name, identity, merged);
            }
        }
        if let Err(error) = store.save(&profiles) {
            tracing::warn!("{}: profiles cannot be kept: {error}", store.file().display());
        }
        written = Instant::now();
        if ended {
            return;
        }
    }
}

fn merge(sum: Option<Profile>, profile: &Profile) -> Option<Profile> {
    Some(match sum {
        None => profile.clone(),
        Some(mut sum) => {
            sum.merge(profile);
            sum
        }
    })
}

fn checksum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::sync::mpsc;

    use awsm_sched::Nanos;

    use super::*;

    fn measured(runs: u64) -> Profile {
        let mut profile = Profile::default();
        for run in 0..runs {
            profile.ran(Nanos(0), run, Nanos(1000 + run));
        }
        profile
    }

    fn opened(dir: &Path) -> Store {
        Store::open(Some(dir)).expect("this user's").expect("named")
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = opened(dir.path());
        let mut profiles = Profiles::default();
        profiles.set("resize", "0123", measured(50));
        store.save(&profiles).expect("saved");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).expect("its own");
        let refused = Store::open(Some(dir.path())).expect_err("others may write").to_string();
        assert!(refused.contains("chmod go-w"), "{refused}");
        assert!(store.save(&profiles).is_err());
        assert_eq!(store.load(), Profiles::default());
    }

    #[test]
    fn nothing_is_left_beside_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = opened(dir.path());
        store.save(&Profiles::default()).expect("saved");
        // What a node has begun that was killed.
        fs::create_dir(dir.path().join(format!("draft-{:032x}", 7))).expect("made");
        store.clean();
        let names = fs::read_dir(dir.path()).expect("readable").flatten();
        assert_eq!(names.map(|entry| entry.file_name()).collect::<Vec<_>>(), [FILE]);
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = opened(&dir.path().join("state"));
        assert_eq!(store.load(), Profiles::default());
        let mut profiles = Profiles::default();
        profiles.set("resize", "0123", measured(50));
        store.save(&profiles).expect("saved");
        let loaded = store.load();
        assert_eq!(loaded.to_text(), profiles.to_text());
        assert!(loaded.get("resize", "4567").is_none(), "another module");
    }

    #[test]
    fn bad_files_are_set_aside() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = opened(dir.path());
        let mut profiles = Profiles::default();
        profiles.set("resize", "0123", measured(50));
        let good = profiles.to_text();
        let cut = good[..good.len() / 2].to_owned();
        let changed = good.replacen("1.0", "2.0", 1);
        let forms = ["", "x", "\n", &cut, &changed, &good.replace("profiles 1", "profiles 9")];
        for bad in forms.iter().filter(|bad| ***bad != good) {
            fs::write(store.file(), bad).expect("written");
            assert_eq!(store.load(), Profiles::default(), "{bad}");
            assert!(!store.file().exists() && store.file().with_extension("bad").exists());
        }
        fs::write(store.file(), [0xff, 0xfe]).expect("written");
        assert_eq!(store.load(), Profiles::default());
    }

    #[test]
    fn workers_are_merged_and_others_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = opened(dir.path());
        let mut others = Profiles::default();
        others.set("other", "9999", measured(20));
        store.save(&others).expect("saved");
        let (sender, receiver) = mpsc::channel();
        for worker in 0..2 {
            let sent = sender.send(Measured {
                worker: WorkerIdx::new(worker),
                function: FunctionIdx::new(0),
                profile: measured(10),
            });
            sent.expect("it listens");
        }
        drop(sender);
        keep(&store, &[("resize".to_owned(), "0123".to_owned())], &receiver);
        let kept = store.load();
        assert_eq!(kept.get("resize", "0123").expect("kept").run.count(), 20);
        assert!(kept.get("other", "9999").is_some());
    }
}
