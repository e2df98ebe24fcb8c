//! The core ABI (`runtimes/abi`), a log, a clock and a variable: all that an action sees of the world.
//!
//! Nothing outlives an activation: the host asks for room first, and all memory is free again at that moment. So memory is
//! an arena that grows upwards and is emptied as a whole.

use alloc::string::String;

use crate::{Answer, Value};

/// Runs `function` on parameters as JSON text and answers the result, or `{"error": …}`, as JSON text.
pub fn answer(params: &[u8], function: fn(Value) -> Answer) -> &'static [u8] {
    let params = core::str::from_utf8(params).map_err(|_| "no UTF-8");
    let answer = match params.and_then(Value::parse) {
        Ok(params) => function(params),
        Err(reason) => Err(String::from("The parameters are not JSON: ") + reason),
    };
    let answer = answer.unwrap_or_else(|error| Value::object([("error", error.into())]));
    answer.to_json().into_bytes().leak()
}

#[cfg(target_arch = "wasm32")]
mod wasm {
    use alloc::string::String;
    use alloc::vec;
    use core::alloc::{GlobalAlloc, Layout};
    use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    const PAGE: usize = 65536;

    /// All memory above the stack and the constants. One thread, so plain loads and stores would do; atomics are safe.
    struct Arena {
        /// Where the free part begins; 0 before the first reset.
        top: AtomicUsize,
    }

    #[global_allocator]
    static ARENA: Arena = Arena {
        top: AtomicUsize::new(0),
    };

    impl Arena {
        fn reset(&self) {
            extern "C" {
                static __heap_base: u8;
            }
            self.top.store(&raw const __heap_base as usize, Relaxed);
        }
    }

    // SAFETY: blocks are handed out once, upwards, aligned, inside memory, and taken back only as the last one.
    unsafe impl GlobalAlloc for Arena {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            let start = self.top.load(Relaxed).next_multiple_of(layout.align());
            let Some(end) = start.checked_add(layout.size()) else {
                return core::ptr::null_mut();
            };
            let have = core::arch::wasm32::memory_size(0) * PAGE;
            if end > have {
                let pages = (end - have).div_ceil(PAGE);
                if core::arch::wasm32::memory_grow(0, pages) == usize::MAX {
                    return core::ptr::null_mut();
                }
            }
            self.top.store(end, Relaxed);
            start as *mut u8
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            if block as usize + layout.size() == self.top.load(Relaxed) {
                self.top.store(block as usize, Relaxed);
            }
        }

        // What grows is mostly the last block, and then stays where it is.
        unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            let is_last = block as usize + layout.size() == self.top.load(Relaxed);
            if is_last {
                self.top.store(block as usize, Relaxed);
            }
            // SAFETY: the caller promises a valid size.
            let layout_new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
            // SAFETY: as for every other block.
            let moved = unsafe { self.alloc(layout_new) };
            if moved.is_null() {
                if is_last {
                    self.top.store(block as usize + layout.size(), Relaxed);
                }
            } else if moved != block {
                // SAFETY: both blocks are as long as the shorter of the two sizes, and do not overlap.
                unsafe { core::ptr::copy_nonoverlapping(block, moved, layout.size().min(size)) };
            }
            moved
        }
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        core::arch::wasm32::unreachable()
    }

    /// Room for the parameters of the next activation; the last one's memory is free from now on.
    pub fn alloc(len: usize) -> *mut u8 {
        ARENA.reset();
        match Layout::array::<u8>(len.max(1)) {
            // SAFETY: the layout is not empty.
            Ok(layout) => unsafe { alloc::alloc::alloc(layout) },
            Err(_) => core::ptr::null_mut(),
        }
    }

    /// Runs `function` on the parameters and says where its answer is.
    pub fn run(
        pointer: *const u8,
        len: usize,
        function: fn(&'static [u8]) -> &'static [u8],
    ) -> u64 {
        // SAFETY: the host has filled what `alloc(len)` answered, and calls once; it stays until the next `alloc`.
        let params = unsafe { core::slice::from_raw_parts(pointer, len) };
        let answer = function(params);
        ((answer.as_ptr() as u64) << 32) | answer.len() as u64
    }

    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    extern "C" {
        fn fd_write(fd: u32, parts: *const [usize; 2], count: usize, written: *mut usize) -> u32;
        fn clock_time_get(clock: u32, precision_ns: u64, time_ns: *mut u64) -> u32;
    }

    #[link(wasm_import_module = "wisp")]
    extern "C" {
        fn context_get(name: *const u8, name_len: usize, to: *mut u8, to_len: usize) -> i32;
    }

    /// Writes lines of the activation's log.
    pub fn log(line: &str) {
        let newline = "\n";
        let parts = [line, newline].map(|part| [part.as_ptr() as usize, part.len()]);
        let mut written = 0;
        // SAFETY: the parts are ours and outlive the call. A log that cannot be written is no reason to fail.
        unsafe { fd_write(1, parts.as_ptr(), parts.len(), &mut written) };
    }

    /// Milliseconds since 1970.
    pub fn now_ms() -> u64 {
        let mut time_ns = 0;
        // SAFETY: clock 0 is the time of day, and the result is ours.
        unsafe { clock_time_get(0, 1_000_000, &mut time_ns) };
        time_ns / 1_000_000
    }

    /// A variable of the activation.
    pub fn context(name: &str) -> Option<String> {
        let mut value = vec![0u8; 256];
        loop {
            // SAFETY: both ranges are ours, and the host writes at most the length it is given.
            let len =
                unsafe { context_get(name.as_ptr(), name.len(), value.as_mut_ptr(), value.len()) };
            let len = usize::try_from(len).ok()?;
            if len <= value.len() {
                value.truncate(len);
                return String::from_utf8(value).ok();
            }
            value.resize(len, 0);
        }
    }
}

#[cfg(target_arch = "wasm32")]
pub use wasm::{alloc, context, log, now_ms, run};

/// Outside the server there is no log, no activation, and it is 1970.
#[cfg(not(target_arch = "wasm32"))]
mod elsewhere {
    pub fn log(_line: &str) {}

    pub fn now_ms() -> u64 {
        0
    }

    pub fn context(_name: &str) -> Option<String> {
        None
    }
}

#[cfg(not(target_arch = "wasm32"))]
pub use elsewhere::{context, log, now_ms};
