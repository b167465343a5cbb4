//! Memory images: the initial contents of a linear memory, page by page.
//!
//! Isolation rests on this file: a slot is made ready for its next invocation by copying these
//! pages over those that have been written.
//!
//! Pages that a data segment touches lie one behind the other in one place, in *runs* of pages that
//! are neighbours in memory. A long run is *mapped*: its pages lie in a sealed file in memory, and
//! each slot maps that file privately, so a page is copied when it is first written, and memory
//! that nobody writes is there once for all slots. Short runs are *copied* into each slot when it
//! is made, so that no invocation takes a page fault for them.
//!
//! ```text
//!   contents      | run 0 | run 1            | run 2 |         a sealed file, or the heap
//!                     |       \ mapped           \ copied
//!   slot        ..| run 0 |..zero..| run 1            |..zero..| run 2 |..
//! ```
//!
//! Roads not taken: one mapping from the first to the last page (what lies between, the file's
//! holes, would become memory of the file at a touch, on nobody's account); copying images of any
//! size (a function with 64 MiB of data then takes 64 MiB in each slot, and as long to clean).

use std::fs::File;
use std::io;

use crate::slot::mapping::{Mapping, PAGE_BYTES};
use crate::slot::sealed_file::sealed_file;

/// Pages from which on a run is mapped: its first touches cost page faults then, in return for a
/// reset that costs what has been written. 64 KiB: below, copying all of it costs less than a
/// fault.
const MAPPED_PAGES_MIN: u32 = 16;

/// Runs that are mapped, the longest: each is a mapping or two of each slot.
const MAPPED_RUNS_MAX: usize = 4;

/// One page of memory.
pub(crate) type Page = [u8; PAGE_BYTES];

/// The pages of one memory that are not zero at the start.
#[derive(Debug, Default)]
pub(crate) struct Image {
    /// In ascending order; none touches its neighbour.
    runs: Vec<Run>,
    contents: Contents,
}

/// Pages that are neighbours in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Number of the first one, counted from the memory's base.
    pub first: u32,
    /// Number of pages.
    pub pages: u32,
    /// Number of the first one in the image's contents.
    at: u32,
    /// Does each slot map them, or copy them?
    mapped: bool,
}

impl Run {
    fn end(&self) -> u32 {
        self.first + self.pages
    }
}

/// All pages of all runs.
#[derive(Debug)]
enum Contents {
    Heap(Vec<Page>),
    /// A file in memory that nobody can change any more, and a view of it.
    Sealed {
        file: File,
        view: Mapping,
    },
}

impl Default for Contents {
    fn default() -> Self {
        Self::Heap(Vec::new())
    }
}

impl Image {
    /// The image that these bytes at these places make, later ones over earlier ones.
    pub(crate) fn of(parts: &[(u64, &[u8])]) -> Self {
        let mut runs = runs_of(parts);
        let mut contents =
            vec![[0; PAGE_BYTES]; runs.last().map_or(0, |run| run.at + run.pages) as usize];
        for (offset, bytes) in parts {
            let Some(run) = run_with(&runs, (offset / PAGE_BYTES as u64) as u32) else { continue };
            let start = (offset - u64::from(run.first) * PAGE_BYTES as u64) as usize;
            let run = &mut contents[run.at as usize..][..run.pages as usize];
            run.as_flattened_mut()[start..start + bytes.len()].copy_from_slice(bytes);
        }
        let mut longest: Vec<usize> =
            (0..runs.len()).filter(|run| runs[*run].pages >= MAPPED_PAGES_MIN).collect();
        longest.sort_by_key(|run| std::cmp::Reverse(runs[*run].pages));
        longest.truncate(MAPPED_RUNS_MAX);
        if !longest.is_empty()
            && let Ok((file, view)) = sealed_file(c"awsm-image", contents.as_flattened())
        {
            longest.into_iter().for_each(|run| runs[run].mapped = true);
            return Self { runs, contents: Contents::Sealed { file, view } };
        }
        Self { runs, contents: Contents::Heap(contents) }
    }

    fn contents(&self) -> &[Page] {
        match &self.contents {
            Contents::Heap(pages) => pages,
            // SAFETY: the whole view is readable as long as it lives, and a sealed file does not
            // change.
            Contents::Sealed { view, .. } => unsafe {
                std::slice::from_raw_parts(view.start().cast(), view.bytes() / PAGE_BYTES)
            },
        }
    }

    /// The contents of a page; `None` for zeroes.
    #[inline]
    pub(crate) fn page(&self, number: u32) -> Option<&Page> {
        let run = run_with(&self.runs, number)?;
        self.contents().get((run.at + number - run.first) as usize)
    }

    /// The pages that each slot has copies of, from number `first` on, in ascending order.
    pub(crate) fn copied_from(&self, first: u32) -> impl Iterator<Item = (u32, &Page)> {
        let contents = self.contents();
        let copied = self.runs.iter().filter(|run| !run.mapped);
        copied.flat_map(move |run| {
            let pages = &contents[run.at as usize..][..run.pages as usize];
            (run.first..run.end()).zip(pages).filter(move |(page, _)| *page >= first)
        })
    }

    /// How many runs of pages are mapped.
    pub(crate) fn mapped_runs(&self) -> usize {
        self.runs.iter().filter(|run| run.mapped).count()
    }

    /// Maps the long runs over the memory that begins `origin` bytes into `slot`.
    pub(crate) fn map(&self, slot: &Mapping, origin: usize) -> io::Result<()> {
        let Contents::Sealed { file, .. } = &self.contents else { return Ok(()) };
        for run in self.runs.iter().filter(|run| run.mapped) {
            let (offset, bytes) =
                (origin + run.first as usize * PAGE_BYTES, run.pages as usize * PAGE_BYTES);
            let at = u64::from(run.at) * PAGE_BYTES as u64;
            slot.map_sealed(offset, bytes, file, at)?;
        }
        Ok(())
    }
}

/// The run that a page belongs to.
#[inline]
fn run_with(runs: &[Run], page: u32) -> Option<&Run> {
    let after = runs.partition_point(|run| run.first <= page);
    runs[..after].last().filter(|run| page < run.end())
}

/// The pages that bytes at these places lie in, one run behind the other.
fn runs_of(parts: &[(u64, &[u8])]) -> Vec<Run> {
    let page = |byte: u64| (byte / PAGE_BYTES as u64) as u32;
    let some = parts.iter().filter(|(_, bytes)| !bytes.is_empty());
    let mut ranges: Vec<(u32, u32)> = some
        .map(|(offset, bytes)| (page(*offset), page(offset + bytes.len() as u64 - 1) + 1))
        .collect();
    ranges.sort_unstable();
    let mut runs: Vec<Run> = Vec::new();
    for (first, end) in ranges {
        match runs.last_mut() {
            Some(last) if first <= last.end() => last.pages = last.pages.max(end - last.first),
            _ => runs.push(Run { first, pages: end - first, at: 0, mapped: false }),
        }
    }
    let mut at = 0;
    for run in &mut runs {
        run.at = at;
        at += run.pages;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_may_cross_and_overlap_pages() {
        let image = Image::of(&[(4090, &[1; 10]), (4095, &[2; 2]), (1 << 20, &[]), (40_960, &[3])]);
        assert_eq!(
            image.page(0).map(|page| page[4088..].to_vec()),
            Some(vec![0, 0, 1, 1, 1, 1, 1, 2])
        );
        assert_eq!(image.page(1).map(|page| page[..5].to_vec()), Some(vec![2, 1, 1, 1, 0]));
        assert_eq!(image.page(10).map(|page| page[0]), Some(3));
        assert!([2, 9, 11, 256].iter().all(|page| image.page(*page).is_none()));
        let pages = |first| image.copied_from(first).map(|(page, _)| page).collect::<Vec<_>>();
        assert_eq!((pages(0), pages(1), pages(11)), (vec![0, 1, 10], vec![1, 10], vec![]));
    }

    #[test]
    fn long_runs_are_mapped_once_for_all() {
        let long = vec![7; MAPPED_PAGES_MIN as usize * PAGE_BYTES];
        let image = Image::of(&[(1 << 20, &long), (0, &[5])]);
        assert_eq!(image.copied_from(0).map(|(page, _)| page).collect::<Vec<_>>(), [0]);
        let slot = Mapping::reserve(2 << 20).expect("addresses");
        image.map(&slot, 0).expect("a range of it");
        // SAFETY: the run was just mapped there, for reading and writing.
        unsafe {
            let place = slot.start().add(1 << 20);
            assert_eq!(place.read(), 7);
            place.write(8);
        }
        assert_eq!(image.page(256).map(|page| page[0]), Some(7), "a slot's copy is its own");
    }
}
