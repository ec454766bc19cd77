//! Reads one HTTP/1.1 answer at a time, and keeps apart what a library would hide: whether the
//! connection ended before, within or after it.

use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest body.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// One whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) version: Option<String>,
    /// The connection ends after this answer, and this answer says so.
    pub(super) announces_close: bool,
}

/// Why there is no whole answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ResponseError {
    #[error("the connection ended after {received_bytes} bytes of the answer")]
    Ended { received_bytes: usize },
    #[error("the connection broke after {received_bytes} bytes of the answer: {detail}")]
    Broken { received_bytes: usize, detail: String },
    #[error("no HTTP answer: {0}")]
    Malformed(&'static str),
}

struct Head {
    response: Response,
    body_bytes: usize,
}

/// Reads one answer. `buffer` is scratch; it is empty before and after.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> Result<Response, ResponseError> {
    buffer.clear();
    let head_bytes = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if buffer.len() > HEAD_BYTES_MAX {
            return Err(ResponseError::Malformed("its head is too long"));
        }
        more(stream, buffer).await?;
    };
    let head = parse_head(&buffer[..head_bytes])?;
    if head.body_bytes > BODY_BYTES_MAX {
        return Err(ResponseError::Malformed("its body is too long"));
    }
    while buffer.len() < head_bytes + head.body_bytes {
        more(stream, buffer).await?;
    }
    if buffer.len() > head_bytes + head.body_bytes {
        return Err(ResponseError::Malformed("more came than its length says"));
    }
    buffer.clear();
    Ok(head.response)
}

async fn more(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Result<(), ResponseError> {
    match stream.read_buf(buffer).await {
        Ok(0) => Err(ResponseError::Ended { received_bytes: buffer.len() }),
        Ok(_) => Ok(()),
        Err(error) => Err(ResponseError::Broken { received_bytes: buffer.len(), detail: error.to_string() }),
    }
}

fn parse_head(head: &[u8]) -> Result<Head, ResponseError> {
    let text = std::str::from_utf8(head).map_err(|_| ResponseError::Malformed("its head is not text"))?;
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let keeps_by_default = match words.next() {
        Some("HTTP/1.1") => true,
        Some("HTTP/1.0") => false,
        Some(_) | None => return Err(ResponseError::Malformed("it does not begin with HTTP/1.1")),
    };
    let status = words.next().and_then(|word| word.parse().ok());
    let status = status.ok_or(ResponseError::Malformed("it has no status"))?;
    let mut response = Response { status, version: None, announces_close: !keeps_by_default };
    let mut body_bytes = None;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => body_bytes = value.parse().ok(),
            "connection" if value.eq_ignore_ascii_case("close") => response.announces_close = true,
            "connection" if value.eq_ignore_ascii_case("keep-alive") => response.announces_close = false,
            "x-app-version" => response.version = Some(value.to_owned()),
            _ => {}
        }
    }
    let body_bytes = body_bytes.ok_or(ResponseError::Malformed("it has no Content-Length"))?;
    Ok(Head { response, body_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(mut bytes: &[u8]) -> Result<Response, ResponseError> {
        read(&mut bytes, &mut Vec::new()).await
    }

    #[tokio::test]
    async fn a_whole_answer_is_read_to_its_last_byte() {
        let text = b"HTTP/1.1 200 OK\r\nX-App-Version: v2\r\nCONTENT-LENGTH: 3\r\n\r\nv2\n";
        let expected = Response { status: 200, version: Some("v2".to_owned()), announces_close: false };
        assert_eq!(answer(text).await, Ok(expected));
        let cut = answer(&text[..text.len() - 1]).await;
        assert_eq!(cut, Err(ResponseError::Ended { received_bytes: text.len() - 1 }));
    }

    #[tokio::test]
    async fn a_close_is_announced_by_header_or_by_old_protocol() {
        for (text, announced) in [
            ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", false),
        ] {
            assert_eq!(answer(text.as_bytes()).await.map(|found| found.announces_close), Ok(announced), "{text}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_understood_is_no_answer() {
        for text in [
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
        ] {
            assert!(matches!(answer(text.as_bytes()).await, Err(ResponseError::Malformed(_))), "{text}");
        }
    }
}
