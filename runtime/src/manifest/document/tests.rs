use super::*;

/// The tree as text, to be compared: `P:` is plain, `Q:` quoted.
fn shown(node: &Node) -> String {
    match &node.value {
        Value::Plain(text) => format!("P:{text}"),
        Value::Quoted(text) => format!("Q:{text}"),
        Value::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(",")),
        Value::Map(entries) => {
            let all: Vec<String> =
                entries.iter().map(|entry| format!("{}={}", entry.key, shown(&entry.value))).collect();
            format!("{{{}}}", all.join(","))
        }
    }
}

fn tree(text: &str) -> Vec<String> {
    read(text).unwrap().iter().map(shown).collect()
}

#[test]
fn documents_are_separate_and_empty_ones_are_left_out() {
    assert_eq!(tree("a: 1\n---\n# nothing\n---\nb: 'x'\n...\n---\n- c\n"), ["{a=P:1}", "{b=Q:x}", "[P:c]"]);
}

#[test]
fn json_is_read_as_it_is() {
    assert_eq!(
        tree("{\n\t\"a\": [1, \"two\", null],\n\t\"b\": {\"c\": \"\\u00e4\\/\"}\n}"),
        ["{a=[P:1,Q:two,P:null],b={c=Q:ä/}}"]
    );
    // What JSON writes as two halves of UTF-16 is one character.
    assert_eq!(tree("{\"a\": \"\\ud83d\\ude00\"}"), ["{a=Q:😀}"]);
}

#[test]
fn blocks_are_text() {
    assert_eq!(tree("a: |\n  1\n  2\nb: >\n  yes\n  no\n"), ["{a=Q:1\n2\n,b=Q:yes no\n}"]);
    assert_eq!(tree("a: !!str 8080\n"), ["{a=Q:8080}"]);
}

#[test]
fn anchors_and_merge_keys_are_resolved() {
    assert_eq!(
        tree("a: &x {p: 1, q: 2}\nb: *x\nc: {<<: *x, q: 3}\n"),
        ["{a={p=P:1,q=P:2},b={p=P:1,q=P:2},c={q=P:3,p=P:1}}"]
    );
    assert_eq!(
        tree("a: &x {p: 1}\nb: &y {p: 2, q: 3}\nc: {<<: [*x, *y]}\n")[0].split("c=").nth(1),
        Some("{p=P:1,q=P:3}}")
    );
    assert!(read("a: {<<: text}\n").unwrap_err().message.contains("merge key"));
    // A document does not see the anchors of the one before.
    assert!(read("a: &x 1\n---\nb: *x\n").is_err());
}

#[test]
fn a_key_that_comes_twice_remembers_the_first() {
    let documents = read("a: 1\nb: 2\na: 3\n").unwrap();
    let Value::Map(entries) = &documents[0].value else { panic!("no object") };
    let twice: Vec<(usize, Option<usize>)> = entries.iter().map(|entry| (entry.line, entry.before)).collect();
    assert_eq!(twice, [(1, None), (2, None), (3, Some(1))]);
}

#[test]
fn what_is_not_yaml_names_its_line() {
    assert_eq!(read("a: 1\nb: [\n").unwrap_err().line, 2);
    assert_eq!(read("a: 1\n b: 2\n").unwrap_err().line, 2);
    for text in ["? [a]\n: b\n", "null: a\n"] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn aliases_that_multiply_are_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let all = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{all}]\n"));
    }
    assert!(read(&text).unwrap_err().message.contains("values with aliases resolved"));
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    assert!(read(&deep).unwrap_err().message.contains("deep"));
}
