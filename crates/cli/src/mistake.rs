//! Mistakes in lab files, shown where they stand.

use std::path::Path;

use miette::{LabeledSpan, MietteDiagnostic, MietteHandlerOpts, NamedSource, Report};
use minivpc_control::{Mistake, printable};

/// Reports are never wrapped: AWS's texts stay whole, for readers and for `grep`.
pub fn set_up_reports() {
    // Only a second call fails.
    let _ = miette::set_hook(Box::new(|_| Box::new(MietteHandlerOpts::new().wrap_lines(false).build())));
}

/// Longer lines show nothing, and fill the terminal.
const WIDEST: usize = 400;

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
    let around = text.lines().skip((mistake.place.line as usize).saturating_sub(2)).take(3);
    if around.into_iter().any(|line| line.len() > WIDEST) {
        return Report::new(MietteDiagnostic { labels: None, ..diagnostic });
    }
    Report::new(diagnostic).with_source_code(NamedSource::new(file.display().to_string(), printable(text)))
}
