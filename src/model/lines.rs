//! Messages as lines of a text: one reading of them for HTTP and for the command line, so that a file gives the same
//! messages, and a retry the same keys, whichever way it is sent.

/// The media types of such a text, in lower case.
const MEDIA_TYPES: [&str; 7] = [
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonl",
    "application/jsonlines",
    "application/x-jsonlines",
    "text/x-ndjson",
];

/// Whether a `Content-Type` says that each line is a message. Media types have no case, and may have parameters.
pub fn is_ndjson(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    MEDIA_TYPES.iter().any(|media_type| essence.eq_ignore_ascii_case(media_type))
}

/// The charset that a `Content-Type` names, where it is none in which UTF-8 can be read.
pub fn foreign_charset(content_type: &str) -> Option<&str> {
    let mut parameters = content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let (_, charset) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))?;
    let charset = charset.trim().trim_matches('"');
    let known = ["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known));
    (!known).then_some(charset)
}

/// The message on a line, by the line's number from 1 and without its line feed; none where the line is blank. A carriage
/// return before the line feed and a byte order mark before the first line are no part of a message; all else is.
pub fn message_line(number: u64, line: &[u8]) -> Option<&[u8]> {
    let line = if number == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    (!line.trim_ascii().is_empty()).then_some(line)
}

/// The messages of a whole text with the numbers of their lines.
pub fn message_lines(text: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let lines = (1..).zip(text.split(|byte| *byte == b'\n'));
    lines.filter_map(|(number, line)| Some((number, message_line(number, line)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_has_no_case_and_may_have_parameters() {
        for yes in [
            "application/x-ndjson",
            "Application/X-NDJSON",
            "application/ndjson; charset=utf-8",
            " application/jsonl ;x",
            "application/jsonlines",
        ] {
            assert!(is_ndjson(yes), "{yes}");
        }
        for no in ["", "application/json", "application/x-ndjsonl", "text/plain; application/ndjson"] {
            assert!(!is_ndjson(no), "{no}");
        }
    }

    #[test]
    fn a_charset_other_than_utf_8_is_named() {
        for no in ["application/ndjson", "application/ndjson; charset=\"UTF-8\"", "a/b;x=y; Charset = us-ascii"] {
            assert_eq!(foreign_charset(no), None, "{no}");
        }
        assert_eq!(foreign_charset("application/ndjson;charset=utf-16"), Some("utf-16"));
        assert_eq!(foreign_charset("application/ndjson; x=y; CHARSET=\"latin1\""), Some("latin1"));
    }

    #[test]
    fn a_byte_order_mark_and_line_ends_are_no_part_of_a_message() {
        let text = b"\xef\xbb\xbf{\"a\":1}\r\n\r\n \n x \n\xef\xbb\xbfy\rz";
        let lines: Vec<(u64, &[u8])> = message_lines(text).collect();
        let expected: [(u64, &[u8]); 3] = [(1, b"{\"a\":1}"), (4, b" x "), (5, b"\xef\xbb\xbfy\rz")];
        assert_eq!(lines, expected);
        assert_eq!(message_lines(b"").count(), 0);
    }
}
