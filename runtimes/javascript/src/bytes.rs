//! Ranges of memory that cross from C and back.

/// The bytes at a pointer; an empty range may have no pointer.
///
/// # Safety
/// `len` bytes from `at` must be readable, and unchanged while the slice lives.
pub(crate) unsafe fn slice<'a>(at: *const u8, len: usize) -> &'a [u8] {
    if len == 0 {
        return &[];
    }
    // SAFETY: the caller's.
    unsafe { std::slice::from_raw_parts(at, len) }
}

/// Hands bytes over to C; [`wispjs_free`] takes them back.
pub(crate) fn give(bytes: Vec<u8>, out_len: &mut usize) -> *mut u8 {
    let boxed = bytes.into_boxed_slice();
    *out_len = boxed.len();
    Box::into_raw(boxed).cast()
}

/// Frees what one of these functions returned.
///
/// # Safety
/// The pointer and the length must come from one return of this library.
#[no_mangle]
pub unsafe extern "C" fn wispjs_free(at: *mut u8, len: usize) {
    // SAFETY: made by `give`.
    drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(at, len)) });
}

/// The bytes with each wrong sequence replaced by U+FFFD, or null when they are UTF-8 as they are.
///
/// # Safety
/// The range must be readable.
#[no_mangle]
pub unsafe extern "C" fn wispjs_utf8_lossy(at: *const u8, len: usize, out_len: &mut usize) -> *mut u8 {
    // SAFETY: the caller's.
    match String::from_utf8_lossy(unsafe { slice(at, len) }) {
        std::borrow::Cow::Borrowed(_) => std::ptr::null_mut(),
        std::borrow::Cow::Owned(text) => give(text.into_bytes(), out_len),
    }
}
