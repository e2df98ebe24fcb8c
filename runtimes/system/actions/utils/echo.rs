//! `echo`: answers its parameters, byte for byte.

#![cfg_attr(target_arch = "wasm32", no_std)]

fn run(params: &'static [u8]) -> &'static [u8] {
    params
}

wisp_system::export!(bytes: run);
