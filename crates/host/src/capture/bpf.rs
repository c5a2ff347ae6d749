//! Classic BPF: the programs that tcpdump makes of filters (McCanne and Jacobson, 1993), interpreted.
//!
//! A program is checked once: it only jumps forward and into itself, so it ends, and all that it does is known. What it
//! reads beyond the frame rejects the frame, as in the kernel.

use serde::{Deserialize, Serialize};

/// Most instructions of a program, as in the kernel.
const MOST: usize = 4096;
/// Words of scratch memory.
const MEMORY: usize = 16;

/// One instruction, as `tcpdump -ddd` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip when a condition holds.
    pub jt: u8,
    /// How many when it doesn't.
    pub jf: u8,
    /// An operand.
    pub k: u32,
}

/// A program that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Instruction>", into = "Vec<Instruction>")]
pub struct Program(Vec<Instruction>);

/// Not a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadProgram {
    /// Too long, or empty.
    #[error("a filter has 1 to {MOST} instructions, not {0}")]
    Length(usize),
    /// An instruction that means nothing where it stands.
    #[error("instruction {0} of the filter is none, or does what none may do")]
    Instruction(usize),
}

// Classes.
const LD: u16 = 0x00;
const LDX: u16 = 0x01;
const ST: u16 = 0x02;
const STX: u16 = 0x03;
const ALU: u16 = 0x04;
const JMP: u16 = 0x05;
const RET: u16 = 0x06;
const MISC: u16 = 0x07;
// Sizes and modes of a load.
const WORD: u16 = 0x00;
const HALF: u16 = 0x08;
const BYTE: u16 = 0x10;
const IMM: u16 = 0x00;
const ABS: u16 = 0x20;
const IND: u16 = 0x40;
const MEM: u16 = 0x60;
const LEN: u16 = 0x80;
const MSH: u16 = 0xa0;
// Operations.
const ADD: u16 = 0x00;
const SUB: u16 = 0x10;
const MUL: u16 = 0x20;
const DIV: u16 = 0x30;
const OR: u16 = 0x40;
const AND: u16 = 0x50;
const LSH: u16 = 0x60;
const RSH: u16 = 0x70;
const NEG: u16 = 0x80;
const MOD: u16 = 0x90;
const XOR: u16 = 0xa0;
// Conditions.
const JA: u16 = 0x00;
const JEQ: u16 = 0x10;
const JGT: u16 = 0x20;
const JGE: u16 = 0x30;
const JSET: u16 = 0x40;
// The operand is register X, for RET register A; TXA copies X to A.
const X: u16 = 0x08;
const A: u16 = 0x10;
const TXA: u16 = 0x80;

fn class(code: u16) -> u16 {
    code & 0x07
}

fn operation(code: u16) -> u16 {
    code & 0xf0
}

impl TryFrom<Vec<Instruction>> for Program {
    type Error = BadProgram;

    fn try_from(instructions: Vec<Instruction>) -> Result<Self, BadProgram> {
        let length = instructions.len();
        if !(1..=MOST).contains(&length) {
            return Err(BadProgram::Length(length));
        }
        match instructions.iter().enumerate().find(|(at, instruction)| !is_sound(instruction, length - at - 1)) {
            Some((at, _)) => Err(BadProgram::Instruction(at)),
            None => Ok(Self(instructions)),
        }
    }
}

impl From<Program> for Vec<Instruction> {
    fn from(program: Program) -> Self {
        program.0
    }
}

/// Is it an instruction, where so many follow?
fn is_sound(instruction: &Instruction, following: usize) -> bool {
    let Instruction { code, jt, jf, k } = *instruction;
    let follows = |skipped: usize| skipped < following;
    let known = match class(code) {
        LD => match code & !LD {
            mode if mode & !(HALF | BYTE) == ABS || mode & !(HALF | BYTE) == IND => mode & (HALF | BYTE) != HALF | BYTE,
            MEM => (k as usize) < MEMORY,
            IMM | LEN => true,
            _ => false,
        },
        LDX => match code & !LDX {
            MEM => (k as usize) < MEMORY,
            IMM | LEN => true,
            mode => mode == MSH | BYTE,
        },
        ST | STX => code == class(code) && (k as usize) < MEMORY,
        ALU => match operation(code) {
            NEG => code == ALU | NEG,
            DIV | MOD => code & X != 0 || k != 0,
            other => other <= XOR,
        },
        JMP => match operation(code) {
            JA => code == JMP | JA && follows(k as usize),
            other => other <= JSET && follows(jt.into()) && follows(jf.into()),
        },
        RET => matches!(code & !RET, 0 | A),
        _ => matches!(code & !MISC, 0 | TXA),
    };
    // Only a return may be the last one.
    known && code <= 0xff && (following > 0 || class(code) == RET)
}

impl Program {
    /// Is it a frame that the filter wants?
    #[must_use]
    pub fn wants(&self, frame: &[u8]) -> bool {
        self.run(frame).is_some_and(|bytes| bytes > 0)
    }

    /// How many bytes of the frame are wanted; none if it is too short for what the program reads, or a divisor is 0.
    fn run(&self, frame: &[u8]) -> Option<u32> {
        let (mut a, mut x, mut memory, mut at) = (0_u32, 0_u32, [0_u32; MEMORY], 0);
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        loop {
            let Instruction { code, jt, jf, k } = *self.0.get(at)?;
            at += 1;
            let operand = if code & X != 0 { x } else { k };
            match class(code) {
                LD => {
                    a = match code & 0xe0 {
                        ABS => read(frame, code, k)?,
                        IND => read(frame, code, x.checked_add(k)?)?,
                        MEM => *memory.get(k as usize)?,
                        LEN => length,
                        _ => k,
                    }
                }
                LDX => {
                    x = match code & 0xe0 {
                        // Length of an IP header.
                        MSH => 4 * (read(frame, BYTE, k)? & 0x0f),
                        MEM => *memory.get(k as usize)?,
                        LEN => length,
                        _ => k,
                    }
                }
                ST => *memory.get_mut(k as usize)? = a,
                STX => *memory.get_mut(k as usize)? = x,
                ALU => a = calculate(operation(code), a, operand)?,
                JMP => {
                    let holds = match operation(code) {
                        JEQ => a == operand,
                        JGT => a > operand,
                        JGE => a >= operand,
                        JSET => a & operand != 0,
                        _ => {
                            at += k as usize;
                            continue;
                        }
                    };
                    at += usize::from(if holds { jt } else { jf });
                }
                RET => return Some(if code & A != 0 { a } else { k }),
                _ if code & TXA != 0 => a = x,
                _ => x = a,
            }
        }
    }
}

fn read(frame: &[u8], code: u16, at: u32) -> Option<u32> {
    let bytes = frame.get(at as usize..)?;
    Some(match code & (HALF | BYTE) {
        WORD => u32::from_be_bytes(*bytes.first_chunk()?),
        HALF => u16::from_be_bytes(*bytes.first_chunk()?).into(),
        _ => (*bytes.first()?).into(),
    })
}

fn calculate(operation: u16, a: u32, operand: u32) -> Option<u32> {
    Some(match operation {
        ADD => a.wrapping_add(operand),
        SUB => a.wrapping_sub(operand),
        MUL => a.wrapping_mul(operand),
        DIV => a.checked_div(operand)?,
        MOD => a.checked_rem(operand)?,
        OR => a | operand,
        AND => a & operand,
        XOR => a ^ operand,
        LSH => a.checked_shl(operand).unwrap_or(0),
        RSH => a.checked_shr(operand).unwrap_or(0),
        _ => a.wrapping_neg(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(instructions: &[(u16, u8, u8, u32)]) -> Result<Program, BadProgram> {
        let instructions = instructions.iter().map(|&(code, jt, jf, k)| Instruction { code, jt, jf, k });
        instructions.collect::<Vec<_>>().try_into()
    }

    const FRAME: [u8; 8] = [0x45, 1, 2, 3, 0xff, 0xfe, 0xfd, 0xfc];

    /// What is in register A after these.
    fn a_after(instructions: &[(u16, u8, u8, u32)]) -> Option<u32> {
        program(&[instructions, &[(RET | A, 0, 0, 0)]].concat()).unwrap().run(&FRAME)
    }

    #[test]
    fn loads_read_the_frame_and_nothing_behind_it() {
        assert_eq!(a_after(&[(LD | ABS | WORD, 0, 0, 4)]), Some(0xfffe_fdfc));
        assert_eq!(a_after(&[(LD | ABS | WORD, 0, 0, 5)]), None);
        assert_eq!(a_after(&[(LD | ABS | HALF, 0, 0, 6)]), Some(0xfdfc));
        assert_eq!(a_after(&[(LD | ABS | HALF, 0, 0, 7)]), None);
        assert_eq!(a_after(&[(LD | ABS | BYTE, 0, 0, 7)]), Some(0xfc));
        assert_eq!(a_after(&[(LD | ABS | BYTE, 0, 0, 8)]), None);
        assert_eq!(a_after(&[(LD | ABS | BYTE, 0, 0, u32::MAX)]), None);
        assert_eq!(a_after(&[(LDX | IMM, 0, 0, 2), (LD | IND | BYTE, 0, 0, 1)]), Some(3));
        assert_eq!(a_after(&[(LDX | IMM, 0, 0, u32::MAX), (LD | IND | BYTE, 0, 0, 1)]), None);
        assert_eq!(a_after(&[(LD | LEN, 0, 0, 0)]), Some(8));
        assert_eq!(a_after(&[(LD | IMM, 0, 0, 9)]), Some(9));
    }

    #[test]
    fn registers_and_memory() {
        assert_eq!(a_after(&[(LDX | MSH | BYTE, 0, 0, 0), (MISC | TXA, 0, 0, 0)]), Some(20));
        assert_eq!(a_after(&[(LDX | LEN, 0, 0, 0), (MISC | TXA, 0, 0, 0)]), Some(8));
        let stored = [(LD | IMM, 0, 0, 7), (ST, 0, 0, 15), (LD | IMM, 0, 0, 1), (LD | MEM, 0, 0, 15)];
        assert_eq!(a_after(&stored), Some(7));
        let stored = [(LDX | IMM, 0, 0, 7), (STX, 0, 0, 0), (LDX | IMM, 0, 0, 1), (LDX | MEM, 0, 0, 0)];
        assert_eq!(a_after(&[&stored[..], &[(MISC | TXA, 0, 0, 0)]].concat()), Some(7));
        assert_eq!(a_after(&[(LD | IMM, 0, 0, 5), (MISC, 0, 0, 0), (ALU | ADD | X, 0, 0, 0)]), Some(10));
    }

    #[test]
    fn arithmetic_wraps_and_ends_at_a_divisor_of_zero() {
        let of = |operation, a, k| a_after(&[(LD | IMM, 0, 0, a), (ALU | operation, 0, 0, k)]);
        let by_x =
            |operation, a, x| a_after(&[(LD | IMM, 0, 0, a), (LDX | IMM, 0, 0, x), (ALU | operation | X, 0, 0, 0)]);
        let cases = [
            (ADD, u32::MAX, 2, Some(1)),
            (SUB, 1, 2, Some(u32::MAX)),
            (MUL, 1 << 31, 2, Some(0)),
            (DIV, 7, 2, Some(3)),
            (MOD, 7, 4, Some(3)),
            (OR, 5, 2, Some(7)),
            (AND, 6, 3, Some(2)),
            (XOR, 6, 3, Some(5)),
            (LSH, 1, 31, Some(1 << 31)),
            (LSH, 1, 32, Some(0)),
            (RSH, 8, 2, Some(2)),
            (RSH, 8, 32, Some(0)),
        ];
        for (operation, a, operand, result) in cases {
            assert_eq!(of(operation, a, operand), result, "{operation:#x}");
            assert_eq!(by_x(operation, a, operand), result, "{operation:#x} by X");
        }
        assert_eq!(by_x(DIV, 7, 0), None);
        assert_eq!(by_x(MOD, 7, 0), None);
        assert_eq!(of(NEG, 1, 0), Some(u32::MAX));
    }

    #[test]
    fn jumps() {
        let jump = |condition, a, k| {
            let rest = [(RET, 0, 0, 0), (RET, 0, 0, 1)];
            let all = [&[(LD | IMM, 0, 0, a), (JMP | condition, 1, 0, k)], &rest[..]].concat();
            program(&all).unwrap().wants(&FRAME)
        };
        assert!(jump(JEQ, 3, 3) && !jump(JEQ, 3, 4));
        assert!(jump(JGT, 4, 3) && !jump(JGT, 3, 3));
        assert!(jump(JGE, 3, 3) && !jump(JGE, 2, 3));
        assert!(jump(JSET, 6, 2) && !jump(JSET, 6, 1));
        assert!(program(&[(JMP | JA, 0, 0, 1), (RET, 0, 0, 0), (RET, 0, 0, 1)]).unwrap().wants(&FRAME));
    }

    #[test]
    fn what_is_no_program_is_refused() {
        assert_eq!(program(&[]), Err(BadProgram::Length(0)));
        assert_eq!(program(&[(RET, 0, 0, 0); MOST + 1]), Err(BadProgram::Length(MOST + 1)));
        assert!(program(&[(RET, 0, 0, 0); MOST]).is_ok());
        let end = (RET, 0, 0, 0);
        let wrong = [
            // Doesn't end.
            vec![(LD | IMM, 0, 0, 0)],
            // Beyond the end.
            vec![(JMP | JEQ, 1, 0, 0), end],
            vec![(JMP | JEQ, 0, 1, 0), end],
            vec![(JMP | JA, 0, 0, 1), end],
            vec![(JMP | JA, 0, 0, u32::MAX), end],
            // No memory there.
            vec![(ST, 0, 0, 16), end],
            vec![(LD | MEM, 0, 0, 16), end],
            vec![(LDX | MEM, 0, 0, 16), end],
            vec![(ALU | DIV, 0, 0, 0), end],
            vec![(ALU | MOD, 0, 0, 0), end],
            // Nothing that there is.
            vec![(LD | 0xc0, 0, 0, 0), end],
            vec![(LD | ABS | HALF | BYTE, 0, 0, 0), end],
            vec![(LDX | MSH, 0, 0, 0), end],
            vec![(ALU | 0xb0, 0, 0, 1), end],
            vec![(JMP | 0x50, 0, 0, 0), end],
            vec![(MISC | 0x40, 0, 0, 0), end],
            vec![(0x106, 0, 0, 0), end],
        ];
        for program_of in wrong {
            assert_eq!(program(&program_of), Err(BadProgram::Instruction(0)), "{program_of:?}");
        }
    }
}
