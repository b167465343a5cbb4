//! Numbers by which things are found in tables, told apart by type: a function's is no worker's.

use std::fmt;

macro_rules! indices {
    ($($(#[$doc:meta])* $name:ident)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl $name {
            /// The last one there could be.
            pub const MAX: Self = Self(u32::MAX);

            /// The one at that place.
            ///
            /// # Panics
            /// If there are more than fit; limits keep tables smaller.
            #[must_use]
            pub fn new(place: usize) -> Self {
                Self(u32::try_from(place).expect("tables are smaller"))
            }

            /// Its place.
            #[must_use]
            pub const fn get(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )* };
}

indices! {
    /// A function, by its place in the configuration.
    FunctionIdx
    /// A worker among those of its node.
    WorkerIdx
}
