//! From a path and a method to a function.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use awsm_observe::FunctionIdx;

use crate::config::{FunctionConfig, Route};

/// All routes of a node.
#[derive(Debug, Default)]
pub struct Router {
    exact: HashMap<String, Vec<Target>, BuildHasherDefault<Fnv>>,
    /// By the prefix without its trailing slash.
    prefixes: HashMap<String, Vec<Target>, BuildHasherDefault<Fnv>>,
}

#[derive(Debug)]
struct Target {
    whose: Whose,
    /// Empty for all.
    methods: Vec<String>,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Function(FunctionIdx),
    /// One that cannot be served, by its place among those.
    Unavailable(usize),
}

/// What a request leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'p> {
    /// This function, by its place in the configuration.
    Function {
        /// Which.
        function: FunctionIdx,
        /// The part of the path that the route stands for.
        script: &'p str,
    },
    /// A function that cannot be served, by its place among those.
    Unavailable(usize),
    /// The path is there, for these methods.
    OtherMethods(String),
    /// Nothing is there.
    Nothing,
}

impl Whose {
    fn found(self, script: &str) -> Found<'_> {
        match self {
            Self::Function(function) => Found::Function { function, script },
            Self::Unavailable(place) => Found::Unavailable(place),
        }
    }
}

impl Found<'_> {
    /// Whom the request is for.
    #[must_use]
    pub fn function(&self) -> Option<FunctionIdx> {
        match self {
            Self::Function { function, .. } => Some(*function),
            Self::Unavailable(_) | Self::OtherMethods(_) | Self::Nothing => None,
        }
    }
}

impl Router {
    /// The routes of these functions, and of those that cannot be served.
    #[must_use]
    pub fn new(functions: &[FunctionConfig], unavailable: &[&FunctionConfig]) -> Self {
        let mut router = Self::default();
        let functions = functions.iter().enumerate();
        let functions =
            functions.map(|(index, config)| (config, Whose::Function(FunctionIdx::new(index))));
        let unavailable = unavailable.iter().enumerate();
        let unavailable = unavailable.map(|(place, config)| (*config, Whose::Unavailable(place)));
        for (config, whose) in functions.chain(unavailable) {
            let (map, path) = match &config.route {
                Route::Exact(path) => (&mut router.exact, path),
                Route::Prefix(path) => (&mut router.prefixes, path),
            };
            let target = Target { whose, methods: config.methods.clone() };
            map.entry(path.clone()).or_default().push(target);
        }
        router
    }

    /// The most specific route of the path that takes the method: the path itself before any
    /// prefix, a longer prefix before a shorter one.
    #[must_use]
    pub fn find<'p>(&self, method: &str, path: &'p str) -> Found<'p> {
        let mut others = Vec::new();
        if let Some(targets) = self.exact.get(path)
            && let Some(whose) = choose(targets, method, &mut others)
        {
            return whose.found(path);
        }
        if !self.prefixes.is_empty() {
            // `/a/b/` and `/a/b` are below `/a/b/...`, and so is `/a/b/c`.
            let slashes = path.rmatch_indices('/').map(|(at, _)| at);
            for end in std::iter::once(path.len()).chain(slashes) {
                if let Some(targets) = self.prefixes.get(&path[..end])
                    && let Some(whose) = choose(targets, method, &mut others)
                {
                    return whose.found(&path[..end]);
                }
            }
        }
        if others.is_empty() { Found::Nothing } else { Found::OtherMethods(others.join(", ")) }
    }
}

/// The first target that takes the method; what the others take is added to `others`.
fn choose<'t>(targets: &'t [Target], method: &str, others: &mut Vec<&'t str>) -> Option<Whose> {
    for target in targets {
        let head_as_get = method == "HEAD" && target.methods.iter().any(|own| own == "GET");
        if target.methods.is_empty()
            || head_as_get
            || target.methods.iter().any(|own| own == method)
        {
            return Some(target.whose);
        }
        others.extend(target.methods.iter().map(String::as_str));
    }
    None
}

/// A quick hash for short keys. Only configuration puts keys in, so callers cannot make them
/// collide. Source: FNV-1a, Fowler, Noll, Vo.
#[derive(Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn router(routes: &[(&str, &str)]) -> Router {
        let mut text = String::new();
        for (index, (route, methods)) in routes.iter().enumerate() {
            text += &format!(
                "[[function]]\nname = \"f{index}\"\nmodule = \"m\"\nroute = \"{route}\"\n"
            );
            if !methods.is_empty() {
                text += &format!("methods = [{methods}]\n");
            }
        }
        Router::new(&Config::parse(Path::new("awsm.toml"), &text).expect("good").functions, &[])
    }

    #[test]
    fn the_most_specific_route_wins() {
        let router = router(&[("/a", ""), ("/a/...", ""), ("/a/b/...", ""), ("/...", "")]);
        let check = |path, expected: (usize, &str)| match router.find("GET", path) {
            Found::Function { function, script } => {
                assert_eq!((function.get(), script), expected, "{path}");
            }
            other => panic!("{path}: {other:?}"),
        };
        check("/a", (0, "/a"));
        check("/a/", (1, "/a"));
        check("/a/x", (1, "/a"));
        check("/a/b", (2, "/a/b"));
        check("/a/b/c/d", (2, "/a/b"));
        check("/ab", (3, ""));
        check("/", (3, ""));
    }

    #[test]
    fn methods_choose_among_the_same_path() {
        let router =
            router(&[("/a", "\"GET\""), ("/a", "\"POST\""), ("/p/...", "\"PUT\""), ("/b", "")]);
        let is = |found, expected| match found {
            Found::Function { function, .. } => assert_eq!(function.get(), expected),
            other => panic!("{other:?}"),
        };
        is(router.find("GET", "/a"), 0);
        is(router.find("HEAD", "/a"), 0);
        is(router.find("POST", "/a"), 1);
        is(router.find("BREW", "/b"), 3);
        assert_eq!(router.find("PUT", "/a"), Found::OtherMethods("GET, POST".into()));
        assert_eq!(router.find("GET", "/p/1"), Found::OtherMethods("PUT".into()));
        assert_eq!(router.find("GET", "/c"), Found::Nothing);
        assert_eq!(router.find("GET", "*"), Found::Nothing);
    }
}
