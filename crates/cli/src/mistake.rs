//! Mistakes in lab files, shown where they stand.

use std::path::Path;

use miette::{LabeledSpan, MietteDiagnostic, NamedSource, Report};
use minivpc_control::Mistake;

/// The mistake with the lines around it.
pub fn report(file: &Path, text: &str, mistake: Mistake) -> Report {
    let at = format!("{}:{}:{}", file.display(), mistake.place.line, mistake.place.column);
    let diagnostic = MietteDiagnostic {
        message: format!("{at}: {mistake}"),
        code: None,
        severity: None,
        help: mistake.help.clone(),
        url: None,
        labels: Some(vec![LabeledSpan::at(mistake.span.clone(), "here")]),
    };
    Report::new(diagnostic).with_source_code(NamedSource::new(file.display().to_string(), text.to_owned()))
}
