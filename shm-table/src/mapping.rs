//! A segment in the memory of this process, mapped from its descriptor: a name could lead to another one by now.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// All of a file, shared with whoever else maps it, until this is dropped.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    bytes: NonZeroUsize,
    file: File,
}

impl Mapping {
    /// Maps what `file` is long now.
    pub fn of(file: File) -> io::Result<Self> {
        let bytes = usize::try_from(file.metadata()?.len()).map_err(|_| Errno::EFBIG)?;
        let bytes = NonZeroUsize::new(bytes).ok_or(Errno::ENODATA)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: without a wish for the address the kernel takes one where nothing is mapped, so no memory that anybody has is replaced.
        // What is there is reached through `start` alone, for as long as this value lives.
        let start = unsafe { mmap(None, bytes, access, MapFlags::MAP_SHARED, &file, 0)? };
        Ok(Self {
            start: start.cast(),
            bytes,
            file,
        })
    }

    /// Its first byte; the start of a page.
    pub fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }
}

impl AsFd for Mapping {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly this range was mapped by `of`, and whoever has a reference into it borrows the table that owns this.
        // It fails for a range that is none; there is nobody to tell.
        let _ = unsafe { munmap(self.start.cast(), self.bytes.get()) };
    }
}
