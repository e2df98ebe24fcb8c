//! A QR code of a text, as a drawing (SVG).

use qrcode::render::svg;
use qrcode::{EcLevel, QrCode};
use serde::Deserialize;
use wisp_action::web::Response;
use wisp_action::{Result, bail};

#[derive(Deserialize)]
struct Params {
    text: Option<String>,
    /// Any colour that SVG knows by letters and digits, as `black` or `0a5`.
    #[serde(default = "black")]
    colour: String,
}

fn black() -> String {
    "000".to_owned()
}

#[wisp_action::main]
fn main(params: Params) -> Result<Response> {
    let Some(text) = params.text.filter(|text| !text.is_empty()) else {
        bail!("text is needed: what the code says");
    };
    if !params.colour.chars().all(|c| c.is_ascii_alphanumeric()) {
        bail!("colour must be letters and digits");
    }
    let colour = match params.colour.chars().all(|c| c.is_ascii_hexdigit()) {
        true => format!("#{}", params.colour),
        false => params.colour,
    };
    let code = QrCode::with_error_correction_level(&text, EcLevel::M)?;
    let drawing = code
        .render::<svg::Color<'_>>()
        .min_dimensions(256, 256)
        .dark_color(svg::Color(&colour))
        .light_color(svg::Color("#fff"))
        .build();
    Ok(Response::of("image/svg+xml", drawing).header("cache-control", "public, max-age=86400"))
}
