//! Decoded instructions. Operands are indices of registers: constants and special registers such as `%tid.x` have
//! registers of their own.

/// Lanes of a warp.
pub const LANES: usize = 32;

/// Index of an operand that an instruction does not have.
pub const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Pred,
    B8,
    B16,
    B32,
    B64,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    BF16,
    BF16x2,
    F32,
    F64,
}

impl Type {
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "pred" => Type::Pred,
            "b8" => Type::B8,
            "b16" => Type::B16,
            "b32" => Type::B32,
            "b64" => Type::B64,
            "u8" => Type::U8,
            "u16" => Type::U16,
            "u32" => Type::U32,
            "u64" => Type::U64,
            "s8" => Type::S8,
            "s16" => Type::S16,
            "s32" => Type::S32,
            "s64" => Type::S64,
            "f16" => Type::F16,
            "f16x2" => Type::F16x2,
            "bf16" => Type::BF16,
            "bf16x2" => Type::BF16x2,
            "f32" => Type::F32,
            "f64" => Type::F64,
            _ => return None,
        })
    }

    pub fn bytes(self) -> usize {
        match self {
            Type::Pred | Type::B8 | Type::U8 | Type::S8 => 1,
            Type::B16 | Type::U16 | Type::S16 | Type::F16 | Type::BF16 => 2,
            Type::B32 | Type::U32 | Type::S32 | Type::F32 | Type::F16x2 | Type::BF16x2 => 4,
            Type::B64 | Type::U64 | Type::S64 | Type::F64 => 8,
        }
    }

    pub fn is_signed(self) -> bool {
        matches!(self, Type::S8 | Type::S16 | Type::S32 | Type::S64)
    }

    pub fn is_float(self) -> bool {
        matches!(self, Type::F16 | Type::F16x2 | Type::BF16 | Type::BF16x2 | Type::F32 | Type::F64)
    }

    /// Returns the kind of the registers that hold values of the type.
    pub fn bank(self) -> Bank {
        match self.bytes() {
            _ if self == Type::Pred => Bank::Pred,
            8 => Bank::Wide,
            _ => Bank::Word,
        }
    }
}

/// Kind of a register: a predicate, up to 32 bits, or 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bank {
    Pred,
    Word,
    Wide,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    Generic,
    Global,
    Shared,
    Const,
    Param,
}

impl Space {
    pub fn name(self) -> &'static str {
        match self {
            Space::Generic => "generic",
            Space::Global => "global",
            Space::Shared => "shared",
            Space::Const => "constant",
            Space::Param => "parameter",
        }
    }
}

/// Integer operations of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Int {
    Add,
    Sub,
    MulLo,
    MulHi,
    MulHiSigned,
    Div,
    DivSigned,
    Rem,
    RemSigned,
    Min,
    MinSigned,
    Max,
    MaxSigned,
    And,
    Or,
    Xor,
    Shl,
    Shr,
    ShrSigned,
}

/// Operations of one operand on bits and integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bits {
    Not,
    Neg,
    Abs,
    Popc,
    Clz,
    Brev,
    /// Position of the highest set bit.
    Find,
    /// Distance of the highest set bit from the highest bit.
    FindShift,
}

/// Floating-point operations of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float {
    Add,
    Sub,
    Mul,
    Div,
    Min,
    Max,
    MinNan,
    MaxNan,
    CopySign,
}

/// Floating-point operations of one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    Neg,
    Abs,
    Sqrt,
    Rcp,
    ApproxEx2,
    ApproxLg2,
    ApproxRcp,
    ApproxRsqrt,
    ApproxSqrt,
}

/// Comparisons. If an operand is NaN, only `Nan` and the comparisons whose name ends with `u` are true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Equ,
    Neu,
    Ltu,
    Leu,
    Gtu,
    Geu,
    Num,
    Nan,
}

/// Rounding of a conversion or an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    Nearest,
    Zero,
    Down,
    Up,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shuffle {
    Up,
    Down,
    Bfly,
    Idx,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redux {
    Add,
    Min,
    MinSigned,
    Max,
    MaxSigned,
    And,
    Or,
    Xor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    All,
    Any,
    Uni,
    Ballot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Atom {
    Int(Int),
    Exch,
    Cas,
    AddF32,
    AddF64,
}

/// Memory access of a load, a store or an atomic operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub space: Space,
    /// Type of an element.
    pub of: Type,
    /// Number of elements.
    pub count: u8,
    /// Whether the address is in a 64-bit register.
    pub wide_address: bool,
    /// Whether the registers of the elements have 64 bits.
    pub wide: bool,
}

impl Access {
    pub fn bytes(self) -> usize {
        self.of.bytes() * self.count as usize
    }
}

/// Operation of an instruction on its registers `r`. Results come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Mov(Bank),
    /// Joins two or four registers into one, or splits one register. The number is the size of each part in bytes.
    Join(u8),
    Split(u8),
    /// Integer operation on numbers of this many bytes.
    Int(Int, u8),
    Bits(Bits, u8),
    /// Product of two numbers of this type, with twice the width of the type. If the flag is set, an addend is added.
    MulWide(Type, bool),
    /// Lower half of a product, plus an addend.
    MadLo(u8),
    MadHi(Type),
    Bfi(u8),
    Bfe(Type),
    Prmt,
    Lop3,
    /// Funnel shift to the left or right, which clamps or wraps the distance.
    Funnel {
        left: bool,
        wrap: bool,
    },
    F32(Float),
    F64(Float),
    /// Operation in f32 that rounds up, down or toward zero.
    Directed(Float, Round),
    FmaDirected(Round),
    /// Product in f32. Subnormal factors and results become zeros of their sign.
    MulFlushed,
    Root32 {
        root: Root,
        ftz: bool,
    },
    Root64(Root),
    Fma32,
    Fma64,
    /// Minimum or maximum of two 16-bit floats of this type, or of two pairs of 16-bit floats.
    Packed(Float, Type),
    /// Sets a predicate from a comparison in this type.
    Set(Cmp, Type),
    Sel(Bank),
    /// Selects by the sign of an s32 or f32.
    Slct {
        wide: bool,
        float: bool,
    },
    Pred(Int),
    NotPred,
    /// Conversion from the type `from` to the type `to`. If `integral` is set, the number is rounded to an integer,
    /// even if `to` is a float type.
    Cvt {
        to: Type,
        from: Type,
        round: Round,
        integral: bool,
    },
    /// Conversion of two f32 to a pair of 16-bit floats of this type.
    CvtPair(Type),
    /// Conversion of a generic address to an address in a space, or the reverse.
    ToSpace(Space),
    FromSpace(Space),
    Load(Access),
    Store(Access),
    Atom(Atom, Access),
    /// Starts a copy from global memory, at the address `r[0]`, to shared memory.
    StartCopy(Access),
    AwaitCopies,
    Shfl(Shuffle),
    Redux(Redux),
    Vote(Vote),
    BarWarp,
    Bar,
    /// Mask of the lanes that run together.
    ActiveMask,
    Bra,
    Ret,
    Trap,
    Nothing,
}

/// An instruction. `r` holds results, then operands. `imm` is an offset of an address, the target of a branch, or the
/// table of `lop3`.
#[derive(Clone, Copy, Debug)]
pub struct Inst {
    pub op: Op,
    /// Predicate that guards the instruction, or [`NONE`].
    pub guard: u32,
    pub guard_not: bool,
    pub r: [u32; 6],
    pub imm: i64,
}
