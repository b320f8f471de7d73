//! A position in a frame. All reading of packet memory is here, and every read is compared with the frame's end
//! right before, which is the form that the kernel's verifier follows.

use core::marker::PhantomData;

/// Above every place where a header can start: two tags, an IP header and six extension headers of 2048 bytes.
pub const MAX_START: usize = 0x3fff;

/// Most bytes of a [walk](Cursor::walk).
pub const MAX_WALK: usize = 0x7ff;

/// A position in a frame, with what the headers read so far say is left of the packet.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    start: *const u8,
    end: *const u8,
    offset: usize,
    left: usize,
    frame: PhantomData<&'a [u8]>,
}

impl<'a> Cursor<'a> {
    /// Starts at the first byte of `frame`.
    #[must_use]
    pub fn over(frame: &'a [u8]) -> Self {
        let bytes = frame.as_ptr_range();
        Self { start: bytes.start, end: bytes.end, offset: 0, left: frame.len(), frame: PhantomData }
    }

    /// Starts at `start`, in a frame of `length` bytes of which those up to `end` can be read. What lies in further
    /// buffers counts for lengths, and is never read.
    ///
    /// # Safety
    /// Every byte from `start` up to `end` must be readable, and not written, during `'a`.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn from_raw(start: *const u8, end: *const u8, length: usize) -> Self {
        Self { start, end, offset: 0, left: length, frame: PhantomData }
    }

    /// Marks a place where ways through the parser meet again. The verifier walks what follows once instead of once
    /// per way, because it no longer knows the numbers apart.
    #[inline(always)]
    pub fn join_ways(&mut self) {
        self.offset = forget(self.offset) & MAX_START;
        self.left = forget(self.left);
    }

    #[inline(always)]
    const fn at(&self) -> *const u8 {
        self.start.wrapping_add(self.offset)
    }

    /// Where in the frame it is.
    #[inline(always)]
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// The `length` bytes at an offset of the same frame, as a part of its own, for one walk over them: of at most
    /// [`MAX_WALK`] bytes. The verifier learns that from a mask; what it learns from a comparison it has forgotten by the
    /// next look at the stack (before 6.8).
    #[inline(always)]
    #[must_use]
    pub fn walk(&self, offset: usize, length: usize) -> Self {
        Self { offset: forget(offset) & MAX_START, left: forget(length) & MAX_WALK, ..*self }
    }

    /// Bytes left of the packet; of the frame, until [`limit`](Self::limit) was called.
    #[inline(always)]
    #[must_use]
    pub const fn left(&self) -> usize {
        self.left
    }

    /// Whether `count` bytes are left of the packet.
    #[inline(always)]
    #[must_use]
    pub const fn holds(&self, count: usize) -> bool {
        count <= self.left
    }

    /// Cuts the packet off after `count` bytes, if that many are left. What follows is padding.
    #[inline(always)]
    pub fn limit(&mut self, count: usize) -> Option<()> {
        self.holds(count).then(|| self.left = count)
    }

    /// Goes on by `count` bytes, if that many are left.
    #[inline(always)]
    pub fn skip(&mut self, count: usize) -> Option<()> {
        if !self.holds(count) {
            return None;
        }
        self.offset += count;
        self.left -= count;
        Some(())
    }

    /// The next `N` bytes, without going on. Bytes behind the frame's first buffer are as good as missing.
    #[inline(always)]
    #[must_use]
    pub fn peek<const N: usize>(&self) -> Option<&'a [u8; N]> {
        if !self.holds(N) || self.at().wrapping_add(N) > self.end {
            return None;
        }
        // SAFETY: the N bytes are in front of `end`, up to which memory is readable for 'a; the alignment of bytes is 1.
        Some(unsafe { &*self.at().cast::<[u8; N]>() })
    }

    /// The next `N` bytes; goes on behind them.
    #[inline(always)]
    pub fn take<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let bytes = self.peek()?;
        self.offset += N;
        self.left -= N;
        Some(bytes)
    }
}

/// The same number, of which the verifier knows nothing but that it has 32 bits: it does not follow values through the
/// upper half of a slot on the stack.
#[cfg(target_arch = "bpf")]
#[inline(always)]
#[must_use]
pub fn forget(value: usize) -> usize {
    let mut slot = 0u64;
    let slot = &raw mut slot;
    // SAFETY: both accesses are inside a local variable of 8 bytes; only the compiler must not see through them.
    unsafe {
        slot.write_volatile((value as u64) << 32);
        slot.cast::<u32>().add(1).read_volatile() as usize
    }
}

/// The same number.
#[cfg(not(target_arch = "bpf"))]
#[must_use]
pub const fn forget(value: usize) -> usize {
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_end_with_the_frame_and_with_the_packet() {
        let frame = [1, 2, 3, 4, 5];
        let mut at = Cursor::over(&frame);
        assert_eq!((at.take::<2>(), at.left()), (Some(&[1, 2]), 3));
        assert_eq!(at.peek::<3>(), Some(&[3, 4, 5]));
        assert!(at.peek::<4>().is_none() && at.skip(4).is_none() && at.limit(4).is_none());
        assert!(at.limit(2).is_some() && at.peek::<3>().is_none());
        assert!(at.skip(2).is_some() && at.peek::<1>().is_none());
    }
}
