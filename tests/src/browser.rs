//! Windows of a headless Chromium, driven through chromedriver by the WebDriver protocol.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::folder::Folder;
use crate::http;
use crate::settings::free_port;
use crate::wait::{PATIENCE, eventually};

/// The name under which WebDriver refers to an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A running chromedriver.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
}

/// One window with a profile of its own, closed when dropped.
pub struct Window<'b> {
    browser: &'b Browser,
    session: String,
    _profile: Folder,
}

impl Browser {
    /// Starts chromedriver.
    pub fn start() -> Browser {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let driver = Command::new("chromedriver")
            .arg(format!("--port={}", address.port()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("starting chromedriver (package chromium-driver): {error}")
            });
        let browser = Browser { driver, address };
        eventually("chromedriver answers", || {
            browser.request("GET", "/status", None).ok()?["ready"]
                .as_bool()?
                .then_some(())
        });
        browser
    }

    /// Opens a window of that size.
    pub fn window(&self, width: u32, height: u32) -> Window<'_> {
        let profile = Folder::new("steadfast-chromium");
        let size = format!("--window-size={width},{height}");
        let folder = format!("--user-data-dir={}", profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--lang=en-GB",
            &size,
            &folder,
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let answer = self
            .request("POST", "/session", Some(wanted))
            .unwrap_or_else(|error| panic!("opening a window: {error}"));
        let session = answer["sessionId"].as_str().unwrap().to_owned();
        Window {
            browser: self,
            session,
            _profile: profile,
        }
    }

    fn request(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, String> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let mut stream = TcpStream::connect(self.address).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        stream
            .write_all((head + &body).as_bytes())
            .map_err(|error| error.to_string())?;
        let answer = http::read_response(&mut stream, &mut Vec::new(), true)
            .map_err(|error| error.to_string())?;
        let mut answer: Value =
            serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        let value = answer["value"].take();
        match value["error"].as_str() {
            Some(error) => Err(format!("{error}: {}", value["message"])),
            None => Ok(value),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

impl Window<'_> {
    fn request(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, String> {
        self.browser
            .request(method, &format!("/session/{}{path}", self.session), body)
    }

    /// Goes to an address.
    pub fn go(&self, url: &str) {
        self.request("POST", "/url", Some(json!({"url": url})))
            .unwrap();
    }

    /// Waits for an element that matches a CSS selector and is there; gives its WebDriver id.
    fn element(&self, selector: &str) -> String {
        eventually(&format!("the element {selector}"), || {
            let found = self
                .request(
                    "POST",
                    "/element",
                    Some(json!({"using": "css selector", "value": selector})),
                )
                .ok()?;
            found[ELEMENT].as_str().map(str::to_owned)
        })
    }

    /// Waits until an element matches the selector.
    pub fn wait_for(&self, selector: &str) {
        self.element(selector);
    }

    /// Types text into an element; `\u{E007}` is Enter.
    pub fn type_into(&self, selector: &str, text: &str) {
        let path = format!("/element/{}/value", self.element(selector));
        eventually(&format!("typing into {selector}"), || {
            self.request("POST", &path, Some(json!({"text": text})))
                .ok()
        });
    }

    /// Clicks an element once it can be clicked.
    pub fn click(&self, selector: &str) {
        // A list that is drawn again meanwhile takes the element away: look it up anew each time.
        eventually(&format!("clicking {selector}"), || {
            let path = format!("/element/{}/click", self.element(selector));
            self.request("POST", &path, Some(json!({}))).ok()
        });
    }

    /// The value of a JavaScript expression.
    pub fn value(&self, expression: &str) -> Value {
        let script = format!("return ({expression});");
        self.request(
            "POST",
            "/execute/sync",
            Some(json!({"script": script, "args": []})),
        )
        .unwrap()
    }

    /// Waits until a JavaScript expression is true.
    pub fn wait_until(&self, expression: &str) {
        eventually(expression, || {
            self.value(expression).as_bool()?.then_some(())
        });
    }

    /// The warnings and errors of the page's console since the last look.
    pub fn complaints(&self) -> Vec<Value> {
        let log = self
            .request("POST", "/se/log", Some(json!({"type": "browser"})))
            .unwrap();
        let entries = log.as_array().cloned().unwrap_or_default();
        entries
            .into_iter()
            .filter(|entry| entry["level"] != "INFO" && entry["level"] != "DEBUG")
            .collect()
    }

    /// Saves a picture of the window.
    pub fn picture(&self, path: &Path) {
        let encoded = self.request("GET", "/screenshot", None).unwrap();
        std::fs::write(path, base64(encoded.as_str().unwrap())).unwrap();
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        let _ = self.request("DELETE", "", None);
    }
}

/// Decodes base64 as WebDriver writes it.
fn base64(text: &str) -> Vec<u8> {
    let sextet = |letter: u8| match letter {
        b'A'..=b'Z' => Some(letter - b'A'),
        b'a'..=b'z' => Some(letter - b'a' + 26),
        b'0'..=b'9' => Some(letter - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let sextets: Vec<u8> = text.bytes().filter_map(sextet).collect();
    let mut bytes = Vec::with_capacity(sextets.len() * 3 / 4);
    for four in sextets.chunks(4) {
        let bits = four
            .iter()
            .fold(0u32, |bits, sextet| bits << 6 | u32::from(*sextet))
            << (6 * (4 - four.len()));
        bytes.extend(&bits.to_be_bytes()[1..four.len()]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_of_every_length() {
        assert_eq!(super::base64("Zm9vYmFy"), b"foobar");
        assert_eq!(super::base64("Zm9vYmE="), b"fooba");
        assert_eq!(super::base64("Zm9vYg=="), b"foob");
    }
}
