//! `minivpc capture`: the engine's pcapng stream on its way into a file, a pipe, or through tcpdump into lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::Shutdown;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use minivpc_control::capture_file::filter;
use minivpc_control::capture_file::pcapng::{Block, Content, Counts, Flow};
use minivpc_control::{CaptureRequest, Lab, LabError, on_interrupt};

use crate::Failure;

/// Captures until it is interrupted, `count` packets are there, or nobody reads them any more.
pub fn capture(
    lab: &Lab,
    points: Vec<String>,
    count: Option<u64>,
    expression: &str,
    write: Option<&Path>,
) -> Result<(), Failure> {
    let program = if expression.is_empty() { None } else { Some(filter::compile(expression)?) };
    let (points, mut stream) = lab.capture(CaptureRequest { points, filter: program, count })?;
    // A point that isn't there costs no file that was.
    let file = match write {
        Some(path) if path != Path::new("-") => {
            Some(File::create(path).map_err(|error| format!("{}: {error}", path.display()))?)
        }
        _ => None,
    };
    let engine = stream.get_ref().try_clone()?;
    // The engine then says what it has counted, and ends.
    on_interrupt(move || drop(engine.shutdown(Shutdown::Write)));
    let mut output = match (file, write) {
        (Some(file), _) => Output::File(BufWriter::new(Box::new(file))),
        (None, Some(_)) => Output::File(BufWriter::new(Box::new(io::stdout()))),
        (None, None) => Output::Lines(Lines::start(points.clone())?),
    };
    tell(&format!("minivpc: listening on {}", points.join(", ")));
    let mut counted = Vec::new();
    let taken = take(&mut stream, &mut output, &mut counted);
    let ended = output.end();
    match taken {
        // A reader that has gone (`| head`) is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return ended,
        Err(error) => {
            let path = write.unwrap_or(Path::new("-"));
            return Err(format!("{}: {error}", path.display()).into());
        }
        Ok(()) => ended?,
    }
    if counted.len() < points.len() {
        return Err(LabError::CaptureBroken(lab.name().to_owned()).into());
    }
    tell(&summary(&points, &counted));
    Ok(())
}

/// Passes the file on as it comes, all that is there at once, to its end or to where it breaks off.
fn take(stream: &mut BufReader<impl Read>, output: &mut Output, counted: &mut Vec<Counts>) -> io::Result<()> {
    while let Ok(Some(block)) = Block::read(stream) {
        let content = block.content();
        if let Content::Statistics(counts) = content {
            counted.push(counts);
        }
        output.write(&block, content)?;
        if stream.buffer().is_empty() {
            output.flush()?;
        }
    }
    output.flush()
}

/// As tcpdump says it; where packets were lost, also at which point.
fn summary(points: &[String], counted: &[Counts]) -> String {
    let packets = |count: u64| if count == 1 { "1 packet".to_owned() } else { format!("{count} packets") };
    let sum = |of: fn(&Counts) -> u64| counted.iter().map(of).sum::<u64>();
    let captured = |counts: &Counts| counts.accepted - counts.dropped.min(counts.accepted);
    let (all, dropped) = (counted.iter().map(captured).sum(), sum(|counts| counts.dropped));
    let mut lines = vec![
        format!("{} captured", packets(all)),
        format!("{} received by filter", packets(sum(|counts| counts.accepted))),
        format!("{} dropped by minivpc", packets(dropped)),
    ];
    if dropped > 0 && points.len() > 1 {
        let lossy = points.iter().zip(counted).filter(|(_, counts)| counts.dropped > 0);
        lines.extend(lossy.map(|(name, counts)| {
            format!("  {name}: {} captured, {} dropped", packets(captured(counts)), packets(counts.dropped))
        }));
    }
    lines.join("\n")
}

/// Beside what is captured. Not with `eprintln!`, which panics when nobody reads any more.
fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Where packets go.
enum Output {
    /// A file, or standard output.
    File(BufWriter<Box<dyn Write>>),
    /// Lines on standard output.
    Lines(Lines),
}

impl Output {
    fn write(&mut self, block: &Block, content: Content) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(block.bytes()),
            Self::Lines(lines) => lines.write(block, content),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Lines(lines) => lines.input.flush(),
        }
    }

    fn end(self) -> Result<(), Failure> {
        match self {
            Self::File(_) => Ok(()),
            Self::Lines(lines) => lines.end(),
        }
    }
}

/// A packet as `tcpdump -i any` prints it: tcpdump's own words, with the point and the direction behind the time.
struct Lines {
    tcpdump: Child,
    input: BufWriter<ChildStdin>,
    labels: Sender<Label>,
    printer: JoinHandle<io::Result<()>>,
}

/// What tcpdump doesn't say of a packet.
struct Label {
    interface: u32,
    flow: Flow,
    comment: Option<String>,
}

impl Lines {
    fn start(points: Vec<String>) -> Result<Self, Failure> {
        let mut command = Command::new("tcpdump");
        command.args(["-n", "-l", "-r", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut tcpdump = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                "tcpdump prints the packets, and isn't there: as root, apt-get install tcpdump; \
                                        or write them into a file with -w"
                    .to_owned()
            }
            _ => format!("tcpdump: {error}"),
        })?;
        let (Some(input), Some(lines)) = (tcpdump.stdin.take(), tcpdump.stdout.take()) else {
            return Err("tcpdump has no pipes".into());
        };
        let (labels, of_packets) = channel();
        let printer = thread::spawn(move || print(lines, &of_packets, &points));
        Ok(Self { tcpdump, input: BufWriter::new(input), labels, printer })
    }

    fn write(&mut self, block: &Block, content: Content) -> io::Result<()> {
        if let Content::Packet { interface, flow, comment } = content {
            // A printer that has gone shows when tcpdump goes, too.
            let _ = self.labels.send(Label { interface, flow, comment });
        }
        self.input.write_all(block.bytes())
    }

    fn end(self) -> Result<(), Failure> {
        let Self { tcpdump, input, labels, printer } = self;
        drop((input, labels));
        let output = tcpdump.wait_with_output()?;
        match printer.join() {
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Ok(Err(error)) => Err(format!("standard output: {error}").into()),
            _ if output.status.success() => Ok(()),
            _ => Err(format!("tcpdump has ended early: {}", String::from_utf8_lossy(&output.stderr)).into()),
        }
    }
}

/// Puts the labels to tcpdump's lines: one for each packet, whose further lines are indented.
fn print(lines: ChildStdout, labels: &Receiver<Label>, points: &[String]) -> io::Result<()> {
    let width = points.iter().map(|name| name.chars().count()).max().unwrap_or_default();
    let mut stdout = io::stdout().lock();
    for line in BufReader::new(lines).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        let begins = !line.starts_with(char::is_whitespace);
        match (line.split_once(' '), begins.then(|| labels.recv())) {
            (Some((time, rest)), Some(Ok(Label { interface, flow, comment }))) => {
                let point = points.get(interface as usize).map_or("", String::as_str);
                let flow = match flow {
                    Flow::Unknown => "",
                    Flow::Inbound => "In",
                    Flow::Outbound => "Out",
                };
                let comment = comment.map_or_else(String::new, |comment| format!(" [{comment}]"));
                writeln!(stdout, "{time} {point:<width$} {flow:<3} {rest}{comment}")?;
            }
            _ => writeln!(stdout, "{line}")?,
        }
    }
    Ok(())
}
