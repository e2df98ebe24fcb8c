//! Makes a picture small: a web action that takes an image as its body and answers another.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, ImageReader, Limits};
use wisp_action::web::{Request, Response};
use wisp_action::{Result, bail};

/// Widest and highest answer, in pixels.
const SIZE_MAX: u32 = 1024;

/// Widest and highest picture that is read: a small file may claim to be a very large picture.
const SOURCE_MAX: u32 = 8192;

/// Memory for the picture that is read; the action's own limit is above it.
const MEMORY_MAX: u64 = 128 << 20;

#[wisp_action::main]
fn main(request: Request) -> Result<Response> {
    let size = match request.param("size").map(str::parse::<u32>) {
        None => 128,
        Some(Ok(size @ 1..=SIZE_MAX)) => size,
        Some(_) => bail!("size must be a number of pixels from 1 to {SIZE_MAX}"),
    };
    let body = request.body()?;
    if body.is_empty() {
        return Ok(Response::text("POST a PNG or a JPEG to get it smaller; ?size=128\n").with_status(400));
    }
    match read(&body) {
        Ok(picture) => {
            let small = picture.thumbnail(size, size);
            wisp_action::log!(
                "{}x{} became {}x{}",
                picture.width(),
                picture.height(),
                small.width(),
                small.height()
            );
            let mut png = Cursor::new(Vec::new());
            small.write_to(&mut png, ImageFormat::Png)?;
            Ok(Response::bytes("image/png", png.get_ref()))
        }
        Err(error) => Ok(Response::text(format!("{error}\n")).with_status(422)),
    }
}

fn read(bytes: &[u8]) -> image::ImageResult<DynamicImage> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(SOURCE_MAX);
    limits.max_image_height = Some(SOURCE_MAX);
    limits.max_alloc = Some(MEMORY_MAX);
    reader.limits(limits);
    reader.decode()
}
