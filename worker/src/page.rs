//! The pages the worker serves: the chat page, which is part of the executable, and the health check.

use std::io::{self, Write};
use std::sync::LazyLock;

use data_encoding::BASE64;
use protocol::http::response;
use sha2::{Digest, Sha256};

use crate::health::Health;

const CHAT: &[u8] = include_bytes!("../page/index.html");

/// The page is one file with its own script and style, reaches nothing but this server, and may not be framed.
/// Only the script that it was built with runs: its hash stands in the policy (CSP Level 3, section 2.3.1).
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = BASE64.encode(&Sha256::digest(script()));
    format!(
        "default-src 'none'; script-src 'sha256-{hash}'; style-src 'unsafe-inline'; img-src data:; \
         connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// What stands between the page's script tags.
fn script() -> &'static str {
    let page = str::from_utf8(CHAT).unwrap_or_default();
    let (_, rest) = page.split_once("<script>").unwrap_or_default();
    rest.split_once("</script>").unwrap_or_default().0
}

/// Writes the chat page.
pub(crate) fn chat(w: &mut dyn Write, head_only: bool) -> io::Result<()> {
    let headers = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Security-Policy", POLICY.as_str()),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
    ];
    response(w, 200, &headers, CHAT, head_only)
}

/// Writes the health check: 200 where all is well, otherwise 503, with the reasons if they are to be `told`.
pub(crate) fn health(
    w: &mut dyn Write,
    health: &Health,
    told: bool,
    head_only: bool,
) -> io::Result<()> {
    let headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Cache-Control", "no-store"),
    ];
    let status = if health.is_well() { 200 } else { 503 };
    let body = health.text(told);
    response(w, status, &headers, body.as_bytes(), head_only)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
        let mut bytes = Vec::new();
        write(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_chat_page_is_whole_and_guarded() {
        let page = text(|w| chat(w, false));
        assert!(page.starts_with("HTTP/1.1 200 "));
        assert!(page.contains("Content-Security-Policy: default-src 'none'; "));
        assert!(script().len() > 1000);
        let scripts = "script-src 'sha256-";
        assert!(page.contains(scripts) && !page.contains("script-src 'unsafe"));
        assert!(page.contains("Cache-Control: no-store\r\n"));
        assert!(page.trim_end().ends_with("</html>"));
        assert!(text(|w| chat(w, true)).ends_with("\r\n\r\n"));
    }
}
