//! Capture files: pcapng (draft-ietf-opsawg-pcapng), as much of it as several Ethernet points in one file need.
//!
//! ```text
//!   section header, one interface description per point; packets; at the end one interface statistics per point
//! ```
//!
//! Blocks are written in little-endian order. What reads them again is here too: it counts, and puts names to packets.

use std::io::{self, Read};
use std::time::{SystemTime, UNIX_EPOCH};

/// As tcpdump writes it: longer than any frame.
pub const LONGEST_FRAME: u32 = 262_144;
/// Longest block that is read, bytes: a frame with its comment.
const LONGEST_BLOCK: u32 = LONGEST_FRAME + 65_536;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
/// Length of an enhanced packet block's fields before the frame: those of every block, and its own.
const PACKET_FIELDS: usize = 8 + 20;

/// Options' codes; each kind of block has its own.
mod option {
    pub const COMMENT: u16 = 1;
    pub const SECTION_APPLICATION: u16 = 4;
    pub const INTERFACE_NAME: u16 = 2;
    pub const INTERFACE_DESCRIPTION: u16 = 3;
    pub const INTERFACE_RESOLUTION: u16 = 9;
    pub const PACKET_FLAGS: u16 = 2;
    pub const RECEIVED: u16 = 4;
    pub const DROPPED: u16 = 5;
    pub const ACCEPTED: u16 = 6;
}

/// Which way a packet passed an interface, as the flags word says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It isn't known.
    Unknown = 0,
    /// Into it.
    Inbound = 1,
    /// Out of it.
    Outbound = 2,
}

/// What an interface has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Packets that passed it.
    pub received: u64,
    /// Of those, the ones that the filter wanted.
    pub accepted: u64,
    /// Of those, the ones that were lost because nobody took them in time.
    pub dropped: u64,
}

/// Nanoseconds since 1970 on the machine's clock.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Appends a block with what `fill` writes into it.
fn block(out: &mut Vec<u8>, kind: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(kind.to_le_bytes());
    out.extend([0; 4]);
    fill(out);
    let length = (out.len() - start + 4) as u32;
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    out.extend(length.to_le_bytes());
}

/// Everything in a block begins on a multiple of four bytes.
fn pad(out: &mut Vec<u8>, length: usize) {
    out.extend(&[0; 3][..length.next_multiple_of(4) - length]);
}

/// Appends an option. One that is too long for its length field is cut.
fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    out.extend(code.to_le_bytes());
    out.extend((value.len() as u16).to_le_bytes());
    out.extend(value);
    pad(out, value.len());
}

fn end_of_options(out: &mut Vec<u8>) {
    out.extend([0; 4]);
}

/// In two halves, the upper one first.
fn time(out: &mut Vec<u8>, nanoseconds: u64) {
    out.extend(((nanoseconds >> 32) as u32).to_le_bytes());
    out.extend((nanoseconds as u32).to_le_bytes());
}

/// Begins a file whose interfaces have these names and descriptions.
#[must_use]
pub fn header<'a>(application: &str, interfaces: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut out = Vec::new();
    block(&mut out, SECTION_HEADER, |out| {
        out.extend(0x1a2b_3c4d_u32.to_le_bytes());
        out.extend([1_u16, 0].map(u16::to_le_bytes).concat());
        // The section's length isn't known before its end.
        out.extend(u64::MAX.to_le_bytes());
        option(out, option::SECTION_APPLICATION, application.as_bytes());
        end_of_options(out);
    });
    for (name, description) in interfaces {
        block(&mut out, INTERFACE_DESCRIPTION, |out| {
            // Link type Ethernet, and a reserved field.
            out.extend([1_u16, 0].map(u16::to_le_bytes).concat());
            out.extend(LONGEST_FRAME.to_le_bytes());
            option(out, option::INTERFACE_NAME, name.as_bytes());
            option(out, option::INTERFACE_DESCRIPTION, description.as_bytes());
            // Times count units of 10⁻⁹ seconds.
            option(out, option::INTERFACE_RESOLUTION, &[9]);
            end_of_options(out);
        });
    }
    out
}

/// Appends a frame that passes an interface now.
pub fn packet(out: &mut Vec<u8>, interface: u32, flow: Flow, frame: &[u8], comment: Option<&str>) {
    block(out, ENHANCED_PACKET, |out| {
        out.extend(interface.to_le_bytes());
        time(out, now());
        let length = (frame.len() as u32).to_le_bytes();
        out.extend([length, length].concat());
        out.extend(frame);
        pad(out, frame.len());
        if let Some(comment) = comment {
            option(out, option::COMMENT, comment.as_bytes());
        }
        if flow != Flow::Unknown {
            option(out, option::PACKET_FLAGS, &(flow as u32).to_le_bytes());
        }
        end_of_options(out);
    });
}

/// Appends what an interface has counted until now.
pub fn statistics(out: &mut Vec<u8>, interface: u32, counts: &Counts) {
    block(out, INTERFACE_STATISTICS, |out| {
        out.extend(interface.to_le_bytes());
        time(out, now());
        let counts = [
            (option::RECEIVED, counts.received),
            (option::DROPPED, counts.dropped),
            (option::ACCEPTED, counts.accepted),
        ];
        for (code, count) in counts {
            option(out, code, &count.to_le_bytes());
        }
        end_of_options(out);
    });
}

/// A block that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block(Vec<u8>);

/// What a block says, as far as a reader asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A packet.
    Packet {
        /// The interface's number, in the order of their descriptions.
        interface: u32,
        /// Which way it went.
        flow: Flow,
        /// What is said of it.
        comment: Option<String>,
    },
    /// What an interface has counted.
    Statistics(Counts),
    /// Something else.
    Other,
}

impl Block {
    /// Reads the next block; none where the stream ends between two.
    ///
    /// # Errors
    /// When the stream ends in a block, or what it says isn't one.
    pub fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut head = Vec::new();
        match from.by_ref().take(8).read_to_end(&mut head)? {
            0 => return Ok(None),
            8 => {}
            _ => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        let length = word(&head, 4).filter(|length| (12..=LONGEST_BLOCK).contains(length));
        let length =
            length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a block of a pcapng file"))?;
        let mut bytes = head;
        bytes.resize(length as usize, 0);
        from.read_exact(&mut bytes[8..])?;
        Ok(Some(Self(bytes)))
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What it says.
    #[must_use]
    pub fn content(&self) -> Content {
        self.packet().or_else(|| self.statistics()).unwrap_or(Content::Other)
    }

    fn packet(&self) -> Option<Content> {
        if word(&self.0, 0)? != ENHANCED_PACKET {
            return None;
        }
        let (interface, length) = (word(&self.0, 8)?, word(&self.0, 20)? as usize);
        let (mut flow, mut comment) = (Flow::Unknown, None);
        for (code, value) in self.options(PACKET_FIELDS + length.next_multiple_of(4)) {
            match code {
                option::COMMENT => comment = Some(String::from_utf8_lossy(value).into_owned()),
                option::PACKET_FLAGS => {
                    flow = match word(value, 0)? & 3 {
                        1 => Flow::Inbound,
                        2 => Flow::Outbound,
                        _ => Flow::Unknown,
                    }
                }
                _ => {}
            }
        }
        Some(Content::Packet { interface, flow, comment })
    }

    fn statistics(&self) -> Option<Content> {
        if word(&self.0, 0)? != INTERFACE_STATISTICS {
            return None;
        }
        let mut counts = Counts::default();
        for (code, value) in self.options(20) {
            let Some(count) = value.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) else { continue };
            match code {
                option::RECEIVED => counts.received = count,
                option::DROPPED => counts.dropped = count,
                option::ACCEPTED => counts.accepted = count,
                _ => {}
            }
        }
        Some(Content::Statistics(counts))
    }

    /// The options that begin there, to their end or the block's.
    fn options(&self, start: usize) -> impl Iterator<Item = (u16, &[u8])> {
        let end = self.0.len() - 4;
        let mut rest = self.0.get(start..end).unwrap_or_default();
        std::iter::from_fn(move || {
            let [a, b, c, d] = *rest.first_chunk()?;
            let (code, length) = (u16::from_le_bytes([a, b]), usize::from(u16::from_le_bytes([c, d])));
            let value = rest.get(4..4 + length).filter(|_| code != 0)?;
            rest = rest.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
            Some((code, value))
        })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(mut bytes: &[u8]) -> Vec<Block> {
        std::iter::from_fn(|| Block::read(&mut bytes).unwrap()).collect()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut file = header("minivpc", [("source/eth0", "eni-1"), ("a", "")]);
        packet(&mut file, 0, Flow::Inbound, &[1; 61], None);
        packet(&mut file, 1, Flow::Unknown, &[], Some("NO_ROUTE"));
        packet(&mut file, 1, Flow::Outbound, &[2; 64], Some("é"));
        let counts = Counts { received: 5, accepted: 4, dropped: 1 << 40 };
        statistics(&mut file, 1, &counts);
        let blocks = read_all(&file);
        assert_eq!(blocks.iter().map(Block::bytes).collect::<Vec<_>>().concat(), file);
        let comment = |text: &str| Some(text.to_owned());
        let contents: Vec<_> = blocks.iter().map(Block::content).collect();
        let expected = [
            Content::Other,
            Content::Other,
            Content::Other,
            Content::Packet { interface: 0, flow: Flow::Inbound, comment: None },
            Content::Packet { interface: 1, flow: Flow::Unknown, comment: comment("NO_ROUTE") },
            Content::Packet { interface: 1, flow: Flow::Outbound, comment: comment("é") },
            Content::Statistics(counts),
        ];
        assert_eq!(contents, expected);
    }

    #[test]
    fn blocks_are_as_the_draft_draws_them() {
        let mut file = Vec::new();
        packet(&mut file, 3, Flow::Outbound, &[9, 8, 7, 6, 5], None);
        let words: Vec<_> = file.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
        let [kind, length, interface, _, _, captured, original, frame, padded, option, flags, end, again] = words[..]
        else {
            panic!("{words:x?}")
        };
        assert_eq!([kind, length, interface, captured, original], [6, 52, 3, 5, 5]);
        assert_eq!([frame, padded], [0x0607_0809, 5]);
        assert_eq!([option, flags, end, again], [4 << 16 | 2, 2, 0, 52]);
    }

    #[test]
    fn a_stream_that_breaks_off_is_no_end() {
        let mut file = header("minivpc", [("a", "b")]);
        packet(&mut file, 0, Flow::Inbound, &[1; 60], Some("why"));
        let last = read_all(&file).last().unwrap().bytes().len();
        for cut in 1..last {
            let mut bytes = &file[file.len() - last..file.len() - cut];
            assert_eq!(Block::read(&mut bytes).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
        let mut nonsense = &[0xff; 64][..];
        assert_eq!(Block::read(&mut nonsense).unwrap_err().kind(), io::ErrorKind::InvalidData);
        // A frame's length that leads out of its block.
        let at = file.len() - last + 20;
        file[at] = 0xff;
        let blocks = read_all(&file);
        assert!(matches!(blocks[2].content(), Content::Packet { comment: None, .. }));
    }
}
