//! What a hostile tenant does: its function, and how its callers behave.

use super::guests;

/// One way to harm a neighbour.
#[derive(Clone, Copy)]
pub(super) struct Attack {
    pub(super) name: &'static str,
    /// The guest's module in the text format.
    pub(super) guest: fn() -> String,
    /// Lines of its `[[function]]`.
    pub(super) settings: &'static str,
    pub(super) callers: Callers,
}

/// How the callers of one attack behave. Each has a thread and one connection at a time.
#[derive(Clone, Copy)]
pub(super) struct Callers {
    pub(super) count: usize,
    pub(super) manner: Manner,
}

/// What a caller does again and again.
#[derive(Clone, Copy)]
pub(super) enum Manner {
    /// Asks, and takes the answer.
    Ask,
    /// Asks with as many header fields as there may be, and takes the answer.
    AskAtLength,
    /// Asks, and leaves so many milliseconds later.
    Leave(u64),
    /// Asks, and reads nothing for two seconds.
    ReadNothing,
    /// Sends a kilobyte of its body ten times a second.
    Drip,
}

const fn ask(count: usize) -> Callers {
    Callers { count, manner: Manner::Ask }
}

/// All of them; the first is no attack but work, for comparison.
pub(super) const ATTACKS: &[Attack] = &[
    Attack { name: "computes", guest: guests::computes, settings: "", callers: ask(8) },
    Attack { name: "floods-logs", guest: guests::logs, settings: "", callers: ask(8) },
    Attack { name: "sleeps", guest: guests::sleeps, settings: "", callers: ask(256) },
    Attack {
        name: "polls-itself",
        guest: guests::polls,
        settings: "listen = { L = \"unix:polled.sock\" }\n",
        callers: ask(16),
    },
    Attack {
        name: "reads-slowly",
        guest: guests::answers,
        settings: "output = \"8MiB\"\n",
        callers: Callers { count: 128, manner: Manner::ReadNothing },
    },
    Attack {
        name: "uploads-slowly",
        guest: guests::nothing,
        settings: "body = \"8MiB\"\n",
        callers: Callers { count: 128, manner: Manner::Drip },
    },
    Attack {
        name: "opens-everything",
        guest: guests::opens,
        settings: "dirs = { \"/\" = { path = \"small\", mode = \"ro\" } }\n",
        callers: ask(64),
    },
    Attack { name: "maps-everything", guest: guests::maps, settings: "", callers: ask(256) },
    Attack {
        name: "lists-and-leaves",
        guest: guests::lists,
        settings: "dirs = { \"/\" = { path = \"large\", mode = \"ro\" } }\n",
        callers: Callers { count: 8, manner: Manner::Leave(4) },
    },
    Attack {
        name: "huge-headers",
        guest: guests::answers_nothing,
        settings: "abi = \"wagi\"\n",
        callers: Callers { count: 8, manner: Manner::AskAtLength },
    },
    Attack {
        name: "throws",
        guest: guests::throws,
        settings: "memory = \"64MiB\"\n",
        callers: ask(4),
    },
    Attack {
        name: "resets-tables",
        guest: guests::tables,
        settings: "memory = \"64MiB\"\n",
        callers: ask(8),
    },
];

/// The attack of that name.
pub(super) fn named(name: &str) -> Option<&'static Attack> {
    ATTACKS.iter().find(|attack| attack.name == name)
}
