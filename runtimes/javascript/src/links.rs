//! URLs as the WHATWG standard parses them. The parts go back as lines: none of them can hold a line break.

use url::{quirks, Url};

use crate::bytes::{give, slice};

/// Parses a URL, against a base where one is given; null when it is none.
///
/// # Safety
/// Both ranges must be readable.
#[no_mangle]
pub unsafe extern "C" fn wispjs_url(
    at: *const u8,
    len: usize,
    base: *const u8,
    base_len: usize,
    out_len: &mut usize,
) -> *mut u8 {
    // SAFETY: the caller's.
    let text = String::from_utf8_lossy(unsafe { slice(at, len) });
    let parsed = if base.is_null() {
        Url::parse(&text)
    } else {
        // SAFETY: the caller's.
        let base = String::from_utf8_lossy(unsafe { slice(base, base_len) });
        Url::parse(&base).and_then(|base| base.join(&text))
    };
    match parsed {
        Ok(url) => give(lines(&url), out_len),
        Err(_) => std::ptr::null_mut(),
    }
}

/// Changes one part of a URL; null when the URL or the new `href` is none. A value that does not fit changes nothing.
///
/// # Safety
/// Both ranges must be readable.
#[no_mangle]
pub unsafe extern "C" fn wispjs_url_set(
    href: *const u8,
    len: usize,
    part: u32,
    value: *const u8,
    value_len: usize,
    out_len: &mut usize,
) -> *mut u8 {
    // SAFETY: the caller's.
    let (href, value) = unsafe {
        (String::from_utf8_lossy(slice(href, len)), String::from_utf8_lossy(slice(value, value_len)))
    };
    let Ok(mut url) = Url::parse(&href) else {
        return std::ptr::null_mut();
    };
    // The setters of the standard leave the URL as it is when the value does not fit.
    match part {
        0 => quirks::set_protocol(&mut url, &value).unwrap_or(()),
        1 => quirks::set_username(&mut url, &value).unwrap_or(()),
        2 => quirks::set_password(&mut url, &value).unwrap_or(()),
        3 => quirks::set_host(&mut url, &value).unwrap_or(()),
        4 => quirks::set_hostname(&mut url, &value).unwrap_or(()),
        5 => quirks::set_port(&mut url, &value).unwrap_or(()),
        6 => quirks::set_pathname(&mut url, &value),
        7 => quirks::set_search(&mut url, &value),
        _ => quirks::set_hash(&mut url, &value),
    }
    give(lines(&url), out_len)
}

fn lines(url: &Url) -> Vec<u8> {
    [
        quirks::href(url),
        &quirks::origin(url),
        quirks::protocol(url),
        quirks::username(url),
        quirks::password(url),
        quirks::host(url),
        quirks::hostname(url),
        quirks::port(url),
        quirks::pathname(url),
        quirks::search(url),
        quirks::hash(url),
    ]
    .join("\n")
    .into_bytes()
}
