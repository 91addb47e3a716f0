//! From the bytes of a head to what is to be done about it.

use super::answer::refusal_to;
use super::host;
use super::target::{self, Path, is_host};
use super::upgrade;
use super::{Endpoint, FIELDS_MAX, HEAD_BYTES_MAX, Head, Page, Rules, What};

/// Why a request gets neither page nor WebSocket.
pub(super) struct Refused {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, &'static str)>,
    sentence: &'static str,
}

impl Refused {
    pub(super) fn new(status: u16, sentence: &'static str) -> Refused {
        Refused {
            status,
            headers: Vec::new(),
            sentence,
        }
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Refused {
        self.headers.push((name, value));
        self
    }
}

/// The fields of a head, asked by name without regard to case.
pub(super) struct Fields<'h, 'b>(&'h [httparse::Header<'b>]);

impl<'h, 'b> Fields<'h, 'b> {
    pub(super) fn all(&self, name: &'static str) -> impl Iterator<Item = &'b [u8]> + use<'h, 'b> {
        let named = self
            .0
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value.trim_ascii())
    }

    pub(super) fn first(&self, name: &'static str) -> Option<&'b [u8]> {
        self.all(name).next()
    }

    /// The value of a field that may not come twice.
    pub(super) fn single(&self, name: &'static str) -> Result<Option<&'b [u8]>, Refused> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(Refused::new(
                400,
                "a header field that may come once came twice",
            )),
        }
    }

    /// Whether some element of a comma-separated field is what is looked for. Several fields of one
    /// name are one list (RFC 9110, 5.3).
    pub(super) fn lists(&self, name: &'static str, is_it: impl Fn(&str) -> bool) -> bool {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .filter_map(|element| std::str::from_utf8(element.trim_ascii()).ok())
            .any(is_it)
    }
}

pub(super) fn parse(input: &[u8], rules: &Rules<'_>) -> Head {
    let too_long = || Refused::new(431, "the head of the request is too long");
    // Never a byte past the limit, lest the verdict depend on how many came at once.
    let input = &input[..input.len().min(HEAD_BYTES_MAX)];
    let mut room = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut room);
    match request.parse(input) {
        Ok(httparse::Status::Complete(bytes)) => {
            let head_only = request.method == Some("HEAD");
            match decide(&request, rules) {
                Ok(what) => Head::Complete { bytes, what },
                Err(refused) => refuse(bytes, &refused, head_only),
            }
        }
        Ok(httparse::Status::Partial) if input.len() < HEAD_BYTES_MAX => Head::Incomplete,
        Ok(httparse::Status::Partial) => refuse(0, &too_long(), false),
        Err(httparse::Error::TooManyHeaders) => refuse(0, &too_long(), false),
        Err(httparse::Error::Version) => refuse(
            0,
            &Refused::new(505, "only HTTP/1.0 and HTTP/1.1 are spoken here"),
            false,
        ),
        Err(_) => refuse(0, &Refused::new(400, "this is not an HTTP request"), false),
    }
}

fn refuse(bytes: usize, refused: &Refused, head_only: bool) -> Head {
    let Refused {
        status,
        headers,
        sentence,
    } = refused;
    let response = refusal_to(*status, headers, sentence, head_only);
    Head::Complete {
        bytes,
        what: What::Refuse {
            status: *status,
            response,
        },
    }
}

fn decide(request: &httparse::Request<'_, '_>, rules: &Rules<'_>) -> Result<What, Refused> {
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(Refused::new(400, "this is not an HTTP request"));
    };
    let fields = Fields(request.headers);
    let is_http_11 = version == 1;
    let host = host_of(&fields, is_http_11)?;
    let head_only = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Err(Refused::new(405, "only GET and HEAD").with("Allow", "GET, HEAD")),
    };
    let Some(target) = target::read(target) else {
        return Err(Refused::new(
            400,
            "the request target is neither a path nor an http address",
        ));
    };
    let host = match target.host {
        Some(host) if !is_host(host) => return Err(bad_host()),
        Some(host) => host,
        None => host,
    };
    let forwarded = fields.first("X-Forwarded-For").is_some();
    let host_is_ours = match rules.hosts {
        Some(_) if rules.from_proxy && forwarded => true,
        Some(hosts) => host::allowed(host, hosts, rules.origins),
        None => true,
    };
    if target.path == Some(Path::Healthz) {
        let page = match host_is_ours && !forwarded && fields.first("Forwarded").is_none() {
            true => Page::Healthz,
            false => Page::HealthzForAnybody,
        };
        return Ok(What::Get { page, head_only });
    }
    if !host_is_ours {
        let refused = Refused::new(403, NOT_OUR_HOST);
        return Ok(What::RefuseHost {
            host: host.to_owned(),
            response: refusal_to(
                refused.status,
                &refused.headers,
                refused.sentence,
                head_only,
            ),
        });
    }
    let wants_websocket = !head_only && upgrade::is_asked_for(&fields);
    let endpoint = match target.path {
        Some(Path::Echo) if !rules.echo => return Err(not_found()),
        Some(Path::Healthz) | None => return Err(not_found()),
        Some(Path::Root) if !wants_websocket => {
            return Ok(What::Get {
                page: Page::Chat,
                head_only,
            });
        }
        Some(Path::Ws | Path::Echo) if !wants_websocket => {
            let refused = Refused::new(426, "only WebSocket is spoken on this path");
            return Err(refused.with("Upgrade", "websocket"));
        }
        Some(Path::Root | Path::Ws) => Endpoint::Chat,
        Some(Path::Echo) => Endpoint::Echo,
    };
    let response = upgrade::answer(&fields, host, is_http_11, rules)?;
    Ok(What::Upgrade { endpoint, response })
}

const NOT_OUR_HOST: &str = "This address is for this machine alone, and Host is not one of its names (localhost, 127.0.0.1, [::1]). \
    If a proxy passes it on, or it is another name of this machine, list it in server.hosts.";

/// The `Host` field: one, and sound; only HTTP/1.0 may leave it out.
fn host_of<'b>(fields: &Fields<'_, 'b>, is_http_11: bool) -> Result<&'b str, Refused> {
    match fields.single("Host")? {
        None if is_http_11 => Err(Refused::new(400, "Host is missing")),
        None => Ok(""),
        Some(host) => match std::str::from_utf8(host) {
            Ok(host) if is_host(host) => Ok(host),
            _ => Err(bad_host()),
        },
    }
}

fn bad_host() -> Refused {
    Refused::new(400, "Host is not a host")
}

fn not_found() -> Refused {
    Refused::new(404, "there is nothing here")
}
