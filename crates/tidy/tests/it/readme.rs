//! The program in README.md is the first example, which a test runs.

use tidy::root;

#[test]
fn the_readme_shows_the_first_example() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let example = std::fs::read_to_string(root().join("examples/hello.rs")).unwrap();
    let (_, rest) = readme.split_once("```rust\n").expect("README.md has a program");
    let (program, _) = rest.split_once("```").expect("its block ends");
    let (_, shown) = example.split_once("\n\nuse ").expect("a header comes first");
    assert_eq!(program, format!("use {shown}"), "README.md and examples/hello.rs");
}
