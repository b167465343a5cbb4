//! Initial memory images of a module, from its active data segments.

use awsm_abi::desc::{DataDesc, extern_flag, segment_mode};

use super::{Module, constant};
use crate::slot::image::Image;
use crate::slot::linear::Size;

/// The images of the memories that a module defines, if its data segments say all about them: each
/// lies in such a memory, at a place that depends on nothing outside, and inside of it.
pub(crate) fn images_of(module: &Module) -> Option<Box<[Image]>> {
    let imported = module.desc().counts.imported_memories;
    let mut parts: Vec<Vec<(u64, &[u8])>> = vec![Vec::new(); module.memories().len()];
    let active = |(_, segment): &(usize, &DataDesc)| segment.mode == segment_mode::ACTIVE;
    for (index, segment) in module.data().iter().enumerate().filter(active) {
        let own = segment.memory.checked_sub(imported)? as usize;
        let ty = module.memories().get(own)?;
        let offset = constant::evaluate_alone(module.data_offset(index))?;
        let offset = if ty.has(extern_flag::WIDE) { offset } else { offset & 0xffff_ffff };
        let bytes = module.data_bytes(index);
        let end = offset.checked_add(bytes.len() as u64)?;
        if end > Size::declared(ty).initial {
            return None;
        }
        parts[own].push((offset, bytes));
    }
    Some(parts.iter().map(|parts| Image::of(parts)).collect())
}
