//! Tables as `aws … --output table` prints them.
//!
//! Every object or list of objects is a section with a title; one that lies in another is drawn inside it, with one
//! more bar on each side. When the whole is wider than the terminal, sections with a single row are turned upright.

use serde_json::Value;

/// What `aws` takes when nobody knows how wide the terminal is.
const WIDTH: usize = 80;
/// Columns of a cell that aren't its text.
const PADDING: usize = 4;

/// Draws `value`, which came from the API's `action`.
pub fn render(action: &str, value: &Value, width: Option<usize>) -> String {
    let mut sections = Vec::new();
    collect(action, value, 0, &mut sections);
    let total = |sections: &[Section]| sections.iter().map(Section::width).max().unwrap_or_default();
    if total(&sections) > width.unwrap_or(WIDTH) {
        sections.iter_mut().for_each(Section::turn_upright);
    }
    let total = total(&sections);
    let mut text = "-".repeat(total) + "\n";
    for section in &sections {
        section.draw(total, &mut text);
    }
    text
}

#[derive(Debug, Default)]
struct Section {
    title: String,
    depth: usize,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

fn collect(title: &str, value: &Value, depth: usize, sections: &mut Vec<Section>) {
    let objects: Vec<_> = match value {
        Value::Object(fields) => vec![fields],
        Value::Array(items) => items.iter().filter_map(Value::as_object).collect(),
        _ => Vec::new(),
    };
    let mut keys: Vec<&String> = Vec::new();
    let mut nested: Vec<&String> = Vec::new();
    for (key, value) in objects.iter().flat_map(|fields| fields.iter()) {
        let list = if value.is_object() || value.is_array() { &mut nested } else { &mut keys };
        if !list.contains(&key) {
            list.push(key);
        }
    }
    keys.sort();
    nested.sort();
    let fresh = || Section {
        title: title.to_owned(),
        depth,
        header: keys.iter().map(|key| (*key).clone()).collect(),
        rows: Vec::new(),
    };
    let mut section = Some(fresh());
    for fields in objects {
        // What lies in an object is drawn under its row, so each such object gets a section of its own.
        if !nested.is_empty() && section.as_ref().is_some_and(|section| !section.rows.is_empty()) {
            sections.extend(section.take());
        }
        if !keys.is_empty() {
            let row = keys.iter().map(|key| fields.get(*key).map_or_else(String::new, text)).collect();
            section.get_or_insert_with(fresh).rows.push(row);
        }
        let inner: Vec<_> = nested.iter().filter_map(|key| Some((*key, fields.get(*key)?))).collect();
        for (key, value) in inner.into_iter().filter(|(_, value)| !is_empty(value)) {
            sections.extend(section.take());
            collect(key, value, depth + 1, sections);
        }
    }
    sections.extend(section);
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(serde_json::Map::is_empty)
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        // As Python prints them.
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        other => other.to_string(),
    }
}

impl Section {
    /// Column widths with padding; a cell's right bar is its own, the first has a left one too.
    fn columns(&self) -> Vec<usize> {
        let rows = || self.rows.iter().chain((!self.header.is_empty()).then_some(&self.header));
        let count = rows().map(Vec::len).max().unwrap_or_default();
        let widest = |column: usize| rows().filter_map(|row| row.get(column)).map(|cell| length(cell)).max();
        (0..count).map(|column| widest(column).unwrap_or_default() + PADDING).collect()
    }

    fn width(&self) -> usize {
        let inner = self.columns().iter().sum::<usize>().max(length(&self.title) + PADDING);
        inner + 2 + 2 * self.depth
    }

    fn turn_upright(&mut self) {
        if let ([row], false) = (self.rows.as_slice(), self.header.is_empty()) {
            let pairs = self.header.iter().zip(row).map(|(key, value)| vec![key.clone(), value.clone()]);
            self.rows = pairs.collect();
            self.header.clear();
        }
    }

    fn draw(&self, total: usize, text: &mut String) {
        let width = total - 2 * self.depth;
        let columns = stretch(self.columns(), width);
        let mut line = |content: String| {
            let bars = "|".repeat(self.depth);
            text.push_str(&format!("{bars}{content}{bars}\n"));
        };
        line(centered(&self.title, width, "|"));
        if columns.is_empty() {
            line(format!("+{}+", "-".repeat(width - 2)));
            return;
        }
        let rule: String = columns.iter().map(|width| format!("{}+", "-".repeat(width - 1))).collect();
        let rule = format!("+{}", &rule[1..]);
        if !self.header.is_empty() {
            line(rule.clone());
            line(cells(&columns, &self.header, centered));
        }
        if !self.rows.is_empty() {
            line(rule.clone());
            for row in &self.rows {
                line(cells(&columns, row, left));
            }
            line(rule);
        }
    }
}

fn cells(columns: &[usize], row: &[String], align: fn(&str, usize, &str) -> String) -> String {
    let bars = std::iter::once("|").chain(std::iter::repeat(""));
    columns.iter().zip(row).zip(bars).map(|((width, cell), bar)| align(cell, *width, bar)).collect()
}

fn left(text: &str, width: usize, bar: &str) -> String {
    let fits = length(text) + 3 + bar.len() <= width;
    let padding = if fits { "  " } else { "" };
    let used = bar.len() + padding.len() + length(text) + 1;
    format!("{bar}{padding}{text}{}|", " ".repeat(width.saturating_sub(used)))
}

fn centered(text: &str, width: usize, bar: &str) -> String {
    let before = (width / 2).saturating_sub(length(text) / 2 + 1);
    let used = bar.len() + before + length(text) + 1;
    format!("{bar}{}{text}{}|", " ".repeat(before), " ".repeat(width.saturating_sub(used)))
}

/// Stretches columns to `width` in proportion; what rounding leaves over goes to the last ones, what it takes too
/// much is taken from the first ones.
fn stretch(mut columns: Vec<usize>, width: usize) -> Vec<usize> {
    let sum: usize = columns.iter().sum();
    if sum == 0 {
        return columns;
    }
    for column in &mut columns {
        *column = ((width * *column) as f64 / sum as f64).round() as usize;
    }
    let stretched: usize = columns.iter().sum();
    let count = columns.len();
    for n in 0..width.saturating_sub(stretched) {
        columns[count - 1 - n % count] += 1;
    }
    for n in 0..stretched.saturating_sub(width) {
        columns[n % count] -= 1;
    }
    columns
}

fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text is what the AWS command line's own formatter makes of the same answer.
    #[test]
    fn nested_answers_are_drawn_as_the_aws_command_line_draws_them() {
        let answer = include_str!("../../../tests/articles/expected/security-group.json");
        let table = render("DescribeSecurityGroups", &serde_json::from_str(answer).unwrap(), None);
        assert_eq!(table, include_str!("../../../tests/articles/expected/security-group.txt"));
    }

    #[test]
    fn a_terminal_that_is_wide_enough_keeps_rows_lying() {
        let answer = serde_json::json!({ "NatGateways": [{ "NatGatewayId": "nat-1", "State": "available" }] });
        let upright = |width| {
            let table = render("DescribeNatGateways", &answer, Some(width));
            table.lines().any(|line| line.contains("NatGatewayId") && line.contains("nat-1"))
        };
        assert!(!upright(200));
        assert!(upright(20));
    }
}
