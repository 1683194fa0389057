//! JSON objects, written by hand: a line each, finite numbers, escaped text.

use std::fmt::{self, Display, Write};

/// A JSON object; its `Display` is the finished text, on one line.
#[derive(Default)]
pub struct Object(String);

impl Object {
    pub fn new(kind: &str) -> Self {
        Self::default().text("kind", kind)
    }

    fn raw(mut self, name: &str, value: impl Display) -> Self {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(&quoted(name));
        self.0.push(':');
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{value}");
        self
    }

    pub fn text(self, name: &str, value: &str) -> Self {
        let value = quoted(value);
        self.raw(name, value)
    }

    pub fn flag(self, name: &str, value: bool) -> Self {
        self.raw(name, value)
    }

    /// A count, or `null`.
    pub fn count(self, name: &str, value: impl Into<Option<u64>>) -> Self {
        match value.into() {
            Some(value) => self.raw(name, value),
            None => self.raw(name, "null"),
        }
    }

    /// A number, or `null` if there is none or JSON has none for it (infinite, not a number).
    pub fn number(self, name: &str, value: impl Into<Option<f64>>) -> Self {
        match value.into() {
            Some(value) if value.is_finite() => self.raw(name, value),
            _ => self.raw(name, "null"),
        }
    }

    pub fn list(self, name: &str, objects: impl IntoIterator<Item = Self>) -> Self {
        let objects: Vec<String> = objects.into_iter().map(|object| object.to_string()).collect();
        self.raw(name, format_args!("[{}]", objects.join(",")))
    }
}

impl Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}", self.0)
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\0'..='\u{1f}' => {
                // Writing to a string cannot fail.
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_json() {
        let object = Object::new("a\"b\\c\n\u{e9}")
            .count("n", 3)
            .count("none", None)
            .number("x", 1.5)
            .number("inf", f64::INFINITY)
            .flag("on", true)
            .list("list", [Object::default().number("y", 0.25), Object::default()]);
        let expected = "{\"kind\":\"a\\\"b\\\\c\\u000a\u{e9}\",\"n\":3,\"none\":null,\"x\":1.5,\"inf\":null,\
                        \"on\":true,\"list\":[{\"y\":0.25},{}]}";
        assert_eq!(object.to_string(), expected);
    }
}
