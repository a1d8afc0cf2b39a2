//! The shape of the sources: files of a crate use each other in one direction, and none is too long to be read at once.
//!
//! A file uses another one where a `use`, or a path in its code, names something that the other defines. A re-export is
//! followed to the definition. Tests are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// Lines of a file before its tests, at most.
const MOST_LINES: usize = 600;

/// A module's path in its crate: `["scan", "plan"]`.
type Module = Vec<String>;

struct Source {
    file: PathBuf,
    lines: usize,
    syntax: syn::File,
}

/// One crate's sources, by module.
struct Crate {
    modules: BTreeMap<Module, Source>,
    /// What a module makes of another one visible under a name of its own; `*` for all of it.
    exports: BTreeMap<Module, Vec<(String, Module)>>,
}

impl Crate {
    fn read(src: &Path) -> Self {
        let mut found = Self { modules: BTreeMap::new(), exports: BTreeMap::new() };
        found.add(&src.join("lib.rs"), src, Vec::new());
        let mut exports = BTreeMap::new();
        for (module, source) in &found.modules {
            let mut of = Vec::new();
            for item in &source.syntax.items {
                let syn::Item::Use(item) = item else { continue };
                if matches!(item.vis, syn::Visibility::Inherited) || is_test(&item.attrs) {
                    continue;
                }
                leaves(&item.tree, &mut Vec::new(), &mut |path, name| {
                    if let Some(path) = found.absolute(module, &path) {
                        of.push((name, path));
                    }
                });
            }
            exports.insert(module.clone(), of);
        }
        found.exports = exports;
        found
    }

    /// Adds a file and the modules that it declares.
    fn add(&mut self, file: &Path, folder: &Path, module: Module) {
        let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let syntax = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let tests = text.lines().position(|line| line.trim() == "#[cfg(test)]" && !line.starts_with(' '));
        let lines = tests.unwrap_or_else(|| text.lines().count());
        for item in &syntax.items {
            let syn::Item::Mod(item) = item else { continue };
            if item.content.is_some() || is_test(&item.attrs) {
                continue;
            }
            let name = item.ident.to_string();
            let within = folder.join(&name);
            let own = folder.join(format!("{name}.rs"));
            let own = if own.exists() { own } else { within.join("mod.rs") };
            self.add(&own, &within, module.iter().cloned().chain([name]).collect());
        }
        self.modules.insert(module, Source { file: file.to_path_buf(), lines, syntax });
    }

    /// A path as it is from the crate's root; `None` where it leads out of the crate.
    fn absolute(&self, from: &Module, path: &[String]) -> Option<Module> {
        let (first, rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => Vec::new(),
            "self" => from.clone(),
            "super" => from.split_last()?.1.to_vec(),
            name => {
                let child: Module = from.iter().cloned().chain([name.to_string()]).collect();
                self.modules.contains_key(&child).then_some(child)?
            }
        };
        for part in rest {
            match part.as_str() {
                "super" => drop(at.pop()?),
                "self" => {}
                _ => at.push(part.clone()),
            }
        }
        Some(at)
    }

    /// The module that defines what an absolute path names.
    fn owner(&self, path: &[String], depth: usize) -> Option<Module> {
        let known = (0..=path.len()).rev().find(|end| self.modules.contains_key(&path[..*end]))?;
        let (module, rest) = path.split_at(known);
        let Some(name) = rest.first().filter(|_| depth < 8) else { return Some(module.to_vec()) };
        let exports = self.exports.get(module).map(Vec::as_slice).unwrap_or_default();
        let named = exports.iter().find(|(export, _)| export == name).map(|(_, to)| to);
        if let Some(to) = named {
            return self.owner(to, depth + 1).or_else(|| Some(module.to_vec()));
        }
        for (_, to) in exports.iter().filter(|(export, _)| export == "*") {
            let to: Module = to.iter().cloned().chain([name.clone()]).collect();
            if let Some(owner) = self.owner(&to, depth + 1)
                && self.defines(&owner, name)
            {
                return Some(owner);
            }
        }
        Some(module.to_vec())
    }

    fn defines(&self, module: &Module, name: &str) -> bool {
        let Some(source) = self.modules.get(module) else { return false };
        source.syntax.items.iter().any(|item| match item {
            syn::Item::Const(i) => i.ident == name,
            syn::Item::Enum(i) => i.ident == name,
            syn::Item::Fn(i) => i.sig.ident == name,
            syn::Item::Static(i) => i.ident == name,
            syn::Item::Struct(i) => i.ident == name,
            syn::Item::Trait(i) => i.ident == name,
            syn::Item::Type(i) => i.ident == name,
            _ => false,
        })
    }

    /// The modules that each module uses.
    fn uses(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let mut uses = BTreeMap::new();
        for (module, source) in &self.modules {
            let mut paths = Paths(Vec::new());
            paths.visit_file(&source.syntax);
            let used = paths.0.iter().filter_map(|path| match &path[..] {
                // A name that the file re-exports is at hand in it as well.
                [name] => {
                    let exports = self.exports.get(module)?;
                    self.owner(&exports.iter().find(|(export, _)| export == name)?.1, 0)
                }
                _ => self.owner(&self.absolute(module, path)?, 0),
            });
            uses.insert(module.clone(), used.filter(|used| used != module).collect());
        }
        uses
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// Each name that a `use` brings: its path, and what it is called.
fn leaves(tree: &syn::UseTree, prefix: &mut Vec<String>, each: &mut impl FnMut(Vec<String>, String)) {
    let with = |name: &syn::Ident, prefix: &[String]| {
        let mut path = prefix.to_vec();
        path.extend(Some(name.to_string()).filter(|name| name != "self"));
        path
    };
    match tree {
        syn::UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            leaves(&path.tree, prefix, each);
            prefix.pop();
        }
        syn::UseTree::Name(name) => each(with(&name.ident, prefix), name.ident.to_string()),
        syn::UseTree::Rename(name) => each(with(&name.ident, prefix), name.rename.to_string()),
        syn::UseTree::Glob(_) => each(prefix.clone(), "*".to_string()),
        syn::UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, prefix, each)),
    }
}

/// The paths that a file names, outside of tests. A re-export alone is no use.
struct Paths(Vec<Vec<String>>);

impl Paths {
    /// Paths in a macro's arguments, which are not parsed: what follows `crate::`, `super::` and `self::`.
    fn tokens(&mut self, tokens: proc_macro2::TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let ident = |at: usize| match tokens.get(at) {
            Some(proc_macro2::TokenTree::Ident(ident)) => Some(ident.to_string()),
            _ => None,
        };
        let colon = |at: usize| matches!(tokens.get(at), Some(proc_macro2::TokenTree::Punct(p)) if p.as_char() == ':');
        for (at, token) in tokens.iter().enumerate() {
            if let proc_macro2::TokenTree::Group(group) = token {
                self.tokens(group.stream());
            }
            let Some(first) = ident(at) else { continue };
            if !matches!(first.as_str(), "crate" | "super" | "self") {
                continue;
            }
            let (mut path, mut at) = (vec![first], at + 1);
            while colon(at)
                && colon(at + 1)
                && let Some(next) = ident(at + 2)
            {
                path.push(next);
                at += 3;
            }
            if path.len() > 1 {
                self.0.push(path);
            }
        }
    }
}

impl<'a> Visit<'a> for Paths {
    fn visit_item(&mut self, item: &'a syn::Item) {
        let attributes = match item {
            syn::Item::Fn(i) => &i.attrs,
            syn::Item::Impl(i) => &i.attrs,
            syn::Item::Mod(i) => &i.attrs,
            syn::Item::Use(i) => &i.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        if matches!(item.vis, syn::Visibility::Inherited) {
            leaves(&item.tree, &mut Vec::new(), &mut |path, _| self.0.push(path));
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        if path.leading_colon.is_none() {
            self.0.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    /// Where an item may be seen is no use of that place.
    fn visit_vis_restricted(&mut self, _: &'a syn::VisRestricted) {}

    fn visit_macro(&mut self, call: &'a syn::Macro) {
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}

/// The sets of modules each of which uses, over others, every other one of its set.
fn circles(uses: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<BTreeSet<Module>> {
    let reach: BTreeMap<&Module, BTreeSet<&Module>> = uses
        .keys()
        .map(|from| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
            while let Some(at) = next.pop() {
                next.extend(uses.get(at).into_iter().flatten().filter(|to| seen.insert(*to)));
            }
            (from, seen)
        })
        .collect();
    let mut circles: Vec<BTreeSet<Module>> = Vec::new();
    for (from, seen) in &reach {
        let all: BTreeSet<Module> =
            seen.iter().filter(|to| reach[*to].contains(from)).map(|m| (*m).clone()).collect();
        if all.len() > 1 && !circles.contains(&all) {
            circles.push(all);
        }
    }
    circles
}

/// The folders of the workspace's crates.
fn crates() -> Vec<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let within = fs::read_dir(root.join("crates")).unwrap();
    let mut all: Vec<_> =
        within.map(|entry| entry.unwrap().path().join("src")).chain([root.join("src")]).collect();
    all.sort();
    all
}

#[test]
fn no_files_of_a_crate_use_each_other_in_a_circle() {
    let mut found = Vec::new();
    for src in crates() {
        let sources = Crate::read(&src);
        let uses = sources.uses();
        for circle in circles(&uses) {
            for from in &circle {
                let to: Vec<_> = uses[from].intersection(&circle).map(|to| to.join("::")).collect();
                found.push(format!("{} uses {}", sources.modules[from].file.display(), to.join(", ")));
            }
            found.push(String::new());
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_file_is_longer_than_600_lines_before_its_tests() {
    for src in crates() {
        for source in Crate::read(&src).modules.values() {
            assert!(source.lines <= MOST_LINES, "{} has {} lines", source.file.display(), source.lines);
        }
    }
}
