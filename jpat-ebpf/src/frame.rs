//! A position in a frame. All reading of packet memory is here, and every read is compared with the frame's end
//! right before, which is the form that the kernel's verifier follows.

use core::marker::PhantomData;

/// A position in a frame, with what the headers read so far say is left of the packet.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    at: *const u8,
    end: *const u8,
    left: usize,
    frame: PhantomData<&'a [u8]>,
}

impl<'a> Cursor<'a> {
    /// Starts at the first byte of `frame`.
    #[must_use]
    pub fn over(frame: &'a [u8]) -> Self {
        let bytes = frame.as_ptr_range();
        Self { at: bytes.start, end: bytes.end, left: frame.len(), frame: PhantomData }
    }

    /// Starts at `at`, in a frame whose length is known only as a pointer to its end.
    ///
    /// # Safety
    /// Every byte from `at` up to `end` must be readable, and not written, during `'a`.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn from_raw(at: *const u8, end: *const u8) -> Self {
        Self { at, end, left: usize::MAX, frame: PhantomData }
    }

    /// Bytes left of the packet; more than the frame's until [`limit`](Self::limit) was called.
    #[inline(always)]
    #[must_use]
    pub const fn left(&self) -> usize {
        self.left
    }

    /// Whether `count` bytes (at most 65535) are left, by the headers and in the frame.
    #[inline(always)]
    #[must_use]
    pub fn holds(&self, count: usize) -> bool {
        count <= self.left && self.at.wrapping_add(count) <= self.end
    }

    /// Cuts the packet off after `count` bytes (at most 65535), if that many are left. What follows is padding.
    #[inline(always)]
    #[must_use]
    pub fn limit(self, count: usize) -> Option<Self> {
        self.holds(count).then_some(Self { left: count, ..self })
    }

    /// Goes on by `count` bytes (at most 65535), if that many are left.
    #[inline(always)]
    #[must_use]
    pub fn skip(self, count: usize) -> Option<Self> {
        self.holds(count).then(|| Self { at: self.at.wrapping_add(count), left: self.left - count, ..self })
    }

    /// The next `N` bytes, without going on.
    #[inline(always)]
    #[must_use]
    pub fn peek<const N: usize>(self) -> Option<&'a [u8; N]> {
        // SAFETY: `holds` found the N bytes inside the frame, which is readable for 'a; the alignment of bytes is 1.
        self.holds(N).then(|| unsafe { &*self.at.cast::<[u8; N]>() })
    }

    /// The next `N` bytes, and the position after them.
    #[inline(always)]
    #[must_use]
    pub fn take<const N: usize>(self) -> Option<(&'a [u8; N], Self)> {
        Some((self.peek()?, Self { at: self.at.wrapping_add(N), left: self.left.wrapping_sub(N), ..self }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_end_with_the_frame_and_with_the_packet() {
        let frame = [1, 2, 3, 4, 5];
        let (head, rest) = Cursor::over(&frame).take::<2>().unwrap();
        assert_eq!((head, rest.left()), (&[1, 2], 3));
        assert_eq!(rest.peek::<3>(), Some(&[3, 4, 5]));
        assert!(rest.peek::<4>().is_none() && rest.skip(4).is_none() && rest.limit(4).is_none());
        let cut = rest.limit(2).unwrap();
        assert!(cut.peek::<3>().is_none() && cut.skip(2).unwrap().peek::<1>().is_none());
    }
}
