//! Markdown to a web page: shows one of its own, or makes one of what it is sent.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd, html};
use wisp_action::Result;
use wisp_action::web::{Request, Response};

const WELCOME: &str = include_str!("welcome.md");

const STYLE: &str = "body{font:1.05rem/1.6 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem;\
color:#222;background:#fdfdfb}pre,code{font-family:ui-monospace,monospace;background:#f1efe9;border-radius:4px}\
pre{padding:.8rem;overflow:auto}code{padding:.1em .3em}pre code{padding:0}table{border-collapse:collapse}\
th,td{border:1px solid #ccc;padding:.3rem .7rem}blockquote{margin-left:0;padding-left:1rem;border-left:3px solid #ccc}";

#[wisp_action::main]
fn main(request: Request) -> Result<Response> {
    let body = request.body()?;
    let text = match request.param("text") {
        Some(text) => text.to_owned(),
        None if body.is_empty() => WELCOME.to_owned(),
        None => String::from_utf8(body)?,
    };
    Ok(Response::html(page(&text)))
}

/// A whole page. Scripts do not pass: HTML within the Markdown is shown, not obeyed, and links lead to the web only.
fn page(text: &str) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut title = String::new();
    let mut in_heading = false;
    let events = Parser::new_ext(text, options).map(|event| match event {
        Event::Html(html) | Event::InlineHtml(html) => Event::Text(html),
        Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
            let dest_url = if is_safe(&dest_url) { dest_url } else { "#".into() };
            Event::Start(Tag::Link { link_type, dest_url, title, id })
        }
        Event::Start(Tag::Image { link_type, dest_url, title, id }) => {
            let dest_url = if is_safe(&dest_url) { dest_url } else { "#".into() };
            Event::Start(Tag::Image { link_type, dest_url, title, id })
        }
        other => other,
    });
    let events: Vec<Event<'_>> = events.collect();
    for event in &events {
        match event {
            Event::Start(Tag::Heading { .. }) if title.is_empty() => in_heading = true,
            Event::End(TagEnd::Heading(_)) => in_heading = false,
            Event::Text(text) | Event::Code(text) if in_heading => title.push_str(text),
            _ => {}
        }
    }
    let mut body = String::new();
    html::push_html(&mut body, events.into_iter());
    let title = title.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<!doctype html><html><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body>\n{body}</body></html>\n"
    )
}

/// Whether a link leads to the web, to mail, or within the page's own site.
fn is_safe(url: &str) -> bool {
    let scheme = url.split(['/', '?', '#']).next().unwrap_or_default();
    match scheme.split_once(':') {
        None => true,
        Some((scheme, _)) => ["http", "https", "mailto"]
            .iter()
            .any(|safe| scheme.eq_ignore_ascii_case(safe)),
    }
}

#[cfg(test)]
mod tests {
    use super::page;

    #[test]
    fn markdown_becomes_a_page_with_its_first_heading_as_title() {
        let page = page("# A & B\n\n- [x] done\n\n| a |\n|---|\n| 1 |");
        assert!(page.contains("<title>A &amp; B</title>"), "{page}");
        assert!(page.contains("<table>") && page.contains("checkbox"), "{page}");
    }

    #[test]
    fn scripts_do_not_pass() {
        let text = "<script>alert(1)</script> [x](javascript:alert(1)) ![y](DATA:text/html,z) <a onclick=x>";
        let page = page(text);
        assert!(!page.contains("<script>") && !page.contains("<a onclick"), "{page}");
        assert!(!page.contains("javascript:") && !page.contains("DATA:"), "{page}");
    }
}
