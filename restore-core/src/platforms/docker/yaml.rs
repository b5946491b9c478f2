//! YAML as compose files are written in it, as JSON: anchors filled in, `<<` merged, and within limits, as it may come
//! from a backup.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// More nodes than any compose file has, aliases filled in.
const NODES: usize = 200_000;

/// More bytes of text than any has, aliases filled in.
const BYTES: usize = 16 << 20;

/// More levels than any has.
const DEPTH: usize = 64;

/// The key of a mapping that names others, whose entries it has too.
const MERGE: &str = "<<";

/// The first document of a text; `Null` where there is none. Scalars that are neither quoted nor a truth value nor
/// nothing are texts, numbers as well. Of a key that is there twice the later one holds, as with Docker's own programs
/// that do not refuse such a file.
///
/// # Errors
///
/// What is wrong with it, in a few words.
pub(crate) fn document(text: &str) -> Result<Value, String> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|e| e.to_string())?;
        match event {
            Event::DocumentEnd | Event::StreamEnd => break,
            Event::Scalar(text, style, anchor, _) => {
                builder.count(Weight {
                    nodes: 0,
                    bytes: text.len(),
                })?;
                builder.put(scalar(&text, style), anchor)?;
            }
            Event::SequenceStart(anchor, _) => builder.open(Content::List(Vec::new()), anchor)?,
            Event::MappingStart(anchor, _) => {
                builder.open(Content::Map(Map::new(), None), anchor)?;
            }
            Event::SequenceEnd | Event::MappingEnd => builder.close()?,
            Event::Alias(anchor) => {
                let named = builder.anchors.get(&anchor);
                let weight = Weight::of(named.ok_or("an alias stands in what it names")?);
                // Before there is a copy.
                builder.count(weight)?;
                let value = builder.anchors.get(&anchor).cloned();
                builder.put(value.unwrap_or_default(), 0)?;
            }
            _ => {}
        }
    }
    Ok(builder.whole.unwrap_or_default())
}

/// Whether a value says yes in one of the ways in which compose files do.
pub(crate) fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(is) => *is,
        Value::String(text) => ["true", "yes", "on", "y"]
            .iter()
            .any(|yes| text.eq_ignore_ascii_case(yes)),
        _ => false,
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    match (style, text) {
        (ScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Value::Null,
        (ScalarStyle::Plain, "true" | "True" | "TRUE") => Value::Bool(true),
        (ScalarStyle::Plain, "false" | "False" | "FALSE") => Value::Bool(false),
        (_, text) => Value::String(text.to_owned()),
    }
}

/// What a value takes up.
#[derive(Clone, Copy, Default)]
struct Weight {
    /// How many nodes it has, itself included.
    nodes: usize,
    /// How many bytes its texts and keys have.
    bytes: usize,
}

impl Weight {
    fn of(value: &Value) -> Self {
        let mut whole = Self { nodes: 1, bytes: 0 };
        match value {
            Value::String(text) => whole.bytes = text.len(),
            Value::Array(all) => {
                for value in all {
                    whole.add(Self::of(value));
                }
            }
            Value::Object(all) => {
                for (key, value) in all {
                    whole.bytes = whole.bytes.saturating_add(key.len());
                    whole.add(Self::of(value));
                }
            }
            _ => {}
        }
        whole
    }

    fn add(&mut self, other: Self) {
        self.nodes = self.nodes.saturating_add(other.nodes);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// What is being read.
enum Content {
    List(Vec<Value>),
    /// With the key whose value comes next.
    Map(Map<String, Value>, Option<String>),
}

#[derive(Default)]
struct Builder {
    /// The innermost last, each with its anchor.
    open: Vec<(Content, usize)>,
    anchors: HashMap<usize, Value>,
    weight: Weight,
    whole: Option<Value>,
}

impl Builder {
    fn open(&mut self, content: Content, anchor: usize) -> Result<(), String> {
        if self.open.len() >= DEPTH {
            return Err(format!("it is more than {DEPTH} levels deep"));
        }
        self.open.push((content, anchor));
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let Some((content, anchor)) = self.open.pop() else {
            return Err("it ends what was not begun".to_owned());
        };
        let value = match content {
            Content::List(all) => Value::Array(all),
            Content::Map(all, _) => Value::Object(merged(all)),
        };
        self.put(value, anchor)
    }

    /// Counts what is about to be added.
    fn count(&mut self, weight: Weight) -> Result<(), String> {
        self.weight.add(weight);
        if self.weight.nodes > NODES {
            return Err(format!("it has more than {NODES} nodes"));
        }
        if self.weight.bytes > BYTES {
            return Err(format!("it has more than {BYTES} bytes of text"));
        }
        Ok(())
    }

    fn put(&mut self, value: Value, anchor: usize) -> Result<(), String> {
        self.count(Weight { nodes: 1, bytes: 0 })?;
        // Nothing is named by 0.
        if anchor > 0 {
            self.count(Weight::of(&value))?;
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut() {
            None => self.whole = Some(value),
            Some((Content::List(all), _)) => all.push(value),
            Some((Content::Map(all, key), _)) => match (key.take(), value) {
                (Some(key), value) if key == MERGE => match all.get_mut(MERGE) {
                    Some(Value::Array(named)) => named.push(value),
                    _ => drop(all.insert(key, Value::Array(vec![value]))),
                },
                (Some(key), value) => drop(all.insert(key, value)),
                (None, Value::String(text)) => *key = Some(text),
                (None, Value::Bool(is)) => *key = Some(is.to_string()),
                (None, _) => return Err("a key is no text".to_owned()),
            },
        }
        Ok(())
    }
}

/// One or several.
fn listed(value: Value) -> Vec<Value> {
    match value {
        Value::Array(all) => all,
        one => vec![one],
    }
}

/// What `<<` names is there where the mapping says nothing of its own; of several what the last one names.
fn merged(mut all: Map<String, Value>) -> Map<String, Value> {
    let named = all.shift_remove(MERGE).map(listed).unwrap_or_default();
    for value in named.into_iter().rev().flat_map(listed) {
        let Value::Object(other) = value else {
            continue;
        };
        for (key, value) in other {
            all.entry(key).or_insert(value);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_read_as_it_is_meant() {
        let text = r#"
# A comment.
x-base: &base {a: 1, "b": ~, c: [x, 'true']}
one:
  <<: *base
  b: own
two: [*base, true, "", plain text with: colon]
three: |
  lines
  of text
"#
        .replace(" with: colon", "");
        let base = json!({"a": "1", "b": null, "c": ["x", "true"]});
        assert_eq!(
            document(&text).unwrap(),
            json!({
                "x-base": base,
                "one": {"b": "own", "a": "1", "c": ["x", "true"]},
                "two": [base, true, "", "plain text"],
                "three": "lines\nof text\n",
            })
        );
        assert_eq!(document("").unwrap(), Value::Null);
        assert_eq!(
            document("---\na: b\n---\nc: d\n").unwrap(),
            json!({"a": "b"})
        );
    }

    #[test]
    fn what_docker_takes_is_taken() {
        let text = "
x: [&a {one: a, two: a, own: a}, &b {one: b, three: b}, &c {two: c}]
it:
  <<: *a
  <<: [*b, *c]
  own: first
  own: mine
";
        let it = document(text).unwrap()["it"].clone();
        let wanted = json!({"own": "mine", "one": "b", "two": "c", "three": "b"});
        assert_eq!(it, wanted);
        for (text, is) in [
            ("true", true),
            ("yes", true),
            ("On", true),
            ("'true'", true),
            ("no", false),
            ("off", false),
            ("false", false),
            ("~", false),
            ("{name: x}", false),
        ] {
            let read = document(&format!("external: {text}")).unwrap();
            assert_eq!(is_true(&read["external"]), is, "{text}");
        }
    }

    #[test]
    fn what_is_no_yaml_or_too_much_of_it_is_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            let all = vec![before; 10].join(", ");
            bomb += &format!("a{level}: &a{level} [{all}]\n");
        }
        // Few nodes, each of much text: in keys, and below an anchor in an anchor too.
        let long = "x".repeat(1 << 20);
        let aliases = vec!["*a"; 20].join(", ");
        let heavy = format!("a: &a {long}\nb: [{aliases}]\n");
        let mut keys = "a: &a\n".to_owned();
        for number in 0..1000 {
            keys += &format!("  {number}{}: b\n", &long[..900]);
        }
        keys += &format!("b: [{aliases}]\n");
        let mut nested = "a: ".to_owned();
        for level in 0..16 {
            nested += &format!("&a{level} [");
        }
        nested += &format!("{long}{}\n", "]".repeat(16));
        let deep = "[".repeat(500);
        let levels = format!("{}{}", "[".repeat(DEPTH + 1), "]".repeat(DEPTH + 1));
        for (text, says) in [
            (bomb.as_str(), "nodes"),
            (&heavy, "bytes"),
            (&keys, "bytes"),
            (&nested, "bytes"),
            (&deep, ""),
            (&levels, "levels"),
            ("a: [", ""),
            ("a: *nothing", ""),
            ("a: &a [*a]", ""),
            ("[a]: b", "no text"),
        ] {
            let error = document(text).unwrap_err();
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}
