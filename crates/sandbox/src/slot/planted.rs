//! Faults that tests plant in the reset of slots, to show that the comparison of every byte finds
//! them.
//!
//! Only debug builds can have any; in others there is nothing here but a `false`.

/// A step of the reset that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The last page on the list is not cleaned.
    Page,
    /// What the host copies back does not get on the list.
    List,
    /// A list once made is believed whatever page faults there were.
    Faults,
    /// Memory that has grown is not given back.
    Growth,
    /// The last global keeps its value.
    Global,
    /// Tables keep their elements.
    Table,
    /// Dropped segments stay dropped.
    Segment,
    /// Exceptions are kept.
    Exception,
    /// The uppermost page of the stack is not cleaned.
    Stack,
}

impl Planted {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Page,
        Self::List,
        Self::Faults,
        Self::Growth,
        Self::Global,
        Self::Table,
        Self::Segment,
        Self::Exception,
        Self::Stack,
    ];
}

#[cfg(debug_assertions)]
mod here {
    use super::Planted;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Planted>> = const { Cell::new(None) };
    }

    /// Resets on this thread have this fault from now on.
    pub fn plant(fault: Option<Planted>) {
        PLANTED.set(fault);
    }

    pub(crate) fn has(fault: Planted) -> bool {
        PLANTED.get() == Some(fault)
    }
}

#[cfg(not(debug_assertions))]
mod here {
    use super::Planted;

    #[inline]
    pub(crate) fn has(_fault: Planted) -> bool {
        false
    }
}

pub(crate) use here::has;
#[cfg(debug_assertions)]
pub use here::plant;
