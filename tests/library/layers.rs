//! Checks the structure of `src`: no module imports from a higher layer, import cycles contain few files, and files are
//! short.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules at the top level of the crate, from the lowest layer to the highest. A module imports only from its own
/// layer and from lower ones.
const LAYERS: &[&[&str]] = &[
    &["error"],
    &["report"],
    &["stats"],
    &["trace_scope"],
    &["dtype"],
    &["real"],
    &["simd"],
    // `element` and `floats` import each other: an element converts to `Floats`, and `Floats` converts from slices of
    // elements.
    &["element", "floats"],
    &["math"],
    &["rows"],
    &["heads"],
    &["copies"],
    &["mask"],
    &["options"],
    &["sampler"],
    &["cpu"],
    &["ops"],
    &["trace"],
    &["registry"],
    &["accuracy"],
    &["reference"],
    &["adapter"],
    &["train"],
    &["cuda"],
    &["neuron"],
    &["backend"],
    &["sharded"],
    &["checkpoint"],
    &["candle"],
    &["testing"],
];

/// The only import from a higher layer: its file and its Rust path. A caller's bound `E: Element` must give access to
/// the entry points of all ops, and only a supertrait can provide this access.
const SUPERTRAIT: (&str, &str) = ("element.rs", "crate::cpu::Kernels");

/// Largest allowed number of files in a cycle of imports.
const MAX_CIRCLE: usize = 6;

const MAX_LINES: usize = 500;

#[test]
fn modules_import_only_from_lower_layers() {
    let mut wrong = String::new();
    for Import { from, line, path, to } in imports() {
        if layer(&from) < layer(&to) {
            writeln!(wrong, "src/{}:{line}: {path}", from.display()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "no file in src may import from a higher layer, got the imports:\n{wrong}");
}

#[test]
fn circles_are_small() {
    let mut graph = BTreeMap::<PathBuf, BTreeSet<PathBuf>>::new();
    for Import { from, to, .. } in imports() {
        graph.entry(to.clone()).or_default();
        graph.entry(from).or_default().insert(to);
    }
    let reached: BTreeMap<_, _> = graph.keys().map(|file| (file, reached(&graph, file))).collect();
    for (file, others) in &reached {
        let circle: Vec<_> = others.iter().filter(|other| reached[*other].contains(file)).collect();
        assert!(
            circle.len() <= MAX_CIRCLE,
            "at most {MAX_CIRCLE} files may import each other in a circle, got {} files: {circle:#?}",
            circle.len()
        );
    }
}

#[test]
fn files_are_short() {
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let lines = fs::read_to_string(&path).unwrap().lines().count();
                assert!(
                    lines <= MAX_LINES,
                    "{}: the file must have at most {MAX_LINES} lines, got {lines}",
                    path.display()
                );
            }
        }
    }
}

/// Returns the index in [`LAYERS`] of a file's layer.
fn layer(file: &Path) -> usize {
    let module = file.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
    let layer = LAYERS.iter().position(|layer| layer.contains(&module));
    layer
        .unwrap_or_else(|| panic!("the module {module} of src must be in the list LAYERS of `tests/library/layers.rs`"))
}

/// Returns the files that a file imports, directly or through others.
fn reached<'a>(graph: &'a BTreeMap<PathBuf, BTreeSet<PathBuf>>, file: &'a PathBuf) -> BTreeSet<&'a PathBuf> {
    let (mut found, mut next) = (BTreeSet::new(), vec![file]);
    while let Some(file) = next.pop() {
        next.extend(graph[file].iter().filter(|file| found.insert(*file)));
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../src")
}

/// Rust path in the file `from` that names an item of the file `to`.
struct Import {
    from: PathBuf,
    line: usize,
    path: String,
    to: PathBuf,
}

/// Returns all imports outside of `lib.rs` and tests, except [`SUPERTRAIT`].
fn imports() -> Vec<Import> {
    let modules = modules();
    let mut imports = Vec::new();
    for (at, module) in modules.iter().filter(|(at, _)| !at.is_empty()) {
        for (path, line) in &module.paths {
            let Some(to) = defined_in(&modules, at, path) else { continue };
            let import = Import { from: module.file.clone(), line: *line, path: path.join("::"), to };
            let is_known = (import.from.as_path(), import.path.as_str()) == (Path::new(SUPERTRAIT.0), SUPERTRAIT.1);
            if import.to != import.from && import.to != Path::new("lib.rs") && !is_known {
                imports.push(import);
            }
        }
    }
    assert!(imports.len() > 5000, "the test must find more than 5000 imports in src, got {}", imports.len());
    imports
}

/// Modules that have a file, by their Rust paths. The path of the root is empty.
type Modules = BTreeMap<Vec<String>, Module>;

struct Module {
    file: PathBuf,
    /// Names of the modules that this one declares.
    children: BTreeSet<String>,
    /// Path of each name of this crate that a `use` brings into scope.
    names: BTreeMap<String, Vec<String>>,
    /// All Rust paths in the file, each with its line. Exports of the module's own children are left out.
    paths: Vec<(Vec<String>, usize)>,
}

/// Returns the file that defines the item with this Rust path in a module, or `None` for an item of another crate.
fn defined_in(modules: &Modules, module: &[String], path: &[String]) -> Option<PathBuf> {
    let mut at = module.to_vec();
    for (i, name) in path.iter().enumerate() {
        let module = &modules[&at];
        if name == "crate" {
            at.clear();
        } else if name == "super" {
            at.pop();
        } else if module.children.contains(name) {
            at.push(name.clone());
        } else if let Some(path_of_name) = module.names.get(name).filter(|other| **other != path[..=i]) {
            return defined_in(modules, &at, &[path_of_name, &path[i + 1..]].concat());
        } else if name != "self" && i == 0 {
            let all = module.names.get("*").filter(|_| path.len() > 1)?;
            return defined_in(modules, &at, &[&all[..all.len() - 1], path].concat());
        } else if name != "self" {
            break;
        }
    }
    Some(modules[&at].file.clone())
}

/// Parses all files of the crate that are compiled outside of tests.
fn modules() -> Modules {
    let mut modules = Modules::new();
    add_module(Vec::new(), PathBuf::from("lib.rs"), &mut modules);
    modules
}

/// Parses a file and the files of its child modules.
fn add_module(at: Vec<String>, file: PathBuf, modules: &mut Modules) {
    let code = without_tests(&without_literals(&fs::read_to_string(root().join(&file)).unwrap()));
    let tokens = tokens(&code);
    let words: Vec<&str> = tokens.iter().map(|(word, _)| *word).collect();
    let children = words.windows(3).filter(|words| words[0] == "mod" && words[2] == ";").map(|words| words[1].into());
    let mut module = Module { file, children: children.collect(), names: BTreeMap::new(), paths: Vec::new() };
    let (mut next, mut inline) = (0, 0..0);
    while next < words.len() {
        let (first, line) = (next, tokens[next].1);
        next += 1;
        let mut found = Vec::new();
        if words[first] == "mod" && words[next + 1] == "{" {
            inline = next + 1..end_of_block(&words, next + 1);
        } else if words[first] == "use" && words[next] != "<" {
            let is_export = first > 0 && matches!(words[first - 1], "pub" | ")");
            for (path, name) in use_tree(&words, &mut next, Vec::new()) {
                let is_own = module.children.contains(&path[0]);
                let is_of_crate = is_own || matches!(path[0].as_str(), "crate" | "super" | "self");
                if is_of_crate && !inline.contains(&first) {
                    module.names.insert(name, path.clone());
                }
                if !(is_export && is_own) {
                    found.push(path);
                }
            }
        } else if words[first] != "::" {
            while words.get(next) == Some(&"::") && words.get(next + 1).is_some_and(|word| is_name(word)) {
                next += 2;
            }
            if next > first + 1 && (first == 0 || words[first - 1] != "::") {
                found.push(words[first..next].iter().step_by(2).map(ToString::to_string).collect());
            }
        }
        for mut path in found {
            // `super` in an inline module is the module of the file.
            if inline.contains(&first) && path[0] == "super" {
                path[0] = "self".into();
            }
            module.paths.push((path, line));
        }
    }
    let is_root = module.file.ends_with("lib.rs") || module.file.ends_with("mod.rs");
    let folder = if is_root { module.file.parent().unwrap().into() } else { module.file.with_extension("") };
    for child in &module.children {
        let (in_file, in_folder) = (folder.join(format!("{child}.rs")), folder.join(child).join("mod.rs"));
        let has_file = root().join(&in_file).exists();
        add_module(
            [&at[..], std::slice::from_ref(child)].concat(),
            if has_file { in_file } else { in_folder },
            modules,
        );
    }
    modules.insert(at, module);
}

/// Returns the index just past the end of the block that begins at `start`.
fn end_of_block(words: &[&str], start: usize) -> usize {
    let mut depth = 0;
    let end = words[start..].iter().position(|word| {
        depth += i32::from(*word == "{") - i32::from(*word == "}");
        depth == 0
    });
    end.map_or(words.len(), |length| start + length + 1)
}

/// Returns the paths of a `use`, each with the name that it brings into scope.
fn use_tree(words: &[&str], next: &mut usize, mut path: Vec<String>) -> Vec<(Vec<String>, String)> {
    loop {
        let word = words[*next];
        *next += 1;
        match word {
            "::" => {}
            "{" => {
                let mut all = Vec::new();
                while words[*next] != "}" {
                    if words[*next] == "," {
                        *next += 1;
                    } else {
                        all.extend(use_tree(words, next, path.clone()));
                    }
                }
                *next += 1;
                return all;
            }
            "as" => {
                *next += 1;
                return vec![(path, words[*next - 1].into())];
            }
            "," | "}" | ";" => {
                *next -= 1;
                let name = path.last().unwrap().clone();
                return vec![(path, name)];
            }
            "self" if !path.is_empty() => {}
            name => path.push(name.into()),
        }
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Splits code into words, `::` and single characters, each with its line.
fn tokens(code: &str) -> Vec<(&str, usize)> {
    let is_in_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    for (line, mut rest) in code.lines().enumerate() {
        while let Some(c) = rest.chars().next() {
            let len = match c {
                ':' if rest.starts_with("::") => 2,
                c if is_in_word(c) => rest.find(|c| !is_in_word(c)).unwrap_or(rest.len()),
                c => c.len_utf8(),
            };
            if !c.is_whitespace() {
                tokens.push((&rest[..len], line + 1));
            }
            rest = &rest[len..];
        }
    }
    tokens
}

/// Removes comments, string literals and character literals. Lines keep their numbers.
fn without_literals(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let hashes = rest.strip_prefix('r').map(|after| after.len() - after.trim_start_matches('#').len());
        let is_raw = hashes.is_some_and(|hashes| rest[1 + hashes..].starts_with('"'));
        let is_character = c == '\'' && (rest[1..].starts_with('\\') || rest.chars().nth(2) == Some('\''));
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if is_raw && !code.ends_with(|c: char| c.is_alphanumeric() && c != 'b') {
            let (start, end) = rest.split_once('"').unwrap();
            let close = start.replacen('r', "\"", 1);
            start.len() + 1 + end.find(&close).unwrap() + close.len()
        } else if c == '"' || is_character {
            end_of_literal(rest, c)
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        code.extend(rest[..len].chars().filter(|c| *c == '\n').chain([' ']));
        rest = &rest[len..];
    }
    code
}

/// Returns the length of the literal at the start of a text.
fn end_of_literal(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let is_end = *c == quote && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

/// Removes items under `#[cfg(test)]`. Lines keep their numbers.
fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        let mut depth = 0;
        let end = rest[at..].char_indices().find(|(_, c)| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            depth == 0 && matches!(c, '}' | ';')
        });
        let end = end.map_or(rest.len(), |(length, _)| at + length + 1);
        kept.push_str(&rest[..at]);
        kept.extend(rest[at..end].chars().filter(|c| *c == '\n'));
        rest = &rest[end..];
    }
    kept + rest
}
