//! Links, includes and paths in the documents lead somewhere.

use std::path::{Component, Path, PathBuf};

use tidy::{TextFile, files_ending, root};

use crate::none;

#[test]
fn every_link_leads_somewhere() {
    let mut complaints = Vec::new();
    for file in files_ending(".md") {
        for (line, target) in links(&file.text) {
            if let Err(what) = resolve(&file, &target) {
                complaints.push(format!("{}:{line}: {target}: {what}", file.name));
            }
        }
    }
    none(&complaints);
}

#[test]
fn every_path_in_code_font_is_there() {
    const FOLDERS: [&str; 7] =
        [".ci/", "crates/", "docs/", "examples/", "fuzz/", "scripts/", "testdata/"];
    let mut complaints = Vec::new();
    // The journal tells of the past: what it names may be gone.
    let files = files_ending(".md").into_iter().filter(|file| !file.name.contains("/journal/"));
    for file in files {
        for (index, line) in file.text.lines().enumerate() {
            let spans = line.split('`').skip(1).step_by(2);
            let first_words = spans.filter_map(|span| span.split_whitespace().next());
            for path in first_words.filter(|path| FOLDERS.iter().any(|f| path.starts_with(f))) {
                if !path.contains(['*', '<', '…']) && !root().join(path).exists() {
                    complaints.push(format!("{}:{}: no such file: {path}", file.name, index + 1));
                }
            }
        }
    }
    none(&complaints);
}

#[test]
fn every_page_of_the_book_is_in_its_summary() {
    let book = "docs/book/src/";
    let summary = std::fs::read_to_string(root().join(book).join("SUMMARY.md")).unwrap();
    let pages = files_ending(".md").into_iter().filter_map(|file| {
        let page = file.name.strip_prefix(book)?.to_string();
        (page != "SUMMARY.md").then_some(page)
    });
    let missing = pages.filter(|page| !summary.contains(&format!("({page})")));
    none(&missing.map(|page| format!("SUMMARY.md: {page} is not in it")).collect::<Vec<_>>());
}

/// The book shows the headers of source files, so that a format is described in one place. Such an
/// include is `{{#include path:1:LAST}}`, and LAST has to be the header's last line.
/// `UPDATE_INCLUDES=1 cargo test -p tidy` puts it right.
#[test]
fn the_book_includes_headers_whole() {
    let updates = std::env::var_os("UPDATE_INCLUDES").is_some();
    let mut complaints = Vec::new();
    for file in files_ending(".md") {
        let mut text = file.text.clone();
        for (line, include) in includes(&file.text) {
            let [path, first, last] = include.split(':').collect::<Vec<_>>()[..] else {
                complaints.push(format!("{}:{line}: {include}: give it as path:1:LAST", file.name));
                continue;
            };
            let source = beside(&file, path);
            let Ok(source) = std::fs::read_to_string(root().join(&source)) else {
                complaints.push(format!("{}:{line}: no such file: {path}", file.name));
                continue;
            };
            let header = source.lines().take_while(|line| line.starts_with("//!")).count();
            if (first, last) != ("1", &header.to_string()) {
                complaints.push(format!(
                    "{}:{line}: the header of {path} is lines 1 to {header}: \
                     UPDATE_INCLUDES=1 cargo test -p tidy",
                    file.name
                ));
                text = text.replace(&include, &format!("{path}:1:{header}"));
            }
        }
        if updates && text != file.text {
            std::fs::write(root().join(&file.name), text).unwrap();
            return;
        }
    }
    none(&complaints);
}

/// Returns the targets of the links in a document, each with its line. Code is passed over.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    let mut is_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        if is_code {
            continue;
        }
        // Outside of code spans, which are every second part.
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for part in prose.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default();
            links.push((index + 1, target.to_string()));
        }
    }
    links
}

fn includes(text: &str) -> Vec<(usize, String)> {
    let lines = text.lines().enumerate();
    let found = lines.filter_map(|(index, line)| {
        let include = line.trim().strip_prefix("{{#include ")?.strip_suffix("}}")?;
        Some((index + 1, include.to_string()))
    });
    found.collect()
}

/// Checks where a link leads: to a file, and to a heading in it.
fn resolve(file: &TextFile, target: &str) -> Result<(), &'static str> {
    if target.starts_with("https://") || target.starts_with("http://") {
        return Ok(());
    }
    let (path, heading) = target.split_once('#').unwrap_or((target, ""));
    let name = if path.is_empty() { PathBuf::from(&file.name) } else { beside(file, path) };
    let found = root().join(&name);
    if !found.exists() {
        return Err("no such file");
    }
    if heading.is_empty() {
        return Ok(());
    }
    let text = std::fs::read_to_string(found).map_err(|_| "a heading of what is no text")?;
    let headings = text.lines().filter(|line| line.starts_with('#')).map(slug);
    if headings.into_iter().any(|slug| slug == heading) { Ok(()) } else { Err("no such heading") }
}

/// Returns a path that is given from a document, as one from the root.
fn beside(file: &TextFile, path: &str) -> PathBuf {
    let folder = Path::new(&file.name).parent().unwrap_or(Path::new(""));
    let mut joined = PathBuf::new();
    for part in folder.join(path).components() {
        match part {
            Component::ParentDir => drop(joined.pop()),
            Component::CurDir => {}
            other => joined.push(other),
        }
    }
    joined
}

/// Returns what a heading is called in links, as GitHub and mdBook name it.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_and_headings_are_understood() {
    let text = "see [a](b.md#c) and `[no](link)`\n```text\n[no](link)\n```\n[d](e)";
    assert_eq!(links(text), [(1, "b.md#c".to_string()), (5, "e".to_string())]);
    assert_eq!(slug("## The life of a commit: `append`"), "the-life-of-a-commit-append");
}
