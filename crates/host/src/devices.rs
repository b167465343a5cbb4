//! `/dev`: what a guest finds there. The devices are of ours, and nothing of the system's is behind
//! them: programs open these few, whatever they are for, and fail without them.

use crate::errno::Errno;

/// A device that is opened like a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    /// Takes everything and gives nothing.
    Null,
    /// Takes everything and gives zeros.
    Zero,
    /// Takes everything and gives random bytes, from the system.
    Random,
}

/// What a name in `/dev` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Device(Device),
    /// The invocation's streams.
    Stdin,
    Stdout,
    Stderr,
}

/// What `/dev` has, in the order in which it is listed.
pub(crate) const ENTRIES: [(&str, Named); 7] = [
    ("null", Named::Device(Device::Null)),
    ("zero", Named::Device(Device::Zero)),
    ("random", Named::Device(Device::Random)),
    ("urandom", Named::Device(Device::Random)),
    ("stdin", Named::Stdin),
    ("stdout", Named::Stdout),
    ("stderr", Named::Stderr),
];

/// The name of `/dev` in the guest's root, and its whole path.
const NAME: &str = "dev";
pub(crate) const PATH: &str = "/dev";
/// What a guest calls its root.
pub(crate) const ROOT: &str = "/";

/// Number of `/dev` among what it has; its entries come after it.
pub(crate) const DIRECTORY_INO: u64 = 1;

/// Where a path leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// To what else the root has: from there, by this path.
    Root(&'a str),
    Devices(Inside),
}

/// Where a path leads in `/dev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inside {
    /// To itself.
    Directory,
    Named(Named),
    /// To a name that it does not have.
    Nothing,
}

impl Device {
    /// Fills a buffer; says how much of it.
    pub(crate) fn read(self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Null => return Ok(0),
            Self::Zero => buffer.fill(0),
            Self::Random => getrandom::fill(buffer).map_err(|_| Errno::Io)?,
        }
        Ok(buffer.len())
    }
}

/// Follows a path from the guest's root.
pub(crate) fn from_root(path: &str) -> Result<Place<'_>, Errno> {
    let mut left = path;
    loop {
        left = match first(left) {
            (".", rest) if !rest.is_empty() => rest,
            (NAME, rest) => match from_directory(rest)? {
                Place::Root(above) => above,
                inside => return Ok(inside),
            },
            _ => return Ok(Place::Root(left)),
        };
    }
}

/// Follows a path from `/dev`.
pub(crate) fn from_directory(path: &str) -> Result<Place<'_>, Errno> {
    let mut left = path;
    loop {
        let (name, rest) = first(left);
        match name {
            "" => return Ok(Place::Devices(Inside::Directory)),
            "." => left = rest,
            ".." => return Ok(Place::Root(if rest.is_empty() { "." } else { rest })),
            _ => {
                let named = ENTRIES.iter().find(|(known, _)| *known == name);
                let inside = named.map_or(Inside::Nothing, |(_, named)| Inside::Named(*named));
                return match inside {
                    _ if left.len() == name.len() => Ok(Place::Devices(inside)),
                    Inside::Nothing => Err(Errno::Noent),
                    Inside::Directory | Inside::Named(_) => Err(Errno::Notdir),
                };
            }
        }
    }
}

/// The first name of a path, and what follows the slashes after it.
fn first(path: &str) -> (&str, &str) {
    let (name, rest) = path.split_once('/').unwrap_or((path, ""));
    (name, rest.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_devices_or_elsewhere() {
        let null = Ok(Place::Devices(Inside::Named(Named::Device(Device::Null))));
        for path in ["dev/null", "./dev/null", ".//.//dev///./null", "dev/../dev/null"] {
            assert_eq!(from_root(path), null, "{path}");
        }
        for path in ["dev", "dev/", "dev/.", "./dev//./", "dev/../dev"] {
            assert_eq!(from_root(path), Ok(Place::Devices(Inside::Directory)), "{path}");
        }
        for path in [".", "./", "devices", "x/dev/null", "/dev/null", "../dev", "x", ".dev"] {
            assert_eq!(from_root(path), Ok(Place::Root(path)), "{path}");
        }
        assert_eq!(from_root("dev/.././x/y"), Ok(Place::Root("x/y")));
        assert_eq!(from_root("dev/../../x"), Ok(Place::Root("../x")), "nowhere, by that path");
        assert_eq!(from_root("dev/.."), Ok(Place::Root(".")));
        for path in ["dev/null/", "dev/null/.", "dev/null/x", "dev/null/../null"] {
            assert_eq!(from_root(path), Err(Errno::Notdir), "{path}");
        }
        assert_eq!(from_root("dev/sda"), Ok(Place::Devices(Inside::Nothing)));
        assert_eq!(from_root("dev/sda/x"), Err(Errno::Noent));
        assert_eq!(from_directory("null"), null);
        assert_eq!(from_directory("./.."), Ok(Place::Root(".")));
        assert_eq!(from_directory("../dev/null"), Ok(Place::Root("dev/null")));
    }
}
