//! The instructions of compiled SQL92 filters.

/// An instruction of the stack machine. It pops its operands and pushes its result.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Instruction {
    /// Pushes a property of the message.
    Property(String),
    /// Pushes a constant.
    Constant(Constant),
    /// Compares the two topmost values.
    Compare(Comparison),
    /// Tests whether the third value from the top lies between the two above it, or outside if `negated`.
    Between {
        negated: bool,
    },
    /// Tests whether the topmost value is one of these strings, which are sorted.
    In(Vec<String>),
    /// Tests whether the topmost value is a string that contains `text` at `place`, or does not if `negated`. As in
    /// Apache's brokers, both are false if the value is not a string or `text` is empty.
    Search {
        place: SearchPosition,
        text: String,
        negated: bool,
    },
    IsNull,
    And,
    Or,
    Not,
    /// Changes the sign of a number.
    Negate,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Constant {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

/// Where a string must contain another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SearchPosition {
    Anywhere,
    Start,
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}
