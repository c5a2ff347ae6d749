//! How faithful minivpc is: docs/behaviours.md, made of docs/behaviours.yaml and of the names of all tests.
//!
//! A test's name begins with the ids of the behaviours that it shows: `sg_13_sg_17_an_untracked_flow_…`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

use serde::Deserialize;

use super::{root, walk};

const HEAD: &str = "\
# AWS's behaviours

What packets meet in a VPC, and the tests that show that minivpc does the same.

A **documented** behaviour is described by AWS or by code that was tested against AWS, or was seen in an experiment on
AWS. An **assumed** one is common knowledge or follows from others: minivpc may be wrong there. Tests below `crates/`
ask the model, or send packets through the engine on virtual time; tests below `tests/` run real tools in real labs.

`MINIVPC_WRITE=1 cargo test -p minivpc-cli --test workspace` writes this page, of [behaviours.yaml](behaviours.yaml) and
of the tests' names, which begin with the ids.
";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Family {
    title: String,
    behaviours: BTreeMap<Id, Behaviour>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Behaviour {
    documented: Option<String>,
    assumed: Option<String>,
    /// Why it has no test.
    untested: Option<String>,
}

/// As `SEED-12a`.
#[derive(PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct Id {
    family: String,
    number: u16,
    part: Option<char>,
}

impl Id {
    fn new(family: &str, number: &str) -> Option<Self> {
        let part = number.chars().last().filter(char::is_ascii_lowercase);
        let number = number.strip_suffix(|last| Some(last) == part).unwrap_or(number).parse().ok()?;
        Some(Self { family: family.to_uppercase(), number, part })
    }
}

impl TryFrom<String> for Id {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let id = text.split_once('-').and_then(|(family, number)| Self::new(family, number));
        id.ok_or_else(|| format!("'{text}' isn't an id, as SEED-12a"))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}{}", self.family, self.number, self.part.map(String::from).unwrap_or_default())
    }
}

struct Test {
    /// From the root.
    file: String,
    /// The behaviours that it shows.
    ids: Vec<Id>,
    /// The rest of its name.
    words: String,
}

impl Test {
    fn new(file: &str, name: &str) -> Self {
        let mut rest: Vec<&str> = name.split('_').collect();
        let mut ids = Vec::new();
        while let [family, number, ..] = rest[..]
            && let Some(id) = Id::new(family, number)
        {
            ids.push(id);
            rest.drain(..2);
        }
        Self { file: file.to_owned(), ids, words: rest.join(" ") }
    }
}

fn families() -> Vec<Family> {
    serde_saphyr::from_str(&std::fs::read_to_string(root().join("docs/behaviours.yaml")).unwrap()).unwrap()
}

/// All tests of the workspace, in the order of their files.
fn tests() -> Vec<Test> {
    let root = root();
    let mut files = [walk(&root.join("crates")), walk(&root.join("tests"))].concat();
    files.sort();
    let mut tests = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let file = file.strip_prefix(&root).unwrap().to_str().unwrap();
        let mut lines = text.lines().map(str::trim);
        while lines.any(|line| line == "#[test]") {
            // Other attributes may stand between.
            let function = lines.find_map(|line| line.strip_prefix("fn ")).unwrap();
            tests.push(Test::new(file, function.split('(').next().unwrap()));
        }
    }
    tests
}

fn page(families: &[Family], tests: &[Test]) -> String {
    let behaviours: Vec<_> = families.iter().flat_map(|family| family.behaviours.values()).collect();
    let count = |wanted: fn(&Behaviour) -> bool| behaviours.iter().filter(|behaviour| wanted(behaviour)).count();
    let mut page = HEAD.to_owned();
    writeln!(
        page,
        "\n{} behaviours: {} have a test, {} have none. {} are assumed, and {} in part.",
        behaviours.len(),
        count(|behaviour| behaviour.untested.is_none()),
        count(|behaviour| behaviour.untested.is_some()),
        count(|behaviour| behaviour.documented.is_none()),
        count(|behaviour| behaviour.documented.is_some() && behaviour.assumed.is_some()),
    )
    .unwrap();
    for family in families {
        writeln!(page, "\n## {}\n\n| id | what happens | sure | tests |\n|---|---|---|---|", family.title).unwrap();
        for (id, behaviour) in &family.behaviours {
            let (what, sure) = match (behaviour.documented.as_deref(), behaviour.assumed.as_deref()) {
                (Some(documented), None) => (documented.to_owned(), "documented"),
                (None, assumed) => (assumed.unwrap_or_default().to_owned(), "**assumed**"),
                (Some(documented), Some(assumed)) => (format!("{documented} *Assumed:* {assumed}"), "**in part**"),
            };
            let shown = match &behaviour.untested {
                Some(reason) => format!("none: {reason}"),
                None => {
                    let tests = tests.iter().filter(|test| test.ids.contains(id));
                    let links: Vec<_> = tests.map(|test| format!("[{}](../{})", test.words, test.file)).collect();
                    links.join("<br>")
                }
            };
            writeln!(page, "| {id} | {what} | {sure} | {shown} |").unwrap();
        }
    }
    page
}

#[test]
fn every_behaviour_has_a_test_or_a_reason_for_having_none() {
    let (families, tests) = (families(), tests());
    let behaviours: BTreeMap<_, _> = families.iter().flat_map(|family| &family.behaviours).collect();
    let known: BTreeSet<_> = behaviours.keys().map(|id| &id.family).collect();
    let shown: BTreeSet<_> = tests.iter().flat_map(|test| &test.ids).collect();
    let mut wrong = Vec::new();
    for id in shown.iter().filter(|id| known.contains(&id.family) && !behaviours.contains_key(*id)) {
        wrong.push(format!("{id} is in the name of a test only"));
    }
    for (id, behaviour) in behaviours {
        if behaviour.documented.is_none() && behaviour.assumed.is_none() {
            wrong.push(format!("{id} says neither what is `documented` nor what is `assumed`"));
        }
        match (shown.contains(id), &behaviour.untested) {
            (false, None) => wrong.push(format!("{id} has neither a test nor a reason as `untested`")),
            (true, Some(_)) => wrong.push(format!("{id} has a test, and is `untested`")),
            (true, None) | (false, Some(_)) => {}
        }
    }
    assert!(wrong.is_empty(), "docs/behaviours.yaml and the names of the tests don't agree:\n{}", wrong.join("\n"));
}

#[test]
fn the_page_of_behaviours_is_up_to_date() {
    let (file, page) = (root().join("docs/behaviours.md"), page(&families(), &tests()));
    if std::env::var_os("MINIVPC_WRITE").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    assert!(
        std::fs::read_to_string(&file).is_ok_and(|written| written == page),
        "docs/behaviours.md is out of date. Type: MINIVPC_WRITE=1 cargo test -p minivpc-cli --test workspace"
    );
}
