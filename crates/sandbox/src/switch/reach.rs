//! The reach of a guest: code in which it runs, addresses at which it may fault.
//!
//! Isolation rests on this file: a fault counts as a guest's own only at a program counter and an
//! address that stand here. It is apart from the instance's record and does not change while a
//! guest runs, so that a handler may read it whatever a host function is doing to the instance.

use std::ops::Range;
use std::sync::Arc;

use crate::module::Module;

/// The code and the memories of one instance, or of all instances that are linked to each other.
#[derive(Default)]
pub(crate) struct Reach {
    /// Native code.
    texts: Vec<Range<usize>>,
    /// Linear memories and what is reserved behind each.
    memories: Vec<Range<usize>>,
    /// Modules of `texts`, in the same order.
    modules: Vec<Arc<Module>>,
}

/// A place in a module's code.
pub(crate) struct CodePlace<'a> {
    /// The function's name; empty if the module does not tell.
    pub function: &'a str,
    /// Bytes from the beginning of the module's code.
    pub offset: usize,
}

impl Reach {
    /// What guests of one more instance may do is added: its module's code, and these ranges of
    /// memory.
    pub(crate) fn add(
        &mut self,
        module: &Arc<Module>,
        memories: impl Iterator<Item = Range<usize>>,
    ) {
        self.texts.push(module.text());
        self.modules.push(Arc::clone(module));
        self.memories.extend(memories);
    }

    /// Hand-written code that is run as a guest's.
    #[cfg(test)]
    pub(crate) fn of_text(text: Range<usize>) -> Self {
        Self { texts: vec![text], ..Self::default() }
    }

    /// Is `pc` in the guest's code? Safe in a signal handler.
    #[inline]
    pub(crate) fn is_code(&self, pc: usize) -> bool {
        self.texts.iter().any(|text| text.contains(&pc))
    }

    /// May the guest's code fault at `address`, as an access beyond its memory? Safe in a signal
    /// handler.
    pub(crate) fn is_memory(&self, address: usize) -> bool {
        self.memories.iter().any(|memory| memory.contains(&address))
    }

    /// Where in the guest's code `pc` is. Safe in a signal handler.
    pub(crate) fn place_of(&self, pc: usize) -> Option<CodePlace<'_>> {
        let index = self.texts.iter().position(|text| text.contains(&pc))?;
        let offset = pc - self.texts[index].start;
        let module = self.modules.get(index);
        let name = module.and_then(|module| module.func_name(module.func_at(pc)?));
        Some(CodePlace { function: name.unwrap_or_default(), offset })
    }
}
