//! What may be a name.

/// Why a text is not one, in the words of Kubernetes.
type Verdict = Result<(), &'static str>;

fn alphanumeric(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// A label of RFC 1123: `web-1`. Containers have such names.
///
/// # Errors
///
/// When it is none; with the reason in the words of Kubernetes.
pub fn dns_label(text: &str) -> Verdict {
    let bytes = text.as_bytes();
    if bytes.len() > 63 {
        return Err("must be no more than 63 characters");
    }
    let ends = |b: Option<&u8>| b.is_some_and(|b| alphanumeric(*b));
    if ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(|b| alphanumeric(*b) || *b == b'-') {
        return Ok(());
    }
    Err(
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
         with an alphanumeric character",
    )
}

/// A subdomain of RFC 1123: `web.example.org`.
pub(super) fn dns_subdomain(text: &str) -> Verdict {
    if text.len() > 253 {
        return Err("must be no more than 253 characters");
    }
    let label = |part: &str| {
        let bytes = part.as_bytes();
        let ends = |b: Option<&u8>| b.is_some_and(|b| alphanumeric(*b));
        ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(|b| alphanumeric(*b) || *b == b'-')
    };
    if text.split('.').all(label) {
        return Ok(());
    }
    Err(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
         and end with an alphanumeric character",
    )
}

fn name_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let inside = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    bytes.len() <= 63 && ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(inside)
}

/// The key of a label or annotation: `app`, `example.org/app`.
pub(super) fn qualified(text: &str) -> Verdict {
    let name = match text.split_once('/') {
        None => text,
        Some((prefix, name)) => {
            dns_subdomain(prefix).map_err(|_| "prefix part must be a lowercase RFC 1123 subdomain")?;
            name
        }
    };
    if name_part(name) {
        return Ok(());
    }
    Err("name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
         alphanumeric character, with at most 63 characters")
}

/// The value of a label.
pub(super) fn label_value(text: &str) -> Verdict {
    if text.is_empty() || name_part(text) {
        return Ok(());
    }
    Err(
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
         and end with an alphanumeric character, with at most 63 characters",
    )
}

/// The name of a port, a service name of RFC 6335: `http-alt`.
pub(super) fn port(text: &str) -> Verdict {
    let bytes = text.as_bytes();
    if bytes.len() > 15 {
        return Err("must be no more than 15 characters");
    }
    if !bytes.iter().all(|b| alphanumeric(*b) || *b == b'-') {
        return Err("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !bytes.iter().any(u8::is_ascii_lowercase) {
        return Err("must contain at least one letter (a-z)");
    }
    if text.contains("--") {
        return Err("must not contain consecutive hyphens");
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err("must not begin or end with a hyphen");
    }
    Ok(())
}

/// The name of an environment variable, by the relaxed rule of Kubernetes 1.30 and later.
pub(super) fn env(text: &str) -> Verdict {
    if text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        return Ok(());
    }
    Err("a valid environment variable name must consist only of printable ASCII characters other than '='")
}

/// A key of a `ConfigMap` or `Secret`, which may become a file name.
pub(super) fn config_key(text: &str) -> Verdict {
    let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if text.is_empty() || !text.bytes().all(inside) {
        return Err("a valid config key must consist of alphanumeric characters, '-', '_' or '.'");
    }
    if text.len() > 253 {
        return Err("must be no more than 253 characters");
    }
    if text == "." || text.starts_with("..") {
        return Err("must not be '.' or start with '..'");
    }
    Ok(())
}

/// The name of an HTTP header.
pub(super) fn header(text: &str) -> Verdict {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Ok(());
    }
    Err("a valid HTTP header must consist of alphanumeric characters or '-'")
}

/// The name of a sysctl: `net.ipv4.ip_forward` or `net/ipv4/ip_forward`.
pub(super) fn sysctl(text: &str) -> Verdict {
    let part = |part: &str| {
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        ends(part.chars().next()) && ends(part.chars().last()) && part.chars().all(inside)
    };
    if text.len() <= 253 && text.split(['.', '/']).all(part) {
        return Ok(());
    }
    Err("must have at most 253 characters and match regex [a-z0-9]([-_a-z0-9]*[a-z0-9])?([./]...)*")
}

/// A path below a directory: relative, and never above it.
pub(super) fn relative_path(text: &str) -> Verdict {
    if text.starts_with('/') {
        return Err("must be a relative path");
    }
    no_backsteps(text)
}

/// A path that never goes up.
pub(super) fn no_backsteps(text: &str) -> Verdict {
    if text.split('/').any(|part| part == "..") {
        return Err("must not contain '..'");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_each_sort() {
        type Rule = fn(&str) -> Verdict;
        let cases: [(&str, Rule, &[&str], &[&str]); 10] = [
            ("label", dns_label, &["a", "web-1", "0"], &["", "-a", "a-", "Web", "a.b", "a_b"]),
            ("subdomain", dns_subdomain, &["a.b", "web"], &["", ".a", "a..b", "A.b", "a-.b"]),
            ("key", qualified, &["app", "example.org/App_1"], &["", "/a", "a/", "Ex.org/a", "a/b/c", "-a"]),
            ("value", label_value, &["", "v1.0", "A_b"], &["-a", "a b", "a/"]),
            ("port", port, &["http", "p-1"], &["", "80", "a--b", "-a", "Http", "longer-than-fifteen"]),
            ("env", env, &["A", "my.var", "a b"], &["A=B", "ä"]),
            ("key of data", config_key, &["a.txt", ".conf"], &["", ".", "..", "..a", "a/b"]),
            ("header", header, &["X-A"], &["", "X:A", "X A"]),
            ("sysctl", sysctl, &["net.ipv4.ip_forward", "net/ipv4/conf"], &["", "net..a", "Net.a", "net."]),
            ("path", relative_path, &["a/b", "a..b", ""], &["/a", "../a", "a/.."]),
        ];
        for (what, rule, good, bad) in cases {
            good.iter().for_each(|text| assert!(rule(text).is_ok(), "{what} {text:?}"));
            bad.iter().for_each(|text| assert!(rule(text).is_err(), "{what} {text:?}"));
        }
        assert!(dns_label(&"a".repeat(64)).is_err());
    }
}
