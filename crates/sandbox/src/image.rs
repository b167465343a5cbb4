//! What linear memory holds before the first instruction, page by page.
//!
//! A slot is made ready for its next invocation by copying these pages over the ones that may have
//! been written, and zeroes over the others. Only pages that a data segment touches are kept.

use awsm_abi::desc::{DataDesc, extern_flag, segment_mode};

use crate::constant;
use crate::mapping::PAGE_BYTES;
use crate::module::Module;

/// One page of memory.
pub(crate) type Page = [u8; PAGE_BYTES];

/// The pages that are not zero at the start, in ascending order.
#[derive(Debug, Default)]
pub(crate) struct Image {
    pages: Vec<(u32, Box<Page>)>,
}

impl Image {
    /// The image that the active data segments with constant offsets make. Segments whose offset
    /// depends on an imported global are not part of it: such a module is never pooled.
    pub(crate) fn of(module: &Module, own: usize) -> Self {
        let mut image = Self::default();
        let memory = module.desc().counts.imported_memories + own as u32;
        let wide = module.memories()[own].has(extern_flag::WIDE);
        let applied =
            |segment: &&DataDesc| segment.mode == segment_mode::ACTIVE && segment.memory == memory;
        for segment in module.data().iter().filter(applied) {
            if let Some(offset) = constant::evaluate_alone(module.slice(segment.offset)) {
                let offset = if wide { offset } else { offset & 0xffff_ffff };
                image.write(offset, module.slice(segment.bytes));
            }
        }
        image
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut at = offset as usize;
        let mut rest = bytes;
        while !rest.is_empty() {
            let start = at % PAGE_BYTES;
            let (now, after) = rest.split_at(rest.len().min(PAGE_BYTES - start));
            self.page_mut((at / PAGE_BYTES) as u32)[start..start + now.len()].copy_from_slice(now);
            at += now.len();
            rest = after;
        }
    }

    fn page_mut(&mut self, number: u32) -> &mut Page {
        let place = match self.pages.binary_search_by_key(&number, |page| page.0) {
            Ok(place) => place,
            Err(place) => {
                self.pages.insert(place, (number, Box::new([0; PAGE_BYTES])));
                place
            }
        };
        &mut self.pages[place].1
    }

    /// The contents of a page; `None` for zeroes.
    #[inline]
    pub(crate) fn page(&self, number: u32) -> Option<&Page> {
        let place = self.pages.binary_search_by_key(&number, |page| page.0).ok()?;
        Some(&self.pages[place].1)
    }

    /// All pages that are not zero.
    pub(crate) fn pages(&self) -> impl Iterator<Item = (u32, &Page)> {
        self.pages.iter().map(|(number, page)| (*number, &**page))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_may_cross_and_overlap_pages() {
        let mut image = Image::default();
        image.write(4090, &[1; 10]);
        image.write(4095, &[2; 2]);
        assert_eq!(
            image.page(0).map(|page| page[4088..].to_vec()),
            Some(vec![0, 0, 1, 1, 1, 1, 1, 2])
        );
        assert_eq!(image.page(1).map(|page| page[..5].to_vec()), Some(vec![2, 1, 1, 1, 0]));
        assert_eq!(image.page(2), None);
        assert_eq!(image.pages().count(), 2);
    }
}
