//! Vector instructions of x86-64.
//!
//! Isolation rests on this file. Only a class of them is known: they read and write the operands
//! that they name, and nothing else; those that do more are listed, and refused. What becomes of
//! vectors is followed only as far as the size of their 8-byte words is concerned, since compilers
//! compute addresses in them: an instruction that is not known to make small words makes any.

use iced_x86::{EncodingKind, Mnemonic as M, OpKind, Register};

use super::x86_64::{Lower, general};
use crate::op::{Base, Extent, Op, Place, Words};

impl Lower<'_> {
    /// Instructions on vectors: what they do is said by their operands.
    pub(super) fn vector(&mut self) -> Option<()> {
        let raw = self.raw;
        if does_more_than_it_names(raw.mnemonic()) {
            return None;
        }
        let mut vectors = 0;
        let mut place = None;
        for operand in 0..raw.op_count() {
            match raw.op_kind(operand) {
                OpKind::Register => {
                    let register = raw.op_register(operand);
                    if vector(register).is_some() || is_mask(register) {
                        vectors += 1;
                    } else {
                        let (_, 4 | 8) = general(register)? else { return None };
                    }
                }
                OpKind::Memory => {
                    let bytes = u16::try_from(raw.memory_size().size()).ok()?;
                    if !(1..=64).contains(&bytes) {
                        return None;
                    }
                    let write = operand == 0;
                    if raw.memory_index().is_vector_register() {
                        self.scatter(bytes, write)?;
                        continue;
                    }
                    let at = self.place()?;
                    place = Some(at);
                    if self.is_aligned(bytes) {
                        self.push(Op::Aligned { place: at, bytes })?;
                    }
                    match (write, self.plain_move()) {
                        (true, true) => {
                            let from = vector(raw.op_register(1))?;
                            self.push(Op::Spill { place: at, from, bytes })?;
                        }
                        _ => self.push(Op::Touch { place: at, bytes, write })?,
                    }
                }
                OpKind::Immediate8 => {}
                _ => return None,
            }
        }
        if vectors == 0 && !makes_integers(raw.mnemonic()) {
            return None;
        }
        if raw.op0_kind() != OpKind::Register {
            return Some(());
        }
        // Results in general registers are first operands.
        if let Some((to, bytes)) = general(raw.op0_register()) {
            let word = matches!(raw.mnemonic(), M::Movq | M::Vmovq | M::Pextrq | M::Vpextrq);
            return match (word && bytes == 8, vector(raw.op1_register())) {
                (true, Some(from)) => self.push(Op::Word { to, from }),
                _ => self.unknown(to, bytes),
            };
        }
        // Comparisons write no vector; gathers write their mask besides.
        match vector(raw.op0_register()) {
            Some(to) if writes(raw.mnemonic()) => {
                let words = self.words(place).unwrap_or(Words::Unknown);
                let extent = self.extent();
                self.push(Op::Vector { to, extent, words })
            }
            _ => Some(()),
        }
    }

    /// A whole register to or from memory or another, without a mask.
    fn plain_move(&self) -> bool {
        self.raw.op_mask() == Register::None
            && matches!(
                self.raw.mnemonic(),
                M::Movaps
                    | M::Movapd
                    | M::Movups
                    | M::Movupd
                    | M::Movdqa
                    | M::Movdqu
                    | M::Vmovaps
                    | M::Vmovapd
                    | M::Vmovups
                    | M::Vmovupd
                    | M::Vmovdqa
                    | M::Vmovdqu
                    | M::Vmovdqa32
                    | M::Vmovdqa64
                    | M::Vmovdqu8
                    | M::Vmovdqu16
                    | M::Vmovdqu32
                    | M::Vmovdqu64
                    | M::Movq
                    | M::Vmovq
            )
    }

    /// Does it fault if its memory operand does not begin at a multiple of its size?
    fn is_aligned(&self, bytes: u16) -> bool {
        let name = self.raw.mnemonic();
        match self.raw.encoding() {
            EncodingKind::Legacy => {
                bytes == 16 && !matches!(name, M::Movups | M::Movupd | M::Movdqu | M::Lddqu)
            }
            _ => matches!(
                name,
                M::Vmovaps
                    | M::Vmovapd
                    | M::Vmovdqa
                    | M::Vmovdqa32
                    | M::Vmovdqa64
                    | M::Vmovntps
                    | M::Vmovntpd
                    | M::Vmovntdq
                    | M::Vmovntdqa
            ),
        }
    }

    fn extent(&self) -> Extent {
        let register = self.raw.op0_register();
        match self.raw.encoding() {
            EncodingKind::Legacy => Extent::LowOnly,
            _ if register.is_xmm() => Extent::Low,
            _ => Extent::All,
        }
    }

    fn scatter(&mut self, bytes: u16, write: bool) -> Option<()> {
        let raw = self.raw;
        let (reg, 8) = general(raw.memory_base())? else { return None };
        let offset = raw.memory_displacement64().cast_signed();
        let base = Place { base: Base::Reg(reg), index: None, offset, narrow: false };
        let words = matches!(
            raw.mnemonic(),
            M::Vpscatterqq
                | M::Vpscatterqd
                | M::Vscatterqps
                | M::Vscatterqpd
                | M::Vpgatherqq
                | M::Vpgatherqd
                | M::Vgatherqps
                | M::Vgatherqpd
        );
        let vector = if words { vector(raw.memory_index()) } else { None };
        let scale = raw.memory_index_scale() as u8;
        self.push(Op::Scatter { base, vector, scale, bytes, write })
    }

    /// What the words of the first operand become.
    fn words(&self, place: Option<Place>) -> Option<Words> {
        let raw = self.raw;
        if raw.op_mask() != Register::None || raw.is_broadcast() {
            return None;
        }
        let at = |operand: u32| match raw.op_kind(operand) {
            OpKind::Register => vector(raw.op_register(operand)),
            _ => None,
        };
        let last = raw.op_count() - 1;
        // Of old instructions the first operand is the first source as well.
        let immediate = raw.op_kind(last) == OpKind::Immediate8;
        let sources = last - u32::from(immediate);
        let pair = || match sources {
            1 => Some((at(0)?, at(1)?)),
            2 => Some((at(1)?, at(2)?)),
            _ => None,
        };
        let from_memory = raw.op_kind(1) == OpKind::Memory;
        let words = match raw.mnemonic() {
            M::Pmovzxdq | M::Vpmovzxdq => Words::AtMost(u32::MAX.into()),
            M::Pmovzxwq | M::Vpmovzxwq => Words::AtMost(u16::MAX.into()),
            M::Pmovzxbq | M::Vpmovzxbq => Words::AtMost(u8::MAX.into()),
            M::Movd | M::Vmovd if from_memory => Words::AtMost(u32::MAX.into()),
            M::Movd | M::Vmovd => Words::General(general(raw.op1_register())?.0, 4),
            M::Movq | M::Vmovq if !from_memory && at(1).is_none() => {
                Words::General(general(raw.op1_register())?.0, 8)
            }
            M::Vpbroadcastq if !from_memory && at(1).is_none() => {
                Words::General(general(raw.op1_register())?.0, 8)
            }
            M::Vpbroadcastq | M::Movddup | M::Vmovddup | M::Vbroadcastsd if from_memory => {
                Words::Load(place?, 8)
            }
            M::Vpbroadcastq | M::Vmovddup | M::Movddup | M::Vbroadcastsd => Words::Of(at(1)?),
            _ if self.plain_move() && from_memory => {
                Words::Load(place?, u8::try_from(raw.memory_size().size()).ok()?)
            }
            _ if self.plain_move() => Words::Of(at(1)?),
            M::Vextracti128
            | M::Vextractf128
            | M::Vextracti64x4
            | M::Vextractf64x4
            | M::Vextracti32x4
            | M::Vextractf32x4
            | M::Vextracti64x2
            | M::Vextractf64x2
            | M::Vpermq
            | M::Vpermpd
                if at(1).is_some() && immediate =>
            {
                Words::Of(at(1)?)
            }
            M::Vpermq | M::Vpermpd => Words::Of(at(2)?),
            // Pairs of halves stay together.
            M::Pshufd | M::Vpshufd if matches!(raw.immediate8(), 0x4e | 0xee | 0x44 | 0xe4) => {
                Words::Of(at(1)?)
            }
            M::Vinserti128
            | M::Vinsertf128
            | M::Vinserti64x4
            | M::Vinsertf64x4
            | M::Vinserti32x4
            | M::Vinsertf32x4
            | M::Vinserti64x2
            | M::Vinsertf64x2
            | M::Punpcklqdq
            | M::Punpckhqdq
            | M::Vpunpcklqdq
            | M::Vpunpckhqdq
            | M::Unpcklpd
            | M::Unpckhpd
            | M::Vunpcklpd
            | M::Vunpckhpd
            | M::Shufpd
            | M::Vshufpd
            | M::Movlhps
            | M::Movhlps
            | M::Vmovlhps
            | M::Vmovhlps => {
                let (a, b) = pair()?;
                Words::Either(a, b)
            }
            M::Vpermt2q | M::Vpermt2pd => Words::Either(at(0)?, at(2)?),
            M::Pinsrq | M::Vpinsrq if raw.op_kind(sources) == OpKind::Register => {
                let into = if sources == 1 { at(0)? } else { at(1)? };
                Words::With(into, general(raw.op_register(sources))?.0)
            }
            M::Pxor
            | M::Vpxor
            | M::Vpxord
            | M::Vpxorq
            | M::Xorps
            | M::Vxorps
            | M::Xorpd
            | M::Vxorpd => {
                let (a, b) = pair()?;
                if a != b {
                    return None;
                }
                Words::AtMost(0)
            }
            M::Paddq | M::Vpaddq => {
                let (a, b) = pair()?;
                Words::Sum(a, b)
            }
            M::Pand
            | M::Vpand
            | M::Vpandd
            | M::Vpandq
            | M::Andps
            | M::Vandps
            | M::Andpd
            | M::Vandpd => {
                let (a, b) = pair()?;
                Words::And(a, b)
            }
            M::Por | M::Vpor | M::Vpord | M::Vporq | M::Orps | M::Vorps | M::Orpd | M::Vorpd => {
                let (a, b) = pair()?;
                Words::Or(a, b)
            }
            M::Psrlq | M::Vpsrlq if immediate => {
                Words::Right(if sources == 0 { at(0)? } else { at(1)? }, raw.immediate8())
            }
            M::Psllq | M::Vpsllq if immediate => {
                Words::Left(if sources == 0 { at(0)? } else { at(1)? }, raw.immediate8())
            }
            // Halves in turn, from the first and the second.
            M::Punpckldq | M::Punpckhdq | M::Vpunpckldq | M::Vpunpckhdq => {
                let (a, b) = pair()?;
                Words::Above(a, b)
            }
            M::Vpblendd | M::Blendps | M::Vblendps => {
                let (a, b) = pair()?;
                let odd = |which: u8| {
                    let parts = if raw.op0_register().is_xmm() { 0b1010 } else { 0b1010_1010 };
                    which & parts == parts
                };
                match raw.immediate8() {
                    order if odd(order) => Words::Above(a, b),
                    order if odd(!order) => Words::Above(b, a),
                    _ => return None,
                }
            }
            _ => return None,
        };
        Some(words)
    }
}

/// A vector register's number.
fn vector(register: Register) -> Option<u8> {
    (register.is_xmm() || register.is_ymm() || register.is_zmm()).then(|| register.number() as u8)
}

fn is_mask(register: Register) -> bool {
    (Register::K0..=Register::K7).contains(&register)
}

/// Does an instruction write its first operand, a vector?
fn writes(name: M) -> bool {
    !matches!(
        name,
        M::Ucomiss
            | M::Ucomisd
            | M::Comiss
            | M::Comisd
            | M::Vucomiss
            | M::Vucomisd
            | M::Vcomiss
            | M::Vcomisd
            | M::Ptest
            | M::Vptest
            | M::Vtestps
            | M::Vtestpd
    )
}

/// Does an instruction make an integer of a float, which can lie in memory? Then no operand is a
/// vector.
fn makes_integers(name: M) -> bool {
    matches!(
        name,
        M::Cvtss2si
            | M::Cvtsd2si
            | M::Cvttss2si
            | M::Cvttsd2si
            | M::Vcvtss2si
            | M::Vcvtsd2si
            | M::Vcvttss2si
            | M::Vcvttsd2si
            | M::Vcvtss2usi
            | M::Vcvtsd2usi
            | M::Vcvttss2usi
            | M::Vcvttsd2usi
    )
}

/// Vector instructions that read or write more than their operands say, or of whose memory operand
/// only a part is named.
fn does_more_than_it_names(name: M) -> bool {
    matches!(
        name,
        M::Ldmxcsr
            | M::Vldmxcsr
            | M::Stmxcsr
            | M::Vstmxcsr
            | M::Maskmovdqu
            | M::Vmaskmovdqu
            | M::Maskmovq
            | M::Pcmpestri
            | M::Pcmpestrm
            | M::Pcmpistri
            | M::Pcmpistrm
            | M::Vpcmpestri
            | M::Vpcmpestrm
            | M::Vpcmpistri
            | M::Vpcmpistrm
            | M::Vpcompressb
            | M::Vpcompressw
            | M::Vpcompressd
            | M::Vpcompressq
            | M::Vcompressps
            | M::Vcompresspd
            | M::Vpexpandb
            | M::Vpexpandw
            | M::Vpexpandd
            | M::Vpexpandq
            | M::Vexpandps
            | M::Vexpandpd
    )
}
